//! What an open would be granted, and what would keep packets from coming, told
//! without one: nothing is loaded, attached or bound.

use super::config::{Mode, Redirect, XdpConfig};
use super::facts::{Facts, facts};
use crate::config::MemoryBound;
use crate::error::Result;
use crate::sys::bpf::{Map, MapKind};
use crate::sys::ethtool::Ethtool;
use crate::sys::link::{Link, Links};
use crate::sys::process::{is_capable, kernel_version, page_size};
use crate::sys::socket::Socket;
use crate::sys::xdp::locked_memory_limit;
use crate::sys::{self, Errno};

/// Why an open would fail, one bit each.
pub mod blocked {
    /// Another XDP program is on the interface.
    pub const PROGRAM: u32 = 0x1;
    /// One is on an interface above it.
    pub const UPPER: u32 = 0x2;
    /// AF_XDP sockets are refused for lack of privilege.
    pub const SOCKET: u32 = 0x4;
    /// bpf(2) is refused for lack of privilege.
    pub const BPF: u32 = 0x8;
    /// The kernel has no AF_XDP, no bpf(2), or no links of XDP programs.
    pub const KERNEL: u32 = 0x10;
    /// Queues have sockets of somebody else's.
    pub const QUEUES: u32 = 0x20;
    /// The frames are more than may be locked.
    pub const LOCKED: u32 = 0x40;
}

/// Why the mode is no better one, one bit each.
pub mod limited {
    /// The driver has no zero copy.
    pub const ZEROCOPY: u32 = 0x1;
    /// The driver runs no XDP programs.
    pub const NATIVE: u32 = 0x2;
    /// Packets may be longer than one buffer of the driver.
    pub const MTU: u32 = 0x4;
    /// The peer of a veth sends by more queues than this end receives by.
    pub const PEER_QUEUES: u32 = 0x8;
}

// NETDEV_XDP_ACT_*
const BASIC: u64 = 0x1;
const REDIRECT: u64 = 0x2;
pub(super) const ZEROCOPY: u64 = 0x8;

// XDP_ATTACHED_*
const ATTACHED_NONE: u8 = 0;
const ATTACHED_HW: u8 = 3;

// ARPHRD_*
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;

/// Links of XDP programs.
const LINKS: u32 = 0x05_09_00;
/// From here on there is none below a program.
const NONE_BELOW: u32 = 0x05_0f_00;
const CAP_IPC_LOCK: u32 = 14;
/// XDP_PACKET_HEADROOM.
const HEADROOM: u32 = 256;
/// Link-layer header, two tags, check sequence: what the kernel counts besides the MTU.
const AROUND_PACKET: u32 = 14 + 8 + 4;
const HEADER: u32 = 14;
/// struct skb_shared_info, at the end of each buffer of a driver, with the usual
/// CONFIG_MAX_SKB_FRAGS and cache lines of 64 bytes.
const SHARED_INFO: u32 = 320;
/// Bytes of all advice.
pub const ADVICE: usize = 767;

/// The other end of a veth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It is no veth.
    None,
    /// In another network namespace, or it does not answer.
    Unknown,
    Known {
        mtu: u32,
        tx_queues: u32,
    },
}

/// What is not the interface's own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Around {
    peer: Peer,
    /// The interface above that has a program, and its number.
    upper: Option<(String, u32)>,
    /// Making a socket, and a map.
    socket: sys::Result<()>,
    bpf: sys::Result<()>,
    kernel: u32,
    page: u32,
    /// Bytes that the frames take, and that may be locked (`None`: any number).
    memory: u64,
    locked: Option<u64>,
}

/// What a probe finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is known of the interface.
    pub facts: Facts,
    /// `blocked`: why an open would fail.
    pub blocked: u32,
    /// `limited`: why the mode is no better one.
    pub limited: u32,
    /// What an open would get if nothing blocked it; `Auto`: only an open finds out.
    pub mode: Mode,
    /// Nothing that is not known can change that.
    pub certain: bool,
    /// The MTU that the driver looks at when a program comes: the peer's, of a veth.
    /// `None`: that is not known.
    pub native_mtu: Option<u32>,
    /// Largest of those with which the driver takes a program of one buffer.
    pub mtu_limit: Option<u32>,
    /// Smallest frame that every packet fits.
    pub frame_size_needed: u32,
    /// Bytes of the frames of an open that asks for no numbers.
    pub memory: u64,
    /// Bytes that may be locked; `None`: any number.
    pub locked: Option<u64>,
    /// The running kernel.
    pub kernel: u32,
    /// What to do, in words; at most [`ADVICE`] bytes.
    pub advice: String,
}

