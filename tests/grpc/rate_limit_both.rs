//! A domain that a directory of rate limits has and policies of our own have too: both hold, all or nothing.

use crate::harness::{Quotad, Start, check, decide, output_in_time, quotad, until};
use crate::rate_limit_folder::{Client, client};
use crate::server::{Kind, Server};
use pb::rate_limit_response::Code;
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use quotad::pb::envoy::service::ratelimit::v3 as pb;
use quotad::pb::quotad::v1 as native;
use std::fs;

const CONFIG: &str = r#"
envoy: {ratelimit_config: limits}
policies:
  - {name: own, domain: edge, partition: [who], limit: 2, window: 1h}
  - {name: sockets, domain: edge, partition: [who], algorithm: concurrency, limit: 1, lease_ttl: 1h, lease_entry: lease}
"#;

/// The directory: `tier` is limited to 3 an hour, `who` to 5, `ban` to nothing.
const LIMITS: &str = "domain: edge\ndescriptors:\n\
    - {key: tier, rate_limit: {unit: hour, requests_per_unit: 3}}\n\
    - {key: who, rate_limit: {unit: hour, requests_per_unit: 5}}\n\
    - {key: ban, rate_limit: {unit: hour, requests_per_unit: 0}}\n";

fn start() -> Quotad {
    Start::with(CONFIG).file("limits/c.yaml", LIMITS).start()
}

/// Descriptors in words: `who=a tier=x | ban=1`.
fn descriptors(words: &str) -> Vec<RateLimitDescriptor> {
    let entry = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        Entry { key: key.into(), value: value.into() }
    };
    let one = |words: &str| RateLimitDescriptor {
        entries: words.split(' ').map(entry).collect(),
        ..RateLimitDescriptor::default()
    };
    words.split(" | ").map(one).collect()
}

async fn ask(client: &mut Client, descriptors: Vec<RateLimitDescriptor>) -> pb::RateLimitResponse {
    let request = pb::RateLimitRequest { domain: "edge".into(), descriptors, hits_addend: 0 };
    client.should_rate_limit(request).await.unwrap().into_inner()
}

/// The answer in words: overall, then of each descriptor code, the limit's name or number, and what is left.
async fn says(client: &mut Client, words: &str) -> String {
    let answer = ask(client, descriptors(words)).await;
    let mut said = answer.overall_code().as_str_name().to_owned();
    for status in &answer.statuses {
        let limit = status.current_limit.as_ref().map_or("-".to_owned(), |limit| match limit.name.as_str() {
            "" => limit.requests_per_unit.to_string(),
            name => name.to_owned(),
        });
        said += &format!(" | {} {limit} {}", status.code().as_str_name(), status.limit_remaining);
    }
    said
}

#[tokio::test]
async fn both_hold_and_nothing_is_charged_of_what_is_refused() {
    let quotad = start();
    let mut client = client(&quotad).await;
    assert_eq!(says(&mut client, "who=a | tier=x").await, "OK | OK own 1 | OK 3 2");
    assert_eq!(says(&mut client, "who=a | tier=x").await, "OK | OK own 0 | OK 3 1");
    // The policy refuses: its descriptor says so, and the directory counts nothing.
    assert_eq!(says(&mut client, "who=a | tier=x").await, "OVER_LIMIT | OVER_LIMIT own 0 | OK 3 1");
    assert_eq!(says(&mut client, "tier=x").await, "OK | OK 3 0");
    // The directory refuses: the policy is not charged.
    assert_eq!(says(&mut client, "who=b | ban=1").await, "OVER_LIMIT | OK own 2 | OVER_LIMIT 0 0");
    assert_eq!(says(&mut client, "who=b").await, "OK | OK own 1");
    let refused = ask(&mut client, descriptors("who=a")).await;
    let names: Vec<&str> = refused.response_headers_to_add.iter().map(|header| header.key.as_str()).collect();
    assert!(names.contains(&"Retry-After") && names.contains(&"RateLimit"), "{names:?}");
    assert!(!refused.raw_body.is_empty());
}

#[tokio::test]
async fn a_lease_beside_a_directory_is_counted_and_never_taken_for_a_refused_request() {
    let quotad = start();
    let mut client = client(&quotad).await;
    let over = "OVER_LIMIT | OVER_LIMIT 0 0";
    assert_eq!(
        says(&mut client, "ban=1 who=c lease=l1").await,
        "OK | OK sockets 0",
        "a path that has no limit"
    );
    assert_eq!(says(&mut client, "who=c lease=l2").await, "OVER_LIMIT | OVER_LIMIT sockets 0");
    assert_eq!(says(&mut client, "ban=1 | who=d lease=l3").await, format!("{over} | OK sockets 1"));
    assert_eq!(says(&mut client, "who=d lease=l4").await, "OK | OK sockets 0", "it was free");
    let mut back = descriptors("who=d lease=l4");
    back[0].is_negative_hits = true;
    assert_eq!(ask(&mut client, back).await.overall_code(), Code::Ok);
    assert_eq!(says(&mut client, "who=d lease=l5").await, "OK | OK own 0", "it was given back");
}

