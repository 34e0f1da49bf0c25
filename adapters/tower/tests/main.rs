//! The crate against a real quotad, and against its own fake.

mod away;
mod contract;
mod fake;
mod http;
mod package;
#[path = "../examples/sample/app.rs"]
mod sample;
mod sockets;
mod support;
mod workers;
