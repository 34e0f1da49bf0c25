//! The crate against a real quotad, and against its own fake.

mod contract;
mod support;
