//! Reservations and `SettleCost` over real gRPC, on the embedded store, on Redis, and while it is away.

use crate::authorize::http;
use crate::harness::{Client, Quotad, Start, check, decide, micros, until};
use crate::server::{Kind, Server};
use pb::settle_cost_response::State;
use quotad::pb::quotad::v1 as pb;
use std::collections::HashMap;
use tonic::Code;

const CONFIG: &str = r#"
policies:
  - {name: tokens, partition: [user], limit: 1000, window: 1h}
  - {name: bucket, partition: [user], algorithm: token_bucket, limit: 1000, window: 1h, burst: 100}
  - {name: calendar, partition: [user], algorithm: fixed_window, limit: 1000, window: 1d}
  - {name: requests, partition: [user], limit: 5, window: 1h}
  - {name: tried, partition: [user], limit: 2, window: 1h, shadow: true}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 9}
  - {name: per-ip, partition: [ip], limit: 100, window: 1h}
routes:
  - {name: ai, paths: [/ai], policies: [per-ip], connection: [by-ip]}
"#;

fn config() -> String {
    CONFIG.replace(
        "\nroutes:",
        "\n  - {name: by-ip, partition: [ip], algorithm: concurrency, limit: 9}\nroutes:",
    )
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A check of these policies by one user, to be settled within a minute.
fn reserve(policies: &[&str], request_id: &str, cost: u32) -> pb::CheckLimitRequest {
    pb::CheckLimitRequest {
        policies: policies.iter().map(|policy| (*policy).to_owned()).collect(),
        cost: Some(cost),
        request_id: request_id.to_owned(),
        settle_within: seconds(60),
        ..check("tokens", &[("user", "ann")])
    }
}

async fn ticket(client: &mut Client, request: pb::CheckLimitRequest) -> Vec<u8> {
    let reservation = decide(client, request).await.reservation.expect("a reservation");
    assert_eq!(reservation.settle_within, seconds(60));
    reservation.ticket
}

fn to(ticket: &[u8], cost: u32) -> pb::SettleCostRequest {
    pb::SettleCostRequest { ticket: ticket.to_vec(), cost: Some(cost), policy_costs: HashMap::new() }
}

async fn settle(client: &mut Client, request: pb::SettleCostRequest) -> pb::SettleCostResponse {
    client.settle_cost(request).await.unwrap().into_inner()
}

async fn remaining(client: &mut Client, policy: &str) -> u64 {
    let peek = pb::CheckLimitRequest { cost: Some(0), ..check(policy, &[("user", "ann")]) };
    decide(client, peek).await.statuses[0].remaining
}

async fn settles_all(quotad: Quotad) {
    let client = &mut quotad.client().await;
    let request = reserve(&["tokens", "bucket", "calendar"], "one", 40);
    let first = ticket(client, request.clone()).await;
    assert_eq!(ticket(client, request).await, first, "a repeated check is the same reservation");
    let settled = settle(client, to(&first, 10)).await;
    assert_eq!((settled.state(), settled.delay), (State::Settled, None));
    for (part, policy) in settled.policies.iter().zip(["bucket", "calendar", "tokens"]) {
        assert_eq!((&*part.policy, part.reserved, part.cost), (policy, 40, 10));
        assert_eq!((part.returned, part.charged, part.beyond_limit), (30, 0, 0));
        assert_eq!((part.remaining, &part.delay), (remaining(client, policy).await, &None));
    }
    assert_eq!(settled.policies.iter().map(|part| part.remaining).collect::<Vec<_>>(), [90, 990, 990]);
    let again = settle(client, to(&first, 900)).await;
    assert_eq!(again.policies[0].returned, 30, "the first settlement holds");
    let turned = reserve(&["calendar", "tokens", "bucket"], "one", 40);
    assert_eq!(ticket(client, turned).await, first, "in whatever order it is asked again");
    let longer = pb::CheckLimitRequest { settle_within: seconds(61), ..reserve(&["tokens"], "three", 5) };
    let longer = decide(client, longer).await.reservation.unwrap().ticket;
    let shorter = ticket(client, reserve(&["tokens"], "three", 5)).await;
    assert_eq!(remaining(client, "tokens").await, 980, "another span is another request, and charged");
    for ticket in [longer, shorter] {
        assert_eq!(settle(client, to(&ticket, 0)).await.policies[0].returned, 5);
    }
    assert_eq!(remaining(client, "tokens").await, 990);
    // Beyond the reservation and the limit: charged, and the next one waits.
    let second = ticket(client, reserve(&["tokens", "bucket"], "two", 50)).await;
    let settled = settle(client, to(&second, 1_200)).await;
    let [bucket, tokens] = &settled.policies[..] else { panic!("{settled:?}") };
    assert_eq!((tokens.charged, tokens.remaining, tokens.beyond_limit), (1_150, 0, 210));
    assert_eq!((bucket.charged, bucket.remaining, bucket.beyond_limit), (1_150, 0, 1_110));
    assert!(tokens.delay.is_some() && bucket.delay.is_some());
    let longest = [tokens, bucket].map(|part| micros(part.delay.as_ref().unwrap())).into_iter().max();
    assert_eq!(settled.delay.as_ref().map(micros), longest);
    let refused = decide(client, check("bucket", &[("user", "ann")])).await;
    let wait = micros(refused.retry_after.as_ref().unwrap());
    let told = micros(bucket.delay.as_ref().unwrap());
    assert!(wait <= told && told - wait < 60_000_000, "{wait} of {told}");
}

#[tokio::test]
async fn every_algorithm_is_settled_on_the_embedded_store() {
    settles_all(Quotad::start(&config())).await;
}

#[tokio::test]
async fn every_algorithm_is_settled_on_redis() {
    let redis = Server::start(Kind::Redis7);
    settles_all(on(&redis)).await;
}

fn on(redis: &Server) -> Quotad {
    Start::with(&config()).arg("--store").arg(redis.url()).arg("--store-timeout").arg("10s").start()
}

#[tokio::test]
async fn policies_of_other_units_have_a_cost_of_their_own() {
    let quotad = Quotad::start(&config());
    let client = &mut quotad.client().await;
    let request = pb::CheckLimitRequest { cost: None, ..reserve(&["tokens", "requests"], "one", 1) };
    let ticket = ticket(client, request).await;
    let costs = HashMap::from([("tokens".to_owned(), 700)]);
    let settled =
        settle(client, pb::SettleCostRequest { ticket: ticket.clone(), cost: None, policy_costs: costs })
            .await;
    let costs: Vec<_> = settled.policies.iter().map(|part| (&*part.policy, part.cost)).collect();
    assert_eq!(costs, [("requests", 1), ("tokens", 700)]);
    assert_eq!((remaining(client, "tokens").await, remaining(client, "requests").await), (300, 4));
    let costs = HashMap::from([("requsts".to_owned(), 1)]);
    let wrong = pb::SettleCostRequest { ticket, cost: None, policy_costs: costs };
    let wrong = client.settle_cost(wrong).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().contains("policy_costs: `requsts`"), "{}", wrong.message());
}

