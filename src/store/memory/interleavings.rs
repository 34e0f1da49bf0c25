//! Threads that meet on one key of the embedded store: held up at a bad place, in every order, and as fast as they go.
//!
//! Three ways to look for more than the limit, each on all algorithms and leases:
//!
//! - a clock that holds one thread up between its reading and whatever follows;
//! - a model: shuttle chooses who runs after each reading of the clock and before each lock, thousands of times;
//! - many threads on the real clock.
//!
//! None accuses falsely: only what was certainly admitted within an interval counts in it.

use super::{LeaseLimit, MemoryOptions, MemoryStore, Scripted, Shard, StoreClock};
use crate::clock;
use crate::engine::ask::{Ask, Demand, Take, Weight};
use crate::engine::bucket::Bucket;
use crate::engine::fixed::Fixed;
use crate::engine::key::Key;
use crate::engine::leases::Leases;
use crate::engine::rule::Rule;
use crate::engine::units::{Micros, Moment};
use crate::engine::window::Window;
use crate::store::HeldLease;
use parking_lot::{Mutex, MutexGuard};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

const START: u64 = 1_700_000_000_000_000;
/// Longer than a clock goes back without having jumped, so that a stall of some windows would pass for a jump.
const WINDOW: Micros = Micros(2_000_000);

thread_local! {
    /// Whether the threads here are those of a model: they all run on one thread of the system's.
    static IS_MODEL: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread's next reading of the clock holds it up.
    static IS_HELD_UP: Cell<bool> = const { Cell::new(false) };
}

/// In a model, a lock at which others may go first; a wait for it lets them run. None outside of one.
pub(super) fn lock(shard: &Mutex<Shard>) -> Option<MutexGuard<'_, Shard>> {
    if !IS_MODEL.get() {
        return None;
    }
    loop {
        shuttle::thread::yield_now();
        if let Some(guard) = shard.try_lock() {
            return Some(guard);
        }
    }
}

/// What was admitted, as its caller knows it: not before the one moment, not after the other.
#[derive(Clone, Copy, Debug)]
struct Admission {
    from: u64,
    to: u64,
}

/// Fails when more was admitted within one interval than the rule allows; each admission is one unit.
fn assert_bound(rule: &Rule, admitted: &[Admission]) {
    let mut ends: Vec<Admission> = admitted.to_vec();
    ends.sort_unstable_by_key(|one| one.to);
    for first in admitted {
        let mut units = 0;
        for one in ends.iter().filter(|one| one.from >= first.from) {
            let edge = |length: u64| (first.from / length + 1) * length;
            let allowed = match rule {
                Rule::Window(window) if one.to < first.from + window.window.0 => window.limit,
                Rule::Leases(leases) if one.to < first.from + leases.ttl.0 => leases.limit,
                Rule::Fixed(fixed) if one.to < edge(fixed.window.0) => fixed.limit,
                Rule::Bucket(bucket) if one.to < first.from + bucket.window.0 => {
                    bucket.burst + (one.to - first.from) / bucket.emission
                }
                _ => break,
            };
            units += 1;
            assert!(
                units <= allowed,
                "{units} units, at most {allowed}, in {} µs of {rule:?}",
                one.to - first.from
            );
        }
    }
}

/// The three tests of an algorithm; the rule is made from a limit and a window.
macro_rules! algorithm {
    ($name:ident, $rule:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn a_thread_that_was_held_up_hands_out_nothing_that_is_used_up() {
                for late in [Late::Charge, Late::Peek, Late::Renew, Late::Release] {
                    stall($rule(4, WINDOW), late);
                }
            }

            #[test]
            fn in_whatever_order_threads_go_on_none_gets_more_than_the_limit() {
                explore($rule(2, WINDOW));
            }

            #[test]
            fn many_threads_on_the_real_clock_get_no_more_than_the_limit() {
                hammer($rule(64, Micros(5_000)));
            }
        }
    };
}

algorithm!(exact_log, |limit, window| Rule::Window(Window::new(limit, window)));
algorithm!(sub_buckets, |limit, window: Micros| {
    // The form of limits above 64, which a model would take long to use up.
    Rule::Window(Window { grain: window.0.div_ceil(60), span: 61, ..Window::new(limit, window) })
});
algorithm!(token_bucket, |limit, window| Rule::Bucket(Bucket::new(limit, window, limit)));
algorithm!(fixed_window, |limit, window| Rule::Fixed(Fixed { limit, window }));
algorithm!(concurrency, |limit, ttl| Rule::Leases(Leases { limit, ttl }));

fn question(rule: Rule, take: Take, lease: &str) -> Ask {
    let key = Key::new("d", "p", [("who", "all")].into_iter(), &rule);
    let demand = Demand { key, rule, cost: 1, take, weight: Weight::Enforced, lease: Some(lease.into()) };
    Ask { demands: std::iter::once(demand).collect(), ..Ask::default() }
}

fn held(limit: Leases, id: &str) -> HeldLease {
    let key = Key::new("d", "p", [("who", "all")].into_iter(), &Rule::Leases(limit));
    let limits = std::iter::once(LeaseLimit { key, limit, weight: Weight::Enforced }).collect();
    HeldLease { id: id.into(), limits, token: None, token_ends: None }
}

fn store(clock: StoreClock) -> MemoryStore {
    MemoryStore::new(MemoryOptions { clock, ..MemoryOptions::default() }).unwrap()
}