const QUOTAS: &str = "domain: edge\ndescriptors:\n\
    - {key: who, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 5}}\n";

#[tokio::test]
async fn quotas_beside_policies_are_a_mistake_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("limits")).unwrap();
    fs::write(folder.path().join("limits/c.yaml"), QUOTAS).unwrap();
    fs::write(folder.path().join("quotad.yaml"), CONFIG).unwrap();
    let checked = output_in_time(quotad().args(["config", "check"]).arg(folder.path().join("quotad.yaml")));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success(), "{said}");
    assert!(said.contains("quotad.yaml:4:") && said.contains("Q401"), "{said}");
    // On a reload of either what was in force stays.
    let quotad = start();
    let mut client = client(&quotad).await;
    assert_eq!(says(&mut client, "who=a").await, "OK | OK own 1");
    let limits = quotad.folder.path().join("limits");
    fs::write(limits.join("c.yaml"), QUOTAS).unwrap();
    quotad.signal("HUP");
    assert_eq!(says(&mut client, "who=b | tier=x").await, "OK | OK own 1 | OK 3 2");
    let mended = format!("{LIMITS}- {{key: new, rate_limit: {{unit: hour, requests_per_unit: 7}}}}\n");
    fs::write(limits.join("c.yaml"), mended).unwrap();
    until("the mended one is in force", async || says(&mut client, "new=1").await.starts_with("OK | OK 7"))
        .await;
}

/// Waits for an answer; each question is about somebody new, so that waiting uses no limit up.
async fn comes(client: &mut Client, what: &str, wanted: &str) {
    let (mut number, wait) = (0, what.len());
    until(what, async || {
        number += 1;
        says(client, &format!("who={wait}-{number} | tier={wait}-{number}")).await == wanted
    })
    .await;
}

#[tokio::test]
async fn what_is_mended_in_either_place_or_in_both_at_once_comes_into_force() {
    let apart = CONFIG.replace("domain: edge", "domain: other");
    let quotad = Start::with(CONFIG).file("limits/c.yaml", QUOTAS).start();
    let mut client = client(&quotad).await;
    let write = |config: &str, limits: &str| {
        fs::write(quotad.config_path(), config).unwrap();
        fs::write(quotad.folder.path().join("limits/c.yaml"), limits).unwrap();
    };
    assert_eq!(
        says(&mut client, "who=a").await,
        "OK | OK own 1",
        "the directory is refused, the policies hold"
    );
    write(&apart, QUOTAS);
    comes(&mut client, "the directory, once no policy stands against it", "OK | OK 5 4 | OK - 0").await;
    // The new policies cannot hold beside the old directory, nor need they: it changes with them.
    let grown = LIMITS.replace("requests_per_unit: 3", "requests_per_unit: 8");
    write(&CONFIG.replace("limit: 2", "limit: 3"), &grown);
    comes(&mut client, "both at once", "OK | OK own 2 | OK 8 7").await;
    write(&apart, QUOTAS);
    let mut new = descriptors("who=z");
    new[0].hits_addend = Some(0);
    until("both at once, back", async || {
        ask(&mut client, new.clone()).await.statuses[0].limit_remaining == 5
    })
    .await;
    // The policies are refused, which can be seen by the directory that is read after them.
    write(CONFIG, &QUOTAS.replace("requests_per_unit: 5", "requests_per_unit: 7"));
    until("the directory alone", async || {
        ask(&mut client, new.clone()).await.statuses[0].limit_remaining == 7
    })
    .await;
    let mended = LIMITS.replace("requests_per_unit: 3", "requests_per_unit: 9");
    fs::write(quotad.folder.path().join("limits/c.yaml"), mended).unwrap();
    comes(&mut client, "the policies with a directory that they can hold with", "OK | OK own 1 | OK 9 8")
        .await;
}

#[tokio::test]
async fn descriptors_with_one_counter_are_charged_as_one() {
    let quotad = start();
    let mut client = client(&quotad).await;
    assert_eq!(says(&mut client, "who=a | who=a tier=x").await, "OK | OK own 0 | OK own 0");
    assert_eq!(says(&mut client, "who=b").await, "OK | OK own 1");
    let said = says(&mut client, "who=b | who=b tier=x").await;
    assert_eq!(said, "OVER_LIMIT | OVER_LIMIT own 1 | OVER_LIMIT own 1", "both or none");
    assert_eq!(says(&mut client, "who=b").await, "OK | OK own 0");
}

