//! `CheckLimit` and `CheckLimits` over real gRPC.

use crate::harness::{Quotad, body, check, decide, header, micros, shipped};
use quotad::pb::quotad::v1 as pb;
use std::collections::HashMap;
use std::time::Duration;

const FAST: &str = r#"
policies:
  - {name: fast, partition: [ip], limit: 3, window: 400ms}
  - {name: wide, partition: [ip], limit: 100, window: 1h}
  - {name: bucket, partition: [ip], algorithm: token_bucket, limit: 60, window: 1m, burst: 2}
  - {name: hourly, partition: [ip], algorithm: fixed_window, limit: 2, window: 1h}
  - {name: watched, partition: [ip], limit: 1, window: 1h, shadow: true}
  - {name: other, domain: shop, match: {plan: "gold*"}, partition: [user], limit: 5, window: 1h}
"#;

#[tokio::test]
async fn denies_the_eleventh_within_a_minute_with_everything_to_send() {
    let quotad = Quotad::start(&shipped());
    let mut client = quotad.client().await;
    for i in 0..10 {
        let allowed = decide(&mut client, check("auth-per-ip", &[("ip", "203.0.113.7")])).await;
        assert_eq!(allowed.outcome(), pb::Outcome::Allow);
        assert_eq!(allowed.reason(), pb::Reason::WithinLimit);
        assert_eq!(allowed.mode(), pb::Mode::Exact);
        assert_eq!(allowed.http_status, 200);
        assert_eq!(allowed.statuses[0].remaining, 9 - i);
        assert_eq!(allowed.statuses[0].bound, Some(10));
        assert!(allowed.body.is_none() && allowed.retry_after.is_none());
        assert_eq!(header(&allowed, "RateLimit-Policy"), Some("\"auth-per-ip\";q=10;w=60"));
    }
    let denied = decide(&mut client, check("auth-per-ip", &[("ip", "203.0.113.7")])).await;
    assert_eq!(denied.outcome(), pb::Outcome::Deny);
    assert_eq!(denied.reason(), pb::Reason::LimitExceeded);
    assert_eq!(denied.http_status, 429);
    let status = &denied.statuses[0];
    assert_eq!((status.policy.as_str(), status.remaining, status.violated), ("auth-per-ip", 0, true));
    let retry = micros(denied.retry_after.as_ref().unwrap());
    assert!((50_000_000..=60_000_000).contains(&retry), "{retry}");
    let seconds = retry.div_ceil(1_000_000).to_string();
    assert_eq!(header(&denied, "Retry-After"), Some(seconds.as_str()));
    assert_eq!(header(&denied, "RateLimit"), Some(format!("\"auth-per-ip\";r=0;t={seconds}").as_str()));
    assert_eq!(header(&denied, "Cache-Control"), Some("no-store"));
    let body = body(&denied);
    assert_eq!(body["status"], "error");
    assert_eq!(body["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(body["details"][0]["policy"], "auth-per-ip");
    assert_eq!(body["details"][0]["retry_after_seconds"].to_string(), seconds);
    let other = decide(&mut client, check("auth-per-ip", &[("ip", "203.0.113.8")])).await;
    assert_eq!(other.outcome(), pb::Outcome::Allow, "another address has its own counter");
}

#[tokio::test]
async fn ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    for ip in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9"] {
        decide(&mut client, check("wide", &[("ip", ip)])).await;
    }
    let third = decide(&mut client, check("wide", &[("ip", "2001:db8:1:2:3::")])).await;
    assert_eq!(third.statuses[0].remaining, 97);
    decide(&mut client, check("wide", &[("ip", "198.51.100.1")])).await;
    let mapped = decide(&mut client, check("wide", &[("ip", "::ffff:198.51.100.1")])).await;
    assert_eq!(mapped.statuses[0].remaining, 98);
}

