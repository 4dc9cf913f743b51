//! What a driver knows of a packet besides its bytes: the program asks it (Linux 6.3) and
//! writes the answers in front of packets that are taken. There AF_XDP leaves them.

/// The functions to ask by, numbers of the kernel's BTF; 0: not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beside {
    /// The interface, to which the program is bound.
    pub ifindex: u32,
    /// bpf_xdp_metadata_rx_timestamp
    pub time: u32,
    /// bpf_xdp_metadata_rx_hash
    pub hash: u32,
    /// bpf_xdp_metadata_rx_vlan_tag (Linux 6.8)
    pub tag: u32,
}

/// In [`Front::valid`]: the driver has answered.
pub const TIME: u32 = 1 << 0;
/// See [`TIME`].
pub const HASH: u32 = 1 << 1;
/// See [`TIME`].
pub const TAG: u32 = 1 << 2;

/// Whether anything was written. Frames are used again, so whoever has read it writes
/// something else over it.
pub const MAGIC: u64 = 0x6e65_7472_696e_6721;

/// The 32 bytes before the packet's first.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The card's clock, nanoseconds; 0: there was no stamp.
    pub time: u64,
    /// Of the flow.
    pub hash: u32,
    /// enum xdp_rss_hash_type; 0: the card's own.
    pub hash_type: u32,
    /// EtherType of the tag that was taken out, network byte order.
    pub tpid: u16,
    /// Its control information.
    pub tci: u16,
    /// [`TIME`], ...
    pub valid: u32,
    /// [`MAGIC`]
    pub magic: u64,
}

/// How much the program asks for; a multiple of 4, at most 255.
pub const LENGTH: usize = size_of::<Front>();

const _: () = assert!(LENGTH == 32);

/// What a driver said of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Nanoseconds of the card's clock.
    pub time: Option<u64>,
    /// Of the flow.
    pub hash: Option<u32>,
    /// EtherType and control information of the tag that is not in the packet.
    pub tag: Option<(u16, u16)>,
}

impl Front {
    /// What is valid; `None`: the program has written nothing.
    pub fn told(&self) -> Option<Told> {
        let has = |what: u32| self.valid & what != 0;
        (self.magic == MAGIC).then(|| Told {
            time: (has(TIME) && self.time != 0).then_some(self.time),
            hash: (has(HASH) && (self.hash | self.hash_type) != 0).then_some(self.hash),
            tag: has(TAG).then_some((u16::from_be(self.tpid), self.tci)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let tpid = 0x8100_u16.to_be();
        let all = Front { time: 7, hash: 5, hash_type: 1, tpid, tci: 100, valid: 7, magic: MAGIC };
        let told = Told { time: Some(7), hash: Some(5), tag: Some((0x8100, 100)) };
        assert_eq!(all.told(), Some(told));
        assert_eq!(Front { magic: MAGIC - 1, ..all }.told(), None);
        assert_eq!(Front { valid: 0, ..all }.told(), Some(Told::default()));
        // A driver without a stamp or a hash may answer nevertheless.
        let empty = Front { time: 0, hash: 0, hash_type: 0, ..all };
        assert_eq!(empty.told(), Some(Told { tag: told.tag, ..Told::default() }));
    }
}
