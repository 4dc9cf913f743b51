//! Filter expressions ("tcp port 443 and not host 10.0.0.1"), compiled by libpcap.
//!
//! [`scan`] bounds the text and keeps names from being looked up, libpcap makes a
//! program for the bytes on the wire, [`wire`] makes of it one that gives the same
//! verdict in the kernel. Which link type it is for is decided where it is used.

mod assemble;
mod facts;
pub mod scan;
pub mod wire;

use super::instruction::Instruction;
use super::program::Program;
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::packet::link_type as link_type_of;
use crate::packet::{NETRING_LINKTYPE_ETHERNET, NETRING_LINKTYPE_RAW, NETRING_LINKTYPE_UNKNOWN};
use crate::sys::link::Links;
use crate::sys::packet::{ETH_P_UNUSED, arphrd};
use crate::sys::pcap::{
    Libpcap, NotLive, PCAP_ERROR_IFACE_NOT_UP, PCAP_ERROR_PERM_DENIED,
    PCAP_ERROR_PROMISC_PERM_DENIED, Pcap, Unavailable,
};
use parking_lot::RwLock;
use scan::{Scanned, shown};
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// How an expression is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// As tcpdump's on a live interface, not as the bytes on the wire say.
    pub tcpdump: bool,
    /// Names of hosts, networks, ports and protocols may be looked up.
    pub names: bool,
    /// Leave libpcap's optimiser out.
    pub plain: bool,
    /// Where packets of several link types come together, those of a link type for
    /// which the expression has no meaning are rejected.
    pub reject_others: bool,
    /// For `ip broadcast`, host byte order.
    pub netmask: Option<u32>,
}

/// An expression, and the programs made of it so far.
#[derive(Debug, Clone)]
pub struct Expression(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scanned: Scanned,
    options: Options,
    /// For Ethernet; for raw IP if it has no meaning there.
    first: Program,
    /// By link type.
    made: RwLock<Vec<(u16, Result<Program>)>>,
}

/// Of the link types that `packet::link_type` knows, those that "any" is made for.
const ANY: [u16; 2] = [NETRING_LINKTYPE_ETHERNET, NETRING_LINKTYPE_RAW];

/// The hardware types whose packets have a link type.
const HARDWARE: [u16; 15] = [
    arphrd::ETHER,
    arphrd::LOOPBACK,
    arphrd::NONE,
    arphrd::RAWIP,
    arphrd::PPP,
    arphrd::TUNNEL,
    arphrd::TUNNEL6,
    arphrd::SIT,
    arphrd::IPGRE,
    arphrd::IP6GRE,
    arphrd::IEEE80211,
    arphrd::IEEE80211_PRISM,
    arphrd::IEEE80211_RADIOTAP,
    arphrd::CAN,
    arphrd::NETLINK,
];

/// Those of a link type.
fn hardware_of(link_type: u16) -> Vec<u16> {
    HARDWARE.into_iter().filter(|hardware| link_type_of(*hardware) == link_type).collect()
}

impl Expression {
    /// Compiles an expression, for Ethernet; for raw IP, if it has no meaning there.
    ///
    /// # Errors
    /// `Filter`: it is wrong, too large, or has names in it. `NotSupported`: there
    /// is no libpcap. With `tcpdump` and a VLAN tag in it also `PermissionDenied`
    /// and `LinkDown`.
    pub fn new(text: &[u8], options: Options) -> Result<Self> {
        let scanned = scan::scan(text, options.names)?;
        let ethernet = compile(&scanned, options, NETRING_LINKTYPE_ETHERNET);
        let mut made = vec![(NETRING_LINKTYPE_ETHERNET, ethernet.clone())];
        let first = match ethernet {
            Ok(program) => program,
            Err(error) if error.kind != Kind::Filter => return Err(error),
            Err(error) => {
                let raw = compile(&scanned, options, NETRING_LINKTYPE_RAW).map_err(|_| error)?;
                made.push((NETRING_LINKTYPE_RAW, Ok(raw.clone())));
                raw
            }
        };
        Ok(Self(Arc::new(Inner { scanned, options, first, made: RwLock::new(made) })))
    }

