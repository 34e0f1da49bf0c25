//! The start of a process that shares a Redis: it serves when it can decide exactly, or when its grace is over.

use crate::harness::{Client, PATIENCE, Quotad, Start, check, until};
use crate::server::{Kind, Server, free_port};
use quotad::pb::quotad::v1 as pb;
use quotad::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const LIMIT: usize = 300;

fn config(grace: &str) -> String {
    format!(
        "store: {{start_grace: {grace}}}\nthreads: 4\npolicies:\n- {{name: p, partition: [ip], limit: {LIMIT}, window: 1h}}\n- {{name: sockets, partition: [user], algorithm: concurrency, limit: 3}}\n"
    )
}

fn start(redis: &Server, grace: &str, address: &str) -> Start {
    let start = Start::with(&config(grace)).arg("--listen").arg(address);
    start.arg("--store").arg(redis.url()).arg("--store-timeout").arg("5s")
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A connection as soon as one is to be had.
pub async fn first_connection(address: &str) -> Channel {
    let endpoint: Endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < end, "{address}: {error}"),
        }
        // A poll of a condition with a deadline.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn decide(client: &mut Client) -> pb::Decision {
    let answer = client.check_limit(check("p", &[("ip", "203.0.113.7")])).await;
    answer.unwrap().into_inner().decision.unwrap()
}

/// Asks until the process ends or is told to stop; how many were allowed, none by less than an exact answer.
async fn flood(address: String, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> usize {
    let channel = first_connection(&address).await;
    let mut health = HealthClient::new(channel.clone());
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let (mut client, mut allowed) = (DecisionServiceClient::new(channel), 0);
    while !stop.load(Ordering::SeqCst) {
        let decision = decide(&mut client).await;
        assert_eq!(decision.mode(), pb::Mode::Exact, "{decision:?}");
        allowed += usize::from(decision.outcome() == pb::Outcome::Allow);
        asked.fetch_add(1, Ordering::SeqCst);
    }
    allowed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_started_in_a_row_admit_the_limit_and_answer_exactly_from_the_first_moment() {
    let redis = Server::start(Kind::Redis7);
    let mut allowed = 0;
    for _ in 0..8 {
        let at = address();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..8 {
            clients.spawn(flood(at.clone(), Arc::clone(&stop), Arc::clone(&asked)));
        }
        let started = start(&redis, "30s", &at);
        let quotad = tokio::task::spawn_blocking(|| started.start()).await.unwrap();
        until("answers", async || asked.load(Ordering::SeqCst) >= 60 || clients.try_join_next().is_some())
            .await;
        stop.store(true, Ordering::SeqCst);
        allowed += clients.join_all().await.into_iter().sum::<usize>();
        quotad.stop("TERM").await;
    }
    assert_eq!(allowed, LIMIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_serves_knows_how_many_share_the_store() {
    let redis = Server::start(Kind::Redis7);
    let mut quotads = Vec::new();
    for many in 1..=3_u64 {
        let at = address();
        let started = start(&redis, "30s", &at);
        quotads.push(tokio::task::spawn_blocking(|| started.start()).await.unwrap());
        let count = redis.client().run(&["ZCARD", "q1:replicas"]);
        assert_eq!(count, many.to_string(), "it is counted when it says ready");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_start_is_late_by_the_grace_and_no_more() {
    for frozen in [false, true] {
        let redis = Server::start(Kind::Redis7);
        if frozen {
            redis.freeze()
        } else {
            redis.kill()
        }
        let at = address();
        let started = start(&redis, "700ms", &at);
        let begin = Instant::now();
        let quotad = tokio::task::spawn_blocking(|| started.start()).await.unwrap();
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert!(took < Duration::from_millis(700) + PATIENCE, "{took:?}");
        let mut client = quotad.client().await;
        assert_eq!(decide(&mut client).await.mode(), pb::Mode::Local, "then on_store_error holds");
        if frozen {
            redis.thaw()
        } else {
            redis.restart()
        }
        until("the store", async || decide(&mut client).await.mode() == pb::Mode::Exact).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_within_the_grace_is_waited_for() {
    for frozen in [false, true] {
        let redis = Server::start(Kind::Redis7);
        if frozen {
            redis.freeze()
        } else {
            redis.kill()
        }
        let at = address();
        let started = start(&redis, "60s", &at);
        let quotad = tokio::task::spawn_blocking(|| started.start());
        // The port is bound at once, and whoever comes waits.
        let asked = tokio::spawn(async move {
            let channel = first_connection(&at).await;
            decide(&mut DecisionServiceClient::new(channel)).await
        });
        // Long enough for quotad to have looked for Redis and not found it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!asked.is_finished(), "nobody is answered yet");
        if frozen {
            redis.thaw()
        } else {
            redis.restart()
        }
        assert_eq!(asked.await.unwrap().mode(), pb::Mode::Exact);
        drop(quotad.await.unwrap());
    }
}

#[tokio::test]
async fn a_stop_within_the_grace_ends_at_once_and_cleanly() {
    for signal in ["TERM", "INT"] {
        let redis = Server::start(Kind::Redis7);
        redis.kill();
        let at = address();
        let mut quotad = start(&redis, "60s", &at).spawn();
        until("a bound port", async || std::net::TcpStream::connect(&at).is_ok()).await;
        until("a handler", async || handles_signals(&quotad)).await;
        quotad.signal("HUP");
        quotad.signal(signal);
        assert_eq!(quotad.ended().await, Some(0), "{signal}");
    }
}

/// Whether the process has handlers for SIGHUP, SIGINT and SIGTERM by now.
fn handles_signals(quotad: &Quotad) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", quotad.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    let caught = u64::from_str_radix(caught, 16).unwrap();
    [1, 2, 15].iter().all(|signal| caught >> (signal - 1) & 1 == 1)
}
