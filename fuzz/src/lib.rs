//! What the library does with bytes that nobody vouches for. Each target is a
//! function of bytes that panics where a property does not hold; libFuzzer runs
//! it (`make fuzz TARGET=walker SECONDS=180`), and so does the program `seeds`
//! over the seeds and mutations of them (`make check`).

pub mod config;
pub mod filter_program;
pub mod filter_text;
pub mod input;
pub mod memory;
pub mod reader;
pub mod seeds;
pub mod walker;

/// A target: its name, itself, and what makes its first seeds.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "walker", run: walker::target, seeds: seeds::walker },
    Target { name: "filter_text", run: filter_text::target, seeds: seeds::filter_text },
    Target { name: "filter_program", run: filter_program::target, seeds: seeds::filter_program },
    Target { name: "reader", run: reader::target, seeds: seeds::reader },
    Target { name: "config", run: config::target, seeds: seeds::config },
];
