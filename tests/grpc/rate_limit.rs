//! The rate limit service of the real binary, under policies of our own.

use crate::harness::{Quotad, Start, check, decide, until};
use crate::server::{Kind, Server};
use pb::rate_limit_response;
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use quotad::pb::envoy::service::ratelimit::v3 as pb;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use quotad::pb::quotad::v1 as native;
use rate_limit_response::rate_limit::Unit;
use rate_limit_response::{Code, DescriptorStatus};
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

const CONFIG: &str = r#"
policies:
  - {name: per-ip, domain: edge, match: {kind: login}, partition: [ip], limit: 3, window: 5m}
  - {name: wide, domain: edge, match: {kind: login}, partition: [ip], limit: 100, window: 1h}
  - {name: calendar, domain: edge, match: {kind: report}, partition: [user], algorithm: fixed_window, limit: 5, window: 1d}
  - {name: sockets, domain: edge, match: {kind: socket}, partition: [user], algorithm: concurrency, limit: 2, lease_entry: connection}
"#;

type Client = RateLimitServiceClient<Channel>;

/// One thread has one connection to the store, so that one answer tells that it is there; and a machine that builds
/// something else beside is not a store that is away.
fn on(redis: &Server, start: Start) -> Quotad {
    let start = start.arg("--store").arg(redis.url()).arg("--store-timeout").arg("2s");
    start.arg("--threads").arg("1").start()
}

async fn channel(quotad: &Quotad) -> Channel {
    Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap()
}

fn descriptor(pairs: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    RateLimitDescriptor { entries: pairs.iter().map(entry).collect(), ..Default::default() }
}

fn hits(descriptor: RateLimitDescriptor, hits: u64) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(hits), ..descriptor }
}

fn back(descriptor: RateLimitDescriptor) -> RateLimitDescriptor {
    RateLimitDescriptor { is_negative_hits: true, ..descriptor }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> pb::RateLimitRequest {
    pb::RateLimitRequest { domain: "edge".into(), descriptors, hits_addend: 0 }
}

async fn ask(client: &mut Client, descriptors: Vec<RateLimitDescriptor>) -> pb::RateLimitResponse {
    client.should_rate_limit(request(descriptors)).await.unwrap().into_inner()
}

fn header<'a>(answer: &'a pb::RateLimitResponse, name: &str) -> Option<&'a str> {
    let mut named = answer.response_headers_to_add.iter().filter(|one| one.key.eq_ignore_ascii_case(name));
    named.next().map(|header| header.value.as_str())
}

fn login(ip: &str) -> RateLimitDescriptor {
    descriptor(&[("kind", "login"), ("ip", ip)])
}

fn socket(id: &str) -> RateLimitDescriptor {
    descriptor(&[("kind", "socket"), ("user", "7"), ("connection", id)])
}

fn left(status: &DescriptorStatus) -> (Code, u32) {
    (status.code(), status.limit_remaining)
}