#[tokio::test]
async fn only_what_was_charged_is_a_reservation() {
    let quotad = Quotad::start(&config());
    let client = &mut quotad.client().await;
    // A shadow policy that was full charged nothing.
    let both = |id: &str| reserve(&["requests", "tried"], id, 2);
    ticket(client, both("one")).await;
    let second = ticket(client, both("two")).await;
    let settled = settle(client, to(&second, 0)).await;
    assert_eq!(settled.policies.iter().map(|part| &*part.policy).collect::<Vec<_>>(), ["requests"]);
    let denied = decide(client, reserve(&["requests"], "three", 5)).await;
    assert_eq!((denied.outcome(), denied.reservation), (pb::Outcome::Deny, None));
    let none = decide(client, pb::CheckLimitRequest { policies: vec![], ..reserve(&[], "four", 1) }).await;
    assert!(none.reservation.is_some(), "every policy that holds was charged");
    let unasked = pb::CheckLimitRequest { settle_within: None, ..reserve(&["tokens"], "five", 1) };
    assert_eq!(decide(client, unasked).await.reservation, None);
}

#[tokio::test]
async fn authorize_reserves_what_its_route_and_the_caller_name_and_no_lease() {
    let quotad = Quotad::start(&config());
    let client = &mut quotad.client().await;
    let request = pb::AuthorizeRequest {
        cost: Some(30),
        request_id: "one".into(),
        settle_within: seconds(60),
        policies: vec!["tokens".into()],
        entries: HashMap::from([("user".into(), "ann".into())]),
        connection: Some(pb::authorize_request::ConnectionOffer {
            lease_id: "l1".into(),
            holder: String::new(),
        }),
        ..http("GET", "/ai", &[])
    };
    let answer = client.authorize(request).await.unwrap().into_inner();
    assert!(answer.lease.is_some());
    let ticket = answer.decision.unwrap().reservation.unwrap().ticket;
    let settled = settle(client, to(&ticket, 3)).await;
    let parts: Vec<_> = settled.policies.iter().map(|part| (&*part.policy, part.returned)).collect();
    assert_eq!(parts, [("per-ip", 27), ("tokens", 27)]);
    assert_eq!(remaining(client, "tokens").await, 997);
}

