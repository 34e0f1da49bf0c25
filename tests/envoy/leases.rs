//! Sockets behind Envoy, by each of the three ways to lease them: a socket that ends, however it does, is given back,
//! an attempt that is refused gives nothing back, and an Envoy that is gone holds nothing longer than a TTL.

use crate::bed::{Bed, Place, Plan};
use crate::client::{Ask, Socket};
use crate::harness::{PATIENCE, until};
use std::time::{Duration, Instant};

/// Of the tests that wait for one; what is shipped, [`SHIPPED`] at least, is longer than a test's patience.
const SHORT: Duration = Duration::from_secs(2);
const SHIPPED: Duration = Duration::from_secs(30);

/// Who tells quotad about sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    AccessLog,
    ExtProc,
    RateLimit,
}

pub fn plan(way: Way) -> Plan {
    match way {
        Way::AccessLog => Plan::of("ext-authz"),
        Way::ExtProc => Plan::of("ext-proc"),
        Way::RateLimit => Plan::of("rate-limit-leases"),
    }
}

fn short_lived(way: Way) -> Plan {
    match way {
        Way::AccessLog => plan(way)
            .envoy("access_log_flush_interval: 10s", "access_log_flush_interval: 0.5s")
            .quotad("lease_ttl: 30s", "lease_ttl: 2s"),
        Way::ExtProc => plan(way).quotad("lease_ttl: 30s", "lease_ttl: 2s"),
        Way::RateLimit => plan(way).quotad("lease_ttl: 1h", "lease_ttl: 2s"),
    }
}

pub fn handshake(bed: &Bed, way: Way) -> Ask {
    let ask = Ask::get("/ws/chat");
    if way == Way::RateLimit { ask } else { ask.bearer(&bed.token("alice")) }
}

/// A socket that must be let in.
pub async fn enter(bed: &Bed, ask: &Ask) -> Socket {
    let mut socket = bed.open(ask).await;
    assert_eq!(socket.answer.status, 101, "{:?}", socket.answer);
    assert!(socket.talks().await);
    socket
}

pub async fn refused(bed: &Bed, way: Way, ask: &Ask) {
    let answer = bed.open(ask).await.answer;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()["code"], "RATE_LIMIT_EXCEEDED", "{answer:?}");
    assert!(answer.json()["message"].as_str().unwrap().contains("open connections"), "{answer:?}");
    assert_eq!(answer.once("content-type"), "application/json");
    if way != Way::RateLimit {
        assert_eq!(answer.once("x-frame-options"), "DENY");
    }
}

/// A socket that is let in as soon as a lease is free.
pub async fn enter_soon(bed: &Bed, ask: &Ask) -> Socket {
    let mut entered = None;
    until("a lease is free", async || {
        let socket = bed.open(ask).await;
        assert!([101, 429].contains(&socket.answer.status), "{:?}", socket.answer);
        entered = (socket.answer.status == 101).then_some(socket);
        entered.is_some()
    })
    .await;
    entered.unwrap()
}

/// Sockets end, in each way that they can: no TTL has passed when their leases are free again.
async fn come_and_go(way: Way, place: Place) {
    let from = Instant::now();
    let bed = plan(way).on(place).start().await;
    let ask = handshake(&bed, way);
    let first = enter(&bed, &ask).await;
    let mut second = enter(&bed, &ask).await;
    // Their ends are told too, and free nothing.
    for _ in 0..6 {
        refused(&bed, way, &ask).await;
    }
    assert!(second.talks().await);
    drop(first);
    let third = enter_soon(&bed, &ask).await;
    refused(&bed, way, &ask).await;
    third.reset();
    let fourth = enter_soon(&bed, &ask).await;
    refused(&bed, way, &ask).await;
    drop((second, fourth));
    let both = (enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await);
    refused(&bed, way, &ask).await;
    drop(both);
    assert!(from.elapsed() < SHIPPED, "{:?}", from.elapsed());
}