    /// The program for packets of one link type.
    ///
    /// # Errors
    /// As of `new`: the expression may have no meaning for it.
    pub fn program(&self, link_type: u16) -> Result<Program> {
        let Inner { scanned, options, made, .. } = &*self.0;
        // Never waited for: in a forked child nobody might give it back.
        let found = made.try_read().and_then(|made| {
            made.iter().find(|(known, _)| *known == link_type).map(|(_, program)| program.clone())
        });
        if let Some(program) = found {
            return program;
        }
        let program = compile(scanned, *options, link_type).map_err(|error| {
            if error.kind == Kind::Filter { meant(error, link_type) } else { error }
        });
        // What is refused for another reason may work later.
        if program.as_ref().err().is_none_or(|error| error.kind == Kind::Filter) {
            if let Some(mut made) = made.try_write() {
                if made.iter().all(|(known, _)| *known != link_type) {
                    made.push((link_type, program.clone()));
                }
            }
        }
        program
    }

    /// The program for frames that have all their tags in them, as XDP programs see
    /// them: there tcpdump's meaning is that of the wire, too.
    ///
    /// # Errors
    /// As of `new`: the expression may have no meaning for it.
    pub fn in_frame(&self, link_type: u16) -> Result<Program> {
        let Inner { scanned, options, .. } = &*self.0;
        let program = made_by_libpcap(scanned, Options { tcpdump: false, ..*options }, link_type);
        let program =
            program.and_then(|program| wire::rewritten(&program, false, scanned.ancillary));
        program.map_err(
            |error| {
                if error.kind == Kind::Filter { meant(error, link_type) } else { error }
            },
        )
    }

    /// One program for packets of all link types of "any".
    ///
    /// # Errors
    /// As of `program`.
    pub fn any(&self) -> Result<Program> {
        let mut programs = Vec::new();
        for link_type in ANY {
            match self.program(link_type) {
                Ok(program) => programs.push((hardware_of(link_type), program)),
                Err(error) if error.kind != Kind::Filter => return Err(error),
                Err(_) if self.0.options.reject_others => {}
                Err(mut error) => {
                    error.message.push_str(
                        "; on \"any\" packets of several link types come together: open single \
                         interfaces, or set NETRING_FILTER_REJECT_OTHERS, which rejects those of \
                         such link types",
                    );
                    return Err(error);
                }
            }
        }
        wire::by_hardware(&programs)
    }

    /// One program for packets of these link types; none: of all of "any". Packets
    /// of others are rejected, unless there is but one.
    ///
    /// # Errors
    /// As of `program`.
    pub fn among(&self, link_types: &[u16]) -> Result<Program> {
        match link_types {
            [] => self.any(),
            [link_type] => self.program(*link_type),
            _ => {
                let programs = link_types.iter().map(|link_type| {
                    self.program(*link_type).map(|program| (hardware_of(*link_type), program))
                });
                wire::by_hardware(&programs.collect::<Result<Vec<_>>>()?)
            }
        }
    }

    /// The program for packets of one link type, where others come along: of a link
    /// type for which the expression has no meaning it may reject all.
    ///
    /// # Errors
    /// As of `program`.
    pub fn among_others(&self, link_type: u16) -> Result<Program> {
        match self.program(link_type) {
            Err(error) if error.kind == Kind::Filter && self.0.options.reject_others => {
                Ok(Program::keep(0))
            }
            program => program,
        }
    }

    /// The program for Ethernet; for raw IP, if it has no meaning there.
    pub fn first(&self) -> &Program {
        &self.0.first
    }
}

/// What a link type is called.
fn named(link_type: u16) -> String {
    match link_type {
        NETRING_LINKTYPE_ETHERNET => "Ethernet".into(),
        NETRING_LINKTYPE_RAW => "raw IP (link type 101)".into(),
        other => format!("link type {other}"),
    }
}

fn meant(mut error: Error, link_type: u16) -> Error {
    let reason = error.message.strip_prefix("filter refused: ").unwrap_or(&error.message);
    error.message = format!("filter refused for {}: {reason}", named(link_type));
    error
}

