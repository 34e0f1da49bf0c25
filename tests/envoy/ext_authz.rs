//! `ext-authz.yaml`: what clients and the application see of quotad's answers.

use crate::bed::{Bed, Place, Plan};
use crate::client::{Answer, Ask, H2Socket, send_h2};

const ORIGIN: &str = "https://app.example.com";

/// The headers that every answer of quotad's carries, each once.
fn secured(answer: &Answer) {
    assert_eq!(answer.once("x-frame-options"), "DENY");
    assert_eq!(answer.once("x-content-type-options"), "nosniff");
    answer.once("strict-transport-security");
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["status"], "error");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.once("content-type"), "application/json");
    assert_eq!(answer.once("cache-control"), "no-store");
    secured(answer);
}

async fn log_in(bed: &Bed) -> Answer {
    bed.send(&Ask::post("/login")).await
}

/// Uses up `login-per-ip`.
async fn exhaust(bed: &Bed) {
    for left in (0..5).rev() {
        let answer = log_in(bed).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.once("ratelimit").starts_with(&format!("\"login-per-ip\";r={left}")), "{answer:?}");
    }
}

async fn answers_stand_once(place: Place) {
    let bed = Plan::of("ext-authz").on(place).start().await;
    exhaust(&bed).await;
    let seen = bed.app.seen();
    let denied = log_in(&bed).await;
    refused(&denied, 429, "RATE_LIMIT_EXCEEDED");
    let wait: u64 = denied.once("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(denied.once("ratelimit").starts_with("\"login-per-ip\";r=0;t="), "{denied:?}");
    assert_eq!(denied.once("ratelimit-policy"), "\"login-per-ip\";q=5;w=60");
    assert_eq!(denied.json()["details"][0]["policy"], "login-per-ip");

    let missing = bed.send(&Ask::get("/api/me")).await;
    refused(&missing, 401, "TOKEN_MISSING");
    assert_eq!(missing.once("www-authenticate"), "Bearer");
    let bad = bed.send(&Ask::get("/api/me").bearer("no.good.token")).await;
    refused(&bad, 401, "TOKEN_INVALID");
    assert!(bad.once("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
    let without_key = bed.send(&Ask::get("/export/all")).await;
    assert_eq!(without_key.status, 403, "{without_key:?}");
    secured(&without_key);
    assert_eq!(bed.app.seen(), seen, "no refused request reaches the application");

    let token = bed.token("alice");
    let framed = bed.send(&Ask::get("/api/framed").bearer(&token)).await;
    assert_eq!(framed.status, 200);
    secured(&framed);
    assert!(framed.once("ratelimit").starts_with("\"api-per-user\";r=19"), "{framed:?}");
    // Five units each, of ten.
    let export = Ask::get("/export/all").header("x-api-key", "k1");
    let statuses = [bed.status(&export).await, bed.status(&export).await, bed.status(&export).await];
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(bed.status(&Ask::get("/healthz")).await, 200);
}

#[tokio::test]
async fn every_answer_has_its_body_and_each_header_once() {
    answers_stand_once(Place::Memory).await;
}

#[tokio::test]
async fn every_answer_has_its_body_and_each_header_once_with_redis() {
    answers_stand_once(Place::Redis).await;
}

#[tokio::test]
async fn http2_and_grpc_clients_are_told_in_their_own_words() {
    let bed = Plan::of("ext-authz").quotad("burst: 20", "burst: 1").start().await;
    let token = bed.token("alice");
    let address = bed.envoy.address;
    let missing = send_h2(address, &Ask::get("/api/me")).await;
    refused(&missing, 401, "TOKEN_MISSING");
    let call =
        Ask::post("/example.v1.Api/Get").header("content-type", "application/grpc").header("te", "trailers");
    let allowed = send_h2(address, &call.clone().bearer(&token)).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.json()["version"], "HTTP/2.0");
    assert_eq!(allowed.reached("x-user-id"), ["alice"]);
    let over = send_h2(address, &call.clone().bearer(&token)).await;
    assert_eq!((over.status, over.once("grpc-status")), (200, "8"), "{over:?}");
    assert!(over.once("grpc-message").contains("RATE_LIMIT_EXCEEDED"), "{over:?}");
    over.once("retry-after");
    let no_token = send_h2(address, &call).await;
    assert_eq!((no_token.status, no_token.once("grpc-status")), (200, "16"), "{no_token:?}");
    let plain = send_h2(address, &Ask::get("/api/me").bearer(&token)).await;
    refused(&plain, 429, "RATE_LIMIT_EXCEEDED");
    assert!(plain.all("grpc-status").is_empty());
}