/// Sockets that live longer than a TTL keep their leases.
async fn outlive_a_ttl(way: Way, place: Place) {
    let bed = short_lived(way).on(place).start().await;
    let ask = handshake(&bed, way);
    let mut held = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    let from = Instant::now();
    until("two TTLs pass", async || {
        refused(&bed, way, &ask).await;
        from.elapsed() > SHORT * 2
    })
    .await;
    assert!(held.0.talks().await && held.1.talks().await);
    drop(held);
    drop((enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await));
}

#[tokio::test]
async fn sockets_come_and_go_by_access_log() {
    come_and_go(Way::AccessLog, Place::Memory).await;
}

#[tokio::test]
async fn sockets_come_and_go_by_access_log_with_redis() {
    come_and_go(Way::AccessLog, Place::Redis).await;
}

#[tokio::test]
async fn sockets_come_and_go_by_ext_proc() {
    come_and_go(Way::ExtProc, Place::Memory).await;
}

#[tokio::test]
async fn sockets_come_and_go_by_ext_proc_with_redis() {
    come_and_go(Way::ExtProc, Place::Redis).await;
}

#[tokio::test]
async fn sockets_come_and_go_by_rate_limit() {
    come_and_go(Way::RateLimit, Place::Memory).await;
}

#[tokio::test]
async fn sockets_come_and_go_by_rate_limit_with_redis() {
    come_and_go(Way::RateLimit, Place::Redis).await;
}

/// Of many that come at once the limit is let in, not one more.
async fn come_at_once(way: Way, place: Place) {
    let bed = plan(way).on(place).start().await;
    let ask = handshake(&bed, way);
    let sockets = futures_util::future::join_all((0..24).map(|_| bed.open(&ask))).await;
    let with = |status| sockets.iter().filter(|socket| socket.answer.status == status).count();
    assert_eq!((with(101), with(429)), (2, 22));
    refused(&bed, way, &ask).await;
}

#[tokio::test]
async fn of_many_sockets_at_once_the_limit_is_let_in_by_access_log() {
    come_at_once(Way::AccessLog, Place::Redis).await;
}

#[tokio::test]
async fn of_many_sockets_at_once_the_limit_is_let_in_by_ext_proc() {
    come_at_once(Way::ExtProc, Place::Redis).await;
}

#[tokio::test]
async fn of_many_sockets_at_once_the_limit_is_let_in_by_rate_limit() {
    come_at_once(Way::RateLimit, Place::Memory).await;
    come_at_once(Way::RateLimit, Place::Redis).await;
}

#[tokio::test]
async fn sockets_keep_their_leases_by_access_log() {
    outlive_a_ttl(Way::AccessLog, Place::Memory).await;
}

#[tokio::test]
async fn sockets_keep_their_leases_by_access_log_with_redis() {
    outlive_a_ttl(Way::AccessLog, Place::Redis).await;
}

#[tokio::test]
async fn sockets_keep_their_leases_by_ext_proc() {
    outlive_a_ttl(Way::ExtProc, Place::Memory).await;
}

#[tokio::test]
async fn sockets_keep_their_leases_by_ext_proc_with_redis() {
    outlive_a_ttl(Way::ExtProc, Place::Redis).await;
}

/// The application says no to a handshake that quotad let in.
async fn handshake_fails(way: Way) {
    let bed = plan(way).start().await;
    let ask = handshake(&bed, way);
    let held = enter(&bed, &ask).await;
    let refuse = if way == Way::RateLimit {
        Ask::get("/ws/refuse")
    } else {
        Ask::get(&format!("/ws/refuse?token={}", bed.token("alice")))
    };
    for _ in 0..4 {
        until("the application refuses", async || {
            let status = bed.open(&refuse).await.answer.status;
            assert!([400, 429].contains(&status), "{status}");
            status == 400
        })
        .await;
    }
    let last = enter_soon(&bed, &ask).await;
    refused(&bed, way, &ask).await;
    drop((held, last));
}

#[tokio::test]
async fn a_refused_handshake_holds_nothing_by_access_log() {
    handshake_fails(Way::AccessLog).await;
}

