//! Floods of every kind of state against a small cap: what is counted stays below it, and nobody else notices.

use super::{MemoryOptions, MemoryStore, StoreClock};
use crate::engine::ask::{Answer, Ask, Demand, Take, Weight};
use crate::engine::bucket::Bucket;
use crate::engine::fixed::Fixed;
use crate::engine::key::Key;
use crate::engine::leases::Leases;
use crate::engine::rule::Rule;
use crate::engine::units::Micros;
use crate::engine::window::Window;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CAP: usize = 16 << 20;
/// Keys whose logs grow.
const KEYS: usize = 40_000;
const HOUR: Micros = Micros(3_600_000_000);
const KINDS: [Rule; 4] = [
    Rule::Bucket(Bucket { limit: 10, window: HOUR, burst: 10, emission: HOUR.0 / 10 }),
    Rule::Fixed(Fixed { limit: 10, window: HOUR }),
    Rule::Window(Window { limit: 10, window: HOUR, grain: 1, span: HOUR.0 }),
    Rule::Leases(Leases { limit: 10, ttl: HOUR }),
];

struct World {
    store: MemoryStore,
    at: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        // The beginning of an hour, so that a calendar window does not end meanwhile.
        let at = Arc::new(AtomicU64::new(HOUR.0 * 472_222));
        let clock = StoreClock::Manual(Arc::clone(&at));
        let options = MemoryOptions { max_memory: CAP, clock, ..MemoryOptions::default() };
        Self { store: MemoryStore::new(options).unwrap(), at }
    }

    fn take(&self, policy: &str, who: usize, rule: Rule, lease: usize) -> Answer {
        self.at.fetch_add(1, Ordering::SeqCst);
        let ask = ask(policy, who, rule, lease);
        let answer = self.store.take_now(&ask);
        assert!(self.store.memory() < CAP, "{} bytes", self.store.memory());
        answer
    }

    /// New keys of a policy until thousands of them found no room.
    fn flood(&self, policy: &str, rule: Rule) -> usize {
        let before = self.store.overflowed();
        (0..)
            .find(|who| {
                self.take(policy, *who, rule, 0);
                self.store.overflowed() - before > 3_000
            })
            .unwrap()
    }
}

fn ask(policy: &str, who: usize, rule: Rule, lease: usize) -> Ask {
    let demand = Demand {
        key: Key::new("d", policy, [("who", who.to_string().as_str())].into_iter(), &rule),
        rule,
        cost: 1,
        take: Take::Charge,
        weight: Weight::Enforced,
        lease: Some(format!("{lease:032x}").into()),
    };
    Ask { demands: std::iter::once(demand).collect(), ..Ask::default() }
}

#[test]
fn a_flood_under_one_policy_leaves_new_keys_of_another_on_counters_of_their_own() {
    for flooding in KINDS {
        for other in KINDS {
            let world = World::new();
            let live = (0..3)
                .filter(|lease| world.take("flooded", usize::MAX, other, *lease).readings[0].fits)
                .count();
            assert_eq!(live, 3);
            world.flood("flooded", flooding);
            for who in 0..50 {
                let passed = (0..15).filter(|lease| world.take("calm", who, other, *lease).readings[0].fits);
                assert_eq!(
                    passed.count(),
                    10,
                    "{other:?} of a key that is new after a flood of {flooding:?}"
                );
            }
            let rest = (3..15)
                .filter(|lease| world.take("flooded", usize::MAX, other, *lease).readings[0].fits)
                .count();
            // A lease more needs a place; whatever else a key may still have it has without one.
            let is_without_place = matches!((flooding, other), (Rule::Leases(_), Rule::Leases(_)));
            let left = if is_without_place { 0 } else { 7 };
            assert_eq!(rest, left, "a live counter is intact: {other:?} after {flooding:?}");
        }
    }
}

#[test]
fn two_floods_leave_a_third_policy_alone_and_the_memory_of_all_comes_back() {
    let world = World::new();
    let keys = world.flood("one", KINDS[0]) + world.flood("two", KINDS[2]);
    for who in 0..50 {
        let passed = (0..15).filter(|_| world.take("calm", who, KINDS[0], 0).readings[0].fits);
        assert_eq!(passed.count(), 10);
    }
    let (held, tables) = (world.store.memory(), world.store.size().1);
    assert!(held > CAP / 2);
    world.at.fetch_add(2 * HOUR.0, Ordering::SeqCst);
    for who in 0..keys {
        world.take("calm", who % 1_500, KINDS[1], 0);
    }
    let (left, left_tables) = (world.store.memory(), world.store.size().1);
    assert!(left < held / 30, "{left} bytes of {held} are left");
    assert!(left_tables < tables / 8, "{left_tables} bytes of tables of {tables} are left");
}

#[test]
fn logs_that_cannot_grow_admit_no_more_than_the_limit_and_the_cap_holds() {
    for rule in [Rule::Window(Window::new(64, HOUR)), Rule::Window(Window::new(600, HOUR))] {
        let world = World::new();
        let mut passed = vec![0_u64; KEYS];
        // All keys come while their logs are short, and only then grow.
        for round in 0..70 {
            for who in (0..KEYS).take(if round < 2 { KEYS } else { KEYS / 4 }) {
                passed[who] += u64::from(world.take("flooded", who, rule, 0).readings[0].fits);
            }
            world.at.fetch_add(HOUR.0 / 80, Ordering::SeqCst);
        }
        assert!(world.store.memory() > CAP / 2, "full: {}", world.store.memory());
        let most = rule.limit();
        assert!(passed.iter().all(|passed| *passed <= most), "within an hour none has more than the limit");
        let exact = passed.iter().filter(|passed| **passed == most.min(70)).count();
        assert!(exact > 1_000, "{exact} keys have had all that is theirs");
    }
}

#[test]
fn leases_and_answers_beyond_the_memory_are_refused_and_not_kept() {
    let world = World::new();
    let rule = Rule::Leases(Leases { limit: 1_000_000, ttl: HOUR });
    let held =
        (0..400_000).take_while(|lease| world.take("sockets", 1, rule, *lease).readings[0].fits).count();
    assert!((10_000..400_000).contains(&held), "{held} leases of one key");
    let refused = world.take("sockets", 1, rule, 500_000).readings[0];
    assert!(!refused.fits && refused.retry_at.0 > world.at.load(Ordering::SeqCst));
    assert!(world.take("sockets", 1, rule, 5).readings[0].fits, "one that is held is taken again");

    let world = World::new();
    // Leases of new keys, of a limit that an overflow counter would need all the memory for.
    let passed = (0..90_000).filter(|who| world.take("sockets", *who, rule, *who).readings[0].fits).count();
    assert!((30_000..60_000).contains(&passed), "{passed} leases of as many keys");
    assert_eq!((0..15).filter(|_| world.take("calm", 1, KINDS[0], 0).readings[0].fits).count(), 10);

    let world = World::new();
    let request = |id: usize| Ask { request_id: Some(id.to_string().into()), ..ask("p", 1, KINDS[0], 0) };
    for id in 0..200_000 {
        assert!(!world.store.take_now(&request(id)).repeated);
        assert!(world.store.memory() < CAP);
    }
    assert!(world.store.memory() > CAP / 2);
    assert!(world.store.take_now(&request(7)).repeated && !world.store.take_now(&request(199_999)).repeated);
    let passed = (0..15).filter(|_| world.take("calm", 1, KINDS[0], 0).readings[0].fits);
    assert_eq!(passed.count(), 10);
}
