//! The fake, and what is easier to see against it.

use crate::support::{Answer, address, eventually, get, post};
use axum::{Router, http::HeaderMap, routing};
use quotad_tower::{
    Answered, Ask, Claims, Ended, Limits, Reservation, Shield,
    testing::{FakeDecisions, Policy, Route},
};
use serde_json::json;
use std::time::Duration;

fn fake() -> FakeDecisions {
    FakeDecisions::new(
        [
            Policy::new("auth", 2, 60),
            Policy::new("ai", 100, 60).by(["user"]),
            Policy::new("tokens", 100, 60),
            Policy::leases("streams", 1).by(["user"]),
        ],
        [
            Route::new("POST /login", ["auth"]),
            Route::new("/me", []).token(),
            Route::new("/ai/**", ["ai"]).token(),
            Route::new("/events", ["streams"]).token(),
        ],
    )
    .unwrap()
}

fn application(shield: &Shield) -> Router {
    Router::new()
        .route("/login", routing::post(async || "in"))
        .route("/me", routing::get(async |claims: Claims| claims.subject))
        .route("/ai/x", routing::post(async |headers: HeaderMap| format!("{:?}", headers.get("x-user-id"))))
        .route("/events", routing::get(async || axum::body::Body::from_stream(endless())))
        .layer(shield.layer())
}

fn endless() -> impl futures_util::Stream<Item = Result<&'static str, std::convert::Infallible>> {
    futures_util::StreamExt::chain(
        futures_util::stream::once(async { Ok("data") }),
        futures_util::stream::pending(),
    )
}

fn shield(fake: &FakeDecisions) -> Shield {
    fake.shield().development().build().unwrap()
}

fn bearer(user: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", FakeDecisions::token(user, &json!({"jti": "1"}))))
}

#[tokio::test]
async fn windows_pass_when_the_test_says_so() {
    let fake = fake();
    let app = application(&shield(&fake));
    let peer = address();
    let login = async || post("/login").from(&peer).to(&app).await.status;
    assert_eq!([login().await, login().await, login().await], [200, 200, 429]);
    fake.advance(61);
    assert_eq!(login().await, 200);
    fake.deny("auth");
    assert_eq!(login().await, 429);
    fake.restore();
    assert_eq!(login().await, 200);
}

#[tokio::test]
async fn one_authorize_a_request() {
    let fake = fake();
    let shield = shield(&fake);
    let app = application(&shield);
    assert!(shield.ready().await);
    let before = fake.calls().len();
    post("/login").to(&app).await;
    assert_eq!(fake.calls()[before..], ["Authorize"]);
    // A layer that is alone puts its policies into that one call.
    let app = Router::new()
        .route("/login", routing::post(async || "in").layer(shield.limit("tokens").and("auth")))
        .layer(shield.headers_and_cors());
    let before = fake.calls().len();
    let answer = post("/login").to(&app).await;
    assert_eq!(fake.calls()[before..], ["Authorize"]);
    assert_eq!(fake.last_policies(), ["tokens", "auth"]);
    assert_eq!(
        answer.header("ratelimit-policy").matches("auth").count(),
        2,
        "the fake says each: {answer:?}"
    );
    // Under the Authorize of the application's layer it is a CheckLimit.
    let app = Router::new()
        .route("/x", routing::post(async || "in").layer(shield.limit("tokens")))
        .layer(shield.layer());
    let before = fake.calls().len();
    post("/x").to(&app).await;
    assert_eq!(fake.calls()[before..], ["Authorize", "CheckLimit"]);
}

#[tokio::test]
async fn limits_without_routes_are_a_check_each() {
    let fake = fake();
    let shield = fake.shield().development().without_routes().build().unwrap();
    let app = Router::new()
        .route("/x", routing::post(async || "in").layer(shield.limit("tokens").cost(3_u32)))
        .layer(shield.layer());
    assert!(shield.ready().await);
    let before = fake.calls().len();
    assert_eq!(post("/x").to(&app).await.status, 200);
    assert_eq!(fake.calls()[before..], ["CheckLimit"]);
    assert_eq!(fake.charged("tokens"), 3);
}

#[tokio::test]
async fn without_routes_the_client_is_found_here() {
    let fake = fake();
    let shield =
        fake.shield().development().without_routes().trusted_proxies(["10.0.0.0/8"]).build().unwrap();
    let app = Router::new()
        .route("/x", routing::post(async || "in").layer(shield.limit("auth")))
        .layer(shield.layer());
    let through = async |forwarded: &str| {
        let ask = post("/x").from("10.1.2.3").header("x-forwarded-for", forwarded);
        ask.to(&app).await.status
    };
    let (ann, bob) = (address(), address());
    assert_eq!([through(&ann).await, through(&ann).await], [200, 200]);
    assert_eq!(through(&format!("{bob}, {ann}")).await, 429, "what the client wrote itself is not believed");
    assert_eq!(through(&bob).await, 200);
    let nobody = post("/x").nameless().to(&app).await;
    assert_eq!(nobody.status, 403, "no address is not one that all share");
}