#[tokio::test]
async fn a_refused_handshake_holds_nothing_by_ext_proc() {
    handshake_fails(Way::ExtProc).await;
}

#[tokio::test]
async fn a_refused_handshake_holds_nothing_by_rate_limit() {
    handshake_fails(Way::RateLimit).await;
}

/// Envoy ends, and what it held is free within this plan's TTL.
async fn envoy_ends(way: Way, plan: Plan, (signal, ttl): (&str, Duration)) {
    let mut bed = plan.start().await;
    let ask = handshake(&bed, way);
    let mut held = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    refused(&bed, way, &ask).await;
    bed.envoy.signal(signal);
    until("Envoy is gone", async || !held.0.talks().await && !held.1.talks().await).await;
    let from = Instant::now();
    bed.start_envoy().await;
    let again = (enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await);
    // A start of Envoy is in it.
    assert!(from.elapsed() < ttl + Duration::from_secs(5), "{way:?} {signal}: {:?}", from.elapsed());
    refused(&bed, way, &ask).await;
    drop(again);
}

/// Free without waiting for the TTL that is shipped.
const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn an_envoy_that_ends_holds_nothing_longer_than_a_ttl_by_access_log() {
    envoy_ends(Way::AccessLog, plan(Way::AccessLog), ("TERM", AT_ONCE)).await;
    envoy_ends(Way::AccessLog, short_lived(Way::AccessLog), ("KILL", SHORT)).await;
}

#[tokio::test]
async fn an_envoy_that_ends_holds_nothing_at_all_by_ext_proc() {
    envoy_ends(Way::ExtProc, plan(Way::ExtProc), ("TERM", AT_ONCE)).await;
    envoy_ends(Way::ExtProc, plan(Way::ExtProc), ("KILL", AT_ONCE)).await;
}

#[tokio::test]
async fn an_envoy_that_ends_holds_nothing_longer_than_a_ttl_by_rate_limit() {
    for signal in ["TERM", "KILL"] {
        envoy_ends(Way::RateLimit, short_lived(Way::RateLimit), (signal, SHORT)).await;
    }
}

#[tokio::test]
async fn an_envoy_that_is_killed_holds_nothing_longer_than_a_ttl_by_rate_limit_with_redis() {
    let plan = short_lived(Way::RateLimit).on(Place::Redis);
    envoy_ends(Way::RateLimit, plan, ("KILL", SHORT)).await;
}

async fn sockets_need_tokens(way: Way) {
    let bed = plan(way).start().await;
    let missing = bed.open(&Ask::get("/ws/chat").header("x-user-id", "admin")).await.answer;
    assert_eq!(
        (missing.status, missing.json()["code"].as_str()),
        (401, Some("TOKEN_MISSING")),
        "{missing:?}"
    );
    assert_eq!(missing.once("www-authenticate"), "Bearer");
    let bad = bed.open(&Ask::get("/ws/chat?token=x.y.z")).await.answer;
    assert_eq!((bad.status, bad.json()["code"].as_str()), (401, Some("TOKEN_INVALID")), "{bad:?}");
    let token = bed.token("alice");
    let told = bed.send(&Ask::get("/ws/info").header("x-user-id", "admin").bearer(&token)).await;
    assert_eq!((told.status, told.reached("x-user-id")), (200, vec!["alice".to_owned()]), "{way:?} {told:?}");
    assert_eq!(told.once("x-frame-options"), "DENY");
    let spoofed = bed.send(&Ask::post("/login").header("x-user-id", "admin")).await;
    assert!(spoofed.reached("x-user-id").is_empty(), "{spoofed:?}");
}

#[tokio::test]
async fn a_socket_needs_a_good_token_and_tells_whose_it_is_by_ext_authz() {
    sockets_need_tokens(Way::AccessLog).await;
}

#[tokio::test]
async fn a_socket_needs_a_good_token_and_tells_whose_it_is_by_ext_proc() {
    sockets_need_tokens(Way::ExtProc).await;
}