/// Probes the interface of that name in the calling thread's network namespace.
///
/// # Errors
/// As [`facts`].
pub fn probe(name: &[u8]) -> Result<Probe> {
    let facts = facts(name)?;
    let around = Around::of(&facts);
    Ok(judge(facts, &around))
}

impl Around {
    fn of(facts: &Facts) -> Self {
        let link = &facts.interface.link;
        let all = Links::open().and_then(|mut links| links.all()).unwrap_or_default();
        let sockets = u64::from(facts.queues.bindable().max(1));
        let config = XdpConfig { redirect: Some(Redirect::All), ..XdpConfig::default() };
        let bound = MemoryBound::now(0).bytes;
        let memory = config.sizes_within(sockets, bound).and_then(|sizes| {
            let layout = config.umem_config(&sizes).layout()?;
            Ok(layout.memory().saturating_mul(sockets))
        });
        let unlimited = is_capable(CAP_IPC_LOCK) == Ok(true);
        Self {
            peer: peer(facts, &all),
            upper: upper(link, &all),
            socket: Socket::xdp().map(drop),
            bpf: Map::create(MapKind::Xsk, 1, "netring").map(drop),
            kernel: kernel_version(),
            page: u32::try_from(page_size()).unwrap_or(4096),
            memory: memory.unwrap_or(0),
            locked: if unlimited { None } else { locked_memory_limit() },
        }
    }
}

fn peer(facts: &Facts, all: &[Link]) -> Peer {
    let link = &facts.interface.link;
    if !link.is("veth") {
        return Peer::None;
    }
    let other = all.iter().find(|other| other.index == link.lower && !link.lower_elsewhere);
    let Some(other) = other else { return Peer::Unknown };
    // Before Linux 5.13 a veth does not tell, and uses all it was made with.
    let queues = Ethtool::open().and_then(|ethtool| ethtool.channels(&other.name));
    let tx_queues = queues.map_or(other.tx_queues, |queues| queues.tx);
    Peer::Known { mtu: other.mtu, tx_queues }
}

/// The kernel lets nothing be attached below a program (dev_xdp_attach).
fn upper(link: &Link, all: &[Link]) -> Option<(String, u32)> {
    // Of other kinds the one named as lower is not below (veth: its peer; tunnels).
    const ABOVE: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];
    let is_above = |other: &&Link| {
        let rests = other.lower == link.index && !other.lower_elsewhere;
        (link.master != 0 && link.master == other.index)
            || (rests && ABOVE.iter().any(|kind| other.is(kind)))
    };
    let program = |other: &Link| {
        let xdp = other.xdp.filter(|xdp| xdp.mode != ATTACHED_NONE)?;
        Some((other.shown(), xdp.id))
    };
    all.iter().filter(is_above).find_map(program)
}

/// Sentences, the most important first, as many as fit.
#[derive(Debug, Default)]
struct Advice(String);

impl Advice {
    fn add(&mut self, sentence: &str) {
        let gap = if self.0.is_empty() { "" } else { " " };
        if self.0.len() + gap.len() + sentence.len() < ADVICE {
            self.0 += gap;
            self.0 += sentence;
            self.0 += ".";
        }
    }
}

fn judge(facts: Facts, around: &Around) -> Probe {
    let mut advice = Advice::default();
    let blocked = blocking(&facts, around, &mut advice);
    let native_mtu = match around.peer {
        Peer::None => Some(facts.interface.link.mtu),
        Peer::Known { mtu, .. } => Some(mtu),
        Peer::Unknown => None,
    };
    let mtu_limit = mtu_limit(&facts, around);
    let verdict = mode(&facts, around, native_mtu, mtu_limit);
    let around_packet = match facts.interface.link.hardware {
        ETHERNET | LOOPBACK => AROUND_PACKET,
        _ => 0,
    };
    // A veth takes no packet that is longer than either end's MTU (is_skb_forwardable).
    let own = facts.interface.link.mtu;
    let longest = native_mtu.unwrap_or(own).min(own);
    let frame_size_needed = longest.saturating_add(around_packet).saturating_add(HEADROOM);
    receiving(&facts, &mut advice);
    limits(&facts, around, &verdict, frame_size_needed, &mut advice);
    Probe {
        blocked,
        limited: verdict.limited,
        mode: verdict.mode,
        // A queue that is not there ends an open of all.
        certain: verdict.certain && (facts.queues.told || facts.queues.bindable() <= 1),
        native_mtu,
        mtu_limit,
        frame_size_needed,
        memory: around.memory,
        locked: around.locked,
        kernel: around.kernel,
        advice: advice.0,
        facts,
    }
}

