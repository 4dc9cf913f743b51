//! An expression's text, before libpcap sees it: bounded, and free of names that
//! libpcap would look up.
//!
//! Words are told apart as libpcap's scanner.l does, the longest one first; what
//! follows a word is what grammar.y makes of it, where that decides whether a
//! name is looked up. What is not known here to be harmless is a name.

use crate::error::{Error, Kind, Result};
use std::ffi::CString;
use std::net::Ipv6Addr;

/// The longest text.
pub const MAX_LENGTH: usize = 16_384;
/// The deepest nesting of parentheses, brackets and signs.
pub const MAX_DEPTH: usize = 64;
/// What a text may weigh. libpcap's optimiser takes time with the cube of it: half
/// a second at this weight, on a slow machine.
pub const MAX_WEIGHT: usize = 640;

/// What values weigh, by what they are values of; any other word weighs 1. Measured,
/// and rounded up.
const PORT_RANGE: usize = 10;
const PORT: usize = 5;
const ADDRESS: usize = 4;
/// A name may stand for several addresses.
const NAME: usize = 16;

/// How much of a wrong text an error shows.
const SHOWN: usize = 40;

/// A text that libpcap may see.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The text, protocol names replaced by their numbers.
    pub text: CString,
    /// It asks for a VLAN tag.
    pub vlan: bool,
    /// It asks for the direction or the interface: not for bytes.
    pub ancillary: bool,
    /// Words whose meaning libpcap is to be asked for: newer than others.
    pub newer: Vec<&'static str>,
    /// Where each word ends, in `text`.
    pub ends: Vec<usize>,
}

/// What a bare value is a value of: the qualifiers of the last primitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Of nothing that was said.
    Nothing,
    Port,
    PortRange,
    Address,
    /// `ip proto`: names would be looked up.
    Protocol,
    /// `ether proto`, and what takes one name of libpcap's own: not looked up.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    Keyword(&'a str),
    /// `tcp-syn`: its number.
    Constant(u8),
    /// 80, 0x50
    Number,
    /// An IPv4, IPv6 or Ethernet address, or part of one.
    Address,
    /// 1-1024
    Range,
    /// Anything else; without the backslash.
    Name(&'a str),
    Operator(&'a str),
}

/// Takes a text apart. `names`: libpcap may look names up.
pub fn scan(text: &[u8], names: bool) -> Result<Scanned> {
    if text.len() > MAX_LENGTH {
        return Err(refused(format!(
            "the expression has {} bytes, more than {MAX_LENGTH}; {SPLIT}",
            text.len()
        )));
    }
    for (at, byte) in text.iter().enumerate() {
        if !matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n') {
            return Err(refused(format!(
                "byte {at} is 0x{byte:02x}; expressions are printable ASCII"
            )));
        }
    }
    // Every byte was seen to be ASCII.
    let text = std::str::from_utf8(text).unwrap_or("");
    Scanner {
        text,
        names,
        of: Of::Nothing,
        open: Vec::new(),
        signs: 0,
        weight: 0,
        before: None,
        out: String::with_capacity(text.len()),
        vlan: false,
        ancillary: false,
        newer: Vec::new(),
        ends: Vec::new(),
    }
    .run()
}

const SPLIT: &str = "say more with one primitive (portrange, net), apply several filters \
                     to several captures, or compile it with \"tcpdump -ddd\" for \
                     netring_filter_new_ddd";

struct Scanner<'a> {
    text: &'a str,
    names: bool,
    of: Of,
    /// For each open parenthesis or bracket what was meant before it.
    open: Vec<Of>,
    /// `not` and `-` in a row.
    signs: usize,
    weight: usize,
    before: Option<Word<'a>>,
    out: String,
    vlan: bool,
    ancillary: bool,
    newer: Vec<&'static str>,
    ends: Vec<usize>,
}

