//! ext_proc when somebody is away, and whose address it sees.

use crate::away::trusting;
use crate::bed::{Bed, Place, Plan};
use crate::client::{Ask, Socket};
use crate::harness::until;
use crate::leases::{Way, enter, enter_soon, handshake, plan, refused};

const OPEN: &str = "failure_mode_allow: true";
const CLOSED: &str = "failure_mode_allow: false";

fn failing(mode: &str) -> Plan {
    plan(Way::ExtProc).envoy(CLOSED, mode)
}

async fn settles_on(bed: &Bed, ask: &Ask, status: u16) {
    until(&format!("{status}"), async || bed.status(ask).await == status).await;
}

/// quotad is killed, and back later; meanwhile Envoy's failure mode decides.
async fn without_quotad(mode: &str, meanwhile: u16) {
    let mut bed = failing(mode).start().await;
    let (with, without) = (handshake(&bed, Way::ExtProc), Ask::get("/ws/info"));
    // A denial is no failure.
    assert_eq!(bed.status(&without).await, 401);
    drop(enter(&bed, &with).await);
    let seen = bed.app.seen();
    let folder = bed.kill_quotad().await;
    for _ in 0..4 {
        assert_eq!(bed.status(&without).await, meanwhile);
    }
    assert_eq!(bed.app.seen() > seen, meanwhile == 200);
    bed.start_quotad(folder);
    settles_on(&bed, &without, 401).await;
    // An Envoy that lets everything pass lets this pass too, so that the limit tells more than an open socket.
    let held = (enter(&bed, &with).await, enter(&bed, &with).await);
    refused(&bed, Way::ExtProc, &with).await;
    drop(held);
}

#[tokio::test]
async fn a_quotad_that_is_killed_refuses_with_503_until_it_is_back_by_ext_proc() {
    without_quotad(CLOSED, 503).await;
}

#[tokio::test]
async fn a_quotad_that_is_killed_lets_pass_where_envoy_is_told_so_by_ext_proc() {
    without_quotad(OPEN, 200).await;
}

/// The store is away, under a connection policy with this choice; requests that find it away settle on this status.
async fn without_a_store(choice: &str, mode: &str, status: u16) -> Bed {
    let told = format!("lease_ttl: 30s, on_store_error: {choice}}}");
    let plan = trusting(failing(mode)).quotad("lease_ttl: 30s}", &told);
    let bed = plan.on(Place::Redis).start().await;
    let ask = handshake(&bed, Way::ExtProc);
    drop((enter(&bed, &ask).await, enter(&bed, &ask).await));
    bed.kill_redis();
    until(&format!("{status}"), async || bed.open(&ask).await.answer.status == status).await;
    bed
}

/// The store is back and its limit in force.
async fn is_back(bed: &Bed) {
    bed.restart_redis().await;
    let ask = handshake(bed, Way::ExtProc);
    let _held = (enter_soon(bed, &ask).await, enter_soon(bed, &ask).await);
    refused(bed, Way::ExtProc, &ask).await;
}

#[tokio::test]
async fn without_a_store_local_holds_the_limit_here() {
    let bed = without_a_store("local", CLOSED, 101).await;
    let ask = handshake(&bed, Way::ExtProc);
    let held = (enter_soon(&bed, &ask).await, enter_soon(&bed, &ask).await);
    refused(&bed, Way::ExtProc, &ask).await;
    drop(held.0);
    let another = enter_soon(&bed, &ask).await;
    refused(&bed, Way::ExtProc, &ask).await;
    drop((held.1, another));
    is_back(&bed).await;
}

#[tokio::test]
async fn without_a_store_deny_is_a_response_whatever_envoys_failure_mode_is() {
    for mode in [CLOSED, OPEN] {
        let bed = without_a_store("deny", mode, 503).await;
        let denied = bed.open(&handshake(&bed, Way::ExtProc)).await.answer;
        assert_eq!((denied.status, &denied.json()["code"]), (503, &"RATE_LIMIT_UNAVAILABLE".into()));
        denied.once("retry-after");
        assert_eq!(denied.once("x-frame-options"), "DENY");
        is_back(&bed).await;
    }
}

