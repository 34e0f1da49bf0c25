//! The bytes that the embedded store counts against its cap, beside those that the process grows by. It is one test in a
//! process of its own, for others would grow it too.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use futures_util::FutureExt as _;
use quotad::engine::ask::{Ask, Demand, Take, Weight};
use quotad::engine::bucket::Bucket;
use quotad::engine::key::Key;
use quotad::engine::leases::Leases;
use quotad::engine::rule::Rule;
use quotad::engine::units::Micros;
use quotad::engine::window::Window;
use quotad::store::Store as _;
use quotad::store::memory::{MemoryOptions, MemoryStore, StoreClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CAP: usize = 48 << 20;
const HOUR: Micros = Micros(3_600_000_000);
const PAGE: usize = 4_096;

/// A flood: its rule, its keys, what each of them is asked for, and the time between two rounds.
struct Flood {
    name: &'static str,
    rule: Rule,
    keys: usize,
    rounds: usize,
    pause: u64,
    has_request_id: bool,
}

#[test]
fn what_is_counted_is_what_the_process_grows_by() {
    let window = |limit| Rule::Window(Window::new(limit, HOUR));
    let bucket = Rule::Bucket(Bucket::new(100, HOUR, 100));
    let leases = Rule::Leases(Leases { limit: 5, ttl: HOUR });
    let flood =
        |name, rule, keys, rounds| Flood { name, rule, keys, rounds, pause: 1, has_request_id: false };
    let floods = [
        flood("buckets", bucket, 600_000, 1),
        flood("logs of 64", window(64), 40_000, 64),
        Flood { pause: HOUR.0 / 61, ..flood("windows of 61", window(1_000), 40_000, 61) },
        flood("leases", leases, 100_000, 5),
        flood("leases of one key", Rule::Leases(Leases { limit: 1_000_000, ttl: HOUR }), 1, 400_000),
        Flood { has_request_id: true, ..flood("request ids", bucket, 1, 200_000) },
    ];
    // All of them stay, for what one gave back would hide what the next takes.
    let mut stores = Vec::new();
    for flood in floods {
        let at = Arc::new(AtomicU64::new(HOUR.0 * 472_222));
        let clock = StoreClock::Manual(Arc::clone(&at));
        let options = MemoryOptions { max_memory: CAP, clock, ..MemoryOptions::default() };
        let store = MemoryStore::new(options).unwrap();
        let before = resident();
        for round in 0..flood.rounds {
            for who in 0..flood.keys {
                store.take(ask(&flood, who, round), Duration::MAX).now_or_never().unwrap().unwrap();
            }
            at.fetch_add(flood.pause, Ordering::SeqCst);
        }
        let (counted, grown) = (store.memory(), resident().saturating_sub(before));
        eprintln!(
            "{}: {counted} bytes are counted, the process grew by {grown}; {} keys",
            flood.name,
            store.size().0
        );
        assert!(counted > CAP / 2 && counted < CAP, "{}: {counted}", flood.name);
        assert!(grown < CAP, "{}: the process grew by {grown}", flood.name);
        assert!(grown > counted / 4, "{}: {counted} are counted and the process grew by {grown}", flood.name);
        stores.push(store);
    }
}

fn ask(flood: &Flood, who: usize, round: usize) -> Ask {
    let demand = Demand {
        key: Key::new("d", flood.name, [("who", who.to_string().as_str())].into_iter(), &flood.rule),
        rule: flood.rule,
        cost: 1,
        take: Take::Charge,
        weight: Weight::Enforced,
        lease: Some(format!("{who:016x}{round:016x}").into()),
    };
    let request_id = flood.has_request_id.then(|| round.to_string().into());
    Ask { demands: std::iter::once(demand).collect(), request_id, ..Ask::default() }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}
