//! quotad from outside: the real binary, over real gRPC, with a real Redis and a real grpcurl.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests poll conditions with a deadline and read what scripts/test sets"
)]
#![allow(missing_docs, unreachable_pub, clippy::as_conversions, reason = "tests")]

#[path = "grpc/authorize.rs"]
mod authorize;
#[path = "grpc/bad_input.rs"]
mod bad_input;
#[path = "grpc/bad_streams.rs"]
mod bad_streams;
#[path = "grpc/connections.rs"]
mod connections;
#[path = "grpc/ext_authz.rs"]
mod ext_authz;
#[path = "grpc/harness.rs"]
mod harness;
#[path = "grpc/http.rs"]
mod http;
#[path = "grpc/http_client.rs"]
mod http_client;
#[path = "grpc/issuers.rs"]
mod issuers;
#[path = "grpc/key_sets.rs"]
mod key_sets;
#[path = "grpc/leases_envoy.rs"]
mod leases_envoy;
#[path = "grpc/limits.rs"]
mod limits;
#[path = "grpc/paths.rs"]
mod paths;
#[path = "grpc/process.rs"]
mod process;
#[path = "grpc/rate_limit.rs"]
mod rate_limit;
#[path = "grpc/rate_limit_both.rs"]
mod rate_limit_both;
#[path = "grpc/rate_limit_folder.rs"]
mod rate_limit_folder;
#[path = "grpc/redis.rs"]
mod redis;
#[path = "grpc/renewals.rs"]
mod renewals;
#[allow(dead_code, reason = "another suite uses the rest")]
#[path = "support/redis.rs"]
mod server;
#[path = "grpc/settle.rs"]
mod settle;
#[path = "grpc/slow.rs"]
mod slow;
#[path = "grpc/start.rs"]
mod start;
#[path = "grpc/tokens.rs"]
mod tokens;
#[path = "grpc/tools.rs"]
mod tools;
#[path = "grpc/unread.rs"]
mod unread;
#[path = "grpc/unread_calls.rs"]
mod unread_calls;
#[path = "grpc/watching.rs"]
mod watching;
