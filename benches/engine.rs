//! What the pure part of a decision costs: the step of each algorithm, the key, the decision with its headers and body.
//!
//! `cargo bench --bench engine`. Allocations are counted too: each is a chance to be slow.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use mimalloc::MiMalloc;
use quotad::engine::ask::Take;
use quotad::engine::bucket::{Arrival, Bucket};
use quotad::engine::decision::{Decision, Judged, Mode};
use quotad::engine::fixed::{Count, Fixed};
use quotad::engine::http::HttpFace;
use quotad::engine::key::Key;
use quotad::engine::leases::{LeaseSet, Leases};
use quotad::engine::policy::{Facts, Policy, PolicySpec};
use quotad::engine::rule::{Algorithm, Rule};
use quotad::engine::units::{Micros, Moment};
use quotad::engine::window::Window;
use std::borrow::Cow;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

const NOW: Moment = Moment(1_700_000_000_000_000);
const MINUTE: Micros = Micros(60_000_000);

fn main() {
    divan::main();
}

/// A sliding window in its steady state: as full as it gets, a unit coming back now and then.
#[divan::bench(args = [10, 64, 1_000, 100_000])]
fn step_sliding_window(bencher: Bencher<'_, '_>, limit: u64) {
    let window = Window::new(limit, MINUTE);
    let (mut log, mut now) = (Vec::new(), NOW);
    let interval = Micros((MINUTE.0 / limit).max(1));
    let mut step = move || {
        now = now.plus(interval);
        let reading = window.read(&log, now, 1);
        if reading.fits {
            window.charge(&mut log, now, 1);
        }
        reading
    };
    for _ in 0..limit * 2 {
        step();
    }
    bencher.counter(ItemsCount::new(1_u32)).bench_local(step);
}

#[divan::bench]
fn step_token_bucket(bencher: Bencher<'_, '_>) {
    let bucket = Bucket::new(1_000, MINUTE, 1_000);
    let (mut tat, mut now) = (Arrival::default(), NOW);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(move || {
        now = now.plus(Micros(50_000));
        let reading = bucket.read(black_box(tat), now, 1);
        if reading.fits {
            tat = bucket.charged(tat, now, 1);
        }
        reading
    });
}

#[divan::bench]
fn step_fixed_window(bencher: Bencher<'_, '_>) {
    let fixed = Fixed { limit: 1_000, window: MINUTE };
    let (mut count, mut now) = (Count::default(), NOW);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(move || {
        now = now.plus(Micros(50_000));
        let reading = fixed.read(black_box(count), now, 1);
        if reading.fits {
            count = fixed.charged(count, now, 1);
        }
        reading
    });
}

/// Renewing one of the leases of a key that holds so many.
#[divan::bench(args = [5, 100, 16_000])]
fn step_concurrency(bencher: Bencher<'_, '_>, held: u64) {
    let leases = Leases { limit: held, ttl: Micros::from_seconds(30) };
    let mut table = LeaseSet::default();
    for lease in 0..held {
        leases.charge(&mut table, NOW, &format!("{lease:032x}"));
    }
    let id = format!("{:032x}", held - 1);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(move || {
        let reading = leases.read(&table, NOW, black_box(&id));
        leases.charge(&mut table, NOW, &id);
        reading
    });
}

#[divan::bench(args = ["203.0.113.7", "2001:db8:1:2:3:4:5:6"])]
fn key_by_address(address: &str) -> Key {
    let partition = [("ip", black_box(address))];
    Key::new("default", "auth-per-ip", partition.into_iter(), &Rule::Window(Window::new(10, MINUTE)))
}

/// Matching and partitioning: what a policy does to a request before the store is asked.
#[divan::bench]
fn policy_matches_and_makes_its_key(bencher: Bencher<'_, '_>) {
    struct Request;
    impl Facts for Request {
        fn get(&self, name: &str) -> Option<Cow<'_, str>> {
            let facts = [("ip", "203.0.113.7"), ("plan", "gold"), ("path", "/v1/users/42")];
            facts.iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(*value))
        }
    }
    let conditions = [("plan", "gold"), ("path", "/v1/**")];
    let policy = policy(PolicySpec {
        conditions: conditions.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        partition: vec!["ip".to_owned()],
        limit: Some(100),
        window: Some(MINUTE),
        ..PolicySpec::named("api")
    });
    bencher.bench(|| black_box(&policy).matches(&Request).then(|| policy.key(&Request)));
}

/// The decision over so many policies, with its headers.
#[divan::bench(args = [1, 4])]
fn decide_and_render_an_allowance(bencher: Bencher<'_, '_>, policies: usize) {
    decide_and_render(bencher, policies, 3);
}

/// The same with the body of a denial.
#[divan::bench(args = [1, 4])]
fn decide_and_render_a_denial(bencher: Bencher<'_, '_>, policies: usize) {
    decide_and_render(bencher, policies, 10);
}

fn decide_and_render(bencher: Bencher<'_, '_>, policies: usize, used: u64) {
    let names: Vec<String> = (0..policies).map(|number| format!("policy-{number}")).collect();
    let policies: Vec<Policy> = names.iter().map(|name| limit_of_ten(name)).collect();
    let judged: Vec<_> = policies.iter().map(|policy| judge(policy, used)).collect();
    let fields: Vec<&str> = judged.iter().map(|one| one.policy.policy_field()).collect();
    let face = HttpFace::default();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let decision = Decision::combine(black_box(&judged), NOW);
        face.render(&decision, &fields)
    });
}

fn limit_of_ten(name: &str) -> Policy {
    policy(PolicySpec {
        limit: Some(10),
        window: Some(MINUTE),
        algorithm: Algorithm::SlidingWindow,
        ..PolicySpec::named(name)
    })
}

fn judge(policy: &Policy, used: u64) -> Judged<'_> {
    let (mut log, window) = (Vec::new(), Window::new(10, MINUTE));
    window.charge(&mut log, NOW, used);
    Judged {
        policy,
        rule: policy.rule,
        cost: 1,
        take: Take::Charge,
        reading: Some(window.read(&log, NOW, 1)),
        mode: Mode::Exact,
        bound: Some(policy.rule.bound()),
    }
}

#[expect(clippy::panic, reason = "a bench of a policy that does not build measures nothing")]
fn policy(spec: PolicySpec) -> Policy {
    match Policy::build(spec) {
        Ok(policy) => policy,
        Err(mistakes) => panic!("{mistakes:?}"),
    }
}
