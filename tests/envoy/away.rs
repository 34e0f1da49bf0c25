//! Sockets behind Envoy while the store is away or quotad drains: what ended is given back when that is possible again,
//! what goes on keeps its lease, and nothing is held longer than a TTL.

use crate::bed::{Bed, Place, Plan};
use crate::client::{Ask, Socket};
use crate::harness::until;
use crate::leases::{Way, enter, enter_soon, handshake, plan, refused};
use std::time::{Duration, Instant};

/// A token whose revocation cannot be read is good here.
pub fn trusting(plan: Plan) -> Plan {
    plan.quotad(
        "require: [sub, jti, iat, exp]\n",
        "require: [sub, jti, iat, exp]\n    on_store_error: allow\n",
    )
}

/// Outlasts an outage of a third of it, with the start of a server.
const TTL: Duration = Duration::from_secs(15);

fn lasting(way: Way) -> Plan {
    let plan = plan(way).quotad("lease_ttl: 30s", "lease_ttl: 15s");
    match way {
        Way::AccessLog => plan.envoy("access_log_flush_interval: 10s", "access_log_flush_interval: 0.5s"),
        Way::ExtProc | Way::RateLimit => plan,
    }
}

/// A socket that ends while the store is away is given back when the store returns, long before its TTL is over.
async fn ends_without_a_store(way: Way) {
    let from = Instant::now();
    let plan = if way == Way::RateLimit { plan(way) } else { trusting(plan(way)) };
    let bed = plan.on(Place::KeptRedis).start().await;
    let ask = handshake(&bed, way);
    let (first, mut second) = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    refused(&bed, way, &ask).await;
    bed.kill_redis();
    drop(first);
    // quotad counts by itself now, from nothing. One of these that is free again tells that the first end came to it.
    let (third, fourth) = (enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await);
    refused(&bed, way, &ask).await;
    drop(third);
    let fifth = enter_soon(&bed, &ask).await;
    drop((fourth, fifth));
    bed.restart_redis().await;
    let _sixth = enter_soon(&bed, &ask).await;
    refused(&bed, way, &ask).await;
    assert!(second.talks().await);
    assert!(from.elapsed() < Duration::from_secs(30), "by its TTL alone: {:?}", from.elapsed());
}

#[tokio::test]
async fn a_socket_that_ends_without_a_store_is_given_back_later_by_access_log() {
    ends_without_a_store(Way::AccessLog).await;
}

#[tokio::test]
async fn a_socket_that_ends_without_a_store_is_given_back_later_by_ext_proc() {
    ends_without_a_store(Way::ExtProc).await;
}

#[tokio::test]
async fn a_socket_that_ends_without_a_store_is_given_back_later_by_rate_limit() {
    ends_without_a_store(Way::RateLimit).await;
}

/// The sockets keep their leases for this long.
async fn keep(bed: &Bed, (way, ask): (Way, &Ask), held: &mut (Socket, Socket), span: Duration) {
    let from = Instant::now();
    until("the time passes", async || {
        refused(bed, way, ask).await;
        from.elapsed() > span
    })
    .await;
    assert!(held.0.talks().await && held.1.talks().await);
}

/// Renewals that find no store are dropped, and the next ones keep what is held.
async fn outlives_an_outage(way: Way) {
    let bed = trusting(lasting(way)).on(Place::KeptRedis).start().await;
    let ask = handshake(&bed, way);
    let mut held = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    refused(&bed, way, &ask).await;
    bed.kill_redis();
    let from = Instant::now();
    until("a renewal is dropped", async || {
        assert!(held.0.talks().await && held.1.talks().await);
        from.elapsed() > TTL / 3 + Duration::from_millis(200)
    })
    .await;
    bed.restart_redis().await;
    assert!(from.elapsed() < TTL * 2 / 3, "too slow a machine to tell: {:?}", from.elapsed());
    keep(&bed, (way, &ask), &mut held, TTL + Duration::from_secs(1)).await;
    drop(held);
    drop((enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await));
}

#[tokio::test]
async fn sockets_keep_their_leases_through_an_outage_of_the_store_by_access_log() {
    outlives_an_outage(Way::AccessLog).await;
}

#[tokio::test]
async fn sockets_keep_their_leases_through_an_outage_of_the_store_by_ext_proc() {
    outlives_an_outage(Way::ExtProc).await;
}

/// Leases that Redis knows of.
fn leases(bed: &Bed) -> usize {
    let mut redis = bed.redis.as_ref().unwrap().client();
    let keys = redis.run(&["KEYS", "*sockets-per-user*"]);
    keys.lines().map(|key| redis.run(&["ZCARD", key]).parse::<usize>().unwrap()).sum()
}

#[tokio::test]
async fn a_quotad_that_drains_frees_no_lease_of_the_access_log_and_keeps_none_too_long() {
    let mut bed = lasting(Way::AccessLog).on(Place::Redis).start().await;
    let way = Way::AccessLog;
    let ask = handshake(&bed, way);
    let mut held = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    until("the log is open", async || bed.envoy.stat("access_logs.grpc_access_log.logs_written").await >= 2)
        .await;
    let folder = bed.drain_quotad().await;
    assert!(held.0.talks().await && held.1.talks().await, "the log ends no socket");
    assert_eq!(leases(&bed), 2, "nor does its end free a lease");
    bed.resume_quotad(folder).await;
    // Envoy has opened its log again, or these would have ended.
    keep(&bed, (way, &ask), &mut held, TTL + Duration::from_secs(1)).await;
    let folder = bed.drain_quotad().await;
    let from = Instant::now();
    drop(held);
    bed.resume_quotad(folder).await;
    drop((enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await));
    assert!(from.elapsed() < TTL + Duration::from_secs(3), "{:?}", from.elapsed());
}