/// The `DLT_` of a `LINKTYPE_`: the same number but for a few (pcap/dlt.h).
fn dlt(link_type: u16) -> i32 {
    match link_type {
        100 => 11, // ATM_RFC1483
        101 => 12, // RAW
        102 => 15, // SLIP_BSDOS
        103 => 16, // PPP_BSDOS
        106 => 19, // ATM_CLIP
        other => i32::from(other),
    }
}

fn compile(scanned: &Scanned, options: Options, link_type: u16) -> Result<Program> {
    let program = made_by_libpcap(scanned, options, link_type)?;
    if options.tcpdump {
        return wire::keeping_all(&program);
    }
    wire::rewritten(&program, link_type == NETRING_LINKTYPE_ETHERNET, scanned.ancillary)
}

/// As it comes, but one that the kernel takes.
fn made_by_libpcap(scanned: &Scanned, options: Options, link_type: u16) -> Result<Program> {
    if link_type == NETRING_LINKTYPE_UNKNOWN {
        return Err(Error::new(
            Kind::Filter,
            "expression",
            "filter refused: expressions need a link type, and these packets' hardware type has \
             none; filter with instructions (netring_filter_new)",
        ));
    }
    // So that a fork is noticed.
    fork::claim()?;
    let made = Libpcap::with(|libpcap| ask(&libpcap, scanned, options, link_type));
    wire::checked(&made.map_err(|reason| no_libpcap(&reason))??)
}

/// The program as libpcap makes it.
fn ask(
    libpcap: &Libpcap<'_>,
    scanned: &Scanned,
    options: Options,
    link_type: u16,
) -> Result<Vec<Instruction>> {
    let dead = libpcap.dead(dlt(link_type)).ok_or_else(|| {
        Error::new(Kind::Io, "pcap_open_dead", "libpcap has no memory for a handle")
    })?;
    if !options.names {
        known(&dead, scanned)?;
    }
    let made = |pcap: &Pcap<'_>| {
        pcap.compile(&scanned.text, !options.plain, options.netmask)
            .map_err(|words| wrong(&dead, scanned, &words))
    };
    // Nothing else than "vlan" is compiled otherwise for a live interface.
    if !options.tcpdump || !scanned.vlan || link_type != NETRING_LINKTYPE_ETHERNET {
        return made(&dead);
    }
    // What is wrong in any case needs no interface and no privilege.
    made(&dead)?;
    made(&live(libpcap)?)
}

/// To a libpcap that does not know it yet a newer keyword is a name, and might be
/// looked up.
fn known(dead: &Pcap<'_>, scanned: &Scanned) -> Result<()> {
    for keyword in &scanned.newer {
        // Alone a name is no expression.
        let alone = if *keyword == "ifindex" { "ifindex 1" } else { *keyword };
        let Ok(alone) = CString::new(alone) else { continue };
        if dead.compile(&alone, false, None).is_err_and(|words| words.contains("syntax error")) {
            return Err(Error::new(
                Kind::Filter,
                "expression",
                format!("filter refused: this libpcap is too old for \"{keyword}\""),
            ));
        }
    }
    Ok(())
}

/// What libpcap says of a wrong expression, and where it is wrong as far as that
/// can be told.
fn wrong(dead: &Pcap<'_>, scanned: &Scanned, words: &str) -> Error {
    let mut message = format!("filter refused: libpcap: {}", brief(words));
    if words.contains("syntax error") {
        message.push_str(&place(dead, scanned));
    }
    if words.contains("netmask not known") {
        message.push_str("; give it in netmask of struct netring_filter_config");
    }
    if words.contains("not a live capture") {
        message.push_str(
            "; libpcap since 1.11 compiles \"inbound\", \"outbound\" and \"ifindex\" for live \
             interfaces only: look at the packet's direction and ifindex, or compile it with \
             \"tcpdump -ddd\" for netring_filter_new_ddd",
        );
    }
    Error::new(Kind::Filter, "expression", message)
}

