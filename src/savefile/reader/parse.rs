//! The formats. A savefile may hold anything: every length is checked before it
//! is believed, and memory follows what has arrived, not what is claimed.
//!
//! Headers, records and blocks are taken apart by the crate pcap-parser, each
//! only when it is there as a whole. Done here is what the crate leaves open:
//! framing with the place in the file, bounds, the obsolete packet block,
//! resolutions that are powers of 2, and options in the section's byte order.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::indexing_slicing
    )
)]

use super::buffer::{Buffer, Have};
use crate::error::{Error, Kind, Result};
use crate::packet::{
    NETRING_DIRECTION_BROADCAST, NETRING_DIRECTION_HOST, NETRING_DIRECTION_MULTICAST,
    NETRING_DIRECTION_OTHERHOST, NETRING_DIRECTION_OUTGOING,
};
use pcap_parser::pcapng::{OptionCode, PcapNGOption};
use pcap_parser::{pcap, pcapng};

/// Captured lengths above this and above the file's own snapshot length are
/// damage, as libpcap has it (MAXIMUM_SNAPLEN).
const SANE_SNAP_LENGTH: u32 = 262_144;
/// Options of one block, or a block other than a packet's, up to which it is
/// taken apart; the options become an array some ten times as large.
const MOST_OPTIONS: u32 = 1 << 20;
/// Interfaces of one file, in all sections: each costs memory.
const MOST_INTERFACES: usize = 1 << 16;
/// Bytes kept of an interface's name, and of its description.
const LONGEST_TEXT: usize = 255;

/// Block types.
const SECTION_HEADER: u32 = pcapng::SHB_MAGIC;
const INTERFACE_DESCRIPTION: u32 = pcapng::IDB_MAGIC;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = pcapng::SPB_MAGIC;
const INTERFACE_STATISTICS: u32 = pcapng::ISB_MAGIC;
const ENHANCED_PACKET: u32 = pcapng::EPB_MAGIC;

/// Type, length, and the length again.
const BLOCK_FRAME: u32 = 12;
/// The fixed part of an enhanced packet block with its frame; the obsolete
/// packet block has the same.
const PACKET_FRAME: u32 = 32;
const SIMPLE_FRAME: u32 = 16;

/// epb_flags and pack_flags.
const PACKET_FLAGS: OptionCode = OptionCode(2);

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// pcap.
    Pcap,
    /// pcapng.
    Pcapng,
}

/// What the file's header says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// pcap or pcapng.
    pub format: Format,
    /// Of the file, or of the present section.
    pub big_endian: bool,
    /// Version of the format.
    pub major: u16,
    /// Version of the format.
    pub minor: u16,
}

/// An interface of a file. A pcap file has one.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    /// Counted from 1; 1 in pcap.
    pub section: u32,
    /// LINKTYPE_ number.
    pub link_type: u16,
    /// Bytes kept of a packet as the file says it; 0: it does not.
    pub snap_length: u32,
    /// Units of its timestamps per second.
    pub resolution: u64,
    /// Seconds added to its timestamps.
    pub offset: i64,
    /// if_name.
    pub name: String,
    /// if_description.
    pub description: String,
    /// The last statistics block's counters, where it has them.
    pub received: Option<u64>,
    /// isb_ifdrop.
    pub dropped: Option<u64>,
    /// isb_filteraccept.
    pub accepted: Option<u64>,
    /// isb_osdrop.
    pub os_dropped: Option<u64>,
    /// isb_usrdeliv.
    pub delivered: Option<u64>,
}

/// A packet that lies in the buffer.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Place in the file of its record or block.
    pub offset: u64,
    /// Where its bytes start in the buffer.
    start: usize,
    /// Bytes captured.
    pub caplen: u32,
    /// Bytes on the wire.
    pub len: u32,
    /// When: seconds and nanoseconds, as far as a block's record holds them.
    pub time: (u32, u32),
    /// Number of its interface in the file.
    pub interface: u32,
    /// LINKTYPE_ number.
    pub link_type: u16,
    /// NETRING_DIRECTION_*, where the file says.
    pub direction: Option<u8>,
    /// Bytes of the record or block.
    size: usize,
}