#[tokio::test]
async fn tokens_are_checked_and_revoked() {
    let fake = fake();
    let app = application(&shield(&fake));
    assert_eq!(get("/me").to(&app).await.status, 401);
    assert_eq!(get("/me").header("authorization", "Bearer nonsense").to(&app).await.status, 401);
    assert_eq!(get("/me").with(bearer("ann")).to(&app).await.body, "ann");
    fake.revoke("ann");
    assert_eq!(get("/me").with(bearer("ann")).to(&app).await.status, 401);
    assert_eq!(get("/me").with(bearer("bob")).to(&app).await.body, "bob");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_closed_and_a_stall_costs_its_deadline() {
    let fake = fake();
    let app = application(&shield(&fake));
    fake.stall();
    let began = tokio::time::Instant::now();
    assert_eq!(post("/login").to(&app).await.status, 503);
    assert_eq!(began.elapsed(), Duration::from_millis(50));
    for _ in 0..100 {
        assert_eq!(post("/login").to(&app).await.status, 503);
    }
    // The opening of the connection stalls as well, so four of these are waited for.
    assert!(began.elapsed() <= Duration::from_millis(5 * 50), "{:?}", began.elapsed());
    fake.restore();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(post("/login").to(&app).await.status, 200);
    fake.down();
    assert_eq!(post("/login").to(&app).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_in_one_call() {
    let fake = fake();
    let shield = shield(&fake);
    let app = application(&shield);
    let mut open = Vec::new();
    for user in ["ann", "bob", "eve"] {
        open.push(
            tower::ServiceExt::oneshot(app.clone(), get("/events").with(bearer(user)).request())
                .await
                .unwrap(),
        );
    }
    assert_eq!((shield.held(), fake.held("streams")), (3, 3));
    let count = |name| fake.calls().iter().filter(|call| **call == name).count();
    eventually("the connection is opened", async || count("RenewConnections") == 1).await;
    let before = count("RenewConnections");
    // The fake's leases are renewed after 10 s.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(count("RenewConnections") - before, 1, "one for all");
    fake.revoke("ann");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((shield.held(), fake.held("streams")), (2, 2));
    drop(open);
    assert!(shield.idle().await);
    assert_eq!((shield.held(), fake.held("streams")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_taken_again_where_there_is_room() {
    let fake = fake();
    let shield = shield(&fake);
    let app = application(&shield);
    let stream = tower::ServiceExt::oneshot(app.clone(), get("/events").with(bearer("ann")).request());
    let response = stream.await.unwrap();
    fake.lose_leases();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!((shield.held(), fake.held("streams")), (1, 1));
    // Taken by somebody else meanwhile: a response that is no stream of events breaks off.
    fake.lose_leases();
    fake.deny("streams");
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(body.unwrap_err().to_string().contains("lost"));
    assert_eq!(shield.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_when_its_lease_ends() {
    let fake = fake();
    let shield = shield(&fake);
    let app = Router::new()
        .route(
            "/job",
            routing::get(async |limits: Limits| {
                let lease = limits.lease(Ask::policy("streams").entry("user", "ann")).await.unwrap();
                lease.ended().await;
                std::future::pending::<()>().await;
            }),
        )
        .layer(shield.layer());
    let job = tokio::spawn(async move { get("/job").to(&app).await });
    eventually("it is held", async || fake.held("streams") == 1).await;
    fake.lose_leases();
    fake.deny("streams");
    let answer = job.await.unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("RATE_LIMIT_UNAVAILABLE")));
    assert_eq!(Ended::Lost.as_str(), "lost");
}

#[tokio::test]
async fn a_lease_whose_grant_nobody_waits_for_is_given_back() {
    let fake = fake();
    let shield = shield(&fake);
    let app = Router::new()
        .route(
            "/x",
            routing::get(async || "x").layer(shield.hold("streams").by("user", |_| Some("ann".into()))),
        )
        .layer(shield.headers_and_cors());
    fake.stall();
    let asked = tokio::spawn(async move { get("/x").to(&app).await });
    eventually("it is asked for", async || fake.calls().contains(&"AcquireConnection")).await;
    asked.abort();
    eventually("it is given back", async || fake.calls().contains(&"ReleaseConnection")).await;
}

/// What the handler really spent.
#[derive(Clone)]
struct Spent(u32);

fn settled_app(shield: &Shield) -> Router {
    let cost = |answered: &Answered| match answered.extensions.get::<Spent>() {
        Some(spent) if answered.is_whole => spent.0,
        _ => 0,
    };
    Router::new()
        .route(
            "/spend/{units}",
            routing::get(async |path: axum::extract::Path<u32>| (axum::Extension(Spent(path.0)), "done"))
                .layer(shield.limit("tokens").cost(10_u32).settle(Duration::from_secs(60), cost)),
        )
        .route(
            "/bytes",
            routing::get(async || "seven !").layer(
                shield
                    .limit("tokens")
                    .cost(10_u32)
                    .settle(Duration::from_secs(60), |answered| u32::try_from(answered.body_bytes).unwrap()),
            ),
        )
        .route(
            "/boom",
            routing::get(async || {
                if true {
                    panic!("boom")
                }
            })
            .layer(shield.limit("tokens").cost(10_u32).settle(
                Duration::from_secs(60),
                |answered| {
                    assert_eq!(answered.status, 500);
                    1
                },
            )),
        )
        .layer(shield.layer())
}

#[tokio::test]
async fn a_reservation_is_settled_after_the_response() {
    let fake = fake();
    let shield = shield(&fake);
    let app = settled_app(&shield);
    for (path, charged) in
        [("/spend/3", 3), ("/spend/25", 28), ("/spend/0", 28), ("/bytes", 35), ("/boom", 36)]
    {
        get(path).to(&app).await;
        assert!(shield.idle().await);
        assert_eq!(fake.charged("tokens"), charged, "{path}");
    }
    assert_eq!(fake.calls().iter().filter(|call| **call == "SettleCost").count(), 5);
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_the_function_says() {
    let fake = fake();
    let shield = shield(&fake);
    let app = settled_app(&shield);
    let response = tower::ServiceExt::oneshot(app, get("/spend/50").request()).await.unwrap();
    assert_eq!(fake.charged("tokens"), 10, "reserved");
    drop(response);
    assert!(shield.idle().await);
    assert_eq!(fake.charged("tokens"), 0, "it was not whole");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_waits_for_a_service_that_is_away() {
    let fake = fake();
    let shield = shield(&fake);
    let app = settled_app(&shield);
    let response = tower::ServiceExt::oneshot(app.clone(), get("/spend/5").request()).await.unwrap();
    fake.down();
    drop(http_body_util::BodyExt::collect(response.into_body()).await.unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.charged("tokens"), 10);
    fake.restore();
    eventually("it is settled", async || fake.charged("tokens") == 5).await;
    assert!(shield.idle().await);
}

#[tokio::test]
async fn a_limit_that_is_the_only_call_is_settled_by_its_own_policies() {
    let fake = fake();
    let shield = shield(&fake);
    let app = Router::new()
        .route(
            "/login",
            routing::post(async || "in")
                .layer(shield.limit("tokens").cost(2_u32).settle(Duration::from_secs(60), |_| 0)),
        )
        .layer(shield.headers_and_cors());
    assert_eq!(post("/login").to(&app).await.status, 200);
    assert!(shield.idle().await);
    assert_eq!((fake.charged("tokens"), fake.charged("auth")), (0, 2), "the route's policy keeps its charge");
}

#[tokio::test]
async fn a_handler_reserves_and_settles() {
    let fake = fake();
    let shield = shield(&fake);
    let app = Router::new()
        .route(
            "/x",
            routing::get(async |limits: Limits| {
                let ask = Ask::policy("tokens").cost(10);
                let reserved: Option<Reservation> =
                    limits.reserve(ask, Duration::from_secs(60)).await.unwrap();
                reserved.unwrap().settle(4);
            }),
        )
        .layer(shield.layer());
    get("/x").to(&app).await;
    assert!(shield.idle().await);
    assert_eq!(fake.charged("tokens"), 4);
}

#[tokio::test]
async fn no_shield_is_a_500_that_the_log_explains() {
    let app = Router::new()
        .route("/limits", routing::get(async |_: Limits| ()))
        .route("/claims", routing::get(async |_: Claims| ()));
    for path in ["/limits", "/claims"] {
        let answer: Answer = get(path).to(&app).await;
        assert_eq!(answer.status, 500);
    }
}

#[tokio::test]
async fn a_logout_ends_the_connections_of_the_token() {
    let fake = fake();
    let shield = shield(&fake);
    let app = application(&shield).merge(
        Router::new()
            .route(
                "/out",
                routing::post(async |limits: Limits| limits.logout(quotad_tower::Logout::Token).await),
            )
            .layer(shield.layer()),
    );
    let response =
        tower::ServiceExt::oneshot(app.clone(), get("/events").with(bearer("ann")).request()).await.unwrap();
    assert_eq!(shield.held(), 1);
    assert_eq!(post("/out").with(bearer("ann")).to(&app).await.status, 200);
    assert_eq!(shield.held(), 0);
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());
    assert_eq!(get("/me").with(bearer("ann")).to(&app).await.status, 401);
    fake.down();
    let kept = post("/out").with(bearer("bob")).to(&app).await;
    assert_eq!(kept.status, 503, "not logged out");
}
