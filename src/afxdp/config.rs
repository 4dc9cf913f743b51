//! What can be asked for.

/// How packets come to the sockets: as asked for, or as granted (then never `Auto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The best that there is.
    Auto = 0,
    /// The driver writes into the UMEM.
    ZeroCopy = 1,
    /// The program runs in the driver, the kernel copies.
    Copy = 2,
    /// The program runs in the kernel's stack, whatever the driver.
    Skb = 3,
}

/// What goes to the sockets; the rest to the host's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Redirect {
    /// What a filter accepts.
    Filter = 1,
    /// Every packet.
    All = 2,
    /// No packet.
    None = 3,
}

/// A mode that was not granted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub mode: Mode,
    /// The kernel's reason, where there is one.
    pub os: Option<i32>,
    /// The step that failed: "attach", "bind".
    pub option: &'static str,
    /// The same in words.
    pub message: String,
}