/// What a look at the file gives.
#[derive(Debug)]
pub enum Step {
    /// A packet; again the same until it is consumed.
    Packet(Found),
    /// Something else was read: look again.
    Again,
    /// The input would have to be waited for.
    Wait,
    /// The end of the file, between two records.
    End,
}

/// pcap's way to write a packet.
#[derive(Debug, Clone, Copy)]
struct PcapRecords {
    big_endian: bool,
    /// Bytes of a record's header.
    header: u32,
    /// Nanoseconds of a unit of time.
    unit: u64,
    /// Before version 2.3 the two lengths came the other way round; with 2.3
    /// they may.
    swapped: Swapped,
    /// What libpcap cuts packets to.
    snap_length: u32,
    link_type: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swapped {
    No,
    Perhaps,
    Yes,
}

/// See the module.
#[derive(Debug)]
pub struct Parser {
    buffer: Buffer,
    name: String,
    packet_limit: u32,
    header: Option<Header>,
    pcap: Option<PcapRecords>,
    interfaces: Vec<Interface>,
    /// Number of the present section's first interface.
    first_interface: usize,
    sections: u32,
    skipping: Option<Skipping>,
}

/// A block that is read over.
#[derive(Debug, Clone, Copy)]
struct Skipping {
    /// Place of the block in the file.
    offset: u64,
    /// What its frame says.
    total: u32,
    /// Bytes left but for the second length.
    left: u32,
}

/// The integer at `at`, in the file's byte order; 0 behind the end.
fn number(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
}

impl Parser {
    /// At the start of a file called `name`.
    pub fn new(buffer: Buffer, name: String, packet_limit: u32) -> Self {
        Self {
            buffer,
            name,
            packet_limit,
            header: None,
            pcap: None,
            interfaces: Vec::new(),
            first_interface: 0,
            sections: 0,
            skipping: None,
        }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the header says, once it was read.
    pub fn header(&self) -> Option<Header> {
        self.header
    }

    /// All interfaces so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Sections so far.
    pub fn sections(&self) -> u32 {
        self.sections
    }

    /// Bytes used up.
    pub fn offset(&self) -> u64 {
        self.buffer.offset()
    }

    /// A packet's bytes.
    pub fn data(&self, found: &Found) -> &[u8] {
        let rest = self.buffer.bytes().get(found.start..).unwrap_or(&[]);
        rest.get(..found.caplen as usize).unwrap_or(rest)
    }

    /// Goes on behind a packet.
    pub fn consume(&mut self, found: &Found) {
        self.buffer.consume(found.size);
    }

    /// Looks at what comes next.
    ///
    /// # Errors
    /// `Io`: the file is damaged, or could not be read; looking again gives the
    /// same.
    pub fn step(&mut self) -> Result<Step> {
        self.look().map_err(|mut error| {
            error.message.insert_str(0, ": ");
            error.message.insert_str(0, &self.name);
            error
        })
    }

    fn look(&mut self) -> Result<Step> {
        match (self.header, self.pcap) {
            (None, _) => self.file_header(),
            (_, Some(records)) => self.record(records),
            (Some(header), None) => self.block(header.big_endian),
        }
    }

    /// Damage at the present place.
    fn damaged(&self, what: impl std::fmt::Display) -> Error {
        Self::damaged_at(self.buffer.offset(), what)
    }

    fn damaged_at(offset: u64, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Io, "savefile", format!("byte {offset}: {what}"))
    }

    fn cut(&self, what: &str, whole: u64, there: usize) -> Error {
        self.damaged(format_args!(
            "truncated: {what} of {whole} bytes starts here, and the file ends after {there} of them"
        ))
    }

    /// The first bytes, which tell the format.
    fn file_header(&mut self) -> Result<Step> {
        match self.buffer.need(4)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(0) => {
                return Err(self.damaged("the file is empty: not even a savefile's header"));
            }
            Have::Only(_) => return Err(self.no_savefile()),
        }
        match number(self.buffer.bytes(), 0, false) {
            SECTION_HEADER => self.block(false),
            0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34 => self.pcap_header(false),
            0xd4c3_b2a1 | 0x4d3c_b2a1 | 0x34cd_b2a1 => self.pcap_header(true),
            _ => Err(self.no_savefile()),
        }
    }

