//! libpcap, opened at run time: what is needed of it to compile an expression.
//!
//! Found by dlopen(3), as nothing else of the library needs it: no dependency at
//! link time, and its absence is an error of the one call that wants it. The
//! crates for libpcap link with it.

use super::filter::SockFilter;
use super::process;
use parking_lot::Mutex;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The sonames: everywhere else, and Debian's.
const NAMES: [&CStr; 2] = [c"libpcap.so.1", c"libpcap.so.0.8"];

/// PCAP_ERRBUF_SIZE.
const ERROR_SIZE: usize = 256;
/// PCAP_NETMASK_UNKNOWN.
const NETMASK_UNKNOWN: u32 = u32::MAX;
/// What pcap_open_dead is told: only the returns depend on it.
const SNAP_LENGTH: c_int = 262_144;
/// The longest program taken over: far more than the kernel takes.
const LONGEST: usize = 1 << 20;

/// `pcap_activate`: no permission.
pub const PCAP_ERROR_PERM_DENIED: i32 = -8;
/// `pcap_activate`: the interface is not up.
pub const PCAP_ERROR_IFACE_NOT_UP: i32 = -9;
/// `pcap_activate`: no permission for promiscuous mode.
pub const PCAP_ERROR_PROMISC_PERM_DENIED: i32 = -11;

/// `pcap_t`.
type Handle = c_void;

/// `struct bpf_program`.
#[repr(C)]
struct Compiled {
    length: c_uint,
    instructions: *mut SockFilter,
}

type SetNumber = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;

/// The functions of an opened libpcap. Its calls are made one at a time: it is
/// only reached through [`Libpcap::with`].
struct Functions {
    open_dead: unsafe extern "C" fn(c_int, c_int) -> *mut Handle,
    create: unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut Handle,
    set_snaplen: SetNumber,
    set_buffer_size: SetNumber,
    set_immediate_mode: SetNumber,
    /// libpcap 1.9.
    set_protocol: Option<SetNumber>,
    activate: unsafe extern "C" fn(*mut Handle) -> c_int,
    status_text: unsafe extern "C" fn(c_int) -> *const c_char,
    compile: unsafe extern "C" fn(*mut Handle, *mut Compiled, *const c_char, c_int, u32) -> c_int,
    free_code: unsafe extern "C" fn(*mut Compiled),
    error_text: unsafe extern "C" fn(*mut Handle) -> *mut c_char,
    close: unsafe extern "C" fn(*mut Handle),
}

/// Locked by who is [`Held`] only.
static LIBRARY: Mutex<Option<Functions>> = Mutex::new(None);
/// The generation of the process that has it; 0: nobody. A child that was forked
/// meanwhile can tell that nobody of its own has.
static HOLDER: AtomicU64 = AtomicU64::new(0);

/// Why libpcap is not to be had.
#[derive(Debug)]
pub enum Unavailable {
    /// It cannot be opened, in the loader's words.
    NotOpened(String),
    /// This process was forked while a thread of its parent was inside: nobody gives
    /// it back.
    Forked,
}

/// What is held by one thread at a time.
struct Held;

impl Held {
    /// Waits for it.
    fn take() -> std::result::Result<Self, Unavailable> {
        let mine = process::claim().map_err(|_| Unavailable::Forked)?;
        loop {
            match HOLDER.compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Self),
                Err(holder) if holder != mine => return Err(Unavailable::Forked),
                // As long as a compilation takes, about.
                Err(_) => std::thread::sleep(Duration::from_micros(500)),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLDER.store(0, Ordering::Release);
    }
}

/// libpcap, while nobody else uses it: pcap_compile was not thread-safe before
/// 1.8, and name look-ups are not to this day.
pub struct Libpcap<'a>(&'a Functions);

/// A `pcap_t`, closed when dropped.
pub struct Pcap<'a> {
    functions: &'a Functions,
    handle: NonNull<Handle>,
}

/// Why there is no live handle.
#[derive(Debug)]
pub struct NotLive {
    /// PCAP_ERROR_*.
    pub code: i32,
    /// libpcap's words.
    pub message: String,
}

