//! AF_PACKET: captures over TPACKET_V3 rings, and injectors.
//!
//! How a packet flows: the kernel fills a block and sets its status ->
//! [`consumer`] sees it (acquire load), takes it in order -> [`crate::block`]
//! is handed out -> [`record`] walks it -> the release goes through [`ring`]
//! back to the kernel (release store). [`open`] builds a [`capture`],
//! [`waiter`] is what its threads and outer event loops wait on, [`counters`]
//! keeps the statistics, [`loss`] says why packets were dropped. [`events`] tells
//! what becomes of the interface, [`rebind`] goes on with another one,
//! [`binding`] remembers which block came through which, [`fanout`] has captures
//! share an interface's packets. [`selection`] is the kernel's filter, [`swap`]
//! changes it, [`late`] judges packets older than that.
//!
//! Frames leave through an [`injector`].

pub mod binding;
pub mod bridge;
pub mod capture;
pub mod consumer;
pub mod counters;
pub mod events;
pub mod fanout;
pub mod injector;
pub mod late;
pub mod loss;
pub mod membership;
mod open;
pub(crate) mod place;
pub mod rebind;
#[allow(unsafe_code)]
pub mod record;
#[allow(unsafe_code)]
pub mod ring;
pub mod selection;
pub mod stamping;
pub mod swap;
pub mod waiter;
