//! A renewal of thousands of leases, and callers on its thread who ask little.

use crate::connections::{connection, renew};
use crate::harness::{Client, Quotad, check, decide, until};
use crate::slow::{Call, connect};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pb::renew_connections_response::State;
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
/// Of several runs the best counts: what others do on the machine only adds.
const RUNS: usize = 10;
/// Of 128 leases each; each caller is answered once between two of them.
const PIECES: usize = 32;
/// The longest wait of a caller is at most one of so many parts of the renewal: done in one go, it would be most of it.
const PARTS: u32 = 5;

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
    /// From its last byte sent to the last of its answer.
    renewal: Duration,
    /// The longest wait of a caller that touched it.
    slowest: Duration,
    /// Checks that were asked and answered within it.
    answered: usize,
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
    call.send(&request);
    let begun = Instant::now();
    assert_eq!(call.status().await.0, "0");
    let ended = Instant::now();
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
    let mut seen = Vec::new();
    for _ in 0..RUNS {
        seen.push(renew_beside_callers(&quotad).await);
    }
    eprintln!("{seen:?}");
    let is_shared = |seen: &Seen| seen.slowest * PARTS <= seen.renewal && seen.answered >= PIECES;
    assert!(seen.iter().any(is_shared), "{seen:#?}");
}
