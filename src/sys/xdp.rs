//! AF_XDP sockets: what if_xdp.h has, and the memory of their rings.

use super::mmap::Mapping;
use super::socket::{Plain, Socket};
use super::{Errno, Result, check};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A packet, or a piece of one, in a receive or transmit ring (struct xdp_desc).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Where it lies in the UMEM; with unaligned chunks the upper 16 bits are an offset.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// `CONTINUED`, `TX_METADATA`.
    pub options: u32,
}

/// XDP_PKT_CONTD: the packet goes on in the next descriptor (Linux 6.6).
pub const CONTINUED: u32 = 1;
/// XDP_TX_METADATA: there is metadata in front of the frame (Linux 6.8).
pub const TX_METADATA: u32 = 2;

/// Flags of a UMEM.
pub mod umem {
    /// XDP_UMEM_UNALIGNED_CHUNK_FLAG (Linux 5.4).
    pub const UNALIGNED: u32 = 1;
    /// XDP_UMEM_TX_METADATA_LEN (Linux 6.11; before it the length alone said so).
    pub const TX_METADATA_LENGTH: u32 = 4;
}

/// Flags of a bind.
pub mod bind {
    /// XDP_COPY.
    pub const COPY: u16 = libc::XDP_COPY;
    /// XDP_ZEROCOPY.
    pub const ZERO_COPY: u16 = libc::XDP_ZEROCOPY;
    /// XDP_USE_NEED_WAKEUP (Linux 5.4).
    pub const NEED_WAKEUP: u16 = libc::XDP_USE_NEED_WAKEUP;
    /// XDP_USE_SG (Linux 6.6).
    pub const MULTI_BUFFER: u16 = libc::XDP_USE_SG;
}

/// struct xsk_tx_metadata, in front of a frame.
pub mod metadata {
    /// XDP_TXMD_FLAGS_TIMESTAMP.
    pub const TIMESTAMP: u64 = 1;
    /// XDP_TXMD_FLAGS_CHECKSUM.
    pub const CHECKSUM: u64 = 2;

    /// As the kernel is asked.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Request {
        /// What for.
        pub flags: u64,
        /// Where the checksum begins.
        pub checksum_start: u16,
        /// Where it goes, from there.
        pub checksum_offset: u16,
        /// 0.
        pub padding: u32,
        /// 0 (Linux 6.15).
        pub launch_time: u64,
    }

    /// Where the answer is: the time.
    pub const ANSWER: usize = 8;
}

const _: () = assert!(size_of::<metadata::Request>() == 24);

/// NETDEV_XSK_FLAGS_TX_TIMESTAMP: the driver stamps what it sends without a copy.
pub const DRIVER_STAMPS: u64 = 1;
/// NETDEV_XSK_FLAGS_TX_CHECKSUM: it fills in checksums of that.
pub const DRIVER_CHECKSUMS: u64 = 2;

/// XDP_RING_NEED_WAKEUP in a ring's flags.
pub const RING_NEEDS_WAKEUP: u32 = 1;

/// SO_PREFER_BUSY_POLL and SO_BUSY_POLL_BUDGET (Linux 5.11; asm-generic/socket.h).
const SO_PREFER_BUSY_POLL: i32 = if cfg!(target_arch = "sparc64") { 0x0048 } else { 69 };
const SO_BUSY_POLL_BUDGET: i32 = if cfg!(target_arch = "sparc64") { 0x0049 } else { 70 };

/// What of XDP_STATISTICS this kernel gives: since Linux 5.9 all of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets dropped: larger than a frame, or there was no frame.
    pub rx_dropped: u64,
    /// Addresses in the fill ring that were none.
    pub rx_invalid: u64,
    /// Descriptors in the transmit ring that were none.
    pub tx_invalid: u64,
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that the fill ring had no frame.
    pub fill_empty: u64,
    /// Times that the transmit ring had no descriptor.
    pub tx_ring_empty: u64,
}

