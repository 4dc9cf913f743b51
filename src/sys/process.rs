//! Which process this is: a generation that a fork changes, the kernel's
//! version, the page size.

use super::{Result, mmap::Mapping};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The page that fork wipes; holds this process's generation.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
/// The last generation given out, inherited by children.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The generation of this process: 0 until [`claim`] was called in it. A child
/// forked later reads 0 (MADV_WIPEONFORK), at the cost of one load a call.
#[inline]
pub fn generation() -> u64 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return 0;
    }
    // SAFETY: the page is mapped once and never unmapped; it holds an AtomicU64.
    unsafe { &*page }.load(Ordering::Relaxed)
}

/// Whose something is: that of the process which made it, or also of children
/// forked later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belongs(u64);

impl Belongs {
    /// To this process alone.
    pub fn here() -> Self {
        Self(generation())
    }

    /// To this process and to every child forked from it.
    pub const fn everywhere() -> Self {
        Self(u64::MAX)
    }

    /// Whether it belongs to the process that asks.
    #[inline]
    pub fn is_ours(self) -> bool {
        self.0 == generation() || self == Self::everywhere()
    }

    /// As a word, for an atomic.
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// The other way round.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

/// Makes sure that this process has a generation, and returns it.
///
/// # Errors
/// The kernel refused the page or cannot wipe it at fork (before Linux 4.14).
pub fn claim() -> Result<u64> {
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        let mapping = Mapping::anonymous(page_size())?;
        mapping.advise(libc::MADV_WIPEONFORK)?;
        let fresh: *mut AtomicU64 = mapping.base().as_ptr().cast();
        match PAGE.compare_exchange(
            std::ptr::null_mut(),
            fresh,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            // It stays for the life of the process.
            Ok(_) => {
                std::mem::forget(mapping);
                page = fresh;
            }
            Err(theirs) => page = theirs,
        }
    }
    // SAFETY: as in `generation`; a fresh page is zero, which is a value.
    let cell = unsafe { &*page };
    let mine = cell.load(Ordering::Relaxed);
    if mine != 0 {
        return Ok(mine);
    }
    let next = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    match cell.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(next),
        Err(theirs) => Ok(theirs),
    }
}

/// Waits until every CPU is out of what it was in inside the kernel: of packets,
/// too (membarrier(2), which is synchronize_rcu).
pub fn wait_for_cpus() -> Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done < 0 { Err(super::Errno::last()) } else { Ok(()) }
}

/// The calling thread's number.
pub fn thread() -> i32 {
    // SAFETY: no arguments.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    thread as i32
}

/// Whether this thread has a capability (linux/capability.h) that counts outside of user
/// namespaces.
pub fn is_capable(capability: u32) -> Result<bool> {
    const VERSION_3: u32 = 0x2008_0522;
    /// PROC_USER_INIT_INO: the number of the first user namespace.
    const FIRST: u64 = 0xefff_fffd;
    let header = [VERSION_3, 0];
    // struct __user_cap_data_struct, twice: effective, permitted, inheritable.
    let mut data = [0_u32; 6];
    // SAFETY: a live header, and room for what this version has.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    if done < 0 {
        return Err(super::Errno::last());
    }
    let word = if capability < 32 { data[0] } else { data[3] };
    let has = word >> (capability % 32) & 1 != 0;
    // Where /proc does not tell: there are no user namespaces, or nobody knows.
    let first = std::fs::metadata("/proc/thread-self/ns/user")
        .map_or(true, |user| std::os::unix::fs::MetadataExt::ino(&user) == FIRST);
    Ok(has && first)
}

/// The page size in bytes.
pub fn page_size() -> usize {
    // SAFETY: no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The running kernel as 0x00MMmmpp; 0 if it does not say.
pub fn kernel_version() -> u32 {
    let mut name = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: room for a utsname.
    if unsafe { libc::uname(name.as_mut_ptr()) } != 0 {
        return 0;
    }
    // SAFETY: zeroed and then written by the kernel.
    let name = unsafe { name.assume_init() };
    let release = name.release.iter().map(|c| *c as u8).take_while(|c| *c != 0);
    parse_release(&release.collect::<Vec<u8>>())
}

fn parse_release(release: &[u8]) -> u32 {
    let mut numbers = [0_u32; 3];
    let mut at = 0;
    for byte in release {
        match byte {
            b'0'..=b'9' => {
                numbers[at] = numbers[at].saturating_mul(10).saturating_add(u32::from(byte - b'0'));
            }
            b'.' if at < 2 => at += 1,
            _ => break,
        }
    }
    (numbers[0].min(255) << 16) | (numbers[1].min(255) << 8) | numbers[2].min(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release(b"6.18.44-fc"), 0x06_12_2c);
        assert_eq!(parse_release(b"5.10"), 0x05_0a_00);
        assert_eq!(parse_release(b"4.19.300+"), 0x04_13_ff);
        assert_eq!(parse_release(b"junk"), 0);
        assert!(kernel_version() > 0x03_02_00);
    }

    #[test]
    fn a_fork_reads_another_generation() {
        let mine = claim().unwrap();
        assert_ne!(mine, 0);
        assert_eq!(claim().unwrap(), mine);
        // SAFETY: the child only reads a page and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(generation() != 0);
            // SAFETY: leaves without running the parent's exit handlers.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: a live integer; the child is ours.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(generation(), mine);
    }

    #[test]
    fn what_belongs_to_whom() {
        claim().unwrap();
        let (here, everywhere) = (Belongs::here(), Belongs::everywhere());
        assert!(here.is_ours() && everywhere.is_ours());
        // SAFETY: the child only reads a page and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(here.is_ours() || !everywhere.is_ours());
            // SAFETY: leaves without running the parent's exit handlers.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: a live integer; the child is ours.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
    }
}