impl std::fmt::Debug for Libpcap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Libpcap").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pcap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pcap").finish_non_exhaustive()
    }
}

impl Libpcap<'_> {
    /// Runs `job` with libpcap, opening it the first time; or says why it cannot.
    /// Once open it stays so. A fork must be noticed ([`crate::fork`]).
    pub fn with<T>(job: impl FnOnce(Libpcap<'_>) -> T) -> std::result::Result<T, Unavailable> {
        let _held = Held::take()?;
        let mut library = LIBRARY.lock();
        let functions = match &mut *library {
            Some(functions) => functions,
            none => none.insert(Functions::open().map_err(Unavailable::NotOpened)?),
        };
        Ok(job(Libpcap(functions)))
    }
}

impl<'a> Libpcap<'a> {
    /// A handle for compiling only, for packets of a `DLT_`.
    pub fn dead(&self, dlt: i32) -> Option<Pcap<'a>> {
        // SAFETY: pcap_open_dead takes any two integers.
        let handle = unsafe { (self.0.open_dead)(dlt, SNAP_LENGTH) };
        NonNull::new(handle).map(|handle| Pcap { functions: self.0, handle })
    }

    /// A handle that captures on an interface, as little as can be: no
    /// promiscuous mode, a small buffer, a protocol that nobody sends.
    pub fn live(
        &self,
        device: &CStr,
        unused_protocol: u16,
    ) -> std::result::Result<Pcap<'a>, NotLive> {
        let mut error: [c_char; ERROR_SIZE] = [0; ERROR_SIZE];
        // SAFETY: a NUL-terminated name, and room for PCAP_ERRBUF_SIZE.
        let handle = unsafe { (self.0.create)(device.as_ptr(), error.as_mut_ptr()) };
        let Some(handle) = NonNull::new(handle) else {
            // SAFETY: libpcap has written a text that it ends with NUL.
            return Err(NotLive { code: -1, message: unsafe { text(error.as_ptr()) } });
        };
        let pcap = Pcap { functions: self.0, handle };
        let settings = [
            (Some(self.0.set_snaplen), 96),
            (Some(self.0.set_buffer_size), 1 << 16),
            // A TPACKET_V2 ring: frames as large as the snap length, not blocks of 256 KiB.
            (Some(self.0.set_immediate_mode), 1),
            (self.0.set_protocol, c_int::from(unused_protocol)),
        ];
        for (set, value) in settings {
            if let Some(set) = set {
                // SAFETY: a handle that was not activated yet.
                unsafe { set(pcap.handle.as_ptr(), value) };
            }
        }
        // SAFETY: as above.
        let code = unsafe { (self.0.activate)(pcap.handle.as_ptr()) };
        if code >= 0 {
            return Ok(pcap);
        }
        // SAFETY: any number has a text.
        let status = unsafe { (self.0.status_text)(code) };
        // SAFETY: static or libpcap's own, NUL-terminated.
        let status = unsafe { text(status) };
        let detail = pcap.error();
        let message = if detail.is_empty() { status } else { format!("{status}: {detail}") };
        Err(NotLive { code, message })
    }
}