#[tokio::test]
async fn waiting_exactly_retry_after_succeeds() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    for policy in ["fast", "bucket"] {
        for _ in 0..4 {
            let denied = loop {
                let decision = decide(&mut client, check(policy, &[("ip", "203.0.113.7")])).await;
                if decision.outcome() == pb::Outcome::Deny {
                    break decision;
                }
            };
            // The answer under test says how long to wait.
            tokio::time::sleep(Duration::from_micros(micros(denied.retry_after.as_ref().unwrap()))).await;
            let allowed = decide(&mut client, check(policy, &[("ip", "203.0.113.7")])).await;
            assert_eq!(allowed.outcome(), pb::Outcome::Allow, "{policy}");
        }
    }
}

#[tokio::test]
async fn a_denied_request_charges_nothing() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    let both = || pb::CheckLimitRequest {
        policies: vec!["wide".into(), "hourly".into()],
        ..check("", &[("ip", "203.0.113.7")])
    };
    for _ in 0..2 {
        assert_eq!(decide(&mut client, both()).await.outcome(), pb::Outcome::Allow);
    }
    for _ in 0..5 {
        let denied = decide(&mut client, both()).await;
        assert_eq!(denied.outcome(), pb::Outcome::Deny);
        assert_eq!(denied.statuses[0].remaining, 98, "the wide policy was not charged");
        assert!(denied.statuses[1].violated && !denied.statuses[0].violated);
    }
}

#[tokio::test]
async fn shadow_counts_and_never_denies() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    for violated in [false, true, true] {
        let decision = decide(&mut client, check("watched", &[("ip", "203.0.113.7")])).await;
        assert_eq!(decision.outcome(), pb::Outcome::Allow);
        assert!(decision.statuses[0].shadow);
        assert_eq!(decision.statuses[0].violated, violated);
    }
}

#[tokio::test]
async fn costs_peeks_and_request_ids() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    let of =
        |cost: u32| pb::CheckLimitRequest { cost: Some(cost), ..check("wide", &[("ip", "203.0.113.7")]) };
    assert_eq!(decide(&mut client, of(60)).await.statuses[0].remaining, 40);
    let never = decide(&mut client, of(101)).await;
    assert_eq!(never.reason(), pb::Reason::CostExceedsLimit);
    assert!(never.retry_after.is_none() && header(&never, "Retry-After").is_none());
    for _ in 0..2 {
        assert_eq!(decide(&mut client, of(0)).await.statuses[0].remaining, 40, "a peek charges nothing");
    }
    assert_eq!(decide(&mut client, of(41)).await.reason(), pb::Reason::LimitExceeded);
    let repeated = || pb::CheckLimitRequest { request_id: "r-1".into(), ..of(30) };
    let first = decide(&mut client, repeated()).await;
    assert_eq!(first.statuses[0].remaining, 10);
    assert_eq!(decide(&mut client, repeated()).await, first, "charged once, answered alike");
    let denied = pb::CheckLimitRequest { request_id: "r-2".into(), ..of(30) };
    let refused = decide(&mut client, denied.clone()).await;
    assert_eq!(refused.outcome(), pb::Outcome::Deny);
    assert_eq!(decide(&mut client, denied).await, refused, "a denial is repeated too");
    decide(&mut client, of(10)).await;
    let exhausted = decide(&mut client, of(0)).await;
    assert_eq!((exhausted.outcome(), exhausted.statuses[0].remaining), (pb::Outcome::Deny, 0));
}

#[tokio::test]
async fn unnamed_policies_hold_by_match() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    let ask = |pairs: &[(&str, &str)]| pb::CheckLimitRequest { domain: "shop".into(), ..check("", pairs) };
    let none = decide(&mut client, ask(&[("plan", "silver"), ("user", "7")])).await;
    assert_eq!((none.outcome(), none.reason()), (pb::Outcome::Allow, pb::Reason::NoPolicy));
    assert!(none.headers.is_empty() && none.statuses.is_empty());
    let gold = decide(&mut client, ask(&[("plan", "gold-2"), ("user", "7")])).await;
    assert_eq!(gold.statuses[0].policy, "other");
    let no_user = decide(&mut client, ask(&[("plan", "gold")])).await;
    assert_eq!(
        no_user.reason(),
        pb::Reason::NoPolicy,
        "without its partition an unnamed policy does not hold"
    );
}

