//! `ShouldRateLimit` beside the bare echo of the same messages, on the embedded store and on Redis.

use crate::Options;
use crate::cell::{Found, KEYS, Shape, block_on, median};
use crate::child::Server;
use crate::load::{calls, frame};
use crate::table::{Target, markdown, maybe, number, ratio, times, verdict};
use anyhow::Context as _;
use bytes::Bytes;
use prost::Message as _;
use quotad::client;
use quotad::config::Environment;
use quotad::pb::envoy::extensions::common::ratelimit::v3::{
    RateLimitDescriptor, rate_limit_descriptor::Entry,
};
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use quotad::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const SHAPE: Shape = Shape { connections: 8, lanes: 8 };
const COLUMNS: [&str; 8] = [
    "server, 8 x 8",
    "requests/s",
    "p50 us",
    "p99 us",
    "server CPU us/request",
    "Redis CPU us/request",
    "requests/s of the echo's",
    "CPU of the echo's",
];
/// A directory in envoyproxy/ratelimit's format: one limit that is never in the way.
const LIMITS: &str = "\
domain: bench
descriptors:
  - key: user
    rate_limit: {unit: minute, requests_per_unit: 4000000000}
";

/// The question about one key.
pub(crate) fn question(key: u32) -> RateLimitRequest {
    let entry = Entry { key: "user".to_owned(), value: format!("bench-{key}") };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: "bench".to_owned(), descriptors: vec![descriptor], hits_addend: 0 }
}

/// The rest of a quotad's configuration, with the limits beside it.
pub(crate) fn settings(folder: &Path) -> anyhow::Result<String> {
    let limits = folder.join("ratelimit");
    std::fs::create_dir_all(&limits)?;
    std::fs::write(limits.join("bench.yaml"), LIMITS)?;
    Ok(format!("envoy: {{ratelimit_config: {:?}}}\n", limits.display().to_string()))
}

/// One answer, once the store is there.
pub(crate) fn one_answer(address: &str) -> anyhow::Result<RateLimitResponse> {
    let address: client::Address = address.parse()?;
    block_on(async {
        let connection = client::connect(&address, Duration::from_secs(5)).await?;
        let mut client = RateLimitServiceClient::with_origin(connection, address.origin());
        let answer = client.should_rate_limit(question(0)).await?.into_inner();
        anyhow::ensure!(answer.overall_code == i32::from(Code::Ok), "not OK: {answer:?}");
        anyhow::ensure!(
            answer.statuses.iter().any(|status| status.current_limit.is_some()),
            "no limit was found: {answer:?}"
        );
        Ok(answer)
    })?
}

/// Measures in alternating rounds and prints a section.
pub(crate) fn compare(options: &Options) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let program =
        Environment::process().get("QUOTAD_REDIS7").map_or_else(|| "redis-server".into(), PathBuf::from);
    let redis = Server::redis(&program, folder.path()).context("--envoy needs a redis-server")?;
    let rest = settings(folder.path())?;
    let embedded = Server::quotad_with(folder.path(), 1, "memory:", &rest)?;
    let shared = Server::quotad_with(folder.path(), 1, &format!("redis://{}", redis.address), &rest)?;
    let file = folder.path().join("answer");
    std::fs::write(&file, one_answer(&embedded.address)?.encode_to_vec())?;
    let echo = Server::echo_of("rate-limit", &file)?;
    let frames: Vec<Bytes> = (0..KEYS).map(|key| frame(&question(key))).collect();
    let servers = [
        ("bare tonic echo, multi-thread runtime, 1 worker", &echo, None),
        ("quotad, 1 thread, embedded store", &embedded, None),
        ("quotad, 1 thread, Redis", &shared, Some(redis.pid())),
    ];
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..options.rounds.max(1) {
        for ((_, server, redis), found) in servers.iter().zip(&mut rounds) {
            let at = (server.address.as_str(), PATH);
            found.push(calls(at, &frames, (SHAPE, options.span()), (Some(server.pid()), *redis))?);
        }
    }
    let found: Vec<Found> = rounds.iter().map(|rounds| median(rounds)).collect();
    let bare = found.first().copied().unwrap_or_default();
    let rows: Vec<_> =
        servers.iter().zip(&found).map(|((name, ..), found)| row(name, found, &bare)).collect();
    let table = markdown(COLUMNS, &rows);
    Ok(format!("### ShouldRateLimit, one descriptor of 1,000\n\n{table}\n{}", verdicts(&found, &bare)))
}

fn row(name: &str, found: &Found, bare: &Found) -> [String; 8] {
    [
        name.to_owned(),
        number(found.rate),
        number(found.p50),
        number(found.p99),
        maybe(found.server),
        maybe(found.redis),
        times(ratio(Some(found.rate), Some(bare.rate))),
        times(ratio(found.server, bare.server)),
    ]
}

fn verdicts(found: &[Found], bare: &Found) -> String {
    let [_, embedded, redis] = found else { return String::new() };
    let rate = |found: &Found| ratio(Some(found.rate), Some(bare.rate));
    let mut text = verdict("embedded, requests/s of the echo's", rate(embedded), Target::Least(1.6));
    text += &verdict("on Redis, requests/s of the echo's", rate(redis), Target::Least(0.9));
    text +=
        &verdict("on Redis, server CPU of the echo's", ratio(redis.server, bare.server), Target::Most(1.1));
    text
}
