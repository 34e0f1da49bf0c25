//! What happens when quotad is stopped, stands still, and comes back.

use crate::{
    sample::{State, router},
    support::{Ask as Request, Quotad, Redis, Server, address, bearer, eventually, get, post, uuid},
};
use axum::Router;
use quotad_tower::v1::{
    Connection, RenewConnectionsRequest, decision_service_client::DecisionServiceClient,
    renew_connections_response,
};
use quotad_tower::{Ask, Limits, Local, OnUnavailable, Rule, Shield, ShieldBuilder};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

const DEADLINE: Duration = Duration::from_millis(200);

fn builder(target: &str) -> ShieldBuilder {
    crate::support::shield(target).deadline(DEADLINE)
}

fn app(builder: ShieldBuilder) -> (Shield, Router) {
    let shield = builder.build().unwrap();
    let app = router(&shield, State::default());
    (shield, app)
}

/// Until a request is decided by the service: the first may meet a cold connection.
async fn decided(app: &Router) {
    eventually("the service decides", async || !post("/login").to(app).await.all("ratelimit").is_empty())
        .await;
}

#[tokio::test]
async fn a_dead_service_is_a_503_without_a_wait_and_comes_back_by_itself() {
    let mut quotad = Quotad::memory().await;
    let (_shield, app) = app(builder(&quotad.target()));
    decided(&app).await;
    quotad.stop();
    for _ in 0..20 {
        let answer = post("/login").to(&app).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &"RATE_LIMIT_UNAVAILABLE".into()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    quotad.start().await;
    let began = Instant::now();
    decided(&app).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stalled_service_costs_its_deadline_a_few_times() {
    let quotad = Quotad::memory().await;
    let (_shield, app) = app(builder(&quotad.target()));
    decided(&app).await;
    quotad.stall().await;
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(post("/login").to(&app).await.status, 503);
    }
    // Five deadlines, then one try a second: without the breaker it were 200.
    let most = DEADLINE * 30;
    assert!(began.elapsed() >= DEADLINE * 5 && began.elapsed() < most, "{:?}", began.elapsed());
    quotad.go_on();
    let began = Instant::now();
    decided(&app).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_stalled_service_is_sent_once() {
    let quotad = Quotad::memory().await;
    let (_shield, app) = app(builder(&quotad.target()).deadline(Duration::from_secs(10)));
    decided(&app).await;
    // It stands still while requests are in flight: none of them is sent a second time when it goes on.
    let peer = address();
    quotad.stall().await;
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let (app, peer) = (app.clone(), peer.clone());
            tokio::spawn(async move { post("/login").from(&peer).to(&app).await.status })
        })
        .collect();
    quotad.go_on();
    for one in asked {
        assert_eq!(one.await.unwrap(), 200, "three of three");
    }
    assert_eq!(post("/login").from(&peer).to(&app).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_charges_each_request_once_at_most() {
    const LIMIT: u64 = 1_000_000;
    let redis = Redis::start();
    let more = |config: String| {
        config.replace(
            "{name: closed, partition: [ip], limit: 100,",
            "{name: closed, partition: [ip], limit: 1000000,",
        )
    };
    let mut quotad = Quotad::new(&redis.url, more).await;
    let (shield, app) = app(builder(&quotad.target()));
    decided(&app).await;
    let (peer, is_over) = (address(), Arc::new(AtomicBool::new(false)));
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (app, peer, is_over) = (app.clone(), peer.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
                while !is_over.load(Ordering::Relaxed) {
                    *seen.entry(get("/closed").from(&peer).to(&app).await.status).or_default() += 1;
                }
                seen
            })
        })
        .collect();
    for _ in 0..2 {
        quotad.stop();
        quotad.start().await;
        decided(&app).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
    for load in loads {
        for (status, count) in load.await.unwrap() {
            *seen.entry(status).or_default() += count;
        }
    }
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        [&404, &503],
        "the sample has no such route: it passed, or nobody knew"
    );
    let left = shield.peek(Ask::policy("closed").entry("ip", peer)).await.statuses[0].remaining;
    let charged = LIMIT - left;
    assert!(seen[&404] <= charged && charged <= seen[&404] + seen[&503], "{charged} of {seen:?}");
}

