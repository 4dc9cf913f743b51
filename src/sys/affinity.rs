//! On which CPUs a thread runs: sched_setaffinity(2).

use super::{Result, check};
use std::mem::size_of_val;

/// The most CPUs a kernel is built for (CONFIG_NR_CPUS).
pub const MAX_CPUS: u32 = 8192;

/// A set of CPUs, as the kernel has it: an array of long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus([u64; (MAX_CPUS / 64) as usize]);

impl Cpus {
    /// One CPU; below [`MAX_CPUS`].
    pub fn one(cpu: u32) -> Self {
        let mut set = Self([0; (MAX_CPUS / 64) as usize]);
        if let Some(word) = set.0.get_mut(cpu as usize / 64) {
            *word = 1 << (cpu % 64);
        }
        set
    }

    /// Those of the calling thread.
    pub fn of_this_thread() -> Result<Self> {
        let mut set = Self([0; (MAX_CPUS / 64) as usize]);
        // SAFETY: room for as many bytes as are said.
        check(unsafe {
            libc::sched_getaffinity(0, size_of_val(&set.0), set.0.as_mut_ptr().cast())
        })?;
        Ok(set)
    }

    /// Has the calling thread run on these.
    pub fn run_here(&self) -> Result<()> {
        // SAFETY: as many bytes as are said.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), self.0.as_ptr().cast()) })?;
        Ok(())
    }
}

/// Where the calling thread ran, and runs again when this is dropped.
#[derive(Debug)]
pub struct Before(Option<Cpus>);

impl Before {
    /// Notes it; `cpu` negative: the thread will not be moved.
    pub fn now(cpu: i32) -> Result<Self> {
        Ok(Self(if cpu < 0 { None } else { Some(Cpus::of_this_thread()?) }))
    }

    /// The thread stays where it is by then.
    pub fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = before.run_here();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_and_let_go() {
        let before = Cpus::of_this_thread().unwrap();
        let word = before.0.iter().position(|word| *word != 0).unwrap();
        let cpu = word as u32 * 64 + before.0[word].trailing_zeros();
        Cpus::one(cpu).run_here().unwrap();
        assert_eq!(Cpus::of_this_thread().unwrap(), Cpus::one(cpu));
        before.run_here().unwrap();
        assert_eq!(Cpus::of_this_thread().unwrap(), before);
        assert!(Cpus::one(MAX_CPUS - 1).run_here().is_err());
    }
}