#[tokio::test]
async fn pages_may_read_refusals_and_preflights_cost_nothing() {
    let bed = Plan::of("ext-authz").start().await;
    let asked = |origin: &str| {
        let preflight = Ask::new("OPTIONS", "/login").header("origin", origin);
        preflight.header("access-control-request-method", "POST")
    };
    for _ in 0..6 {
        let ours = bed.send(&asked(ORIGIN)).await;
        assert_eq!((ours.status, ours.once("access-control-allow-origin")), (200, ORIGIN), "{ours:?}");
        let foreign = bed.send(&asked("https://evil.example")).await;
        assert!(foreign.all("access-control-allow-origin").is_empty(), "{foreign:?}");
    }
    exhaust(&bed).await;
    let denied = bed.send(&Ask::post("/login").header("origin", ORIGIN)).await;
    refused(&denied, 429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(denied.once("access-control-allow-origin"), ORIGIN);
    assert_eq!(denied.once("access-control-allow-credentials"), "true");
    let exposed = denied.once("access-control-expose-headers");
    assert!(["ratelimit", "ratelimit-policy", "retry-after"].iter().all(|name| exposed.contains(name)));
    let missing = bed.send(&Ask::get("/api/me").header("origin", ORIGIN)).await;
    assert_eq!((missing.status, missing.once("access-control-allow-origin")), (401, ORIGIN));
    let foreign = bed.send(&Ask::post("/login").header("origin", "https://evil.example")).await;
    assert!(foreign.status == 429 && foreign.all("access-control-allow-origin").is_empty(), "{foreign:?}");
}

#[tokio::test]
async fn nobody_says_himself_who_he_is_or_where_he_comes_from() {
    let bed = Plan::of("ext-authz").start().await;
    let public = bed.send(&Ask::get("/about").header("x-user-id", "admin").header("X-User-ID", "root")).await;
    assert_eq!((public.status, public.reached("x-user-id").len()), (200, 0), "{public:?}");
    let token = bed.token("alice");
    let private = bed.send(&Ask::get("/api/me").header("x-user-id", "admin").bearer(&token)).await;
    assert_eq!(private.reached("x-user-id"), ["alice"]);
    let two = bed.send(&Ask::get("/api/me").bearer(&token).bearer(&token)).await;
    assert_eq!(two.status, 401, "{two:?}");
    exhaust(&bed).await;
    for name in ["x-forwarded-for", "x-client-ip", "x-envoy-external-address", "x-real-ip", "forwarded"] {
        let spoofed = bed.status(&Ask::post("/login").header(name, "203.0.113.9")).await;
        assert_eq!(spoofed, 429, "{name}");
    }
}

/// A mistake in Envoy's file must not open the door, whatever Envoy is told to do about errors.
#[tokio::test]
async fn a_route_that_names_an_unknown_policy_is_closed() {
    let plan = Plan::of("ext-authz").envoy("policy: export-per-key", "policy: no-such-policy");
    let bed = plan.envoy("failure_mode_allow: false", "failure_mode_allow: true").start().await;
    let answer = bed.send(&Ask::get("/export/all").header("x-api-key", "k1")).await;
    refused(&answer, 503, "NOT_CONFIGURED");
    assert_eq!(bed.app.seen(), 0);
}

/// WebSockets over HTTP/2 are requests with the method CONNECT; they are judged as those over HTTP/1.1.
#[tokio::test]
async fn sockets_over_http2_take_leases_too() {
    let bed = Plan::of("ext-authz").start().await;
    let address = bed.envoy.address;
    let ask = Ask::get("/ws/chat");
    assert_eq!(H2Socket::open(address, &ask).await.status, 401);
    let ask = ask.bearer(&bed.token("alice"));
    let (mut one, two) = (H2Socket::open(address, &ask).await, H2Socket::open(address, &ask).await);
    assert_eq!((one.status, two.status), (200, 200));
    assert!(one.talks().await);
    assert_eq!(H2Socket::open(address, &ask).await.status, 429);
    assert_eq!(bed.open(&ask).await.answer.status, 429);
}

async fn tricks(bed: &Bed, refused: &[u16]) {
    exhaust(bed).await;
    let token = bed.token("alice");
    for path in [
        "/api/../login",
        "//login",
        "/./login",
        "/x/..;a=b/login",
        "/login;x=1",
        "/%6cogin",
        "/login?a=b",
        "/x%2f..%2flogin",
        "/x/%2e%2e/login",
        "/x%5c..%5clogin",
    ] {
        let answer = bed.send(&Ask::post(path).bearer(&token)).await;
        assert!(refused.contains(&answer.status), "{path}: {answer:?}");
    }
    let refused: Vec<_> = refused.iter().map(|status| if *status == 429 { 401 } else { *status }).collect();
    for path in ["/a/../api/me", "//api/me", "/%61pi/me", "/api;x/me", "/x%2f..%2fapi/me", "/api%2fme"] {
        let answer = bed.send(&Ask::get(path)).await;
        assert!(refused.contains(&answer.status), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn no_way_of_writing_a_path_gets_around_its_route() {
    tricks(&Plan::of("ext-authz").start().await, &[429, 400]).await;
    // And where Envoy passes paths as they come.
    let raw = Plan::of("ext-authz")
        .envoy("normalize_path: true", "normalize_path: false")
        .envoy("merge_slashes: true", "merge_slashes: false")
        .envoy("escaped_slashes_action: REJECT_REQUEST", "escaped_slashes_action: KEEP_UNCHANGED");
    tricks(&raw.start().await, &[429]).await;
}
