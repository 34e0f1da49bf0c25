//! Requests and responses, against a real quotad.

use crate::{
    sample::{State, router, router_of},
    support::{Answer, Ask, ORIGIN, Quotad, address, bearer, eventually, get, post, shield, token, uuid},
};
use axum::{Router, response::IntoResponse as _, routing};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use quotad_tower::{ErrorBody, Rule, Shield};
use serde_json::json;
use std::time::Duration;
use tower::{ServiceBuilder, ServiceExt as _};

const SECURITY: [(&str, &str); 5] = [
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

#[track_caller]
fn assert_secured(answer: &Answer) {
    for (name, value) in SECURITY {
        assert_eq!(answer.header(name), value);
    }
}

struct Setup {
    quotad: Quotad,
    shield: Shield,
    app: Router,
    state: State,
}

async fn setup() -> Setup {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).trusted_proxies(["127.0.0.0/8"]).build().unwrap();
    let state = State::default();
    let app = router(&shield, state.clone());
    Setup { quotad, shield, app, state }
}

#[tokio::test]
async fn every_kind_of_answer_is_dressed() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    for (ask, status) in [
        (get("/plain"), 200),
        (get("/nowhere"), 404),
        (Ask::new("DELETE", "/plain"), 405),
        (get("/boom"), 500),
        (get("/mounted/boom"), 500),
        (get("/me"), 401),
        (get("/ws/echo"), 401),
    ] {
        let answer = ask.header("origin", ORIGIN).to(&app).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_secured(&answer);
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
        assert_eq!(
            answer.header("access-control-expose-headers"),
            "RateLimit, RateLimit-Policy, Retry-After"
        );
        assert_eq!(answer.header("vary"), "Origin");
    }
}

#[tokio::test]
async fn a_panic_says_nothing_of_itself() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let answer = get("/boom").to(&app).await;
    assert_eq!(
        answer.body,
        r#"{"status":"error","code":"INTERNAL_SERVER_ERROR","message":"Something went wrong. Please try again later.","details":[]}"#
    );
}

#[tokio::test]
async fn telltale_headers_of_the_application_are_removed() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let answer = get("/own-headers").to(&app).await;
    assert_eq!(answer.all("server"), [""; 0]);
    assert_eq!(answer.all("x-powered-by"), [""; 0]);
    assert_eq!(answer.header("x-frame-options"), "DENY");
}

#[tokio::test]
async fn headers_can_be_changed_kept_and_taken_away() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target())
        .security_header("Referrer-Policy", "no-referrer")
        .security_header("X-Content-Type-Options", None)
        .keep_header("X-Frame-Options")
        .rule(Rule::new("/plain").header("Content-Security-Policy", "default-src 'self'"));
    let app = router(&shield.build().unwrap(), State::default());
    let own = get("/own-headers").to(&app).await;
    assert_eq!(own.header("x-frame-options"), "SAMEORIGIN", "the application's own");
    assert_eq!(own.header("referrer-policy"), "no-referrer");
    assert_eq!(own.all("x-content-type-options"), [""; 0]);
    let plain = get("/plain").to(&app).await;
    assert_eq!(plain.header("x-frame-options"), "DENY", "where the application sends none");
    assert_eq!(plain.header("content-security-policy"), "default-src 'self'");
}

#[tokio::test]
async fn a_limit_of_a_route_is_charged_beside_the_services() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let peer = address();
    for left in [2, 1, 0] {
        let answer = post("/dependency").from(&peer).to(&app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("ratelimit").starts_with(&format!("\"auth-per-ip\";r={left};")), "{answer:?}");
    }
    let refused = post("/dependency").from(&peer).to(&app).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.json()["details"][0]["policy"], "auth-per-ip");
    assert_eq!(refused.header("cache-control"), "no-store");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 86_000);
    assert_secured(&refused);
    let mounted = post("/mounted/dependency").from(&peer).to(&app).await;
    assert_eq!(mounted.status, 429, "one policy, whatever the path");
    assert_eq!(post("/login").from(&peer).to(&app).await.status, 429, "and the service's route shares it");
}

#[tokio::test]
async fn a_limit_that_is_alone_is_the_requests_one_authorize() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = router_of(&shield, State::default()).layer(shield.headers_and_cors());
    let peer = address();
    // By the route and by the layer: one charge, for all policies are charged once.
    for _ in 0..3 {
        let answer = post("/mounted/dependency").from(&peer).header("x-user-id", "admin").to(&app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_secured(&answer);
    }
    assert_eq!(post("/mounted/dependency").from(&peer).to(&app).await.status, 429);
    // Nobody is asked about the others, and nobody is who he says.
    let plain = get("/plain").header("x-user-id", "admin").to(&app).await;
    assert_eq!((plain.status, plain.json()["user"].is_null()), (200, true));
    // Without any other layer the limit makes the whole answer.
    let alone = Router::new().route("/x", routing::get(async || "x").layer(shield.limit("auth-per-ip")));
    let refused = get("/x").from(&peer).header("origin", ORIGIN).to(&alone).await;
    assert_eq!((refused.status, &*refused.header("access-control-allow-origin")), (429, ORIGIN));
    assert_secured(&refused);
}