fn blocking(facts: &Facts, around: &Around, advice: &mut Advice) -> u32 {
    let name = facts.interface.link.shown();
    let mut bits = 0;
    match around.socket {
        Err(Errno(libc::EPERM | libc::EACCES)) => {
            bits |= blocked::SOCKET;
            advice.add(
                "AF_XDP sockets need CAP_NET_RAW: run as root, or have sockets handed over \
                 (netring_xdp_adopt)",
            );
        }
        Err(Errno(libc::EAFNOSUPPORT)) => {
            bits |= blocked::KERNEL;
            advice.add("This kernel has no AF_XDP (CONFIG_XDP_SOCKETS)");
        }
        _ => {}
    }
    match around.bpf {
        Err(Errno(libc::EPERM | libc::EACCES)) => {
            bits |= blocked::BPF;
            advice.add(
                "XDP programs need CAP_BPF and CAP_NET_ADMIN (before Linux 5.8 CAP_SYS_ADMIN), \
                 and those of a user namespace do not count",
            );
        }
        Err(Errno(libc::ENOSYS | libc::EINVAL)) => {
            bits |= blocked::KERNEL;
            advice.add("This kernel has no bpf(2), or no maps of AF_XDP sockets");
        }
        _ => {}
    }
    if around.kernel < LINKS {
        bits |= blocked::KERNEL;
        advice.add("XDP programs are attached by links, which need Linux 5.9");
    }
    if let Some(xdp) = facts.interface.link.xdp {
        if !matches!(xdp.mode, ATTACHED_NONE | ATTACHED_HW) {
            bits |= blocked::PROGRAM;
            advice.add(&format!(
                "XDP program {} is on {name}, and is not replaced: end whoever attached it \
                 (`bpftool net`)",
                xdp.id
            ));
        }
    }
    if let Some((above, id)) = around.upper.as_ref().filter(|_| around.kernel >= NONE_BELOW) {
        bits |= blocked::UPPER;
        advice.add(&format!(
            "XDP program {id} is on {above}, above {name}, and the kernel lets none be below it"
        ));
    }
    if let Some(taken) = facts.taken.as_ref().filter(|taken| !taken.is_empty()) {
        bits |= blocked::QUEUES;
        let (s, have) = if taken.len() == 1 { ("", "has") } else { ("s", "have") };
        advice.add(&format!(
            "Queue{s} {} {have} an AF_XDP socket already: end that program, or name other queues",
            numbers(taken)
        ));
    }
    if around.locked.is_some_and(|locked| locked < around.memory) {
        bits |= blocked::LOCKED;
        advice.add(&format!(
            "{} bytes of frames are more than may be locked (`ulimit -l`): ask for fewer \
             (rx_frames, tx_frames), or have CAP_IPC_LOCK",
            around.memory
        ));
    }
    bits
}

/// "0, 1, 5", not for ever.
fn numbers(all: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if all.len() > SHOWN { ", ..." } else { "" };
    shown.join(", ") + more
}

/// Of the drivers whose rule is known.
fn mtu_limit(facts: &Facts, around: &Around) -> Option<u32> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return None;
    }
    // One page has the headroom, the packet with its header, and the kernel's note of the
    // other buffers (veth.c veth_xdp_set, virtio_net.c virtnet_xdp_set).
    let known = ["veth", "virtio_net"].iter().any(|driver| facts.interface.is_driven_by(driver));
    known.then(|| around.page.saturating_sub(HEADROOM + HEADER + SHARED_INFO))
}

struct Verdict {
    mode: Mode,
    limited: u32,
    certain: bool,
}