#[tokio::test]
async fn a_descriptor_is_a_check_under_the_policies_that_match() {
    let quotad = Quotad::start(CONFIG);
    let mut client = Client::new(channel(&quotad).await);
    for remaining in [2, 1, 0] {
        let answer = ask(&mut client, vec![login("203.0.113.7"), descriptor(&[("kind", "other")])]).await;
        assert_eq!(answer.overall_code(), Code::Ok);
        assert_eq!(left(&answer.statuses[0]), (Code::Ok, remaining));
        let limit = answer.statuses[0].current_limit.as_ref().unwrap();
        assert_eq!((limit.name.as_str(), limit.requests_per_unit), ("per-ip", 3));
        assert_eq!((limit.unit(), limit.unit_multiplier), (Unit::Minute, Some(5)));
        assert_eq!(answer.statuses[1], DescriptorStatus { code: Code::Ok.into(), ..Default::default() });
        assert!(answer.raw_body.is_empty() && header(&answer, "RateLimit").is_some());
    }
    let denied = ask(&mut client, vec![login("203.0.113.7")]).await;
    assert_eq!(denied.overall_code(), Code::OverLimit);
    assert_eq!(left(&denied.statuses[0]), (Code::OverLimit, 0));
    let wait = denied.statuses[0].duration_until_reset.as_ref().unwrap();
    assert!((280..=300).contains(&wait.seconds), "{wait:?}");
    assert_eq!(header(&denied, "RateLimit-Policy"), Some("\"per-ip\";q=3;w=300, \"wide\";q=100;w=3600"));
    assert!(header(&denied, "Retry-After").unwrap().parse::<i64>().unwrap() >= wait.seconds);
    assert_eq!(header(&denied, "content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&denied.raw_body).unwrap();
    assert_eq!((&body["status"], &body["code"]), (&"error".into(), &"RATE_LIMIT_EXCEEDED".into()));
    // The native API counts in the same counters, and a refused descriptor charged nothing.
    let seen = native::CheckLimitRequest {
        domain: "edge".into(),
        cost: Some(0),
        ..check("wide", &[("ip", "203.0.113.7")])
    };
    assert_eq!(decide(&mut quotad.client().await, seen).await.statuses[0].remaining, 97);
}

#[tokio::test]
async fn each_descriptor_stands_for_itself_and_hits_are_units() {
    let quotad = Quotad::start(CONFIG);
    let mut client = Client::new(channel(&quotad).await);
    let answer = ask(&mut client, vec![hits(login("203.0.113.1"), 4), hits(login("203.0.113.2"), 2)]).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(answer.statuses[0].code(), Code::OverLimit);
    assert_eq!(left(&answer.statuses[1]), (Code::Ok, 1));
    let peek = ask(&mut client, vec![hits(login("203.0.113.2"), 0)]).await;
    assert_eq!(left(&peek.statuses[0]), (Code::Ok, 1), "a peek charges nothing");
    let bad = client.should_rate_limit(request(vec![login("nonsense")])).await.unwrap_err();
    assert_eq!(bad.code(), tonic::Code::InvalidArgument);
    let report = descriptor(&[("kind", "report"), ("user", "7")]);
    assert_eq!(left(&ask(&mut client, vec![hits(report.clone(), 5)]).await.statuses[0]), (Code::Ok, 0));
    assert_eq!(ask(&mut client, vec![report.clone()]).await.overall_code(), Code::OverLimit);
    assert_eq!(ask(&mut client, vec![back(hits(report.clone(), 3))]).await.overall_code(), Code::Ok);
    assert_eq!(left(&ask(&mut client, vec![report]).await.statuses[0]), (Code::Ok, 2));
    let sliding = client.should_rate_limit(request(vec![back(login("203.0.113.2"))])).await.unwrap_err();
    assert_eq!(sliding.code(), tonic::Code::InvalidArgument);
    assert!(sliding.message().starts_with("is_negative_hits: "), "{}", sliding.message());
}

async fn leases_come_and_go(quotad: &Quotad) {
    let mut client = Client::new(channel(quotad).await);
    let code = async |client: &mut Client, one| ask(client, vec![one]).await.overall_code();
    assert_eq!(code(&mut client, socket("a")).await, Code::Ok);
    assert_eq!(code(&mut client, socket("a")).await, Code::Ok, "the same lease once more");
    let second = ask(&mut client, vec![socket("b")]).await;
    assert_eq!(left(&second.statuses[0]), (Code::Ok, 0));
    assert_eq!(second.statuses[0].current_limit.as_ref().unwrap().name, "sockets");
    assert_eq!(code(&mut client, socket("c")).await, Code::OverLimit);
    assert_eq!(code(&mut client, back(socket("c"))).await, Code::Ok, "what was refused holds nothing");
    assert_eq!(code(&mut client, back(socket("unknown"))).await, Code::Ok);
    assert_eq!(code(&mut client, socket("c")).await, Code::OverLimit, "and frees nothing");
    assert_eq!(code(&mut client, hits(socket("a"), 0)).await, Code::Ok);
    assert_eq!(code(&mut client, back(socket("a"))).await, Code::Ok);
    assert_eq!(code(&mut client, hits(socket("c"), 0)).await, Code::Ok, "a look takes no lease");
    assert_eq!(code(&mut client, socket("d")).await, Code::Ok);
    assert_eq!(code(&mut client, socket("c")).await, Code::OverLimit);
    let none = descriptor(&[("kind", "socket"), ("user", "7")]);
    assert_eq!(code(&mut client, none).await, Code::Ok, "without its lease the policy does not hold");
    let bad = client.should_rate_limit(request(vec![socket("with space")])).await.unwrap_err();
    assert_eq!(bad.code(), tonic::Code::InvalidArgument);
    assert!(bad.message().contains("`connection`"), "{}", bad.message());
}

#[tokio::test]
async fn leases_come_and_go_by_their_entry() {
    leases_come_and_go(&Quotad::start(CONFIG)).await;
}

#[tokio::test]
async fn leases_come_and_go_by_their_entry_on_redis() {
    let redis = Server::start(Kind::Redis7);
    let quotad = on(&redis, Start::with(CONFIG));
    let mut native = quotad.client().await;
    until("redis", async || {
        let asked = native::CheckLimitRequest { domain: "edge".into(), ..check("wide", &[("ip", "::1")]) };
        decide(&mut native, asked).await.mode() == native::Mode::Exact
    })
    .await;
    leases_come_and_go(&quotad).await;
}

#[tokio::test]
async fn a_limit_that_a_request_brings_is_counted_in_our_domains_too() {
    let quotad = Quotad::start(CONFIG);
    let mut client = Client::new(channel(&quotad).await);
    let brought = |requests_per_unit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit: 4, unit_multiplier: Some(7) }),
        ..descriptor(&[("tenant", "t")])
    };
    let first = ask(&mut client, vec![brought(2), login("203.0.113.7")]).await;
    assert_eq!(left(&first.statuses[0]), (Code::Ok, 1));
    let limit = first.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!((limit.unit(), limit.unit_multiplier), (Unit::Day, Some(7)));
    assert_eq!(left(&first.statuses[1]), (Code::Ok, 2));
    assert_eq!(ask(&mut client, vec![brought(2)]).await.overall_code(), Code::Ok);
    let over = ask(&mut client, vec![brought(2)]).await;
    assert_eq!(over.overall_code(), Code::OverLimit);
    assert!(header(&over, "Retry-After").is_some() && !over.raw_body.is_empty());
}