impl<'a> Scanner<'a> {
    fn run(mut self) -> Result<Scanned> {
        let mut at = 0_usize;
        while let Some(rest) = self.text.get(at..) {
            let blank = rest.len().saturating_sub(rest.trim_ascii_start().len());
            self.out.push_str(rest.get(..blank).unwrap_or(""));
            at = at.saturating_add(blank);
            let rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let Some((word, length)) = word(rest) else {
                return Err(refused(format!(
                    "byte {at}: {} begins no word of an expression",
                    shown(rest)
                )));
            };
            let text = rest.get(..length).unwrap_or(rest);
            self.take(word, text, at)?;
            self.ends.push(self.out.len());
            self.before = Some(word);
            at = at.saturating_add(length);
        }
        let Ok(text) = CString::new(self.out) else {
            return Err(refused("a NUL is in it".into()));
        };
        Ok(Scanned {
            text,
            vlan: self.vlan,
            ancillary: self.ancillary,
            newer: self.newer,
            ends: self.ends,
        })
    }

    /// One word, which stands at `at`.
    fn take(&mut self, word: Word<'a>, text: &'a str, at: usize) -> Result<()> {
        let mut weight = 0;
        let mut put = text;
        let number: String;
        match word {
            Word::Keyword("and" | "or") => {}
            Word::Operator("&&" | "||") => {}
            Word::Keyword("not") | Word::Operator("!") => self.sign(at)?,
            Word::Operator("(" | "[") => {
                self.open.push(self.of);
                if word == Word::Operator("[") {
                    self.of = Of::Nothing;
                }
                self.deep(at)?;
            }
            Word::Operator(")" | "]") => self.of = self.open.pop().unwrap_or(Of::Nothing),
            Word::Operator("/") => {}
            Word::Operator(operator) => {
                self.of = Of::Nothing;
                if operator == "-" {
                    self.sign(at)?;
                }
            }
            Word::Keyword(keyword) => {
                weight = 1;
                self.keyword(keyword);
            }
            Word::Constant(value) => {
                weight = 1;
                number = value.to_string();
                put = &number;
            }
            Word::Number | Word::Address => weight = self.value(),
            Word::Range if self.of == Of::PortRange => weight = PORT_RANGE,
            Word::Range => {
                weight = NAME;
                self.name(text, text, at)?;
            }
            Word::Name(name) => match (self.of, protocol(name)) {
                (Of::Own, _) => weight = 1,
                (Of::Protocol, Some(protocol)) if !self.names => {
                    weight = 1;
                    number = protocol.to_string();
                    put = &number;
                }
                _ => {
                    weight = NAME;
                    self.name(name, text, at)?;
                }
            },
        }
        if !matches!(word, Word::Keyword("not") | Word::Operator("!" | "-")) {
            self.signs = 0;
        }
        self.out.push_str(put);
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT {
            return Err(refused(format!(
                "too much for libpcap's optimiser from byte {at} ({}) on: it would take seconds or \
                 longer (128 ports, 64 portranges, 160 addresses or 640 other words are the most); \
                 {SPLIT}",
                shown(text)
            )));
        }
        Ok(())
    }

    fn sign(&mut self, at: usize) -> Result<()> {
        self.signs = self.signs.saturating_add(1);
        self.deep(at)
    }

    fn deep(&self, at: usize) -> Result<()> {
        if self.open.len().saturating_add(self.signs) > MAX_DEPTH {
            return Err(refused(format!(
                "byte {at}: nested deeper than {MAX_DEPTH}; write it with fewer parentheses and \
                 \"not\"s"
            )));
        }
        Ok(())
    }

    fn value(&self) -> usize {
        match self.of {
            Of::PortRange => PORT_RANGE,
            Of::Port => PORT,
            Of::Address => ADDRESS,
            _ => 1,
        }
    }