#[tokio::test]
async fn entries_cost_and_skip_are_functions_of_the_request() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let path = format!("/account?account={}", uuid());
    assert_eq!(post(&format!("{path}&cost=2")).to(&app).await.status, 200);
    assert_eq!(post(&path).to(&app).await.status, 429, "the account is counted, not the address");
    assert_eq!(post(&path).header("x-skip", "yes").to(&app).await.status, 200);
    let missing = post("/account").to(&app).await;
    assert_eq!(missing.status, 403, "never a shared counter: {missing:?}");
    let never = post(&format!("/account?account={}&cost=3", uuid())).to(&app).await;
    assert_eq!((never.status, never.all("retry-after")), (429, vec![]), "waiting cannot help");
}

#[tokio::test]
async fn a_handler_peeks_and_checks() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let path = format!("/inside?account={}", uuid());
    let answer = get(&path).to(&app).await;
    assert_eq!(answer.json(), json!({"left": [2, 0, 0], "after": false}), "a peek says what a check would");
    let refused = get(&path).to(&app).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("RATE_LIMIT_EXCEEDED")));
    assert_secured(&refused);
}

#[tokio::test]
async fn claims_are_those_of_a_checked_token() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let user = uuid();
    let authorization =
        format!("Bearer {}", token(&user, &json!({"plan": "gold", "exp": crate::support::now() + 60})));
    let answer =
        get("/me").header("authorization", &authorization).header("x-user-id", "admin").to(&app).await;
    assert_eq!(answer.json(), json!({"user": user, "plan": "gold"}));
    assert_eq!(get("/maybe").to(&app).await.json(), json!({"user": null}));
    assert_eq!(get("/maybe").with(bearer(&user)).to(&app).await.json(), json!({"user": user}));
    // On a route that asks for no token nobody is logged in.
    let plain = get("/plain").with(bearer(&user)).header("x_user_id", "admin").to(&app).await;
    assert_eq!(plain.json(), json!({"user": null, "forged": null}));
}

#[tokio::test]
async fn a_logged_out_token_is_refused_and_the_cookie_deleted() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let user = uuid();
    let quotad_routes = "the contract has no route for /logout: nobody is logged in there";
    let refused = post("/logout").with(bearer(&user)).to(&app).await;
    assert_eq!(refused.status, 401, "{quotad_routes}");
    let quotad = Quotad::new("memory:", |config| {
        config.replace(
            "  - {name: maybe,",
            "  - {name: out, paths: [/logout], token: required}\n  - {name: maybe,",
        )
    })
    .await;
    let shield = shield(&quotad.target()).build().unwrap();
    let app = router(&shield, State::default());
    let (one, other) = (bearer(&user), bearer(&user));
    let answer = post("/logout").with(one.clone()).to(&app).await;
    assert_eq!(
        answer.header("set-cookie"),
        "__Secure-refresh_token=; Max-Age=0; Path=/auth; HttpOnly; Secure; SameSite=Strict"
    );
    assert_eq!(get("/me").with(one).to(&app).await.status, 401);
    assert_eq!(get("/me").with(other.clone()).to(&app).await.status, 200);
    assert_eq!(post("/logout?everywhere=1").with(other.clone()).to(&app).await.status, 200);
    assert_eq!(get("/me").with(other).to(&app).await.status, 401);
}

#[tokio::test]
async fn the_client_is_found_through_trusted_proxies_only() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let client = address();
    let through = |forged: &str| {
        let forwarded = format!("{forged}, {client}");
        post("/dependency").from("127.0.0.1").header("x-forwarded-for", &forwarded)
    };
    for number in 0..3 {
        assert_eq!(through(&format!("203.0.113.{number}")).to(&app).await.status, 200);
    }
    assert_eq!(through("203.0.113.9").to(&app).await.status, 429);
    let from_afar = post("/dependency").header("x-forwarded-for", &client).to(&app).await;
    assert_eq!(from_afar.status, 200, "a peer that is no proxy counts as itself");
}

#[tokio::test]
async fn a_request_without_an_address_shares_no_counter() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    for _ in 0..4 {
        let answer = post("/dependency").nameless().to(&app).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
}

#[tokio::test]
async fn an_unknown_policy_is_a_503_whatever_on_unavailable_says() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).on_unavailable(quotad_tower::OnUnavailable::Open).build().unwrap();
    let app = Router::new()
        .route("/x", routing::get(async || "x").layer(shield.limit("no-such-policy")))
        .layer(shield.layer());
    let answer = get("/x").to(&app).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("NOT_CONFIGURED")));
}

