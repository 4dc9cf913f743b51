//! Fanout groups of packet sockets: the kernel's words (linux/if_packet.h) and
//! calls.

use super::Result;
use super::filter::SockFilter;
use super::packet::SOL_PACKET;
use super::socket::{Plain, Socket};
use std::os::fd::{AsRawFd, BorrowedFd};

const PACKET_FANOUT: i32 = 18;
const PACKET_ROLLOVER_STATS: i32 = 21;
const PACKET_FANOUT_DATA: i32 = 22;

/// Modes (PACKET_FANOUT_*).
pub mod mode {
    /// By flow hash.
    pub const HASH: u32 = 0;
    /// Taking turns.
    pub const LB: u32 = 1;
    /// By the CPU that received it.
    pub const CPU: u32 = 2;
    /// The first with room.
    pub const ROLLOVER: u32 = 3;
    /// At random.
    pub const RND: u32 = 4;
    /// By the device's queue.
    pub const QM: u32 = 5;
    /// By a classic program.
    pub const CBPF: u32 = 6;
    /// By an eBPF program.
    pub const EBPF: u32 = 7;
}

/// Flags (PACKET_FANOUT_FLAG_*).
pub mod flag {
    /// To another member where the chosen one has no room.
    pub const ROLLOVER: u16 = 0x1000;
    /// The kernel chooses the id.
    pub const UNIQUEID: u16 = 0x2000;
    /// Nothing that this host sends (Linux 6.2).
    pub const IGNORE_OUTGOING: u16 = 0x4000;
    /// Fragments are put together first.
    pub const DEFRAG: u16 = 0x8000;
}

/// struct fanout_args: one 32-bit word of id and type, then the members.
#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    id_and_type: u32,
    max_num_members: u32,
}

/// struct tpacket_rollover_stats.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rollover {
    /// Packets chosen for this member that were given to a member with room.
    pub all: u64,
    /// Of them, those of a flow that made up most of the traffic.
    pub huge: u64,
    /// Those for which no member had room.
    pub failed: u64,
}

// SAFETY: integers only.
unsafe impl Plain for Args {}
// SAFETY: integers only.
unsafe impl Plain for Rollover {}

/// What getsockopt(PACKET_FANOUT) says of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fanout {
    /// The group's id.
    pub id: u16,
    /// [`flag`] bits, those of one join only left out.
    pub flags: u16,
}

impl Socket {
    /// PACKET_FANOUT: joins a group, or makes it. `most` members; 0: the
    /// kernel's default. (The kernel ignores flags that it does not know.)
    pub fn join_fanout(&self, id: u16, mode: u32, flags: u16, most: u32) -> Result<()> {
        // One native 32-bit word on either byte order (packet_setsockopt).
        let id_and_type = u32::from(id) | (mode | u32::from(flags)) << 16;
        match most {
            0 => self.set(SOL_PACKET, PACKET_FANOUT, &id_and_type),
            max_num_members => {
                self.set(SOL_PACKET, PACKET_FANOUT, &Args { id_and_type, max_num_members })
            }
        }
    }

    /// Which group the socket is in.
    pub fn fanout(&self) -> Result<Fanout> {
        let word: u32 = self.get(SOL_PACKET, PACKET_FANOUT)?;
        Ok(Fanout { id: word as u16, flags: (word >> 16) as u16 & 0xff00 })
    }

    /// PACKET_FANOUT_DATA: the program of a group of mode CBPF.
    pub fn steer(&self, program: &[SockFilter]) -> Result<()> {
        super::socket::set_program(self.fd(), SOL_PACKET, PACKET_FANOUT_DATA, program)
    }

    /// PACKET_FANOUT_DATA: the program of a group of mode EBPF.
    pub fn steer_by_ebpf(&self, program: BorrowedFd<'_>) -> Result<()> {
        self.set(SOL_PACKET, PACKET_FANOUT_DATA, &program.as_raw_fd())
    }

    /// PACKET_ROLLOVER_STATS, cumulative (Linux 4.2). EINVAL in a group that does
    /// not roll over.
    pub fn rollover(&self) -> Result<Rollover> {
        self.get(SOL_PACKET, PACKET_ROLLOVER_STATS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Args>(), size_of::<Rollover>()), (8, 24));
    }
}
