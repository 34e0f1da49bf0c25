//! quotad: a decision service for rate limits, connection leases and tokens.
//!
//! `engine` decides, `store` keeps, `token` verifies, `service` puts them together, `api` translates; see
//! `docs/architecture.md`.

pub mod api;
pub mod app;
pub mod budget;
pub mod cli;
pub mod client;
pub mod clock;
pub mod codec;
pub mod config;
pub mod deadline;
pub mod engine;
pub mod envoy;
pub mod pb;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod well_known;