#[tokio::test]
async fn a_socket_whose_subject_is_revoked_is_closed_by_ext_proc() {
    use quotad::pb::quotad::v1::{RevokeTokenRequest, revoke_token_request};
    let bed = short_lived(Way::ExtProc).start().await;
    let mut socket = enter(&bed, &handshake(&bed, Way::ExtProc)).await;
    let subject =
        revoke_token_request::Subject { issuer: "example-app".to_owned(), subject: "alice".to_owned() };
    let target = Some(revoke_token_request::Target::Subject(subject));
    let mut client = bed.quotad.as_ref().unwrap().client().await;
    client.revoke_token(RevokeTokenRequest { target }).await.unwrap();
    until("the socket is closed", async || !socket.talks().await).await;
}

#[tokio::test]
async fn a_quotad_that_is_killed_takes_its_sockets_along_by_ext_proc_only() {
    for way in [Way::ExtProc, Way::AccessLog] {
        let mut bed = plan(way).start().await;
        let mut socket = enter(&bed, &handshake(&bed, way)).await;
        let _folder = bed.kill_quotad().await;
        if way == Way::ExtProc {
            until("the socket is closed", async || !socket.talks().await).await;
        } else {
            until("Envoy misses quotad", async || {
                bed.envoy.stat("cluster.quotad.membership_healthy").await == 0
            })
            .await;
            assert!(socket.talks().await);
        }
    }
}

/// Calls that are under way when the age of their connection comes have this time.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn sockets_outlive_the_age_of_their_connection_and_new_ones_come_over_another_by_ext_proc() {
    const AGE: Duration = Duration::from_secs(3);
    let aged = plan(Way::ExtProc)
        .quotad("listen:\n", "listen:\n  max_connection_age: 3s\n")
        .quotad("limit: 2, lease_ttl: 30s", "limit: 6, lease_ttl: 30s");
    let bed = aged.start().await;
    let ask = handshake(&bed, Way::ExtProc);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(enter(&bed, &ask).await);
    }
    let from = Instant::now();
    let told = async || bed.envoy.stat("cluster.quotad.upstream_cx_close_notify").await;
    let opened = async || bed.envoy.stat("cluster.quotad.upstream_cx_total").await;
    let active = async || bed.envoy.stat("cluster.quotad.upstream_cx_active").await;
    // Envoy's only connection is the one that the sockets came over, and it is told that its age has come.
    until("their connection is of age", async || told().await > 0).await;
    let before = opened().await;
    held.push(enter(&bed, &ask).await);
    assert!(opened().await > before && active().await > 1, "{before}: a new one beside the old one");
    let talk_on = async {
        let mut ended = None;
        // Long after all that an age might have cut.
        let long = AGE * 2 + GRACE * 2;
        while ended.is_none() && from.elapsed() < long {
            for (index, socket) in held.iter_mut().enumerate() {
                if !socket.talks().await {
                    ended = Some((index, from.elapsed()));
                }
            }
            refused(&bed, Way::ExtProc, &ask).await;
            // The pace of people who talk.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ended
    };
    assert_eq!(talk_on.await, None, "a socket was cut by the age of a connection");
    assert!(told().await > 1, "the later connections came of age too");
    // One of the first connection and one of the second end, and each gives its lease back.
    for index in [5, 0] {
        drop(held.remove(index));
        held.push(enter_soon(&bed, &ask).await);
        refused(&bed, Way::ExtProc, &ask).await;
    }
    for socket in &mut held {
        assert!(socket.talks().await);
    }
    assert!(from.elapsed() < SHIPPED + PATIENCE, "{:?}", from.elapsed());
}

#[tokio::test]
async fn sockets_outlive_a_quotad_that_stops_by_ext_proc() {
    let mut bed = plan(Way::ExtProc).start().await;
    let mut socket = enter(&bed, &handshake(&bed, Way::ExtProc)).await;
    bed.quotad.take().unwrap().stop("TERM").await;
    assert!(socket.talks().await);
}
