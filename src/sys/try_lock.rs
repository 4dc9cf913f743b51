//! A lock that is never waited for. Taken for every packet of
//! netring_capture_next_packet: half the price of a mutex, since giving it back
//! wakes nobody and is a plain store.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Default)]
pub struct TryLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached by who holds the lock, one thread at a time.
unsafe impl<T: Send> Sync for TryLock<T> {}

/// The lock, taken.
pub struct TryLockGuard<'a, T>(&'a TryLock<T>);

// SAFETY: a shared guard gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for TryLockGuard<'_, T> {}

impl<T> TryLock<T> {
    /// Not taken.
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes it; `None` where it is taken.
    #[inline]
    pub fn try_lock(&self) -> Option<TryLockGuard<'_, T>> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // Made only now: dropping one gives the lock back.
        Some(TryLockGuard(self))
    }
}

impl<T> Deref for TryLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for TryLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is ours, and so is the guard.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for TryLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for TryLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryLock").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TryLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryLockGuard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let lock = TryLock::<u64>::default();
        let guard = lock.try_lock().unwrap();
        assert!(lock.try_lock().is_none());
        drop(guard);
        let threads = 4;
        let rounds = if cfg!(miri) { 100 } else { 50_000 };
        let added: u64 = std::thread::scope(|scope| {
            let add = || {
                let mut added = 0;
                for _ in 0..rounds {
                    if let Some(mut value) = lock.try_lock() {
                        *value += 1;
                        added += 1;
                    }
                }
                added
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(add)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(*lock.try_lock().unwrap(), added);
    }
}