/// struct xdp_umem_reg.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct UmemRegistration {
    address: u64,
    length: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    /// Since Linux 6.8.
    tx_metadata_length: u32,
}

/// Which of the four rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingKind {
    /// Received packets.
    Receive,
    /// Packets to be sent.
    Transmit,
    /// Frames for packets to come.
    Fill,
    /// Frames that were sent.
    Completion,
}

impl RingKind {
    fn option(self) -> i32 {
        match self {
            Self::Receive => libc::XDP_RX_RING,
            Self::Transmit => libc::XDP_TX_RING,
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    /// The option by name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "XDP_RX_RING",
            Self::Transmit => "XDP_TX_RING",
            Self::Fill => "XDP_UMEM_FILL_RING",
            Self::Completion => "XDP_UMEM_COMPLETION_RING",
        }
    }

    fn page_offset(self) -> i64 {
        match self {
            Self::Receive => 0,
            Self::Transmit => 0x8000_0000,
            Self::Fill => 0x1_0000_0000,
            Self::Completion => 0x1_8000_0000,
        }
    }

    fn entry(self) -> usize {
        match self {
            Self::Receive | Self::Transmit => size_of::<Descriptor>(),
            Self::Fill | Self::Completion => size_of::<u64>(),
        }
    }
}

/// Where the parts of a ring lie in its mapping (struct xdp_ring_offset).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RingOffsets {
    /// The producer's count.
    pub producer: u64,
    /// The consumer's count.
    pub consumer: u64,
    /// The entries.
    pub entries: u64,
    /// The flags.
    pub flags: u64,
}

/// struct xdp_mmap_offsets.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Offsets {
    receive: RingOffsets,
    transmit: RingOffsets,
    fill: RingOffsets,
    completion: RingOffsets,
}

// SAFETY: integers only.
unsafe impl Plain for Statistics {}
// SAFETY: integers only.
unsafe impl Plain for Offsets {}
// SAFETY: integers only.
unsafe impl Plain for UmemRegistration {}

/// How a UMEM is registered.
#[derive(Debug, Clone, Copy)]
pub struct Umem {
    /// Its first byte.
    pub base: *mut u8,
    /// Bytes.
    pub length: u64,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// Bytes in front of each packet, besides the kernel's own 256.
    pub headroom: u32,
    /// `umem`.
    pub flags: u32,
    /// Bytes of metadata in front of each frame to be sent.
    pub tx_metadata_length: u32,
}

/// A socket's queue options for busy polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyPoll {
    /// SO_PREFER_BUSY_POLL.
    Prefer,
    /// SO_BUSY_POLL: microseconds.
    Time(u32),
    /// SO_BUSY_POLL_BUDGET: packets.
    Budget(u32),
}