#[tokio::test]
async fn a_named_policy_without_its_partition_denies() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    for pairs in [&[][..], &[("ip", "")][..]] {
        let denied = decide(&mut client, check("wide", pairs)).await;
        assert_eq!(denied.reason(), pb::Reason::PartitionMissing);
        assert_eq!((denied.outcome(), denied.http_status), (pb::Outcome::Deny, 403));
    }
}

#[tokio::test]
async fn a_stream_answers_every_check_by_its_id_while_more_arrive() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = client.check_limits(requests).await.unwrap().into_inner();
    let message = |ids: std::ops::Range<u64>| pb::CheckLimitsRequest {
        checks: ids
            .map(|id| pb::check_limits_request::Check {
                id,
                request: Some(check(if id % 50 == 7 { "nope" } else { "wide" }, &[("ip", "203.0.113.9")])),
            })
            .collect(),
    };
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let (mut allowed, mut sent) = (0, 0);
    for round in 0..10_u64 {
        send.send(message(round * 100..round * 100 + 100)).await.unwrap();
        sent += 100;
        // The answers of this round come before the next is sent.
        while seen.len() < sent {
            for result in answers.message().await.unwrap().expect("an answer").results {
                let (good, admitted) = match result.result.unwrap() {
                    pb::check_limits_response::result::Result::Decision(decision) => {
                        (true, decision.outcome() == pb::Outcome::Allow)
                    }
                    pb::check_limits_response::result::Result::Error(error) => {
                        assert_eq!(error.code, tonic::Code::NotFound as i32);
                        assert!(error.message.contains("nope"));
                        (false, false)
                    }
                };
                allowed += usize::from(admitted);
                assert!(seen.insert(result.id, good).is_none(), "{} answered twice", result.id);
            }
        }
    }
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(seen.len(), 1_000);
    assert_eq!(seen.values().filter(|good| !**good).count(), 20);
    assert_eq!(allowed, 100);
}

#[tokio::test]
async fn sixty_four_clients_together_get_exactly_the_limit() {
    let quotad = Quotad::start(FAST);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut client = quotad.client().await;
        tasks.spawn(async move {
            let mut allowed = 0;
            for _ in 0..10 {
                let decision = decide(&mut client, check("wide", &[("ip", "203.0.113.7")])).await;
                allowed += usize::from(decision.outcome() == pb::Outcome::Allow);
            }
            allowed
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 100);
}

#[tokio::test]
async fn more_policies_than_a_request_may_have_are_an_error_that_charges_nothing() {
    let policies: Vec<String> =
        (0..17).map(|i| format!("  - {{name: p{i}, partition: [ip], limit: 5, window: 1h}}\n")).collect();
    let quotad = Quotad::start(&format!("policies:\n{}", policies.concat()));
    let mut client = quotad.client().await;
    let here = [("ip", "203.0.113.7")];
    for _ in 0..9 {
        let status = client.check_limit(check("", &here)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with("policies: more than 16 policies hold"), "{status:?}");
    }
    let named = decide(&mut client, check("p0", &here)).await;
    assert_eq!((named.outcome(), named.statuses[0].remaining), (pb::Outcome::Allow, 4));
    let nothing = decide(&mut client, check("", &[])).await;
    assert_eq!(nothing.reason(), pb::Reason::NoPolicy, "none holds for a request without its partition");
}

#[tokio::test]
async fn the_same_policies_in_another_order_are_the_same_request() {
    let quotad = Quotad::start(FAST);
    let mut client = quotad.client().await;
    let mut request = check("wide", &[("ip", "203.0.113.7")]);
    request.request_id = "r".into();
    for policies in [["wide", "hourly"], ["hourly", "wide"], ["wide", "hourly"]] {
        request.policies = policies.map(str::to_owned).into();
        let decision = decide(&mut client, request.clone()).await;
        assert_eq!(decision.outcome(), pb::Outcome::Allow);
        let left: Vec<_> = decision.statuses.iter().map(|one| (one.policy.as_str(), one.remaining)).collect();
        assert_eq!(left, [("wide", 99), ("hourly", 1)], "{policies:?}");
    }
}
