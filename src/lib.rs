//! quotad: a decision service for rate limits, connection leases and tokens.
//!
//! `engine` decides, `store` keeps, `token` verifies, `service` puts them together, `api` translates; see
//! `docs/architecture.md`.

pub mod clock;
pub mod codec;
pub mod config;
pub mod engine;
pub mod pb;
pub mod store;
pub mod token;
