//! quotad behind a real Envoy, with the bootstraps of `docs/envoy`, before a small application.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests poll conditions with a deadline and read what scripts/test sets"
)]
#![allow(missing_docs, unreachable_pub, clippy::as_conversions, reason = "tests")]

#[path = "envoy/app.rs"]
mod app;
#[path = "envoy/away.rs"]
mod away;
#[path = "envoy/bed.rs"]
mod bed;
#[path = "envoy/client.rs"]
mod client;
#[path = "envoy/ext_authz.rs"]
mod ext_authz;
#[path = "envoy/ext_proc.rs"]
mod ext_proc;
#[path = "envoy/failure.rs"]
mod failure;
#[allow(dead_code, reason = "another suite uses the rest")]
#[path = "grpc/harness.rs"]
mod harness;
#[path = "envoy/leases.rs"]
mod leases;
#[path = "envoy/proxy.rs"]
mod proxy;
#[path = "envoy/rate_limit.rs"]
mod rate_limit;
#[allow(dead_code, reason = "another suite uses the rest")]
#[path = "support/redis.rs"]
mod server;
#[path = "envoy/tcp.rs"]
mod tcp;