fn mode(
    facts: &Facts,
    around: &Around,
    native_mtu: Option<u32>,
    mtu_limit: Option<u32>,
) -> Verdict {
    let interface = &facts.interface;
    let features = interface.xdp.map(|xdp| xdp.features).or_else(|| {
        // Before Linux 6.3; native since 4.19 and 4.15, never without copying.
        let ethernet = interface.link.hardware == ETHERNET;
        let old = interface.is_driven_by("veth") || interface.is_driven_by("tun");
        (old && ethernet).then_some(BASIC | REDIRECT)
    });
    let Some(features) = features else {
        return Verdict { mode: Mode::Auto, limited: 0, certain: false };
    };
    let mut bits = 0;
    // With too few queues a veth says that it runs no programs.
    let short = match around.peer {
        Peer::None => false,
        Peer::Known { tx_queues, .. } => tx_queues > facts.queues.rx,
        Peer::Unknown => features & BASIC == 0,
    };
    if short {
        bits |= limited::PEER_QUEUES;
    } else if features & BASIC == 0 {
        bits |= limited::NATIVE;
    }
    if let (Some(mtu), Some(limit)) = (native_mtu, mtu_limit) {
        if mtu > limit {
            bits |= limited::MTU;
        }
    }
    if bits != 0 {
        let zerocopy = if features & ZEROCOPY == 0 { limited::ZEROCOPY } else { 0 };
        return Verdict { mode: Mode::Skb, limited: bits | zerocopy, certain: true };
    }
    // What else a driver may not like is its own affair.
    let simple = interface.is_driven_by("tun") || matches!(around.peer, Peer::Known { .. });
    let all = BASIC | REDIRECT | ZEROCOPY;
    if features & all == all {
        return Verdict { mode: Mode::ZeroCopy, limited: 0, certain: false };
    }
    Verdict { mode: Mode::Copy, limited: limited::ZEROCOPY, certain: simple }
}

/// What would keep packets from coming.
fn receiving(facts: &Facts, advice: &mut Advice) {
    const UP: u32 = libc::IFF_UP as u32;
    const PROMISCUOUS: u32 = libc::IFF_PROMISC as u32;
    let link = &facts.interface.link;
    let name = link.shown();
    let rx = facts.queues.rx;
    if link.flags & UP == 0 {
        advice.add(&format!("{name} is down: `ip link set {name} up`"));
    } else if !link.carrier {
        advice.add(&format!("{name} has no carrier: no packet comes"));
    }
    if !facts.queues.told && facts.queues.bindable() > 1 {
        advice.add(&format!(
            "Neither kernel nor driver tells how many queues are in use, of {}: name those to open",
            facts.queues.bindable()
        ));
    }
    match facts.spread.as_deref() {
        Some([only]) if rx > 1 => advice
            .add(&format!("RSS leads every packet to queue {only} of {rx}: open that one, or all")),
        Some(spread) if rx > 1 => advice.add(&format!(
            "RSS spreads packets over queues {} of {rx}: open all, or a packet may come where no \
             socket is",
            numbers(spread)
        )),
        _ if rx > 1 => advice.add(&format!(
            "Packets come by any of {rx} queues: open all, or one may come where no socket is"
        )),
        _ => {}
    }
    if let Some(rules) = facts.rules.filter(|rules| *rules > 0) {
        advice.add(&format!(
            "{rules} steering rules lead packets to queues of their own (`ethtool -n {name}`)"
        ));
    }
    // A card: virtual interfaces have a kind, tun and lo take every packet.
    let card =
        link.kind[0] == 0 && link.hardware == ETHERNET && !facts.interface.is_driven_by("tun");
    if card && link.flags & PROMISCUOUS == 0 {
        advice.add(&format!(
            "Frames to other addresses than its own do not come: `ip link set {name} promisc on` \
             for all"
        ));
    }
    if facts.strips_tags == Some(true) {
        advice
            .add(&format!("VLAN tags are taken out of the frames: `ethtool -K {name} rxvlan off`"));
    }
}

