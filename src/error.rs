//! One error type for the whole core: which documented error, at which step,
//! what the kernel said, and what to do about it.

use std::borrow::Cow;

/// The documented errors. Each has one C code (`ffi::error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// `socket()` was refused for lack of privilege.
    #[error("insufficient privileges (need CAP_NET_RAW)")]
    PermissionDenied,
    /// The interface does not exist, or went away while open.
    #[error("interface not found")]
    InterfaceNotFound,
    /// An argument or a configuration value is wrong.
    #[error("invalid argument or configuration")]
    Config,
    /// A step without a code of its own failed.
    #[error("input/output error")]
    Io,
    /// `socket()` failed.
    #[error("socket could not be created")]
    Socket,
    /// `bind()` failed.
    #[error("socket could not be bound")]
    Bind,
    /// The ring's memory was refused, by our bound or by the kernel.
    #[error("ring memory refused")]
    Mmap,
    /// A socket option was refused.
    #[error("socket option refused")]
    SockOpt,
    /// The handle is stale, closed, foreign or belongs to the parent process.
    #[error("bad handle")]
    BadHandle,
    /// The handle was stopped and everything received has been handed out.
    #[error("stopped")]
    Shutdown,
    /// The wait was ended by a wakeup.
    #[error("woken")]
    Wakeup,
    /// In use by someone else, or by a caller further up the stack.
    #[error("in use")]
    Busy,
    /// A frame is larger than a slot.
    #[error("frame too large")]
    FrameTooLarge,
    /// The link is down.
    #[error("link down")]
    LinkDown,
    /// Not on this kernel, driver or build.
    #[error("not supported on this kernel, driver or build")]
    NotSupported,
    /// The locked-memory limit is too small.
    #[error("locked-memory limit too small")]
    MemLock,
    /// A filter program was refused.
    #[error("filter refused")]
    Filter,
    /// An XDP program was refused.
    #[error("XDP program refused")]
    XdpProgram,
    /// A panic was caught; the handle is poisoned.
    #[error("internal error: a panic was caught; the handle can only be closed")]
    Panic,
}

/// An error with its story.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Which documented error.
    pub kind: Kind,
    /// The kernel's reason, where there is one.
    pub os: Option<i32>,
    /// The step or the configuration field: "bind", "block_size".
    pub option: Cow<'static, str>,
    /// The documented text, the value, and the remedy.
    pub message: String,
}

/// What fallible functions of the core return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without an operating-system cause.
    pub fn new(
        kind: Kind,
        option: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, os: None, option: option.into(), message: message.into() }
    }

    /// The same error with the kernel's reason.
    #[must_use]
    pub fn with_os(mut self, errno: i32) -> Self {
        self.os = Some(errno);
        self
    }

    /// A wrong argument or configuration value.
    pub fn config(option: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Config, option, message)
    }
}