    fn no_savefile(&self) -> Error {
        let known = match self.buffer.bytes() {
            [0x1f, 0x8b, ..] => ", but compressed by gzip: read it through `zcat`",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ", but compressed by zstd: read it through `zstdcat`",
            [0xfd, b'7', b'z', b'X', ..] => ", but compressed by xz: read it through `xzcat`",
            [0x04, 0x22, 0x4d, 0x18, ..] => ", but compressed by lz4: read it through `lz4cat`",
            [b'B', b'Z', b'h', ..] => ", but compressed by bzip2: read it through `bzcat`",
            _ => "",
        };
        let first: Vec<String> =
            self.buffer.bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.damaged(format_args!(
            "not a savefile: neither pcap nor pcapng starts with {}{known}",
            first.join(" ")
        ))
    }

    // ---- pcap ----

    fn pcap_header(&mut self, big_endian: bool) -> Result<Step> {
        match self.buffer.need(24)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(there) => return Err(self.cut("the header", 24, there)),
        }
        let mut header: [u8; 24] = self.buffer.bytes().first_chunk().copied().unwrap_or([0; 24]);
        // The crate knows the modified format in one byte order only.
        let modified =
            matches!(header, [0x34, 0xcd, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xcd, 0x34, ..]);
        if modified {
            let magic = 0xa1b2_c3d4_u32;
            let magic = if big_endian { magic.to_be_bytes() } else { magic.to_le_bytes() };
            if let Some(first) = header.first_chunk_mut() {
                *first = magic;
            }
        }
        let Ok((_, header)) = pcap::parse_pcap_header(&header) else {
            return Err(self.no_savefile());
        };
        let (major, minor) = (header.version_major, header.version_minor);
        let swapped = match (major, minor) {
            (2, 0..=2) | (543, 0) => Swapped::Yes,
            (2, 3) => Swapped::Perhaps,
            (2, 4) => Swapped::No,
            _ => {
                return Err(self.damaged(format_args!(
                    "pcap version {major}.{minor} is none that is known (2.0 to 2.4)"
                )));
            }
        };
        // Above the 16 bits there may be the length of the frame check sequence.
        let link_type = u16::try_from(header.network.0 & 0xffff).unwrap_or(0);
        let snap_length = given_snap_length(header.snaplen);
        // Cooked captures of the modified format have an Ethernet header more.
        let room = if modified && link_type == 1 { 14 } else { 0 };
        let nanoseconds = header.is_nanosecond_precision();
        self.pcap = Some(PcapRecords {
            big_endian,
            header: if modified { 24 } else { 16 },
            unit: if nanoseconds { 1 } else { 1000 },
            swapped,
            snap_length: snap_length.map_or(u32::MAX, |length| length.saturating_add(room)),
            link_type,
        });
        self.interfaces.push(Interface {
            section: 1,
            link_type,
            snap_length: header.snaplen,
            resolution: if nanoseconds { 1_000_000_000 } else { 1_000_000 },
            ..Interface::default()
        });
        self.sections = 1;
        self.header = Some(Header { format: Format::Pcap, big_endian, major, minor });
        self.buffer.consume(24);
        Ok(Step::Again)
    }

    fn record(&mut self, records: PcapRecords) -> Result<Step> {
        match self.buffer.need(records.header as usize)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(0) => return Ok(Step::End),
            Have::Only(there) => {
                return Err(self.cut("the header of a packet", records.header.into(), there));
            }
        }
        let bytes = self.buffer.bytes();
        let stored = number(bytes, 8, records.big_endian);
        let other = number(bytes, 12, records.big_endian);
        let swap = records.swapped == Swapped::Yes
            || records.swapped == Swapped::Perhaps && stored > other;
        let (caplen, len) = if swap { (other, stored) } else { (stored, other) };
        if caplen > SANE_SNAP_LENGTH && caplen > records.snap_length {
            return Err(self.damaged(format_args!(
                "a packet of {caplen} captured bytes cannot be: the file's snapshot length is {}",
                records.snap_length
            )));
        }
        if caplen > self.packet_limit {
            return Err(self.too_large(caplen));
        }
        let size = records.header.saturating_add(caplen) as usize;
        match self.buffer.need(size)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(there) => return Err(self.cut("a packet", size as u64, there)),
        }
        let bytes = self.buffer.bytes();
        let (seconds, fraction) =
            (number(bytes, 0, records.big_endian), number(bytes, 4, records.big_endian));
        let nanoseconds = i128::from(seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(i128::from(u64::from(fraction).saturating_mul(records.unit)));
        Ok(Step::Packet(Found {
            offset: self.buffer.offset(),
            start: records.header as usize,
            caplen: caplen.min(records.snap_length),
            len,
            time: time(nanoseconds),
            interface: 0,
            link_type: records.link_type,
            direction: None,
            size,
        }))
    }

    fn too_large(&self, caplen: u32) -> Error {
        self.damaged(format_args!(
            "a packet of {caplen} captured bytes is larger than packet_limit ({}): the file is \
             damaged, or raise packet_limit",
            self.packet_limit
        ))
    }

    // ---- pcapng ----

    fn block(&mut self, big_endian: bool) -> Result<Step> {
        if self.skipping.is_some() {
            return self.skip(big_endian);
        }
        match self.buffer.need(12)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(0) => return Ok(Step::End),
            Have::Only(there) => return Err(self.cut("a block", 12, there)),
        }
        let bytes = self.buffer.bytes();
        // A palindrome: it says so in either byte order.
        let section = number(bytes, 0, false) == SECTION_HEADER;
        let big_endian = if section {
            match number(bytes, 8, false) {
                pcapng::BOM_MAGIC => false,
                other if other == pcapng::BOM_MAGIC.swap_bytes() => true,
                other => {
                    return Err(self.damaged(format_args!(
                        "a section header whose byte-order magic is {other:#010x}"
                    )));
                }
            }
        } else {
            big_endian
        };
        let kind = number(bytes, 0, big_endian);
        let total = number(bytes, 4, big_endian);
        if total < BLOCK_FRAME || total % 4 != 0 {
            return Err(self.damaged(format_args!(
                "a block of {total} bytes cannot be: at least {BLOCK_FRAME}, and a multiple of 4"
            )));
        }
        let (least, most) = match kind {
            SECTION_HEADER => (28, MOST_OPTIONS),
            INTERFACE_DESCRIPTION => (20, MOST_OPTIONS),
            ENHANCED_PACKET | OBSOLETE_PACKET => {
                (PACKET_FRAME, self.packet_limit.saturating_add(MOST_OPTIONS))
            }
            SIMPLE_PACKET => {
                (SIMPLE_FRAME, self.packet_limit.saturating_add(SIMPLE_FRAME).saturating_add(3))
            }
            // What cannot be understood of it is nobody's loss.
            INTERFACE_STATISTICS if (24..=MOST_OPTIONS).contains(&total) => (0, u32::MAX),
            _ => {
                let left = total.saturating_sub(4);
                self.skipping = Some(Skipping { offset: self.buffer.offset(), total, left });
                return self.skip(big_endian);
            }
        };
        if total < least {
            return Err(self.damaged(format_args!(
                "a block of type {kind} has at least {least} bytes, this one {total}"
            )));
        }
        if total > most {
            return Err(self.damaged(format_args!(
                "a block of type {kind} of {total} bytes is larger than the {most} that packet_limit \
                 ({}) allows: the file is damaged, or raise packet_limit",
                self.packet_limit
            )));
        }
        let size = total as usize;
        match self.buffer.need(size)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(there) => return Err(self.cut("a block", total.into(), there)),
        }
        let again = number(self.buffer.bytes(), size.saturating_sub(4), big_endian);
        // libpcap does not look at that of the first block.
        if again != total && self.header.is_some() {
            return Err(self.damaged(format_args!(
                "the two lengths of a block differ: {total} at its start, {again} at its end"
            )));
        }
        match kind {
            SECTION_HEADER => self.section(size, big_endian)?,
            INTERFACE_DESCRIPTION => self.interface(size, big_endian)?,
            INTERFACE_STATISTICS => self.statistics(size, big_endian),
            SIMPLE_PACKET => return self.simple(size, big_endian).map(Step::Packet),
            _ => return self.packet(kind, size, big_endian).map(Step::Packet),
        }
        self.buffer.consume(size);
        Ok(Step::Again)
    }

    /// Reads over a block, a piece at a time.
    fn skip(&mut self, big_endian: bool) -> Result<Step> {
        let Some(mut skipping) = self.skipping else { return Ok(Step::Again) };
        let wanted = if skipping.left == 0 { 4 } else { 1 };
        match self.buffer.need(wanted)? {
            Have::Enough => {}
            Have::NotYet => return Ok(Step::Wait),
            Have::Only(there) => {
                let there = self.buffer.offset().saturating_add(there as u64);
                return Err(Self::damaged_at(
                    skipping.offset,
                    format_args!(
                        "truncated: a block of {} bytes starts here, and the file ends after {} of \
                         them",
                        skipping.total,
                        there.saturating_sub(skipping.offset)
                    ),
                ));
            }
        }
        if skipping.left != 0 {
            let used = self.buffer.consume(skipping.left as usize);
            skipping.left = skipping.left.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
            self.skipping = Some(skipping);
            return Ok(Step::Again);
        }
        let again = number(self.buffer.bytes(), 0, big_endian);
        if again != skipping.total {
            return Err(Self::damaged_at(
                skipping.offset,
                format_args!(
                    "the two lengths of a block differ: {} at its start, {again} at its end",
                    skipping.total
                ),
            ));
        }
        self.buffer.consume(4);
        self.skipping = None;
        Ok(Step::Again)
    }

    fn section(&mut self, size: usize, big_endian: bool) -> Result<()> {
        let bytes = self.buffer.bytes().get(..size).unwrap_or(&[]);
        let Ok((_, block)) = pcapng::parse_sectionheaderblock(bytes) else {
            return Err(self.damaged("a section header that makes no sense"));
        };
        let (major, minor) = (block.major_version, block.minor_version);
        // libpcap looks at the minor number of the first section only.
        if major != 1 || self.sections == 0 && minor != 0 && minor != 2 {
            return Err(self.damaged(format_args!(
                "pcapng version {major}.{minor} is none that is known (1.0, 1.2)"
            )));
        }
        self.header = Some(Header { format: Format::Pcapng, big_endian, major, minor });
        self.sections = self.sections.saturating_add(1);
        self.first_interface = self.interfaces.len();
        Ok(())
    }

    fn interface(&mut self, size: usize, big_endian: bool) -> Result<()> {
        let bytes = self.buffer.bytes().get(..size).unwrap_or(&[]);
        let parsed = if big_endian {
            pcapng::parse_interfacedescriptionblock_be(bytes)
        } else {
            pcapng::parse_interfacedescriptionblock_le(bytes)
        };
        let Ok((_, block)) = parsed else {
            return Err(self.damaged("an interface description that makes no sense"));
        };
        if self.interfaces.len() >= MOST_INTERFACES {
            return Err(
                self.damaged(format_args!("more than {MOST_INTERFACES} interfaces in one file"))
            );
        }
        let mut interface = Interface {
            section: self.sections,
            link_type: u16::try_from(block.linktype.0).unwrap_or(0),
            snap_length: block.snaplen,
            resolution: 1_000_000,
            ..Interface::default()
        };
        // The crate ends quietly where an option does not fit.
        let fitting: usize = block.options.iter().map(|o| o.value().len().saturating_add(4)).sum();
        let ends = block.options.iter().any(|option| option.code == OptionCode::EndOfOpt);
        if !ends && fitting != size.saturating_sub(20) {
            return Err(self.damaged("an option of an interface description is longer than that"));
        }
        let mut seen = (false, false);
        for option in options(&block.options) {
            let value = option.as_bytes().unwrap_or(&[]);
            match option.code {
                OptionCode::IfName => interface.name = text(value),
                OptionCode::IfDescription => interface.description = text(value),
                OptionCode::IfTsresol => {
                    let resolution = match value {
                        [exponent] if !seen.0 => resolution(*exponent),
                        _ => None,
                    };
                    let Some(resolution) = resolution else {
                        return Err(self.bad_option("if_tsresol", value));
                    };
                    interface.resolution = resolution;
                    seen.0 = true;
                }
                OptionCode::IfTsoffset => {
                    let Some(seconds) = long(value, big_endian).filter(|_| !seen.1) else {
                        return Err(self.bad_option("if_tsoffset", value));
                    };
                    interface.offset = i64::from_ne_bytes(seconds.to_ne_bytes());
                    seen.1 = true;
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn bad_option(&self, name: &str, value: &[u8]) -> Error {
        self.damaged(format_args!(
            "an interface description whose option {name} is twice there, has a wrong length ({}), \
             or a value that cannot be ({value:02x?})",
            value.len()
        ))
    }

    fn statistics(&mut self, size: usize, big_endian: bool) {
        let bytes = self.buffer.bytes().get(..size).unwrap_or(&[]);
        let parsed = if big_endian {
            pcapng::parse_interfacestatisticsblock_be(bytes)
        } else {
            pcapng::parse_interfacestatisticsblock_le(bytes)
        };
        let Ok((_, block)) = parsed else { return };
        let Some(number) = self.first_interface.checked_add(block.if_id as usize) else { return };
        let Some(interface) = self.interfaces.get_mut(number) else { return };
        for option in options(&block.options) {
            let counter = match option.code {
                OptionCode::IsbIfRecv => &mut interface.received,
                OptionCode::IsbIfDrop => &mut interface.dropped,
                OptionCode::IsbFilterAccept => &mut interface.accepted,
                OptionCode::IsbOsDrop => &mut interface.os_dropped,
                OptionCode::IsbUsrDeliv => &mut interface.delivered,
                _ => continue,
            };
            let value = option.as_bytes().ok().and_then(|value| long(value, big_endian));
            *counter = value.or(*counter);
        }
    }

    /// The interface a packet names, by its number in the file.
    fn of_interface(&self, id: u32) -> Result<(u32, &Interface)> {
        let number = self.first_interface.checked_add(id as usize);
        let number = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX);
        match self.interfaces.get(number as usize) {
            Some(interface) => Ok((number, interface)),
            None => Err(self.damaged(format_args!(
                "a packet of interface {id}, which its section does not describe"
            ))),
        }
    }

    fn packet(&self, kind: u32, size: usize, big_endian: bool) -> Result<Found> {
        let bytes = self.buffer.bytes().get(..size).unwrap_or(&[]);
        let claimed = number(bytes, 20, big_endian);
        // Both blocks are laid out alike, but for the width of the interface's number.
        let obsolete: Vec<u8>;
        let (bytes, id) = if kind == OBSOLETE_PACKET {
            let pair = number(bytes, 8, big_endian);
            obsolete = as_enhanced(bytes, big_endian);
            (obsolete.as_slice(), if big_endian { pair >> 16 } else { pair & 0xffff })
        } else {
            (bytes, number(bytes, 8, big_endian))
        };
        let (number, interface) = self.of_interface(id)?;
        if claimed > self.packet_limit {
            return Err(self.too_large(claimed));
        }
        if given_snap_length(interface.snap_length).unwrap_or(u32::MAX) < claimed {
            return Err(self.damaged(format_args!(
                "a packet of {claimed} captured bytes cannot be: the snapshot length of its \
                 interface is {}",
                interface.snap_length
            )));
        }
        let parsed = if big_endian {
            pcapng::parse_enhancedpacketblock_be(bytes)
        } else {
            pcapng::parse_enhancedpacketblock_le(bytes)
        };
        let Ok((_, block)) = parsed else {
            return Err(self.damaged(format_args!(
                "a packet of {claimed} captured bytes does not fit its block of {size}"
            )));
        };
        let units = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
        let flags = options(&block.options)
            .find(|option| option.code == PACKET_FLAGS && option.len == 4)
            .map_or(0, |option| self::number(option.value(), 0, big_endian));
        Ok(Found {
            offset: self.buffer.offset(),
            start: 28,
            caplen: block.caplen,
            len: block.origlen,
            time: time(nanoseconds(units, interface)),
            interface: number,
            link_type: interface.link_type,
            direction: direction(flags),
            size,
        })
    }

    fn simple(&self, size: usize, big_endian: bool) -> Result<Found> {
        let bytes = self.buffer.bytes().get(..size).unwrap_or(&[]);
        let parsed = if big_endian {
            pcapng::parse_simplepacketblock_be(bytes)
        } else {
            pcapng::parse_simplepacketblock_le(bytes)
        };
        let Ok((_, block)) = parsed else {
            return Err(self.damaged("a simple packet block that makes no sense"));
        };
        let (number, interface) = self.of_interface(0)?;
        // The block does not say how much was captured: what the interface keeps.
        let snap_length = given_snap_length(interface.snap_length).unwrap_or(SANE_SNAP_LENGTH);
        let caplen = block.origlen.min(snap_length);
        if caplen > self.packet_limit {
            return Err(self.too_large(caplen));
        }
        if caplen as usize > block.data.len() {
            return Err(self.damaged(format_args!(
                "a packet of {caplen} captured bytes does not fit its block of {size}"
            )));
        }
        Ok(Found {
            offset: self.buffer.offset(),
            start: 12,
            caplen,
            len: block.origlen,
            time: (0, 0),
            interface: number,
            link_type: interface.link_type,
            direction: None,
            size,
        })
    }
}

/// A snapshot length as libpcap takes it: 0, or more than fits its int, is none.
fn given_snap_length(length: u32) -> Option<u32> {
    (length != 0 && length <= i32::MAX.unsigned_abs()).then_some(length)
}

/// The options up to the one that ends them.
fn options<'a, 'b>(
    options: &'a [PcapNGOption<'b>],
) -> impl Iterator<Item = &'a PcapNGOption<'b>> + use<'a, 'b> {
    options.iter().take_while(|option| option.code != OptionCode::EndOfOpt)
}

/// An obsolete packet block as an enhanced one; its interface is told elsewhere.
fn as_enhanced(bytes: &[u8], big_endian: bool) -> Vec<u8> {
    let kind =
        if big_endian { ENHANCED_PACKET.to_be_bytes() } else { ENHANCED_PACKET.to_le_bytes() };
    let mut block = bytes.to_vec();
    if let Some(first) = block.first_chunk_mut() {
        *first = kind;
    }
    block
}

/// The units of a second that an if_tsresol says.
fn resolution(exponent: u8) -> Option<u64> {
    if exponent & 0x80 != 0 {
        1_u64.checked_shl((exponent & 0x7f).into())
    } else {
        10_u64.checked_pow(exponent.into())
    }
}

/// An option of 8 bytes.
fn long(value: &[u8], big_endian: bool) -> Option<u64> {
    let bytes: [u8; 8] = value.try_into().ok()?;
    Some(if big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
}

/// A text, up to a NUL, and no longer than is kept of it.
fn text(value: &[u8]) -> String {
    let mut value = value.split(|byte| *byte == 0).next().unwrap_or(&[]);
    if let Some(start) = value.get(..LONGEST_TEXT) {
        value = start;
    }
    let mut text = String::from_utf8_lossy(value).into_owned();
    while text.len() > LONGEST_TEXT {
        text.pop();
    }
    text
}

/// What a block's timestamp means.
fn nanoseconds(units: u64, interface: &Interface) -> i128 {
    let resolution = interface.resolution.max(1);
    let seconds = units.checked_div(resolution).unwrap_or(0);
    let rest = units.checked_rem(resolution).unwrap_or(0);
    let fraction = u128::from(rest).saturating_mul(1_000_000_000);
    let fraction = fraction.checked_div(resolution.into()).unwrap_or(0);
    i128::from(seconds)
        .saturating_add(interface.offset.into())
        .saturating_mul(1_000_000_000)
        .saturating_add(i128::try_from(fraction).unwrap_or(0))
}

/// Seconds and nanoseconds, or the nearest that a record can hold: its seconds
/// are 32 bits, without a sign.
fn time(nanoseconds: i128) -> (u32, u32) {
    const SECOND: u128 = 1_000_000_000;
    let Ok(nanoseconds) = u128::try_from(nanoseconds) else { return (0, 0) };
    let seconds = nanoseconds.checked_div(SECOND).unwrap_or(0);
    let rest = nanoseconds.checked_rem(SECOND).unwrap_or(0);
    match (u32::try_from(seconds), u32::try_from(rest)) {
        (Ok(seconds), Ok(rest)) => (seconds, rest),
        _ => (u32::MAX, 999_999_999),
    }
}

/// NETRING_DIRECTION_* of an epb_flags: bits 0 and 1 the direction, 2 to 4 how
/// it was received.
fn direction(flags: u32) -> Option<u8> {
    match (flags & 3, flags >> 2 & 7) {
        (1, 2) => Some(NETRING_DIRECTION_MULTICAST),
        (1, 3) => Some(NETRING_DIRECTION_BROADCAST),
        (1, 4) => Some(NETRING_DIRECTION_OTHERHOST),
        (1, _) => Some(NETRING_DIRECTION_HOST),
        (2, _) => Some(NETRING_DIRECTION_OUTGOING),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