/// What the mode is about, and what is lost in it.
fn limits(
    facts: &Facts,
    around: &Around,
    verdict: &Verdict,
    frame_size_needed: u32,
    advice: &mut Advice,
) {
    let name = facts.interface.link.shown();
    let features = facts.interface.xdp.map(|xdp| xdp.features);
    if verdict.mode == Mode::Auto {
        advice.add(
            "The kernel does not tell what the driver can (since Linux 6.3 it does): open, and see",
        );
    }
    if verdict.limited & limited::MTU != 0 {
        let whose = if around.peer == Peer::None { name.clone() } else { format!("{name}'s peer") };
        advice.add(&format!(
            "The MTU of {whose} is too large for one buffer of the driver: lower it, or use \
             NETRING_XDP_MULTI_BUFFER"
        ));
    }
    if verdict.limited & limited::PEER_QUEUES != 0 {
        advice.add(&format!(
            "A veth needs as many queues for receiving as its peer for sending: `ethtool -L {name} \
             rx N`"
        ));
    }
    if facts.interface.link.is("veth") && around.peer == Peer::Unknown {
        advice.add(
            "The peer is in another network namespace: its MTU and its queues decide on the mode",
        );
    }
    if frame_size_needed > around.page {
        advice.add(&format!(
            "Packets need up to {frame_size_needed} bytes of frame, and the largest frame has {}: \
             NETRING_XDP_MULTI_BUFFER",
            around.page
        ));
    }
    if verdict.mode != Mode::Skb && features.is_some_and(|has| has & REDIRECT == 0) {
        advice.add("The driver does not redirect: use NETRING_MODE_SKB");
    }
    if verdict.mode != Mode::Skb && facts.lro == Some(true) {
        advice.add(&format!(
            "Most drivers run no XDP programs while LRO is on: `ethtool -K {name} lro off`"
        ));
    }
    if verdict.mode != Mode::Skb {
        return;
    }
    // Before a program in the stack sees them, and in the driver after it.
    let link = &facts.interface.link;
    if link.hardware == LOOPBACK || link.is("veth") {
        let sender = if link.is("veth") { "PEER" } else { &name };
        advice.add(&format!(
            "In the kernel's stack super-packets of this host come whole, and do not fit a frame: \
             `ethtool -K {sender} tso off gso off`"
        ));
    } else if facts.gro == Some(true) {
        advice.add(&format!(
            "In the kernel's stack GRO comes first, and its packets do not fit a frame: `ethtool \
             -K {name} gro off`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::afxdp::facts::Queues;
    use crate::interface::Interface;
    use crate::sys::link::XdpProgram;
    use crate::sys::netdev::XdpFeatures;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    fn card(driver: &str, features: u64) -> Facts {
        let link = Link {
            index: 7,
            name: bytes("card0"),
            hardware: ETHERNET,
            flags: (libc::IFF_UP | libc::IFF_PROMISC) as u32,
            mtu: 1500,
            carrier: true,
            xdp: Some(XdpProgram::default()),
            ..Link::default()
        };
        Facts {
            interface: Interface {
                link,
                link_type: 1,
                driver: Some(bytes(driver)),
                speed: None,
                channels: None,
                timestamping: None,
                xdp: Some(XdpFeatures { ifindex: 7, features, ..XdpFeatures::default() }),
            },
            queues: Queues { rx: 1, tx: 1, rx_max: 8, tx_max: 8, told: true },
            taken: Some(Vec::new()),
            spread: None,
            rules: None,
            strips_tags: Some(false),
            lro: Some(false),
            gro: Some(true),
        }
    }

    fn around() -> Around {
        Around {
            peer: Peer::None,
            upper: None,
            socket: Ok(()),
            bpf: Ok(()),
            kernel: 0x06_12_00,
            page: 4096,
            memory: 24 << 20,
            locked: None,
        }
    }

    const ALL: u64 = BASIC | REDIRECT | ZEROCOPY;

    #[test]
    fn cards() {
        let probe = judge(card("i40e", ALL), &around());
        assert_eq!((probe.mode, probe.blocked, probe.limited), (Mode::ZeroCopy, 0, 0));
        // The driver may have its own reasons.
        assert!(!probe.certain);
        assert_eq!((probe.mtu_limit, probe.advice.as_str()), (None, ""));
        let probe = judge(card("e1000e", 0), &around());
        assert_eq!((probe.mode, probe.certain), (Mode::Skb, true));
        assert!(probe.advice.contains("`ethtool -K card0 gro off`"));
        let probe = judge(card("old", BASIC), &around());
        assert_eq!(probe.mode, Mode::Copy);
        assert!(probe.advice.contains("does not redirect"));
        // The whole of what zero copy needs.
        for missing in [BASIC, REDIRECT] {
            assert_ne!(judge(card("odd", ALL & !missing), &around()).mode, Mode::ZeroCopy);
        }
        let mut lro = card("i40e", ALL);
        lro.lro = Some(true);
        assert!(judge(lro, &around()).advice.contains("lro off"));
    }

    #[test]
    fn mtus() {
        let mut facts = card("virtio_net", ALL);
        facts.interface.link.mtu = 3506;
        let limit = judge(facts.clone(), &around()).mtu_limit;
        if limit.is_none() {
            return;
        }
        assert_eq!(limit, Some(3506));
        assert_eq!(judge(facts.clone(), &around()).mode, Mode::ZeroCopy);
        facts.interface.link.mtu = 3507;
        let probe = judge(facts.clone(), &around());
        assert_eq!((probe.mode, probe.limited), (Mode::Skb, limited::MTU));
        facts.interface.link.mtu = 9000;
        let probe = judge(facts.clone(), &around());
        assert_eq!(probe.frame_size_needed, 9282);
        assert!(probe.advice.contains("up to 9282 bytes"));
        assert_eq!(judge(facts, &Around { page: 65536, ..around() }).mode, Mode::ZeroCopy);
    }

    #[test]
    fn kernels() {
        let mut facts = card("i40e", 0);
        facts.interface.xdp = None;
        let probe = judge(facts.clone(), &around());
        assert_eq!((probe.mode, probe.certain), (Mode::Auto, false));
        facts.interface.driver = Some(bytes("tun"));
        assert_eq!(judge(facts.clone(), &around()).mode, Mode::Copy);
        facts.interface.link.hardware = 65534;
        assert_eq!(judge(facts.clone(), &around()).mode, Mode::Auto);
        let old = Around { kernel: 0x05_08_ff, ..around() };
        assert_eq!(judge(facts.clone(), &old).blocked, blocked::KERNEL);
        let old = Around { kernel: LINKS, ..around() };
        assert_eq!(judge(facts.clone(), &old).blocked, 0);
        for (kernel, blocked) in [(NONE_BELOW - 1, 0), (NONE_BELOW, blocked::UPPER)] {
            let upper = Some(("up0".into(), 3));
            let around = Around { kernel, upper, ..around() };
            assert_eq!(judge(facts.clone(), &around).blocked, blocked);
        }
        let mut veth = card("veth", 0);
        veth.interface.xdp = None;
        let known = Around { peer: Peer::Known { mtu: 1500, tx_queues: 1 }, ..around() };
        assert!(judge(veth.clone(), &known).certain);
        (veth.queues.told, veth.queues.tx) = (false, 4);
        let probe = judge(veth, &known);
        assert!(!probe.certain && probe.advice.contains("how many queues are in use, of 4"));
    }

    #[test]
    fn programs() {
        let mut facts = card("nfp", ALL);
        for (mode, blocked) in [(0, 0), (1, 1), (2, 1), (3, 0), (4, 1)] {
            facts.interface.link.xdp = Some(XdpProgram { mode, id: 5 });
            assert_eq!(judge(facts.clone(), &around()).blocked, blocked, "{mode}");
        }
    }

    #[test]
    fn all_advice_fits() {
        let mut facts = card("virtio_net", 0);
        facts.queues.rx = 64;
        facts.taken = Some((0..64).collect());
        facts.spread = Some((0..64).collect());
        facts.rules = Some(u32::MAX);
        (facts.strips_tags, facts.lro) = (Some(true), Some(true));
        facts.interface.link.mtu = 65535;
        facts.interface.link.xdp = Some(XdpProgram { mode: 4, id: u32::MAX });
        facts.interface.link.flags = 0;
        let around = Around {
            upper: Some(("a-long-name-of15".into(), u32::MAX)),
            socket: Err(Errno(libc::EPERM)),
            bpf: Err(Errno(libc::EPERM)),
            kernel: 0,
            locked: Some(0),
            ..around()
        };
        let advice = judge(facts, &around).advice;
        assert!(advice.len() <= ADVICE && advice.ends_with('.'), "{advice}");
        assert!(advice.starts_with("AF_XDP sockets need CAP_NET_RAW"));
        let mut advice = Advice::default();
        advice.add(&"x".repeat(ADVICE));
        assert_eq!(advice.0, "");
        advice.add(&"x".repeat(ADVICE - 1));
        assert_eq!(advice.0.len(), ADVICE);
        assert_eq!(numbers(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), "1, 2, 3, 4, 5, 6, 7, 8, ...");
    }

    #[test]
    fn above() {
        let link = Link { index: 7, master: 9, ..Link::default() };
        let program = Some(XdpProgram { mode: 2, id: 5 });
        let other = |kind: &str, lower_elsewhere| Link {
            index: 8,
            name: bytes("up0"),
            kind: bytes(kind),
            lower: 7,
            lower_elsewhere,
            xdp: program,
            ..Link::default()
        };
        assert_eq!(upper(&link, &[other("macvlan", false)]), Some(("up0".into(), 5)));
        assert_eq!(upper(&link, &[other("macvlan", true), other("veth", false)]), None);
        let bridge = Link { index: 9, lower: 0, ..other("bridge", false) };
        assert_eq!(upper(&link, std::slice::from_ref(&bridge)), Some(("up0".into(), 5)));
        assert_eq!(upper(&link, &[Link { xdp: None, ..bridge }]), None);
    }
}