    fn keyword(&mut self, keyword: &'a str) {
        self.of = match keyword {
            "port" => Of::Port,
            "portrange" => Of::PortRange,
            "host" | "net" | "gateway" | "mask" | "src" | "dst" => Of::Address,
            "proto" | "protochain" => match self.before {
                // These have tables of libpcap's own, or no names at all.
                Some(Word::Keyword(before)) if PROTOCOLS.contains(&before) => match before {
                    "ip" | "ip6" => Of::Protocol,
                    _ => Of::Own,
                },
                _ => Of::Protocol,
            },
            "type" | "subtype" | "dir" | "direction" | "llc" | "reason" | "action" | "on"
            | "ifname" | "rset" | "ruleset" => Of::Own,
            _ => Of::Nothing,
        };
        match keyword {
            "vlan" => self.vlan = true,
            "inbound" | "outbound" | "ifindex" => self.ancillary = true,
            _ => {}
        }
        if let Some(newer) = NEWER.iter().find(|newer| **newer == keyword) {
            self.newer.push(newer);
        }
    }

    /// A name that libpcap would look up.
    fn name(&self, name: &str, text: &str, at: usize) -> Result<()> {
        if self.names {
            return Ok(());
        }
        let what = match self.of {
            Of::Port | Of::PortRange => "the port's number",
            Of::Protocol => "the protocol's number",
            _ => "the address or number",
        };
        let kind = if text.starts_with('\\') { "a name" } else { "no keyword but a name" };
        Err(refused(format!(
            "byte {at}: {} is {kind}, which would have to be looked up: give {what}, or allow \
             look-ups with NETRING_FILTER_NAMES",
            shown(name)
        )))
    }
}

/// The first word of a text, and how long it is.
fn word(text: &str) -> Option<(Word<'_>, usize)> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    if first == b'\\' {
        let end = |byte: &u8| matches!(byte, b' ' | b'!' | b'(' | b')' | b'\n' | b'\t' | b'\r');
        let length = bytes.iter().position(end).unwrap_or(bytes.len());
        let name = text.get(1..length).filter(|name| !name.is_empty())?;
        return Some((Word::Name(name), length));
    }
    if first == b'$' {
        let digits = hexadecimal(bytes, 1, 2);
        return (digits > 0).then_some((Word::Address, digits.saturating_add(1)));
    }
    let plain = identifier(bytes);
    let address = mac(bytes).max(ipv6(text)).max(colons(bytes));
    if address > 0 && address >= plain && !is_number(text.get(..address)?) {
        return Some((Word::Address, address));
    }
    if plain > 0 {
        let found = text.get(..plain)?;
        let word = if is_number(found) {
            Word::Number
        } else if is_dotted(found) {
            Word::Address
        } else if KEYWORDS.contains(&found) {
            Word::Keyword(found)
        } else if let Some((_, value)) = CONSTANTS.iter().find(|(name, _)| *name == found) {
            Word::Constant(*value)
        } else if is_range(found) {
            Word::Range
        } else {
            Word::Name(found)
        };
        return Some((word, plain));
    }
    if let Some(two) = text.get(..2).filter(|two| TWO.contains(two)) {
        return Some((Word::Operator(two), 2));
    }
    b"+-*/%:[]!<>()&|^=".contains(&first).then(|| (Word::Operator(&text[..1]), 1))
}

/// `[A-Za-z0-9]([-_.A-Za-z0-9]*[.A-Za-z0-9])?`
fn identifier(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(u8::is_ascii_alphanumeric) {
        return 0;
    }
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let run = bytes.iter().position(|byte| !inside(byte)).unwrap_or(bytes.len());
    let last = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    let end = bytes.get(..run).and_then(|run| run.iter().rposition(last)).unwrap_or(0);
    end.saturating_add(1)
}

/// How many hexadecimal digits there are from `at` on, `most` at most.
fn hexadecimal(bytes: &[u8], at: usize, most: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or(&[]);
    rest.iter().take(most).take_while(|byte| byte.is_ascii_hexdigit()).count()
}

/// The longest Ethernet address: `00:11:22:33:44:55`, with `-` or `.` too,
/// `0011.2233.4455`, `001122334455`.
fn mac(bytes: &[u8]) -> usize {
    let mut longest = 0;
    for separator in *b":-." {
        longest = groups(bytes, separator, 6, 1, 2).max(longest);
    }
    longest = groups(bytes, b'.', 3, 4, 4).max(longest);
    if hexadecimal(bytes, 0, 12) == 12 { longest.max(12) } else { longest }
}