/// AF_XDP.
impl Socket {
    /// A socket without memory, rings or queue.
    pub fn xdp() -> Result<Self> {
        // SAFETY: no pointers.
        let fd =
            check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        Ok(Self::of(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A copy of one that somebody else made; EPROTOTYPE: it is of another family.
    pub fn xdp_from(fd: i32) -> Result<Self> {
        // SAFETY: no pointers; a number that is no descriptor is EBADF.
        let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
        // SAFETY: a descriptor just made, owned by nobody else.
        let socket = Self::of(unsafe { OwnedFd::from_raw_fd(copy) });
        if socket.get::<i32>(libc::SOL_SOCKET, libc::SO_DOMAIN)? != libc::AF_XDP {
            return Err(Errno(libc::EPROTOTYPE));
        }
        Ok(socket)
    }

    /// XDP_UMEM_REG.
    ///
    /// # Safety
    /// The memory is the caller's, and is unmapped only after this socket is closed: the
    /// kernel writes into its pages whether they are mapped or not, and other memory
    /// must not be taken for it.
    pub unsafe fn register(&self, umem: Umem) -> Result<()> {
        let registration = UmemRegistration {
            address: umem.base.addr() as u64,
            length: umem.length,
            chunk_size: umem.chunk_size,
            headroom: umem.headroom,
            flags: umem.flags,
            tx_metadata_length: umem.tx_metadata_length,
        };
        // Kernels before 6.8 have padding where the last word is. They want it, too: shorter,
        // they take it for the one before, which had no flags.
        let length = size_of::<UmemRegistration>();
        // SAFETY: a live structure of that many bytes at least; the memory it names is the
        // caller's promise.
        check(unsafe {
            libc::setsockopt(
                self.fd().as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_UMEM_REG,
                (&raw const registration).cast(),
                length as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// Makes a ring of so many entries.
    pub fn make_ring(&self, kind: RingKind, entries: u32) -> Result<()> {
        self.set(libc::SOL_XDP, kind.option(), &entries)
    }

    /// Maps a ring, and says where its parts lie.
    pub fn map_ring(&self, kind: RingKind, entries: u32) -> Result<(Mapping, RingOffsets)> {
        let offsets: Offsets = self.get(libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        let offsets = match kind {
            RingKind::Receive => offsets.receive,
            RingKind::Transmit => offsets.transmit,
            RingKind::Fill => offsets.fill,
            RingKind::Completion => offsets.completion,
        };
        let length = offsets.entries as usize + entries as usize * kind.entry();
        let mapping = Mapping::shared_at(self.fd(), length, kind.page_offset())?;
        Ok((mapping, offsets))
    }

    /// bind(2) to a queue.
    pub fn bind_queue(&self, ifindex: u32, queue: u32, flags: u16) -> Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: a live sockaddr_xdp and its size.
        check(unsafe {
            libc::bind(
                self.fd().as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// XDP_STATISTICS. Before Linux 5.9 the last three are 0.
    pub fn xdp_statistics(&self) -> Result<Statistics> {
        self.get(libc::SOL_XDP, libc::XDP_STATISTICS)
    }

    /// XDP_OPTIONS (Linux 5.3): whether frames are not copied.
    pub fn is_zero_copy(&self) -> Result<bool> {
        self.get::<u32>(libc::SOL_XDP, libc::XDP_OPTIONS).map(|options| options & 1 != 0)
    }

    /// SO_INCOMING_NAPI_ID: 0 before the first packet.
    pub fn napi_id(&self) -> Result<u32> {
        self.get(libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID)
    }

    /// Options for busy polling.
    pub fn busy_poll(&self, what: BusyPoll) -> Result<()> {
        let (name, value) = match what {
            BusyPoll::Prefer => (SO_PREFER_BUSY_POLL, 1),
            BusyPoll::Time(microseconds) => (libc::SO_BUSY_POLL, microseconds),
            BusyPoll::Budget(packets) => (SO_BUSY_POLL_BUDGET, packets),
        };
        self.set(libc::SOL_SOCKET, name, &value)
    }

    /// Has the driver take what is in the transmit ring.
    pub fn kick_transmit(&self) -> Result<()> {
        // SAFETY: no data: NULL and 0 bytes.
        let sent = unsafe {
            libc::sendto(
                self.fd().as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if sent < 0 { Err(Errno::last()) } else { Ok(()) }
    }

    /// Has the driver look at the fill ring, and poll where busy polling is on.
    pub fn kick_receive(&self) -> Result<()> {
        // SAFETY: no room for data: NULL and 0 bytes.
        let received = unsafe {
            libc::recvfrom(
                self.fd().as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        if received < 0 { Err(Errno::last()) } else { Ok(()) }
    }
}

/// RLIMIT_MEMLOCK of this process in bytes; `None`: no limit.
pub fn locked_memory_limit() -> Option<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: room for a rlimit.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit.as_mut_ptr()) };
    // SAFETY: zeroed, and written where that worked; integers.
    let limit = unsafe { limit.assume_init() };
    (asked == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