#[tokio::test]
async fn without_a_store_allow_lets_every_socket_in() {
    let bed = without_a_store("allow", CLOSED, 101).await;
    let ask = handshake(&bed, Way::ExtProc);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(enter(&bed, &ask).await);
    }
    drop(held);
    is_back(&bed).await;
}

#[tokio::test]
async fn without_a_store_error_leaves_the_choice_to_envoy() {
    let bed = without_a_store("error", CLOSED, 503).await;
    let seen = bed.app.seen();
    let refused = bed.open(&handshake(&bed, Way::ExtProc)).await.answer;
    assert_eq!((refused.status, refused.body.as_str()), (503, ""), "Envoy's own answer");
    assert_eq!(bed.app.seen(), seen);
    is_back(&bed).await;
    let bed = without_a_store("error", OPEN, 101).await;
    let ask = handshake(&bed, Way::ExtProc);
    for _ in 0..5 {
        drop(enter(&bed, &ask).await);
    }
    assert_eq!(bed.status(&Ask::get("/ws/info")).await, 401, "a denial that needs no store is one still");
    is_back(&bed).await;
}

/// Sockets by the address of the peer.
fn by_address() -> Plan {
    plan(Way::ExtProc)
        .quotad("client_ip: metadata:x-client-ip", "client_ip: peer")
        .quotad("partition: [user], algorithm: concurrency", "partition: [ip], algorithm: concurrency")
        .quotad("token: required, connection", "connection")
}

fn by_attribute() -> Plan {
    let attribute = "message_timeout: 0.25s\n              request_attributes: [source.address]";
    by_address().envoy("message_timeout: 0.25s", attribute)
}

#[tokio::test]
async fn the_peer_is_the_client_and_what_a_client_claims_is_nothing() {
    let bed = by_attribute().start().await;
    let claims = |address: &str| {
        Ask::get("/ws/chat").header("x-forwarded-for", address).header("x-client-ip", address)
    };
    let open = async |from: [u8; 4], claimed: &str| {
        Socket::open_from(from, bed.envoy.address, &claims(claimed)).await
    };
    let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let mut held = Vec::new();
    for (from, claimed) in
        [(here, "203.0.113.1"), (here, "127.0.0.2"), (there, "203.0.113.1"), (there, "127.0.0.1")]
    {
        let socket = open(from, claimed).await;
        assert_eq!(socket.answer.status, 101, "{from:?}: {:?}", socket.answer);
        held.push(socket);
    }
    for (from, claimed) in
        [(here, "203.0.113.9"), (here, "127.0.0.2"), (there, "203.0.113.9"), (there, "127.0.0.1, 10.0.0.1")]
    {
        assert_eq!(open(from, claimed).await.answer.status, 429, "{from:?} claims {claimed}");
    }
    // One of its own goes, one of its own comes.
    drop(held.pop());
    until("a lease of that address is free", async || {
        let socket = open(there, "203.0.113.9").await;
        let entered = socket.answer.status == 101;
        held.push(socket);
        entered
    })
    .await;
    assert_eq!(open(here, "127.0.0.2").await.answer.status, 429);
}

#[tokio::test]
async fn an_envoy_that_is_told_to_believe_its_clients_tells_what_they_claim() {
    let bed = by_attribute().envoy("use_remote_address: true", "use_remote_address: false").start().await;
    let open = async |claimed: &str| {
        let claims = Ask::get("/ws/chat").header("x-forwarded-for", claimed);
        bed.open(&claims).await
    };
    // Four sockets of one client, where two are allowed: docs/envoy/leases.md warns of it.
    let mut held = Vec::new();
    for claimed in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.3"] {
        let socket = open(claimed).await;
        assert_eq!(socket.answer.status, 101, "{claimed}: {:?}", socket.answer);
        held.push(socket);
    }
    assert_eq!(open("203.0.113.3").await.answer.status, 429, "counted as claimed");
}

#[tokio::test]
async fn without_the_attribute_nobody_shares_a_counter() {
    let bed = by_address().start().await;
    let claims = Ask::get("/ws/chat").header("x-forwarded-for", "203.0.113.1");
    let refused = bed.open(&claims).await.answer;
    assert_eq!(refused.status, 403, "{refused:?}");
}
