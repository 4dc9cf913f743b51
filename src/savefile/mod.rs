//! Savefiles: pcap and pcapng.

pub mod reader;
pub mod writer;
mod writer_file;
mod writer_format;

/// The pcap format, its variants with nanoseconds included.
pub const NETRING_SAVEFILE_PCAP: u32 = 1;
/// The pcapng format.
pub const NETRING_SAVEFILE_PCAPNG: u32 = 2;
