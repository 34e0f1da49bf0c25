//! The crate against a real quotad, and against its own fake.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by them")]

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