#[tokio::test]
async fn every_mistake_names_its_field_and_changes_nothing() {
    let quotad = Quotad::start(&config());
    let client = &mut quotad.client().await;
    let good = reserve(&["tokens"], "one", 40);
    for (field, request) in [
        ("request_id", pb::CheckLimitRequest { request_id: String::new(), ..good.clone() }),
        ("settle_within", pb::CheckLimitRequest { settle_within: seconds(0), ..good.clone() }),
        ("settle_within", pb::CheckLimitRequest { settle_within: seconds(-5), ..good.clone() }),
        ("settle_within", pb::CheckLimitRequest { settle_within: seconds(3_601), ..good.clone() }),
        ("settle_within", pb::CheckLimitRequest { cost: Some(0), ..good.clone() }),
    ] {
        let error = client.check_limit(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with(field), "{field}: {}", error.message());
    }
    let ticket = ticket(client, good).await;
    let bent = |from: &str, to: &str| {
        let text = String::from_utf8(ticket.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    };
    let mut half = ticket.clone();
    half.truncate(ticket.len() / 2);
    for bad in [
        Vec::new(),
        half,
        b"{}".to_vec(),
        vec![b'['; 32 * 1024],
        vec![b' '; 32 * 1024 + 1],
        bent("\"v\":1", "\"v\":2"),
        bent("q1:{default|", "q1:{default}|"),
        bent(":tokens:w", ":tokens:x"),
        bent(":tokens:w", ":*60:f"),
        bent("\"cost\":40", "\"cost\":-1"),
        bent("\"charged_at\":", "\"charged_at\":1"),
    ] {
        let error = client.settle_cost(to(&bad, 1)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{}", String::from_utf8_lossy(&bad));
        assert!(error.message().starts_with("ticket"), "{}", error.message());
    }
    let nothing = pb::SettleCostRequest { ticket: ticket.clone(), cost: None, policy_costs: HashMap::new() };
    let error = client.settle_cost(nothing).await.unwrap_err();
    assert!(error.message().starts_with("cost"), "{}", error.message());
    assert_eq!(remaining(client, "tokens").await, 960);
    assert_eq!(settle(client, to(&ticket, 1)).await.policies[0].returned, 39, "and it can still be settled");
}

#[tokio::test]
async fn a_policy_that_is_gone_or_counts_otherwise_keeps_what_was_charged() {
    let quotad = Quotad::start(&config());
    let client = &mut quotad.client().await;
    let ticket = ticket(client, reserve(&["tokens", "bucket", "calendar"], "one", 40)).await;
    let changed = config()
        .replace(
            "  - {name: calendar, partition: [user], algorithm: fixed_window, limit: 1000, window: 1d}\n",
            "",
        )
        .replace(
            "{name: tokens, partition: [user],",
            "{name: tokens, partition: [user], algorithm: fixed_window,",
        );
    std::fs::write(quotad.config_path(), changed).unwrap();
    quotad.signal("HUP");
    until("the reload", async || {
        let peek = pb::CheckLimitRequest { cost: Some(0), ..check("calendar", &[("user", "ann")]) };
        client.check_limit(peek).await.is_err()
    })
    .await;
    let settled = settle(client, to(&ticket, 10)).await;
    let parts: Vec<_> =
        settled.policies.iter().map(|part| (&*part.policy, part.cost, part.returned)).collect();
    assert_eq!(parts, [("bucket", 10, 30), ("calendar", 40, 0), ("tokens", 40, 0)]);
    std::fs::write(quotad.config_path(), config().replace("name: bucket,", "name: other,")).unwrap();
    quotad.signal("HUP");
    until("the reload", async || client.check_limit(check("bucket", &[("user", "ann")])).await.is_err())
        .await;
    let again = settle(client, to(&ticket, 0)).await;
    let parts: Vec<_> = again.policies.iter().map(|part| (&*part.policy, part.cost, part.returned)).collect();
    assert_eq!(parts, [("bucket", 10, 30), ("calendar", 40, 0), ("tokens", 40, 0)], "settled once for all");
    assert_eq!(remaining(client, "tokens").await, 960);
}

#[tokio::test]
async fn what_one_process_counted_without_a_store_it_alone_settles() {
    let redis = Server::start(Kind::Redis7);
    let (one, other) = (on(&redis), on(&redis));
    let (first, second) = (&mut one.client().await, &mut other.client().await);
    let in_store = ticket(first, reserve(&["tokens"], "shared", 40)).await;
    assert_eq!(settle(second, to(&in_store, 10)).await.policies[0].returned, 30, "any process settles it");
    let later = ticket(first, reserve(&["tokens"], "later", 40)).await;
    redis.kill();
    let mut local = None;
    until("a decision of this process", async || {
        let decision = decide(first, reserve(&["tokens"], "local", 40)).await;
        local = decision.reservation.filter(|_| decision.mode == i32::from(pb::Mode::Local));
        local.is_some()
    })
    .await;
    let local = local.unwrap().ticket;
    let away = first.settle_cost(to(&later, 10)).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable, "what the store counted it settles");
    let elsewhere = second.settle_cost(to(&local, 10)).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::Unavailable);
    let settled = settle(first, to(&local, 10)).await;
    assert_eq!((settled.state(), settled.policies[0].returned), (State::Settled, 30));
    redis.restart();
    let mut settled = None;
    until("the store", async || {
        settled = first.settle_cost(to(&later, 10)).await.ok();
        settled.is_some()
    })
    .await;
    assert_eq!(settled.unwrap().into_inner().state(), State::Settled);
}

#[tokio::test]
async fn a_thousand_settlements_of_one_reservation_at_once_are_one() {
    let quotad = Quotad::start(&config());
    let mut client = quotad.client().await;
    let ticket = ticket(&mut client, reserve(&["tokens"], "one", 400)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..4_u32 {
        let mut client = quotad.client().await;
        let ticket = ticket.clone();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            for i in 0..250 {
                seen.push(settle(&mut client, to(&ticket, connection * 250 + i)).await.policies[0].cost);
            }
            seen
        });
    }
    let costs: Vec<u32> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
    assert_eq!(remaining(&mut client, "tokens").await, 1_000 - u64::from(costs[0]).min(1_000));
}
