//! sysfs: what no netlink family and no ioctl tells of an interface. What is
//! mounted at /sys belongs to the network namespace it was mounted in, which need
//! not be the caller's; so what it says is held against what is known.

use super::link::{Link, NAME};
use std::fs;
use std::path::Path;

/// How many receive and transmit queues an interface uses now.
pub fn queues(link: &Link) -> Option<(u32, u32)> {
    let directory = Path::new("/sys/class/net").join(text(&link.name)?);
    if !is(&directory, link) {
        return None;
    }
    let (mut rx, mut tx) = (0, 0);
    for entry in fs::read_dir(directory.join("queues")).ok()? {
        match entry.ok()?.file_name().to_str()? {
            name if name.starts_with("rx-") => rx += 1,
            name if name.starts_with("tx-") => tx += 1,
            _ => {}
        }
    }
    // It may have become another one meanwhile.
    (is(&directory, link) && rx > 0 && tx > 0).then_some((rx, tx))
}

fn text(name: &[u8; NAME]) -> Option<&str> {
    let end = name.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(name.get(..end)?).ok()
}

/// Whether this is the directory of that interface: its index and its address.
fn is(directory: &Path, link: &Link) -> bool {
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let address: Vec<String> = link
        .address
        .iter()
        .take(link.address_length.into())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    read("ifindex").trim() == link.index.to_string() && read("address").trim() == address.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::link::Links;

    #[test]
    fn lo_has_queues_unless_it_is_another_one() {
        let all = Links::open().unwrap().all().unwrap();
        let lo = all.iter().find(|link| link.name.starts_with(b"lo\0")).unwrap();
        if !Path::new("/sys/class/net/lo/queues").exists() {
            return;
        }
        assert_eq!(queues(lo), Some((lo.rx_queues, lo.tx_queues)));
        assert_eq!(queues(&Link { index: lo.index + 1, ..lo.clone() }), None);
        let mut other = lo.clone();
        other.address[5] ^= 1;
        assert_eq!(queues(&other), None);
        other.name = *b"../lo\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(queues(&other), None);
    }
}
