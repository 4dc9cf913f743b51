//! How much memory this machine and this control group have left.

use std::fs;
use std::path::{Path, PathBuf};

/// MemAvailable in bytes (/proc/meminfo), if the kernel says.
pub fn available() -> Option<u64> {
    parse_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The smallest room left in this process's control group and those above it,
/// in bytes; `None` where nothing limits it. Packet rings are not charged to a
/// control group (af_packet.c alloc_one_pg_vec_page has no __GFP_ACCOUNT), but a
/// container's limit says what its owner meant it to have.
pub fn cgroup_room() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (root, path, limit, usage) = find_group(&membership)?;
    let mut directory = root.join(path.trim_start_matches('/'));
    let mut smallest = None;
    loop {
        if let (Some(limit), Some(used)) =
            (number(&directory.join(limit)), number(&directory.join(usage)))
        {
            let room = limit.saturating_sub(used);
            smallest = Some(smallest.map_or(room, |least: u64| least.min(room)));
        }
        if directory == root || !directory.pop() {
            return smallest;
        }
    }
}

type Group<'a> = (PathBuf, &'a str, &'static str, &'static str);

fn find_group(membership: &str) -> Option<Group<'_>> {
    // Version 2 is "0::/path"; version 1 has a line with the memory controller.
    let version_2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if version_2 && id == "0" && controllers.is_empty() {
            return Some((PathBuf::from("/sys/fs/cgroup"), path, "memory.max", "memory.current"));
        }
        if controllers.split(',').any(|name| name == "memory") {
            let root = PathBuf::from("/sys/fs/cgroup/memory");
            return Some((root, path, "memory.limit_in_bytes", "memory.usage_in_bytes"));
        }
    }
    None
}

/// A file with one number; "max" and unreadable files limit nothing.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo() {
        let text = "MemTotal:       24 kB\nMemFree: 1 kB\nMemAvailable:   12345 kB\n";
        assert_eq!(parse_available(text), Some(12345 * 1024));
        assert_eq!(parse_available("MemTotal: 3 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