#[tokio::test]
async fn what_is_no_single_step_is_refused_before_anything_is_charged() {
    let quotad = start();
    let mut client = client(&quotad).await;
    let mut refused = async |words: &str, change: fn(&mut Vec<RateLimitDescriptor>)| {
        let mut descriptors = descriptors(words);
        change(&mut descriptors);
        let request = pb::RateLimitRequest { domain: "edge".into(), descriptors, hits_addend: 0 };
        client.should_rate_limit(request).await.unwrap_err().code()
    };
    let invalid = tonic::Code::InvalidArgument;
    // A count and a look under one counter.
    assert_eq!(refused("who=a | who=a", |all| all[1].hits_addend = Some(0)).await, invalid);
    // One counter of the directory under two limits.
    let brought = |all: &mut Vec<RateLimitDescriptor>| {
        all[1].limit = Some(RateLimitOverride { requests_per_unit: 9, unit: 3, ..Default::default() });
    };
    assert_eq!(refused("tier=x | tier=x | who=a", brought).await, invalid);
    assert_eq!(refused("who=a lease=l1 | who=a lease=l2", |_| ()).await, invalid);
    // A sliding window takes nothing back, and the directory has no limit that does.
    assert_eq!(refused("who=a tier=x", |all| all[0].is_negative_hits = true).await, invalid);
    let mut client = crate::rate_limit_folder::client(&quotad).await;
    assert_eq!(says(&mut client, "who=a lease=l3 | tier=x").await, "OK | OK sockets 0 | OK 3 2");
}

const STORES: &str = r#"
envoy: {ratelimit_config: limits}
policies:
  - {name: seen, domain: other, limit: 100000, window: 1h}
  - {name: local, domain: edge, match: {say: local}, partition: [who], limit: 2, window: 1h}
  - {name: closed, domain: edge, match: {say: closed}, partition: [who], limit: 2, window: 1h, on_store_error: deny}
  - {name: open, domain: edge, match: {say: open}, partition: [who], limit: 2, window: 1h, on_store_error: allow}
  - {name: loud, domain: edge, match: {say: loud}, partition: [who], limit: 2, window: 1h, on_store_error: error}
"#;

/// On Redis it is as on the embedded store; while Redis is away each policy does as it says, and the directory counts here.
#[tokio::test]
async fn both_hold_on_redis_and_while_redis_is_away() {
    let redis = Server::start(Kind::Redis7);
    let start = Start::with(STORES).file("limits/c.yaml", LIMITS);
    let quotad = start.arg("--store").arg(redis.url()).arg("--store-timeout").arg("2s").start();
    let mut native = quotad.client().await;
    let mut reaches = async |mode: native::Mode| {
        until("the store", async || {
            let asked = native::CheckLimitRequest { domain: "other".into(), ..check("seen", &[]) };
            decide(&mut native, asked).await.mode() == mode
        })
        .await;
    };
    reaches(native::Mode::Exact).await;
    let mut client = client(&quotad).await;
    let local = "who=a say=local | tier=x";
    assert_eq!(says(&mut client, local).await, "OK | OK local 1 | OK 3 2");
    assert_eq!(says(&mut client, local).await, "OK | OK local 0 | OK 3 1");
    assert_eq!(says(&mut client, local).await, "OVER_LIMIT | OVER_LIMIT local 0 | OK 3 1");
    assert_eq!(
        says(&mut client, "who=b say=local | ban=1").await,
        "OVER_LIMIT | OK local 2 | OVER_LIMIT 0 0"
    );
    redis.kill();
    reaches(native::Mode::Local).await;
    // The one process has the whole of each limit, from the start again.
    assert_eq!(says(&mut client, local).await, "OK | OK local 1 | OK 3 2");
    assert_eq!(says(&mut client, local).await, "OK | OK local 0 | OK 3 1");
    assert_eq!(says(&mut client, local).await, "OVER_LIMIT | OVER_LIMIT local 0 | OK 3 1");
    assert_eq!(says(&mut client, "who=a say=open | tier=x").await, "OK | OK - 0 | OK 3 0");
    assert_eq!(says(&mut client, "who=a say=open | tier=x").await, "OVER_LIMIT | OK - 0 | OVER_LIMIT 3 0");
    let closed = ask(&mut client, descriptors("who=a say=closed | tier=y")).await;
    assert_eq!((closed.overall_code(), closed.statuses[0].code()), (Code::OverLimit, Code::OverLimit));
    assert!(String::from_utf8_lossy(&closed.raw_body).contains("RATE_LIMIT_UNAVAILABLE"));
    let request = pb::RateLimitRequest {
        domain: "edge".into(),
        descriptors: descriptors("who=a say=loud | tier=y"),
        hits_addend: 0,
    };
    let loud = client.should_rate_limit(request).await.unwrap_err();
    assert_eq!(loud.code(), tonic::Code::Unavailable);
    assert_eq!(says(&mut client, "tier=y").await, "OK | OK 3 2", "neither counted it");
}
