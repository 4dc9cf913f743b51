//! /proc/net/softnet_stat: packets the machine dropped before any socket saw
//! them, because a CPU's backlog was full.

/// Summed over the CPUs, since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softnet {
    /// Packets dropped: the backlog was full (net.core.netdev_max_backlog).
    pub dropped: u64,
    /// Times a CPU ran out of its receive budget (net.core.netdev_budget).
    pub squeezed: u64,
}

/// The counters, if they can be read.
pub fn read() -> Option<Softnet> {
    parse(&std::fs::read_to_string("/proc/net/softnet_stat").ok()?)
}

fn parse(text: &str) -> Option<Softnet> {
    let mut sum = Softnet { dropped: 0, squeezed: 0 };
    for line in text.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let dropped = u64::from_str_radix(fields.next()?, 16).ok()?;
        let squeezed = u64::from_str_radix(fields.next()?, 16).ok()?;
        sum.dropped = sum.dropped.saturating_add(dropped);
        sum.squeezed = sum.squeezed.saturating_add(squeezed);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_cpus() {
        let text = "000000ff 00000002 00000003 00000000\n00000001 0000000a 00000001 0\n";
        assert_eq!(parse(text), Some(Softnet { dropped: 12, squeezed: 4 }));
        assert_eq!(parse("zz\n"), None);
        assert!(read().is_some());
    }
}