/// The length of so many groups of digits, or 0.
fn groups(bytes: &[u8], separator: u8, count: usize, least: usize, most: usize) -> usize {
    let mut at = 0_usize;
    for group in 0..count {
        if group > 0 {
            if bytes.get(at) != Some(&separator) {
                return 0;
            }
            at = at.saturating_add(1);
        }
        let digits = hexadecimal(bytes, at, most);
        if digits < least {
            return 0;
        }
        at = at.saturating_add(digits);
    }
    at
}

/// The longest IPv6 address.
fn ipv6(text: &str) -> usize {
    let inside = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let run = text.as_bytes().iter().take(45).take_while(|byte| inside(byte)).count();
    if !text.as_bytes().iter().take(run).any(|byte| *byte == b':') {
        return 0;
    }
    (2..=run)
        .rev()
        .find(|length| text.get(..*length).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()))
        .unwrap_or(0)
}

/// `{B}:+({B}:+)+`: libpcap refuses it as a wrong Ethernet address.
fn colons(bytes: &[u8]) -> usize {
    let (mut at, mut count) = (0_usize, 0_usize);
    loop {
        let digits = hexadecimal(bytes, at, 2);
        let behind = at.saturating_add(digits);
        let colons = bytes.get(behind..).unwrap_or(&[]).iter().take_while(|b| **b == b':').count();
        if digits == 0 || colons == 0 {
            return if count >= 2 { at } else { 0 };
        }
        at = behind.saturating_add(colons);
        count = count.saturating_add(1);
    }
}

fn is_number(text: &str) -> bool {
    let (digits, hexadecimal) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let digit = |byte: u8| {
        if hexadecimal { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() }
    };
    !digits.is_empty() && digits.bytes().all(digit)
}

/// Two to four numbers with dots between them.
fn is_dotted(text: &str) -> bool {
    (2..=4).contains(&text.split('.').count()) && text.split('.').all(is_number)
}

fn is_range(text: &str) -> bool {
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(from, to)| decimal(from) && decimal(to))
}

/// The number of an IP protocol, as IANA has it.
fn protocol(name: &str) -> Option<u8> {
    let (_, number) = IP_PROTOCOLS.iter().find(|(known, _)| *known == name)?;
    Some(*number)
}