impl Pcap<'_> {
    /// pcap_compile(3): the program, or libpcap's words. `netmask` in the byte
    /// order of the host.
    pub fn compile(
        &self,
        expression: &CString,
        optimise: bool,
        netmask: Option<u32>,
    ) -> std::result::Result<Vec<SockFilter>, String> {
        let mut program = Compiled { length: 0, instructions: null_mut() };
        let netmask = netmask.unwrap_or(NETMASK_UNKNOWN);
        // SAFETY: a live handle, room for a program, a NUL-terminated text.
        let code = unsafe {
            (self.functions.compile)(
                self.handle.as_ptr(),
                &raw mut program,
                expression.as_ptr(),
                c_int::from(optimise),
                netmask,
            )
        };
        if code < 0 {
            return Err(self.error());
        }
        let length = program.length as usize;
        let instructions = if program.instructions.is_null() || length > LONGEST {
            Vec::new()
        } else {
            // SAFETY: pcap_compile has made `length` instructions; struct bpf_insn is
            // struct sock_filter.
            unsafe { std::slice::from_raw_parts(program.instructions, length) }.to_vec()
        };
        // SAFETY: made by pcap_compile, and copied.
        unsafe { (self.functions.free_code)(&raw mut program) };
        if length > LONGEST {
            return Err(format!("the program has {length} instructions"));
        }
        Ok(instructions)
    }

    /// The last error's text.
    fn error(&self) -> String {
        // SAFETY: a live handle.
        let message = unsafe { (self.functions.error_text)(self.handle.as_ptr()) };
        // SAFETY: NUL-terminated, in the handle.
        unsafe { text(message) }
    }
}

impl Drop for Pcap<'_> {
    fn drop(&mut self) {
        // SAFETY: a live handle, not used after this.
        unsafe { (self.functions.close)(self.handle.as_ptr()) };
    }
}

/// A C text; whatever else is not UTF-8 replaced.
///
/// # Safety
/// `from`, if not NULL, is NUL-terminated.
unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

impl Functions {
    fn open() -> std::result::Result<Self, String> {
        let mut reasons = Vec::new();
        for name in NAMES {
            // SAFETY: a NUL-terminated name; libpcap's initialisers do nothing that
            // another library's would not.
            let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            let Some(library) = NonNull::new(library) else {
                // SAFETY: no arguments.
                let reason = unsafe { libc::dlerror() };
                // SAFETY: NUL-terminated, this thread's until its next dl call.
                reasons.push(unsafe { text(reason) });
                continue;
            };
            match Self::of(library) {
                Some(functions) => return Ok(functions),
                None => reasons.push(format!(
                    "{}: older than libpcap 1.5, a function is missing",
                    name.to_string_lossy()
                )),
            }
        }
        Err(reasons.join("; "))
    }

    fn of(library: NonNull<c_void>) -> Option<Self> {
        // SAFETY: the types are those of <pcap/pcap.h>, here and below.
        let open_dead = unsafe { find(library, c"pcap_open_dead") }?;
        // SAFETY: as above.
        let create = unsafe { find(library, c"pcap_create") }?;
        // SAFETY: as above.
        let set_snaplen = unsafe { find(library, c"pcap_set_snaplen") }?;
        // SAFETY: as above.
        let set_buffer_size = unsafe { find(library, c"pcap_set_buffer_size") }?;
        // SAFETY: as above.
        let set_immediate_mode = unsafe { find(library, c"pcap_set_immediate_mode") }?;
        // SAFETY: as above.
        let set_protocol = unsafe { find(library, c"pcap_set_protocol_linux") };
        // SAFETY: as above.
        let activate = unsafe { find(library, c"pcap_activate") }?;
        // SAFETY: as above.
        let status_text = unsafe { find(library, c"pcap_statustostr") }?;
        // SAFETY: as above.
        let compile = unsafe { find(library, c"pcap_compile") }?;
        // SAFETY: as above.
        let free_code = unsafe { find(library, c"pcap_freecode") }?;
        // SAFETY: as above.
        let error_text = unsafe { find(library, c"pcap_geterr") }?;
        // SAFETY: as above.
        let close = unsafe { find(library, c"pcap_close") }?;
        Some(Self {
            open_dead,
            create,
            set_snaplen,
            set_buffer_size,
            set_immediate_mode,
            set_protocol,
            activate,
            status_text,
            compile,
            free_code,
            error_text,
            close,
        })
    }
}

/// A function of a library.
///
/// # Safety
/// `F` is the type of a pointer to the function with that name.
unsafe fn find<F: Copy>(library: NonNull<c_void>, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: an open library and a NUL-terminated name.
    let address = NonNull::new(unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) })?;
    // SAFETY: as large as a pointer, and a function of that type by the caller's promise.
    Some(unsafe { std::mem::transmute_copy(&address) })
}
