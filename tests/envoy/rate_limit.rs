//! `rate-limit.yaml` and `both.yaml`: limits in envoyproxy/ratelimit's format.

use crate::bed::{Bed, Place, Plan};
use crate::client::{Ask, send_h2};
use crate::harness::until;
use std::time::{SystemTime, UNIX_EPOCH};

/// Calendar windows: a test that begins right before an edge of the hour waits for it.
async fn away_from_an_edge() {
    until("no edge of an hour is near", async || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 3_600 < 3_585
    })
    .await;
}

async fn statuses(bed: &Bed, ask: &Ask, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(bed.status(ask).await);
    }
    statuses
}

async fn limits_hold(place: Place) {
    let bed = Plan::of("rate-limit").on(place).start().await;
    away_from_an_edge().await;
    let login = Ask::post("/login");
    assert_eq!(statuses(&bed, &login, 4).await, [200; 4]);
    let last = bed.send(&login).await;
    assert_eq!((last.status, last.once("x-ratelimit-remaining")), (200, "0"), "{last:?}");
    let limits = "5, 20;w=60;name=\"per-address\", 5;w=3600;name=\"login\"";
    assert_eq!(last.once("x-ratelimit-limit"), limits, "{last:?}");
    let seen = bed.app.seen();
    let denied = bed.send(&login.clone().header("origin", "https://app.example.com")).await;
    assert_eq!(denied.status, 429, "{denied:?}");
    assert_eq!(denied.once("x-ratelimit-remaining"), "0");
    let reset: u64 = denied.once("x-ratelimit-reset").parse().unwrap();
    assert!((1..=3_600).contains(&reset), "{reset}");
    assert_eq!(denied.once("access-control-allow-origin"), "https://app.example.com");
    for name in ["retry-after", "content-type", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        assert!(denied.all(name).len() <= 1, "{name}: {denied:?}");
    }
    assert_eq!(bed.app.seen(), seen);
    let spoofed = bed.status(&login.header("x-forwarded-for", "203.0.113.9")).await;
    assert_eq!(spoofed, 429);
    // Five units each, of ten.
    assert_eq!(statuses(&bed, &Ask::get("/export/all"), 3).await, [200, 200, 429]);
    assert_eq!(statuses(&bed, &Ask::get("/healthz"), 30).await, [200; 30]);
    let grpc = Ask::post("/login").header("content-type", "application/grpc").header("te", "trailers");
    let told = send_h2(bed.envoy.address, &grpc).await;
    assert_eq!((told.status, told.once("grpc-status")), (200, "8"), "{told:?}");
}

#[tokio::test]
async fn a_folder_of_ratelimit_files_limits() {
    limits_hold(Place::Memory).await;
}

#[tokio::test]
async fn a_folder_of_ratelimit_files_limits_with_redis() {
    limits_hold(Place::Redis).await;
}

#[tokio::test]
async fn the_first_window_of_an_address_holds_its_limit() {
    let bed = Plan::of("rate-limit").start().await;
    // Twenty a minute of the calendar: among 41 in a row, at least one is refused whatever edge is between.
    let statuses = statuses(&bed, &Ask::get("/"), 41).await;
    assert_eq!(statuses[..20], [200; 20]);
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!((20..=40).contains(&passed), "{passed}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn without_quotad_requests_are_refused_or_pass_as_envoy_is_told() {
    for (told, status) in [("failure_mode_deny: true", 503), ("failure_mode_deny: false", 200)] {
        let mut bed = Plan::of("rate-limit").envoy("failure_mode_deny: true", told).start().await;
        away_from_an_edge().await;
        let login = Ask::post("/login");
        assert_eq!(statuses(&bed, &login, 6).await, [200, 200, 200, 200, 200, 429]);
        let quotad = bed.quotad.as_ref().unwrap();
        quotad.signal("STOP");
        assert_eq!(bed.status(&login).await, status, "too slow");
        quotad.signal("CONT");
        until("quotad answers again", async || bed.status(&login).await == 429).await;
        let folder = bed.kill_quotad().await;
        assert_eq!(bed.status(&login).await, status, "gone");
        bed.start_quotad(folder);
        until("quotad limits again", async || bed.status(&login).await == 429).await;
    }
}

#[tokio::test]
async fn limits_by_the_user_that_ext_authz_found() {
    let bed = Plan::of("both").start().await;
    away_from_an_edge().await;
    let ask = |subject: &str| Ask::get("/api/me").header("x-user-id", "bob").bearer(&bed.token(subject));
    let (alice, bob) = (ask("alice"), ask("bob"));
    let missing = bed.send(&Ask::get("/api/me")).await;
    assert_eq!(
        (missing.status, missing.json()["code"].as_str()),
        (401, Some("TOKEN_MISSING")),
        "{missing:?}"
    );
    assert_eq!(statuses(&bed, &bob, 4).await, [200, 200, 200, 429]);
    assert_eq!(statuses(&bed, &alice, 6).await, [200, 200, 200, 200, 200, 429]);
    let denied = bed.send(&alice.clone().header("origin", "https://app.example.com")).await;
    assert_eq!((denied.status, denied.once("x-frame-options")), (429, "DENY"), "{denied:?}");
    assert_eq!(denied.once("x-ratelimit-remaining"), "0");
    assert_eq!(denied.once("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(bed.send(&ask("carol")).await.reached("x-user-id"), ["carol"]);
    // Neither token nor limit.
    assert_eq!(statuses(&bed, &Ask::post("/login"), 10).await, [200; 10]);
}
