//! A renewal of thousands of leases, and callers on its thread who ask little.

use crate::connections::{connection, renew};
use crate::harness::{Client, PATIENCE, Quotad, check, decide, until};
use crate::slow::{Call, connect};
use crate::unread::framed;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use h2::SendStream;
use pb::renew_connections_response::State;
use prost::Message as _;
use quotad::pb::quotad::v1 as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONFIG: &str = r"
threads: 1
policies:
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 16000, lease_ttl: 1h}
  - {name: small, partition: [ip], limit: 1000, window: 1h}
";
const LEASES: usize = 16_000;
/// Most connections of one renewal.
const RENEWED: usize = 4_096;
const CALLERS: usize = 4;
/// One run that shares the thread is enough: what others do on the machine only hides it.
const RUNS: usize = 30;
/// Four for each caller; beside a renewal that is done in one go, none is answered but what was under way.
const ANSWERED: usize = 4 * CALLERS;

fn lease(index: usize) -> pb::Connection {
    connection(&["sockets"], "alice", &format!("lease-{index}"))
}

async fn hold_all(client: &Client) {
    let acquired = stream::iter(0..LEASES).map(async |index| {
        let request = pb::AcquireConnectionRequest { connection: Some(lease(index)) };
        let answer = client.clone().acquire_connection(request).await?.into_inner();
        assert!(answer.lease.is_some(), "{index}: {answer:?}");
        Ok::<_, tonic::Status>(())
    });
    acquired.buffer_unordered(64).try_collect::<Vec<_>>().await.unwrap();
}

/// Asks on and on, each time when the last answer has come, and tells from when to when it waited.
async fn ask_on(mut client: Client, asked: Arc<AtomicUsize>, is_done: Arc<AtomicBool>) -> Vec<[Instant; 2]> {
    let mut waits = Vec::new();
    let peek = pb::CheckLimitRequest { cost: Some(0), ..check("small", &[("ip", "192.0.2.1")]) };
    while !is_done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        decide(&mut client, peek.clone()).await;
        waits.push([begun, Instant::now()]);
        asked.fetch_add(1, Ordering::Relaxed);
    }
    waits
}

/// What callers saw of a renewal.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// From its last byte sent to the first of its answer: what comes before and after is the coming and going of bytes.
    renewal: Duration,
    /// The longest wait of a caller that touched it.
    slowest: Duration,
    /// Checks that were asked and answered within it.
    answered: usize,
}

/// Sends bytes as the peer makes room for them.
async fn send(message: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        message.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|context| message.poll_capacity(context));
        let room = tokio::time::timeout(PATIENCE, room).await.expect("room in time").unwrap().unwrap();
        message.send_data(bytes.split_to(room.min(bytes.len())), false).unwrap();
    }
}

async fn renew_beside_callers(quotad: &Quotad) -> Seen {
    let (asked, is_done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let ask = ask_on(quotad.client().await, Arc::clone(&asked), Arc::clone(&is_done));
        callers.push(tokio::spawn(ask));
    }
    until("the callers are under way", async || asked.load(Ordering::Relaxed) > CALLERS * 10).await;
    let request = pb::RenewConnectionsRequest { connections: (0..RENEWED).map(lease).collect() };
    let client = connect(&quotad.address).await;
    let mut call = Call::open(&client, "quotad.v1.DecisionService/RenewConnections", None).await;
    let mut bytes = Bytes::from(framed(&request.encode_to_vec()));
    let last = bytes.split_off(bytes.len() - 1);
    send(&mut call.message, bytes).await;
    let before = asked.load(Ordering::Relaxed);
    until("all but the last byte is there", async || asked.load(Ordering::Relaxed) > before + CALLERS * 10)
        .await;
    let begun = Instant::now();
    call.message.send_data(last, true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, &mut call.answer).await.expect("an answer in time").unwrap();
    let ended = Instant::now();
    assert_eq!(answer.status(), 200);
    is_done.store(true, Ordering::Relaxed);
    let mut seen = Seen { renewal: ended - begun, slowest: Duration::ZERO, answered: 0 };
    for caller in callers {
        for [from, to] in caller.await.unwrap() {
            if to > begun && from < ended {
                seen.slowest = seen.slowest.max(to - from);
                seen.answered += usize::from(from >= begun && to <= ended);
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_answered_between_the_pieces_of_a_renewal_of_thousands() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    hold_all(&client).await;
    let states = renew(&mut client, (0..RENEWED).map(lease).collect()).await;
    assert_eq!(states, [State::Held; RENEWED]);
    let is_shared = |seen: &Seen| seen.slowest * 2 <= seen.renewal && seen.answered >= ANSWERED;
    let mut seen = Vec::new();
    while !seen.last().is_some_and(is_shared) {
        assert!(seen.len() < RUNS, "{seen:?}");
        seen.push(renew_beside_callers(&quotad).await);
    }
}
