//! quotad on a real Redis: several processes agree, and what happens when Redis goes away and comes back.

use crate::connections::{acquire, connection, release, renew};
use crate::harness::{Client, Quotad, Start, check, decide, header, micros, until};
use crate::server::{Kind, Server};
use crate::tokens::mint;
use pb::renew_connections_response::State;
use quotad::pb::quotad::v1 as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
tokens:
  - {name: app, issuer: example-app, algorithms: [HS256], key: {file: token.key, generate: true}}
policies:
  - {name: exact, partition: [ip], limit: 50, window: 1h}
  - {name: wide, partition: [ip], limit: 1000, window: 1h}
  - {name: local, partition: [ip], limit: 8, window: 1h}
  - {name: closed, partition: [ip], limit: 8, window: 1h, on_store_error: deny}
  - {name: open, partition: [ip], limit: 8, window: 1h, on_store_error: allow}
  - {name: loud, partition: [ip], limit: 8, window: 1h, on_store_error: error}
  - {name: watched, partition: [ip], limit: 1, window: 1h, on_store_error: deny, shadow: true}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 3, lease_ttl: 2s}
  - {name: rooms, partition: [user], algorithm: concurrency, limit: 3, lease_ttl: 60s}
routes:
  - {name: private, paths: [/private], token: required, policies: [local]}
"#;

/// How long a decision waits for Redis here: so long that a busy machine is no Redis that is away.
const TIMEOUT: Duration = Duration::from_secs(10);

fn start(redis: &Server) -> Quotad {
    Start::with(CONFIG).arg("--store").arg(redis.url()).arg("--store-timeout").arg("10s").start()
}

async fn mode(client: &mut Client, policy: &str) -> Option<pb::Mode> {
    let answer = client.check_limit(check(policy, &[("ip", "192.0.2.200")])).await.ok()?;
    Some(answer.into_inner().decision.unwrap().mode())
}

async fn reaches(client: &mut Client, wanted: pb::Mode) {
    until("the mode", async || mode(client, "wide").await == Some(wanted)).await;
}

/// Decisions have a connection of their own, which may be back before that of everything else.
async fn renews(client: &mut Client) {
    let ghost = || vec![connection(&["rooms"], "nobody", "ghost")];
    until("renewals", async || renew(client, ghost()).await == [State::Lost]).await;
}