#[tokio::test]
async fn refusals_can_have_a_body_of_the_applications_own() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).error(|decision| {
        let html = HeaderValue::from_static("text/html");
        (StatusCode::IM_A_TEAPOT, html, Bytes::from(format!("<h1>{}</h1>", decision.reason)))
    });
    let app = router(&shield.build().unwrap(), State::default());
    let answer = get("/me").to(&app).await;
    assert_eq!((answer.status, &*answer.body), (418, "<h1>token_missing</h1>"));
    assert_eq!(answer.header("content-type"), "text/html");
    assert_eq!(answer.header("www-authenticate"), "Bearer", "the headers stay the service's");
    assert_secured(&answer);
}

#[tokio::test]
async fn the_few_answers_that_are_made_here_have_the_chosen_form() {
    let shield = shield("127.0.0.1:1").error_body(ErrorBody::Problem).build().unwrap();
    let app = router(&shield, State::default());
    let answer = post("/login").to(&app).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(
        answer.body,
        r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"The limit cannot be checked now. Please try again later.","status":503,"code":"RATE_LIMIT_UNAVAILABLE"}"#
    );
}

#[tokio::test]
async fn a_job_checks_without_a_request() {
    let Setup { shield, quotad: _quotad, .. } = setup().await;
    let ask = quotad_tower::Ask::policy("per-account").entry("account", uuid());
    assert_eq!(shield.check(&ask).await.unwrap().statuses[0].remaining, 1);
    shield.check(&ask).await.unwrap();
    let denied = shield.check(&ask).await.unwrap_err();
    assert!(denied.decision.retry_after.unwrap() > Duration::from_secs(86_000));
    assert_eq!(denied.to_string(), "refused: limit_exceeded (429 Too Many Requests)");
}

#[tokio::test]
async fn a_stream_goes_out_as_it_comes_and_holds_its_lease() {
    let Setup { shield, app, state, quotad: _quotad, .. } = setup().await;
    let response = app.clone().oneshot(get("/held").request()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(shield.held(), 1);
    let mut body = response.into_body().into_data_stream();
    let first = futures_util::StreamExt::next(&mut body).await.unwrap().unwrap();
    assert_eq!(first, "data: 1\n\n", "before the second is there");
    let refused = get("/held").to(&app).await;
    assert_eq!(refused.status, 429, "one at once: {refused:?}");
    assert_secured(&refused);
    state.release.notify_one();
    while futures_util::StreamExt::next(&mut body).await.is_some() {}
    assert_eq!(shield.held(), 0, "given back at the end, before the body is dropped");
    assert!(shield.idle().await);
    let again = app.clone().oneshot(get("/held").request()).await.unwrap();
    assert_eq!(again.status(), 200);
    drop(again);
    assert_eq!(shield.held(), 0, "given back by a client that leaves");
}

#[tokio::test]
async fn a_lease_of_a_handler_ends_with_the_handler() {
    let Setup { shield, app, state, quotad: _quotad, .. } = setup().await;
    let request = tokio::spawn(app.clone().oneshot(get("/leased").request()));
    eventually("the lease is held", async || shield.held() == 1).await;
    request.abort();
    eventually("the client has left", async || shield.held() == 0).await;
    assert!(shield.idle().await);
    state.release.notify_one();
    assert_eq!(get("/leased").to(&app).await.body, "done");
    assert_eq!(shield.held(), 0);
}

#[tokio::test]
async fn text_types_refuse_what_has_no_place() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let room = json!({"slug": "my-room", "title": " I <3 you ", "host": "Ann O'Brien"});
    let answer = post("/rooms").json(&room).to(&app).await;
    assert_eq!(answer.json()["title"], "I <3 you");
    let bad = post("/rooms").json(&json!({"slug": "my-room", "title": "<b", "host": "Ann"})).to(&app).await;
    assert_eq!(bad.status, 422);
}

#[tokio::test]
async fn a_plain_tower_service_is_protected_too() {
    let quotad = Quotad::memory().await;
    let shield = shield(&quotad.target()).build().unwrap();
    let service = ServiceBuilder::new().layer(shield.layer()).service_fn(
        async |request: http::Request<axum::body::Body>| {
            let limits: &quotad_tower::Limits = request.extensions().get().unwrap();
            let client = limits.client().map(|address| address.to_string()).unwrap_or_default();
            Ok::<_, std::convert::Infallible>(client.into_response())
        },
    );
    let mut request = http::Request::get("/x").body(axum::body::Body::empty()).unwrap();
    request.extensions_mut().insert(quotad_tower::PeerAddress("203.0.113.77".parse().unwrap()));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["x-frame-options"], "DENY");
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "203.0.113.77");
}

#[tokio::test]
async fn a_client_of_grpc_gets_a_status() {
    let Setup { app, quotad: _quotad, .. } = setup().await;
    let peer = address();
    for _ in 0..3 {
        post("/login").from(&peer).to(&app).await;
    }
    let answer = post("/login").from(&peer).header("content-type", "application/grpc").to(&app).await;
    assert_eq!((answer.status, &*answer.header("grpc-status")), (200, "8"));
    assert!(answer.header("grpc-retry-pushback-ms").parse::<u64>().unwrap() > 86_000_000);
    assert!(!answer.header("grpc-status-details-bin").is_empty());
    assert_secured(&answer);
}