const IP_PROTOCOLS: [(&str, u8); 26] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("igrp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

const TWO: [&str; 8] = ["&&", "||", ">=", "<=", "!=", "==", "<<", ">>"];

/// Keywords that libpcap 1.5 does not have. To an older one each is a name.
const NEWER: [&str; 3] = ["geneve", "ifindex", "vxlan"];

/// Before `proto` these say whose (grammar.y `pname`).
const PROTOCOLS: [&str; 48] = [
    "link", "ether", "ppp", "slip", "fddi", "tr", "wlan", "ip", "arp", "rarp", "sctp", "tcp",
    "udp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp", "atalk", "aarp", "decnet", "lat", "sca",
    "mopdl", "moprc", "ip6", "icmp6", "ah", "esp", "iso", "esis", "es-is", "isis", "is-is", "l1",
    "l2", "iih", "lsp", "snp", "psnp", "csnp", "clnp", "stp", "ipx", "netbeui", "radio", "llc",
];

/// The other words of scanner.l (libpcap 1.11) that are no names.
#[rustfmt::skip]
const KEYWORDS: [&str; 129] = [
    "aarp", "action", "addr1", "addr2", "addr3", "addr4", "address1", "address2", "address3",
    "address4", "ah", "and", "arp", "atalk", "bcc", "broadcast", "byte", "carp", "clnp",
    "connectmsg", "csnp", "decnet", "dir", "direction", "dpc", "dst", "es-is", "esis", "esp",
    "ether", "fddi", "fisu", "gateway", "geneve", "greater", "hdpc", "hfisu", "hlssu", "hmsu",
    "hopc", "host", "hsio", "hsls", "icmp", "icmp6", "ifindex", "ifname", "igmp", "igrp", "iih",
    "ilmic", "inbound", "ip", "ip6", "ipx", "is-is", "isis", "iso", "l1", "l2", "lane", "lat",
    "len", "length", "less", "link", "llc", "lsp", "lssu", "lsu", "mask", "metac", "metaconnect",
    "mopdl", "moprc", "mpls", "msu", "multicast", "net", "netbeui", "not", "oam", "oamf4",
    "oamf4ec", "oamf4sc", "on", "opc", "or", "outbound", "pim", "port", "portrange", "ppp",
    "pppoed", "pppoes", "proto", "protochain", "psnp", "ra", "radio", "rarp", "reason", "rnr",
    "rset", "rulenum", "ruleset", "sc", "sca", "sctp", "sio", "slip", "sls", "snp", "src", "srnr",
    "stp", "subrulenum", "subtype", "ta", "tcp", "tr", "type", "udp", "vci", "vlan", "vpi",
    "vrrp", "vxlan", "wlan",
];

/// Its constants. Replaced by their numbers: libpcap before 1.9 lacks some.
const CONSTANTS: [(&str, u8); 57] = [
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreq", 17),
    ("icmp-maskreply", 18),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-parameterproblem", 4),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-multicastlistenerquery", 130),
    ("icmp6-multicastlistenerreportv1", 131),
    ("icmp6-multicastlistenerdone", 132),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
    ("icmp6-redirect", 137),
    ("icmp6-routerrenum", 138),
    ("icmp6-nodeinformationquery", 139),
    ("icmp6-nodeinformationresponse", 140),
    ("icmp6-ineighbordiscoverysolicit", 141),
    ("icmp6-ineighbordiscoveryadvert", 142),
    ("icmp6-multicastlistenerreportv2", 143),
    ("icmp6-homeagentdiscoveryrequest", 144),
    ("icmp6-homeagentdiscoveryreply", 145),
    ("icmp6-mobileprefixsolicit", 146),
    ("icmp6-mobileprefixadvert", 147),
    ("icmp6-certpathsolicit", 148),
    ("icmp6-certpathadvert", 149),
    ("icmp6-multicastrouteradvert", 151),
    ("icmp6-multicastroutersolicit", 152),
    ("icmp6-multicastrouterterm", 153),
    ("tcpflags", 13),
    ("tcp-fin", 1),
    ("tcp-syn", 2),
    ("tcp-rst", 4),
    ("tcp-push", 8),
    ("tcp-ack", 16),
    ("tcp-urg", 32),
    ("tcp-ece", 64),
    ("tcp-cwr", 128),
];

fn refused(reason: String) -> Error {
    Error::new(Kind::Filter, "expression", format!("filter refused: {reason}"))
}

