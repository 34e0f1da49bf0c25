//! quotad or its store is away, or too slow: what Envoy's settings and the policies say then happens.

use crate::bed::{Bed, Place, Plan};
use crate::client::Ask;
use crate::harness::until;

/// A path that no route of quotad's asks anything of.
const OPEN: &str = "/about";

async fn settles_on(bed: &Bed, ask: &Ask, status: u16) {
    until(&format!("{status}"), async || bed.status(ask).await == status).await;
}

#[tokio::test]
async fn a_quotad_that_is_killed_refuses_with_503_until_it_is_back() {
    let mut bed = Plan::of("ext-authz").start().await;
    assert_eq!(bed.status(&Ask::get(OPEN)).await, 200);
    let seen = bed.app.seen();
    let folder = bed.kill_quotad().await;
    for _ in 0..5 {
        let answer = bed.send(&Ask::get(OPEN).header("origin", "https://app.example.com")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.once("access-control-allow-origin"), "https://app.example.com");
    }
    assert_eq!(bed.app.seen(), seen);
    assert_eq!(bed.status(&Ask::get("/healthz")).await, 200);
    bed.start_quotad(folder);
    settles_on(&bed, &Ask::get(OPEN), 200).await;
}

#[tokio::test]
async fn a_quotad_that_does_not_answer_in_time_refuses_with_503() {
    let bed = Plan::of("ext-authz").start().await;
    let quotad = bed.quotad.as_ref().unwrap();
    quotad.signal("STOP");
    let from = std::time::Instant::now();
    assert_eq!(bed.status(&Ask::get(OPEN)).await, 503);
    let took = from.elapsed().as_millis();
    assert!((200..5_000).contains(&took), "{took} ms");
    assert!(bed.envoy.stat("http.public.ext_authz.quotad.error").await >= 1);
    quotad.signal("CONT");
    settles_on(&bed, &Ask::get(OPEN), 200).await;
}

#[tokio::test]
async fn fail_open_lets_pass_only_where_it_is_configured() {
    let plan = Plan::of("ext-authz").envoy("failure_mode_allow: false", "failure_mode_allow: true");
    let mut bed = plan.start().await;
    // A denial is no failure.
    assert_eq!(bed.status(&Ask::get("/api/me")).await, 401);
    let folder = bed.kill_quotad().await;
    assert_eq!(bed.status(&Ask::get("/api/me")).await, 200);
    bed.start_quotad(folder);
    settles_on(&bed, &Ask::get("/api/me"), 401).await;
}

/// The store goes away: a policy that says `deny` denies, one that says `error` asks Envoy, the default counts locally.
#[tokio::test]
async fn without_a_store_each_policy_does_as_it_says() {
    let plan = Plan::of("ext-authz").on(Place::Redis);
    let bed = plan.envoy("failure_mode_allow: false", "failure_mode_allow: true").start().await;
    let login = Ask::post("/login");
    let export = Ask::get("/export/all").header("x-api-key", "k1");
    // quotad serves before its store is there.
    settles_on(&bed, &login, 200).await;
    settles_on(&bed, &export, 200).await;
    bed.redis.as_ref().unwrap().kill();
    settles_on(&bed, &login, 503).await;
    let denied = bed.send(&login).await;
    assert_eq!((denied.status, denied.json()["code"].as_str()), (503, Some("RATE_LIMIT_UNAVAILABLE")));
    denied.once("retry-after");
    let statuses = [bed.status(&export).await, bed.status(&export).await, bed.status(&export).await];
    assert_eq!(statuses, [200; 3], "Envoy is told to let errors pass");
    bed.redis.as_ref().unwrap().restart();
    settles_on(&bed, &login, 200).await;
}

#[tokio::test]
async fn without_a_store_an_error_is_a_503_where_envoy_does_not_let_errors_pass() {
    let bed = Plan::of("ext-authz").on(Place::Redis).start().await;
    let export = Ask::get("/export/all").header("x-api-key", "k1");
    settles_on(&bed, &export, 200).await;
    bed.redis.as_ref().unwrap().kill();
    settles_on(&bed, &export, 503).await;
    let error = bed.send(&export).await;
    assert_eq!(error.json()["code"], "RATE_LIMIT_UNAVAILABLE", "{error:?}");
    assert!(bed.envoy.stat("http.public.ext_authz.quotad.error").await >= 1);
}
