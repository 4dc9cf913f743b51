//! The log: silent unless a callback or NETRING_LOG asks for it.

use parking_lot::RwLock;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// How much a message matters; lower is graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is not as asked for.
    Warn = 2,
    /// What was done.
    Info = 3,
    /// Each step of what was done.
    Debug = 4,
}

impl Level {
    /// The word in front of a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// Where messages go instead of stderr.
pub trait Sink: Send + Sync {
    /// Takes one message, without a trailing newline.
    fn message(&self, level: Level, text: &str);
}

const UNSET: u32 = u32::MAX;
static LEVEL: AtomicU32 = AtomicU32::new(UNSET);
static SINK: RwLock<Option<Arc<dyn Sink>>> = RwLock::new(None);

/// What NETRING_LOG asks for; read once. Programs with raised privileges read
/// it as unset (secure_getenv), so that nobody makes them print.
fn environment_level() -> u32 {
    static ASKED: OnceLock<u32> = OnceLock::new();
    *ASKED.get_or_init(|| {
        let asked = crate::sys::environment::secure("NETRING_LOG").unwrap_or_default();
        match asked.to_ascii_lowercase().as_str() {
            "" | "off" | "0" => 0,
            "error" | "1" => Level::Error as u32,
            "warn" | "warning" | "2" => Level::Warn as u32,
            "info" | "3" => Level::Info as u32,
            "debug" | "4" => Level::Debug as u32,
            _ => {
                to_stderr(
                    Level::Warn,
                    &format!("NETRING_LOG={asked}: not one of off, error, warn, info, debug"),
                );
                Level::Warn as u32
            }
        }
    })
}

/// Sends messages of `level` and graver to `sink`; `None` goes back to the
/// environment's choice. A message under way on another thread may still reach
/// the old sink once.
pub fn set(level: u32, sink: Option<Arc<dyn Sink>>) {
    let mut current = SINK.write();
    LEVEL.store(if sink.is_some() { level } else { UNSET }, Ordering::Relaxed);
    *current = sink;
}

/// Whether a message of this level would go anywhere.
pub fn enabled(level: Level) -> bool {
    let asked = match LEVEL.load(Ordering::Relaxed) {
        UNSET => environment_level(),
        asked => asked,
    };
    level as u32 <= asked
}

thread_local! {
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a sink: what would wait for the call that the
/// message came from has to be refused.
pub fn in_sink() -> bool {
    IN_SINK.get()
}

/// Writes one message. What a sink itself causes is not logged.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) || in_sink() {
        return;
    }
    let text = message.to_string();
    // Cloned, so that no lock is held while the sink runs: it may call back.
    let sink = SINK.read().clone();
    match sink {
        Some(sink) => {
            IN_SINK.set(true);
            sink.message(level, &text);
            IN_SINK.set(false);
        }
        None => to_stderr(level, &text),
    }
}

/// One write, so that lines of several threads do not mix. A closed stderr is
/// nobody's error.
fn to_stderr(level: Level, text: &str) {
    use std::io::Write;
    let line = format!("netring: {}: {text}\n", level.word());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Something is not as asked for.
macro_rules! warning {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warn, format_args!($($arg)*)) };
}
/// What was done.
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($arg)*)) };
}
pub(crate) use {info, warning};
