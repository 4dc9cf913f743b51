//! The C ABI: checks arguments, calls the core, maps the result. Nothing else.

pub mod version;