#[tokio::test]
async fn four_processes_and_sixty_four_clients_admit_exactly_the_limit() {
    let redis = Server::start(Kind::Redis7);
    let quotads = [start(&redis), start(&redis), start(&redis), start(&redis)];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..64 {
        let mut client = quotads[i % 4].client().await;
        reaches(&mut client, pb::Mode::Exact).await;
        tasks.spawn(async move {
            let (mut allowed, mut last) = (0, None);
            for _ in 0..10 {
                let decision = decide(&mut client, check("exact", &[("ip", "203.0.113.7")])).await;
                assert_eq!(decision.mode(), pb::Mode::Exact);
                allowed += usize::from(decision.outcome() == pb::Outcome::Allow);
                last = Some(decision);
            }
            (allowed, last.unwrap())
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().map(|(allowed, _)| allowed).sum::<usize>(), 50);
    let denied =
        answers.iter().map(|(_, last)| last).find(|last| last.outcome() == pb::Outcome::Deny).unwrap();
    assert!(header(denied, "Retry-After").is_some() && micros(denied.retry_after.as_ref().unwrap()) > 0);
}

#[tokio::test]
async fn while_redis_is_away_each_policy_does_as_it_says_and_says_so() {
    let redis = Server::start(Kind::Redis7);
    let quotad = start(&redis);
    let mut client = quotad.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    let here = [("ip", "203.0.113.7")];
    redis.kill();
    reaches(&mut client, pb::Mode::Local).await;
    let start = Instant::now();
    let mut allowed = 0;
    for _ in 0..20 {
        let decision = decide(&mut client, check("local", &here)).await;
        assert_eq!(decision.mode(), pb::Mode::Local);
        assert_eq!(decision.statuses[0].mode(), pb::Mode::Local);
        assert_eq!(decision.statuses[0].bound, Some(16), "the promise of this mode is wider, and said");
        allowed += usize::from(decision.outcome() == pb::Outcome::Allow);
    }
    assert!(start.elapsed() < TIMEOUT / 2, "no wait for a Redis that is gone: {:?}", start.elapsed());
    assert_eq!(allowed, 8, "one replica has the whole limit");
    let closed = decide(&mut client, check("closed", &here)).await;
    assert_eq!((closed.outcome(), closed.reason()), (pb::Outcome::Deny, pb::Reason::StoreUnavailable));
    assert_eq!((closed.mode(), closed.http_status), (pb::Mode::FailedClosed, 503));
    assert!(header(&closed, "RateLimit").is_none() && header(&closed, "Retry-After") == Some("1"));
    assert_eq!(crate::harness::body(&closed)["code"], "RATE_LIMIT_UNAVAILABLE");
    let open = decide(&mut client, check("open", &here)).await;
    assert_eq!((open.outcome(), open.mode()), (pb::Outcome::Allow, pb::Mode::FailedOpen));
    let loud = client.check_limit(check("loud", &here)).await.unwrap_err();
    assert_eq!(loud.code(), tonic::Code::Unavailable);
    let watched = decide(&mut client, check("watched", &here)).await;
    assert_eq!(watched.outcome(), pb::Outcome::Allow, "a shadow policy never denies");
    redis.restart();
    reaches(&mut client, pb::Mode::Exact).await;
    let back = decide(&mut client, check("closed", &here)).await;
    assert_eq!((back.outcome(), back.mode()), (pb::Outcome::Allow, pb::Mode::Exact));
}

/// What each of three quotads that never reached Redis admits of a limit of 8, and the bound that they state.
async fn apart(replicas: &str) -> (Vec<usize>, Vec<Option<u64>>) {
    let store = format!("store: {{url: 'redis://127.0.0.1:1', start_grace: 0s{replicas}}}\n");
    let quotads: Vec<_> = (0..3).map(|_| Start::with(&format!("{store}{CONFIG}")).start()).collect();
    let (mut admitted, mut bounds) = (Vec::new(), Vec::new());
    for quotad in &quotads {
        let (mut client, mut allowed) = (quotad.client().await, 0);
        for _ in 0..12 {
            let decision = decide(&mut client, check("local", &[("ip", "203.0.113.7")])).await;
            assert_eq!(decision.mode(), pb::Mode::Local);
            allowed += usize::from(decision.outcome() == pb::Outcome::Allow);
            bounds.push(decision.statuses[0].bound);
        }
        admitted.push(allowed);
    }
    bounds.dedup();
    (admitted, bounds)
}

#[tokio::test]
async fn no_bound_is_stated_while_nobody_knows_how_many_replicas_there_are() {
    let (admitted, bounds) = apart("").await;
    assert_eq!((admitted, bounds), (vec![8, 8, 8], vec![None]));
}

#[tokio::test]
async fn a_configured_number_of_replicas_shares_the_limit_and_the_bound_holds() {
    let (admitted, bounds) = apart(", replicas: 3").await;
    assert_eq!((admitted, bounds), (vec![2, 2, 2], vec![Some(8 + 3 * 2)]), "6 of the 14 that are stated");
    // More than there are units: each has one.
    let (admitted, bounds) = apart(", replicas: 20").await;
    assert_eq!((admitted, bounds), (vec![1, 1, 1], vec![Some(8 + 20)]));
}

#[tokio::test]
async fn a_redis_that_hangs_costs_the_timeout_and_no_more() {
    let redis = Server::start(Kind::Redis7);
    let quotad =
        Start::with(CONFIG).arg("--store").arg(redis.url()).arg("--store-timeout").arg("30ms").start();
    let mut client = quotad.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    redis.freeze();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let decision = decide(&mut client, check("wide", &[("ip", "203.0.113.7")])).await;
        waits.push(start.elapsed());
        assert_eq!(decision.mode(), pb::Mode::Local);
    }
    waits.sort_unstable();
    // A busy machine makes some of them slow, not half of them.
    assert!(waits[10] < Duration::from_millis(250), "{waits:?}");
    redis.thaw();
    reaches(&mut client, pb::Mode::Exact).await;
}

#[tokio::test]
async fn quotad_starts_without_redis_and_finds_it_by_itself() {
    let redis = Server::start(Kind::Redis7);
    redis.kill();
    let quotad = start(&redis);
    let mut client = quotad.client().await;
    assert_eq!(mode(&mut client, "wide").await, Some(pb::Mode::Local));
    redis.restart();
    reaches(&mut client, pb::Mode::Exact).await;
}

#[tokio::test]
async fn leases_are_shared_and_a_killed_quotad_loses_none_of_them() {
    let redis = Server::start(Kind::Redis7);
    let (first, second) = (start(&redis), start(&redis));
    let (mut one, mut two) = (first.client().await, second.client().await);
    reaches(&mut one, pb::Mode::Exact).await;
    reaches(&mut two, pb::Mode::Exact).await;
    let lease = |id: &str| connection(&["sockets"], "7", id);
    for id in ["a", "b", "c"] {
        assert!(acquire(&mut one, lease(id)).await.lease.is_some());
    }
    assert!(acquire(&mut two, lease("d")).await.lease.is_none());
    drop(first.stop("KILL").await);
    assert_eq!(renew(&mut two, vec![lease("a"), lease("ghost")]).await, [State::Held, State::Lost]);
    assert!(release(&mut two, lease("b")).await);
    assert!(acquire(&mut two, lease("d")).await.lease.is_some());
    assert!(acquire(&mut two, lease("e")).await.lease.is_none());
    // Nobody renews: all come back within one TTL.
    let start = Instant::now();
    until("the leases end", async || acquire(&mut two, lease("e")).await.lease.is_some()).await;
    // Two seconds, and what a busy machine adds.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test]
async fn renewals_while_redis_is_away_are_unknown_and_take_no_time() {
    let redis = Server::start(Kind::Redis7);
    let quotad = start(&redis);
    let mut client = quotad.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    let lease = connection(&["sockets"], "7", "a");
    assert!(acquire(&mut client, lease.clone()).await.lease.is_some());
    redis.kill();
    reaches(&mut client, pb::Mode::Local).await;
    let start = Instant::now();
    assert_eq!(renew(&mut client, vec![lease]).await, [State::Unknown]);
    assert!(start.elapsed() < TIMEOUT / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn leases_of_an_outage_are_taken_on_redis_when_it_is_back_while_there_is_room() {
    let redis = Server::start(Kind::Redis7);
    let quotads = [start(&redis), start(&redis)];
    let (mut one, mut two) = (quotads[0].client().await, quotads[1].client().await);
    reaches(&mut one, pb::Mode::Exact).await;
    reaches(&mut two, pb::Mode::Exact).await;
    let lease = |user: &str, id: &str| connection(&["rooms"], user, id);
    redis.kill();
    reaches(&mut one, pb::Mode::Local).await;
    for user in ["room", "full"] {
        let taken = acquire(&mut one, lease(user, "local")).await;
        assert_eq!(taken.decision.unwrap().mode(), pb::Mode::Local);
        assert!(taken.lease.is_some());
    }
    assert_eq!(renew(&mut one, vec![lease("room", "local")]).await, [State::Unknown]);
    redis.restart();
    for client in [&mut one, &mut two] {
        reaches(client, pb::Mode::Exact).await;
        renews(client).await;
    }
    for id in ["x", "y", "z"] {
        assert!(acquire(&mut two, lease("full", id)).await.lease.is_some());
    }
    let batch =
        || vec![lease("room", "local"), lease("room", "ghost"), lease("full", "local"), lease("full", "x")];
    for _ in 0..2 {
        // The store knows it now, and so does every replica.
        let states = renew(&mut one, batch()).await;
        assert_eq!(states, [State::Held, State::Lost, State::Lost, State::Held]);
        assert_eq!(renew(&mut two, batch()).await, states);
    }
    for (id, room) in [("b", true), ("c", true), ("d", false)] {
        assert_eq!(acquire(&mut two, lease("room", id)).await.lease.is_some(), room, "{id}");
    }
    assert!(release(&mut two, lease("room", "local")).await);
    assert_eq!(renew(&mut one, vec![lease("room", "local")]).await, [State::Lost], "given back is gone");
}

#[tokio::test]
async fn a_token_whose_revocation_cannot_be_read_is_a_503_and_a_forged_one_stays_a_401() {
    let redis = Server::start(Kind::Redis7);
    let quotad = start(&redis);
    let mut client = quotad.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    let token = mint(&quotad.config_path(), "alice");
    let validate = async |client: &mut Client, token: &str| {
        let request = pb::ValidateTokenRequest { token: token.to_owned(), ..Default::default() };
        client.validate_token(request).await.unwrap().into_inner().decision.unwrap()
    };
    let private = |token: &str| pb::AuthorizeRequest {
        http: Some(pb::HttpRequest {
            method: "GET".into(),
            path: "/private".into(),
            peer_address: "203.0.113.9".into(),
            ..Default::default()
        }),
        token: Some(token.to_owned()),
        ..Default::default()
    };
    assert_eq!(validate(&mut client, &token).await.reason(), pb::Reason::TokenValid);
    redis.kill();
    reaches(&mut client, pb::Mode::Local).await;
    for decision in [
        validate(&mut client, &token).await,
        client.authorize(private(&token)).await.unwrap().into_inner().decision.unwrap(),
    ] {
        assert_eq!((decision.outcome(), decision.http_status), (pb::Outcome::Deny, 503));
        assert_eq!(
            (decision.reason(), decision.mode()),
            (pb::Reason::StoreUnavailable, pb::Mode::FailedClosed)
        );
        assert_eq!(crate::harness::body(&decision)["code"], "TOKEN_CHECK_UNAVAILABLE");
        assert!(header(&decision, "Retry-After").is_some());
    }
    assert_eq!(validate(&mut client, "x.y.z").await.http_status, 401, "a forged token needs no store");
    let revoke =
        pb::RevokeTokenRequest { target: Some(pb::revoke_token_request::Target::Token(token.clone())) };
    assert_eq!(client.revoke_token(revoke.clone()).await.unwrap_err().code(), tonic::Code::Unavailable);
    redis.restart();
    reaches(&mut client, pb::Mode::Exact).await;
    assert!(client.revoke_token(revoke).await.unwrap().into_inner().newly_revoked);
    assert_eq!(validate(&mut client, &token).await.reason(), pb::Reason::TokenRevoked);
}

#[tokio::test]
async fn an_applications_own_revocation_key_counts() {
    let redis = Server::start(Kind::Redis7);
    let config = CONFIG.replace(
        "generate: true}}",
        "generate: true}, require: [sub, jti, exp], revoked_key: \"blacklisted_access_token:{jti}\"}",
    );
    let quotad = Start::with(&format!("store: {{url: \"{}\", timeout: 10s}}\n{config}", redis.url())).start();
    let mut client = quotad.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    let token = mint(&quotad.config_path(), "alice");
    let validate = async |client: &mut Client| {
        let request = pb::ValidateTokenRequest { token: token.clone(), ..Default::default() };
        client.validate_token(request).await.unwrap().into_inner()
    };
    let good = validate(&mut client).await;
    assert_eq!(good.decision.unwrap().reason(), pb::Reason::TokenValid);
    let key = format!("blacklisted_access_token:{}", good.claims.unwrap().token_id);
    assert_eq!(redis.client().run(&["SET", &key, "1", "EX", "60"]), "OK");
    assert_eq!(validate(&mut client).await.decision.unwrap().reason(), pb::Reason::TokenRevoked);
}

/// A certificate for 127.0.0.1 and its key as files, and what they are signed by.
fn certificate(folder: &std::path::Path) -> [std::path::PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}

#[tokio::test]
async fn speaks_tls_with_a_redis_that_it_can_trust_and_with_no_other() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [cert, key] = certificate(folder.path());
    let [stranger, _] = certificate(other.path());
    let port = crate::server::free_port();
    let [cert_text, key_text] = [&cert, &key].map(|path| path.to_str().unwrap());
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", cert_text, "--tls-key-file", key_text];
    let _redis = Server::start_with(Kind::Redis7, &[&tls[..], &["--tls-auth-clients", "no"]].concat());
    let start = |port: u16, trusted: &std::path::Path| {
        let url = format!("rediss://127.0.0.1:{port}");
        let start = Start::with(CONFIG).arg("--store").arg(url).arg("--store-timeout").arg("10s");
        start.variable("SSL_CERT_FILE", trusted.to_str().unwrap()).start()
    };
    let trusting = start(port, &cert);
    let mut client = trusting.client().await;
    reaches(&mut client, pb::Mode::Exact).await;
    let many: Vec<_> = (0..2_000).map(|i| format!("2001:db8:{i:x}::1")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for ip in many {
        let mut client = client.clone();
        tasks.spawn(async move { decide(&mut client, check("wide", &[("ip", &ip)])).await.mode() });
    }
    let modes = tasks.join_all().await;
    assert!(modes.iter().all(|mode| *mode == pb::Mode::Exact), "full batches go through TLS too");

    let (counting, attempts) = counted(port).await;
    let doubting = start(counting, &stranger);
    let mut client = doubting.client().await;
    until("attempts to connect", async || attempts.load(Ordering::Relaxed) >= 4).await;
    assert_eq!(mode(&mut client, "wide").await, Some(pb::Mode::Local));
}

/// A port that leads to another one, and how many connections it has led there.
async fn counted(to: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let mut other = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            // Whoever ends it, it is over.
            let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
        }
    });
    (port, count)
}