#[tokio::test]
async fn unknown_domains_pass_and_the_health_service_knows_the_name() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let mut client = Client::new(channel.clone());
    let elsewhere =
        pb::RateLimitRequest { domain: "elsewhere".into(), ..request(vec![login("203.0.113.7")]) };
    let answer = client.should_rate_limit(elsewhere).await.unwrap().into_inner();
    let free = DescriptorStatus { code: Code::Ok.into(), ..Default::default() };
    let wanted =
        pb::RateLimitResponse { overall_code: Code::Ok.into(), statuses: vec![free], ..Default::default() };
    assert_eq!(answer, wanted);
    for (broken, words) in [
        (pb::RateLimitRequest { domain: String::new(), ..request(vec![login("::1")]) }, "domain must not be"),
        (request(Vec::new()), "descriptor list must not be"),
    ] {
        let status = client.should_rate_limit(broken).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unknown);
        assert_eq!(status.message(), format!("rate limit {words} empty"));
    }
    let mut health = HealthClient::new(channel);
    for service in ["ratelimit", "envoy.service.ratelimit.v3.RateLimitService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
}

const DIRECTORY: &str = "
domain: shop
descriptors:
  - key: user
    descriptors:
      - key: path
        value: /api/*
        rate_limit: {name: api, unit: hour, requests_per_unit: 3}
  - key: user
    value: robot
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: free
    rate_limit: {unlimited: true}
";

fn with_directory(yaml: &str) -> Start {
    let start = Start::with(&format!("envoy: {{ratelimit_config: limits}}\n{CONFIG}"));
    start.file("limits/shop.yaml", yaml)
}

fn shop(descriptors: Vec<RateLimitDescriptor>) -> pb::RateLimitRequest {
    pb::RateLimitRequest { domain: "shop".into(), ..request(descriptors) }
}

fn api(user: &str) -> RateLimitDescriptor {
    descriptor(&[("user", user), ("path", "/api/things")])
}

async fn in_shop(client: &mut Client, descriptors: Vec<RateLimitDescriptor>) -> pb::RateLimitResponse {
    client.should_rate_limit(shop(descriptors)).await.unwrap().into_inner()
}

async fn directory_is_counted(quotad: &Quotad) {
    let mut client = Client::new(channel(quotad).await);
    for remaining in [2, 1, 0] {
        let answer = in_shop(&mut client, vec![api("7"), descriptor(&[("free", "1")])]).await;
        assert_eq!(answer.overall_code(), Code::Ok);
        assert_eq!(left(&answer.statuses[0]), (Code::Ok, remaining));
        let limit = answer.statuses[0].current_limit.as_ref().unwrap();
        assert_eq!((limit.name.as_str(), limit.requests_per_unit, limit.unit()), ("api", 3, Unit::Hour));
        assert_eq!(left(&answer.statuses[1]), (Code::Ok, u32::MAX));
        assert!(answer.response_headers_to_add.is_empty() && answer.raw_body.is_empty());
    }
    let over = in_shop(&mut client, vec![api("7")]).await;
    assert_eq!((over.overall_code(), left(&over.statuses[0])), (Code::OverLimit, (Code::OverLimit, 0)));
    let banned = in_shop(&mut client, vec![descriptor(&[("user", "robot")])]).await;
    assert_eq!(banned.overall_code(), Code::OverLimit);
    // Domains of our own policies go on beside it.
    assert_eq!(left(&ask(&mut client, vec![login("203.0.113.7")]).await.statuses[0]), (Code::Ok, 2));
}

#[tokio::test]
async fn a_directory_is_counted_as_its_owner_knows_it() {
    directory_is_counted(&with_directory(DIRECTORY).start()).await;
}

#[tokio::test]
async fn a_directory_is_counted_on_redis_and_in_the_process_while_redis_is_away() {
    let redis = Server::start(Kind::Redis7);
    let start = || on(&redis, with_directory(DIRECTORY));
    let (one, other) = (start(), start());
    for quotad in [&one, &other] {
        let mut native = quotad.client().await;
        until("redis", async || {
            let asked =
                native::CheckLimitRequest { domain: "edge".into(), ..check("wide", &[("ip", "::1")]) };
            decide(&mut native, asked).await.mode() == native::Mode::Exact
        })
        .await;
    }
    directory_is_counted(&one).await;
    let mut client = Client::new(channel(&other).await);
    assert_eq!(in_shop(&mut client, vec![api("7")]).await.overall_code(), Code::OverLimit, "one counter");
    redis.kill();
    // The processes count for themselves now, each its share of the limit: at least one, at most all of it.
    let mut passed = 0;
    for _ in 0..8 {
        passed += usize::from(in_shop(&mut client, vec![api("8")]).await.overall_code() == Code::Ok);
    }
    assert!((1..=3).contains(&passed), "{passed} passed");
}

#[tokio::test]
async fn a_directory_that_is_wrong_from_the_start_is_said_in_the_known_words() {
    let quotad = with_directory("domain: shop\ndescriptors: [{key: ''}]\n").start();
    let mut client = Client::new(channel(&quotad).await);
    let refused = client.should_rate_limit(shop(vec![api("7")])).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Unknown, "no rate limit configuration loaded")
    );
    assert_eq!(ask(&mut client, vec![login("203.0.113.7")]).await.overall_code(), Code::Ok);
}
