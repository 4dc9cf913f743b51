//! BTF, the kernel's description of itself (linux/btf.h): the numbers of functions
//! that eBPF programs may call by number.

use super::message::{u16_at, u32_at};
use super::{Errno, Result};

/// The kernel's own, without modules (CONFIG_DEBUG_INFO_BTF).
const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of struct btf_type.
const TYPE: usize = 12;

// BTF_KIND_*
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// The numbers of these functions of the kernel; `None`: it has none of that name.
///
/// # Errors
/// ENOENT: the kernel has no BTF. EPROTO: it is of a kind that is not known here.
pub fn functions<const N: usize>(names: [&str; N]) -> Result<[Option<u32>; N]> {
    let bytes =
        std::fs::read(KERNEL).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
    parse(&bytes, names).ok_or(Errno(libc::EPROTO))
}

fn parse<const N: usize>(bytes: &[u8], names: [&str; N]) -> Option<[Option<u32>; N]> {
    // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off,
    // str_len
    if u16_at(bytes, 0)? != MAGIC {
        return None;
    }
    let word = |at| u32_at(bytes, at).map(|word| word as usize);
    let body = bytes.get(word(4)?..)?;
    let mut types = body.get(word(8)?..)?.get(..word(12)?)?;
    let texts = body.get(word(16)?..)?.get(..word(20)?)?;
    let mut found = [None; N];
    // 0 is void.
    let mut number = 1;
    while !types.is_empty() {
        // struct btf_type: name_off, info, size or type
        let (name, info) = (u32_at(types, 0)? as usize, u32_at(types, 4)?);
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let more = match kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => members.checked_mul(12)?,
            ENUM | FUNC_PROTO => members.checked_mul(8)?,
            1..=TYPE_TAG => 0,
            _ => return None,
        };
        if kind == FUNC {
            let text = texts.get(name..)?;
            for (found, name) in found.iter_mut().zip(names) {
                if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                    *found = Some(number);
                }
            }
        }
        types = types.get(TYPE.checked_add(more)?..)?;
        number += 1;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["sock_release", "no such function", "bpf_xdp_metadata_rx_hash"];

    #[test]
    fn of_this_kernel() {
        match functions(NAMES) {
            Ok([release, none, _]) => assert!(release.is_some() && none.is_none()),
            Err(errno) => eprintln!("no BTF: {errno}"),
        }
    }

    fn btf(types: &[&[u32]], texts: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, texts.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(texts);
        bytes
    }

    #[test]
    fn hostile() {
        let texts = b"\0int\0sock_release\0sock_release_more\0";
        // An int, a prototype with a parameter, functions.
        let types: [&[u32]; 4] = [
            &[1, 1 << 24, 4, 32],
            &[0, 13 << 24 | 1, 1, 0, 1],
            &[18, 12 << 24, 2],
            &[5, 12 << 24, 2],
        ];
        let good = btf(&types, texts);
        assert_eq!(parse(&good, NAMES), Some([Some(4), None, None]));
        for end in 0..good.len() {
            assert_eq!(parse(&good[..end], NAMES), None, "{end}");
        }
        for kind in [0, 20, 31] {
            assert_eq!(parse(&btf(&[&[0, kind << 24, 0]], texts), NAMES), None);
        }
        // A name that is nowhere; members that are not there.
        assert_eq!(parse(&btf(&[&[400, 12 << 24, 0]], texts), NAMES), None);
        assert_eq!(parse(&btf(&[&[0, 4 << 24 | 0xffff, 0]], texts), NAMES), None);
        let mut wrong = good;
        wrong[0] ^= 1;
        assert_eq!(parse(&wrong, NAMES), None);
    }
}