/// The beginning of a text, in quotes.
pub(super) fn shown(text: &str) -> String {
    match text.get(..SHOWN) {
        Some(start) if text.len() > SHOWN => format!("\"{start}...\""),
        _ => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> String {
        scan(text.as_bytes(), false).unwrap().text.into_string().unwrap()
    }

    fn refusal(text: &str) -> String {
        let error = scan(text.as_bytes(), false).unwrap_err();
        assert_eq!((error.kind, &*error.option), (Kind::Filter, "expression"), "{text}");
        assert!(error.message.len() < 512, "{error}");
        error.message
    }

    #[test]
    fn what_needs_no_look_up_passes_as_it_is() {
        for text in [
            "",
            " \t\r\n",
            "host 10.0.0.1 and not net 10.1.0.0/16 mask 255.255.0.0",
            "host 2001:db8::1 or ip6 net fe80::/10 or host ::ffff:1.2.3.4",
            "ether host 00:11:22:33:44:55 or 0011.2233.4455 or 001122334455 or 0-1-2-3-4-5",
            "port 80 or (443 or 8080) and portrange 1-2 or 3-4",
            "portrange 1-2 and (not 3-4)",
            "ether proto \\arp or \\ip6 and iso proto \\isis",
            "llc u or type mgt subtype beacon or dir nods",
            "ip[2:2]-((ip[0]&0xf)<<2) != 0 && tcp[13]&3>=1 || !arp",
            "arcnet $1f",
        ] {
            if text.starts_with("arcnet") {
                assert!(refusal(text).contains("\"arcnet\""));
            } else {
                assert_eq!(scanned(text), text);
            }
        }
    }

    #[test]
    fn numbers_stand_in_for_what_libpcap_might_not_know() {
        assert_eq!(scanned("ip proto \\tcp or \\udp"), "ip proto 6 or 17");
        assert_eq!(scanned("proto gre or ip6 protochain \\icmp6"), "proto 47 or ip6 protochain 58");
        assert_eq!(scanned("tcp[tcpflags]&(tcp-syn|tcp-ece)"), "tcp[13]&(2|64)");
        assert_eq!(scanned("icmp6[icmp6type]=icmp6-echo"), "icmp6[0]=128");
        // libpcap looks these up in a table of its own.
        assert_eq!(scanned("ether proto \\ip"), "ether proto \\ip");
    }

    #[test]
    fn names_are_refused_with_their_place() {
        for (text, words) in [
            ("host a", "byte 5: \"a\""),
            ("src a", "byte 4"),
            ("net 10.0.0.0.1", "byte 4: \"10.0.0.0.1\""),
            ("ether host a", "byte 11"),
            ("port http", "byte 5: \"http\" is no keyword but a name"),
            ("host \\host", "\"host\" is a name"),
            ("ip proto \\nosuch", "the protocol's number"),
            // A range of what? Of nothing, or of a host's name.
            ("1-2", "byte 0"),
            ("host 1-2", "byte 5"),
            ("portrange 1-2 and tcp and 3-4", "byte 26"),
            ("portrange 1-2 or dst 3-4", "byte 21"),
            ("host 1.1.1.1 and (portrange 1-2) and 3-4", "byte 37"),
            ("ip proto 6 or (host 1.1.1.1 or \\tcp)", "byte 31"),
            ("tcpp", "no keyword"),
            ("IP", "no keyword"),
            ("tcp-", "byte 3"),
        ] {
            if text == "tcp-" {
                assert_eq!(scanned(text), text); // a syntax error, and no name
                continue;
            }
            assert!(refusal(text).contains(words), "{text}: {}", refusal(text));
            assert!(text == "IP" || scan(text.as_bytes(), true).is_ok(), "{text}");
        }
    }

    #[test]
    fn bounds() {
        let some = |what: &str, count: usize| vec![what; count].join(" or ");
        for (what, weight) in [
            ("len > 5", 2),
            ("ip proto 5", 3),
            ("port 5", 6),
            ("portrange 5-6", 11),
            ("host 1.2.3.4", 5),
            ("ip", 1),
        ] {
            assert!(scan(some(what, MAX_WEIGHT / weight).as_bytes(), false).is_ok(), "{what}");
            let message = refusal(&some(what, MAX_WEIGHT / weight + 1));
            assert!(message.contains("optimiser"), "{message}");
        }
        // Values that go on with what was said before weigh as much.
        assert!(scan(format!("port {}", some("5", 127)).as_bytes(), false).is_ok());
        assert!(refusal(&format!("port {}", some("5", 128))).contains("optimiser"));
        let deep = |depth: usize| format!("{}ip{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(scanned(&deep(MAX_DEPTH)), deep(MAX_DEPTH));
        assert!(refusal(&deep(MAX_DEPTH + 1)).contains("byte 64"));
        assert!(refusal(&"not ".repeat(MAX_DEPTH + 1)).contains("nested"));
        assert!(refusal(&format!("len > {}5", "-".repeat(MAX_DEPTH + 1))).contains("nested"));
        assert!(refusal(&" ".repeat(MAX_LENGTH + 1)).contains("16385"));
        for (text, words) in
            [("ip\0", "byte 2 is 0x00"), ("é", "byte 0 is 0xc3"), ("ip ;", "byte 3")]
        {
            assert!(refusal(text).contains(words));
        }
        assert!(refusal("\\").contains("byte 0"));
        assert!(refusal("$").contains("byte 0"));
    }
}