/// Errors have 512 bytes, and libpcap may repeat a long word.
fn brief(words: &str) -> String {
    const MOST: usize = 200;
    words.chars().take(MOST).collect()
}

/// How far an expression is one: libpcap's parser does not tell where it gave up.
fn place(dead: &Pcap<'_>, scanned: &Scanned) -> String {
    /// Looks that are worth it.
    const MOST: usize = 64;
    let text = scanned.text.to_bytes();
    let start = scanned.ends.len().saturating_sub(MOST);
    let ends = scanned.ends.get(start..).unwrap_or(&[]);
    // The last word is part of what is wrong.
    for end in ends.iter().rev().skip(1) {
        let Some(Ok(part)) = text.get(..*end).map(CString::new) else { continue };
        if dead.compile(&part, false, None).is_ok() {
            let rest = text.get(*end..).unwrap_or(&[]).trim_ascii_start();
            let at = text.len().saturating_sub(rest.len());
            let rest = String::from_utf8_lossy(rest);
            return format!(
                ": what comes before byte {at} is an expression, and does not go on with {}",
                shown(&rest)
            );
        }
    }
    let words = String::from_utf8_lossy(text);
    match ends.len() {
        0 => String::new(),
        _ => format!(": no beginning of {} is an expression", shown(&words)),
    }
}

/// A handle that captures: on lo, or on another interface with Ethernet headers
/// that is up.
fn live<'a>(libpcap: &Libpcap<'a>) -> Result<Pcap<'a>> {
    let refusal = match libpcap.live(c"lo", ETH_P_UNUSED) {
        Ok(pcap) => return Ok(pcap),
        Err(refusal) if denied(&refusal) => return Err(not_live(&refusal)),
        Err(refusal) => refusal,
    };
    let links = Links::open().and_then(|mut links| links.all()).unwrap_or_default();
    let up = |flags: u32| flags & libc::IFF_UP as u32 != 0;
    for link in links {
        if link.hardware == arphrd::ETHER && up(link.flags) {
            let Ok(name) = CStr::from_bytes_until_nul(&link.name) else { continue };
            if let Ok(pcap) = libpcap.live(name, ETH_P_UNUSED) {
                return Ok(pcap);
            }
        }
    }
    Err(not_live(&refusal))
}

fn denied(refusal: &NotLive) -> bool {
    matches!(refusal.code, PCAP_ERROR_PERM_DENIED | PCAP_ERROR_PROMISC_PERM_DENIED)
}

fn not_live(refusal: &NotLive) -> Error {
    let words = brief(&refusal.message);
    if denied(refusal) {
        return Error::new(
            Kind::PermissionDenied,
            "pcap_activate",
            format!(
                "insufficient privileges (need CAP_NET_RAW): tcpdump's meaning of \"vlan\" is what \
                 libpcap compiles for a live interface: {words}; without NETRING_FILTER_TCPDUMP no \
                 privilege is needed"
            ),
        );
    }
    let kind = if refusal.code == PCAP_ERROR_IFACE_NOT_UP { Kind::LinkDown } else { Kind::Io };
    Error::new(
        kind,
        "pcap_activate",
        format!(
            "tcpdump's meaning of \"vlan\" is what libpcap compiles for a live interface, and \
             there is none: {words}; `ip link set lo up`, or leave NETRING_FILTER_TCPDUMP out"
        ),
    )
}

fn no_libpcap(why: &Unavailable) -> Error {
    let Unavailable::NotOpened(reason) = why else {
        return Error::new(
            Kind::Busy,
            "libpcap",
            "this process was forked while another thread was compiling an expression, and has \
             libpcap in the middle of that: compile before the fork, or exec",
        );
    };
    Error::new(
        Kind::NotSupported,
        "libpcap",
        format!(
            "not supported: filter expressions are compiled by libpcap (libpcap.so.1 or \
             libpcap.so.0.8), which cannot be opened: {}; install it (libpcap0.8, libpcap1 or \
             libpcap), or use netring_filter_new or netring_filter_new_ddd, which need none",
            brief(reason)
        ),
    )
}
