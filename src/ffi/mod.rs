//! The C ABI: checks arguments, calls the core, maps the result. Nothing else.

pub mod block;
pub mod bridge;
pub mod capture;
pub mod capture_filter;
pub mod config;
mod dispatch;
pub mod error;
pub mod event;
pub mod expression;
pub mod filter;
pub mod group;
mod guard;
mod handle;
#[cfg(feature = "test-hooks")]
pub mod hooks;
pub mod injector;
pub mod injector_config;
pub mod interface;
pub mod log;
pub mod membership;
pub mod namespace;
mod pointers;
pub mod queue;
pub mod reader;
pub mod umem;
pub mod version;
pub mod vnet;
pub mod writer;
pub mod xdp;
pub mod xdp_config;
pub mod xdp_probe;