/// One try, timed by the clock that the test sets; lease ids are used once.
fn attempt(store: &MemoryStore, rule: Rule, at: &AtomicU64, admitted: &Mutex<Vec<Admission>>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let (question, from) = (question(rule, Take::Charge, &id), at.load(Ordering::SeqCst));
    let passed = store.take_now(&question).passed(&question.demands);
    if passed {
        admitted.lock().push(Admission { from, to: at.load(Ordering::SeqCst) });
    }
}

/// What the thread that was held up does then.
#[derive(Clone, Copy, Debug)]
enum Late {
    Charge,
    Peek,
    Renew,
    Release,
}

/// A thread reads the clock, is held up for twenty windows in which others use the limit up, and goes on.
fn stall(rule: Rule, late: Late) {
    let (at, gone_on) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicBool::new(false)));
    let (reached, has_reached) = std::sync::mpsc::channel();
    let clock = {
        let (at, gone_on, reached) = (Arc::clone(&at), Arc::clone(&gone_on), Mutex::new(reached));
        Scripted(Arc::new(move || {
            let now = Moment(at.load(Ordering::SeqCst));
            if IS_HELD_UP.replace(false) {
                reached.lock().send(()).unwrap();
                // Others wait for this thread when it has the lock; then nothing but the deadline ends this.
                let until = clock::monotonic() + Duration::from_millis(50);
                while !gone_on.load(Ordering::SeqCst) && clock::monotonic() < until {
                    std::thread::yield_now();
                }
            }
            now
        }))
    };
    let store = store(StoreClock::Scripted(clock));
    let (admitted, limit) = (Mutex::new(Vec::new()), rule.limit());
    std::thread::scope(|scope| {
        let (store, admitted, at) = (&store, &admitted, &at);
        let late = scope.spawn(move || {
            IS_HELD_UP.set(true);
            match (late, rule) {
                (Late::Renew, Rule::Leases(limit)) => drop(store.renew_one(&held(limit, "late"))),
                (Late::Release, Rule::Leases(limit)) => drop(store.release_now(&held(limit, "late"))),
                (Late::Peek, rule) => drop(store.take_now(&question(rule, Take::Peek, "late"))),
                _ => attempt(store, rule, at, admitted),
            }
        });
        has_reached.recv().unwrap();
        at.fetch_add(20 * WINDOW.0, Ordering::SeqCst);
        for _ in 0..limit + 3 {
            attempt(store, rule, at, admitted);
        }
        gone_on.store(true, Ordering::SeqCst);
        late.join().unwrap();
        for _ in 0..limit + 3 {
            at.fetch_add(1, Ordering::SeqCst);
            attempt(store, rule, at, admitted);
        }
    });
    assert!(admitted.lock().len() >= usize::try_from(limit).unwrap(), "the limit is used up");
    assert_bound(&rule, &admitted.lock());
}

/// Three threads try four times each while the clock goes on by half a window now and then.
fn model(rule: Rule) {
    IS_MODEL.set(true);
    let at = Arc::new(AtomicU64::new(START));
    let clock = {
        let at = Arc::clone(&at);
        Scripted(Arc::new(move || {
            let now = Moment(at.load(Ordering::SeqCst));
            shuttle::thread::yield_now();
            now
        }))
    };
    let store = Arc::new(store(StoreClock::Scripted(clock)));
    let admitted = Arc::new(Mutex::new(Vec::new()));
    let mut threads = Vec::new();
    for _ in 0..3 {
        let (store, at, admitted) = (Arc::clone(&store), Arc::clone(&at), Arc::clone(&admitted));
        threads.push(shuttle::thread::spawn(move || {
            for _ in 0..4 {
                attempt(&store, rule, &at, &admitted);
            }
        }));
    }
    for _ in 0..8 {
        shuttle::thread::yield_now();
        at.fetch_add(WINDOW.0 / 2, Ordering::SeqCst);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    IS_MODEL.set(false);
    assert_bound(&rule, &admitted.lock());
}

/// Runs the model in many orders: at random, and with few but well-placed changes of the running thread (PCT).
fn explore(rule: Rule) {
    let config = || {
        let mut config = shuttle::Config::new();
        // A decision of a build that is not optimised needs more than shuttle's default of 32 KiB.
        config.stack_size = 256 * 1024;
        config
    };
    shuttle::Runner::new(RandomScheduler::new(400), config()).run(move || model(rule));
    shuttle::Runner::new(PctScheduler::new(3, 400), config()).run(move || model(rule));
}

/// More threads than processors, as fast as they go.
fn hammer(rule: Rule) {
    const THREADS: usize = 8;
    const WHILE: Duration = Duration::from_millis(250);
    let (store, next) = (store(StoreClock::System), AtomicUsize::new(0));
    let until = clock::monotonic() + WHILE;
    let mut admitted = Vec::new();
    std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            while clock::monotonic() < until {
                let id = next.fetch_add(1, Ordering::Relaxed).to_string();
                let question = question(rule, Take::Charge, &id);
                let answer = store.take_now(&question);
                if answer.passed(&question.demands) {
                    // The store's own word: it says in whose window the unit counts.
                    mine.push(Admission { from: answer.now.0, to: answer.now.0 });
                }
            }
            mine
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            admitted.extend(worker.join().unwrap());
        }
    });
    assert!(admitted.len() > 64, "more than one window went by");
    assert_bound(&rule, &admitted);
}