#[tokio::test]
async fn what_a_request_gets_is_chosen_by_its_path() {
    let local = Local::new(2, Duration::from_secs(3600));
    let (_shield, app) = app(builder("127.0.0.1:1")
        .rule(Rule::new("POST /login").on_unavailable(OnUnavailable::Local(local)))
        .rule(Rule::new("/plain").on_unavailable(OnUnavailable::Open))
        .rule(Rule::new("/health").skip()));
    let peer = address();
    let login = || post("/login").from(&peer);
    assert_eq!([login().to(&app).await.status, login().to(&app).await.status], [200, 200]);
    let refused = login().to(&app).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &"RATE_LIMIT_EXCEEDED".into()));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 60);
    assert_eq!(post("/login").to(&app).await.status, 200, "another address");
    assert_eq!(post("/login").nameless().to(&app).await.status, 503, "none is not one");
    assert_eq!(post("/signup").to(&app).await.status, 503);
    let plain = get("/plain").header("x-user-id", "admin").to(&app).await;
    assert_eq!((plain.status, plain.json()["user"].is_null()), (200, true));
    let health = get("/health").to(&app).await;
    assert_eq!((health.status, &*health.header("x-frame-options")), (200, "DENY"));
}

#[tokio::test]
async fn what_was_let_in_is_not_logged_in() {
    let (_shield, app) = app(builder("127.0.0.1:1").on_unavailable(OnUnavailable::Open));
    let me = get("/me").with(bearer(&uuid())).to(&app).await;
    assert_eq!((me.status, &me.json()["code"]), (503, &"TOKEN_CHECK_UNAVAILABLE".into()));
    let maybe = get("/maybe").with(bearer(&uuid())).to(&app).await;
    assert_eq!((maybe.status, maybe.json()["user"].is_null()), (200, true));
    let out = post("/logout").with(bearer(&uuid())).to(&app).await;
    assert_eq!((out.status, out.all("set-cookie")), (503, vec![]), "not logged out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_stay_open_through_an_outage_and_leases_are_taken_again() {
    let mut quotad = Quotad::memory().await;
    let shield = builder(&quotad.target()).deadline(Duration::from_secs(10)).build().unwrap();
    let (told, ids) = mpsc::unbounded_channel();
    let job = async move |limits: Limits| {
        let lease = limits.lease(Ask::policy("streams-per-user").entry("user", "job")).await.unwrap();
        told.send(lease.id().to_owned()).unwrap();
        lease.ended().await;
    };
    let jobs = Router::new().route("/job", axum::routing::get(job)).layer(shield.layer());
    let server = Server::start(router(&shield, State::default()).merge(jobs.clone())).await;
    let user = uuid();
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(server.open("/ws/echo", &[bearer(&user)]).await);
    }
    let job = tokio::spawn(async move { get("/job").to(&jobs).await.status });
    let lease_id = { ids }.recv().await.unwrap();
    quotad.stop();
    for socket in &mut open {
        socket.send("through").await;
        assert_eq!(socket.text().await, "through");
    }
    // The store was in its memory: the leases are gone, and are taken again. To renew from outside takes nothing.
    quotad.start().await;
    let held = Connection {
        policies: vec!["streams-per-user".to_owned()],
        entries: [("user".to_owned(), "job".to_owned())].into(),
        lease_id,
        ..Connection::default()
    };
    let target = format!("http://{}", quotad.target());
    eventually("the job's lease is taken again", async || {
        let mut client = DecisionServiceClient::connect(target.clone()).await.unwrap();
        let asked = RenewConnectionsRequest { connections: vec![held.clone()] };
        let answer = client.renew_connections(asked).await.unwrap().into_inner();
        answer.renewals[0].state == i32::from(renew_connections_response::State::Held)
    })
    .await;
    for socket in &mut open {
        socket.send("after").await;
        assert_eq!(socket.text().await, "after");
    }
    assert_eq!((shield.held(), job.is_finished()), (3, false));
    job.abort();
}

#[tokio::test]
async fn a_client_cannot_buy_an_unchecked_pass() {
    let quotad = Quotad::memory().await;
    let (_shield, app) =
        app(builder(&quotad.target()).deadline(Duration::from_secs(10)).on_unavailable(OnUnavailable::Open));
    let large = get("/me").header("x-large", &"x".repeat(60_000)).to(&app).await;
    assert_eq!(large.status, 431);
    let many = (0..300).fold(get("/me"), |ask: Request, number| ask.header(&format!("x-{number}"), "1"));
    assert_eq!(many.to(&app).await.status, 431);
    assert_eq!(get("/me").header("host", &"h".repeat(300)).to(&app).await.status, 400);
}

#[tokio::test]
async fn a_start_without_a_service_waits_a_second_at_most() {
    let shield = builder("127.0.0.1:1").build().unwrap();
    assert!(!shield.ready().await);
    let quotad = Quotad::memory().await;
    let shield = builder(&quotad.target()).build().unwrap();
    assert!(shield.ready().await);
    let app = router(&shield, State::default());
    assert!(!post("/login").to(&app).await.all("ratelimit").is_empty(), "the first request is decided");
}
