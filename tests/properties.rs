//! The promises of the algorithms against an adversary, on the engine's steps; failing seeds are saved beside this file.

#![expect(clippy::disallowed_methods, reason = "PROPTEST_CASES asks for a longer run")]

#[path = "properties/paths.rs"]
mod paths;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use quotad::engine::bucket::{Arrival, Bucket};
use quotad::engine::fixed::{Count, Fixed};
use quotad::engine::leases::{LeaseSet, Leases};
use quotad::engine::rule::Rule;
use quotad::engine::settlement::Charged;
use quotad::engine::units::{Micros, Moment};
use quotad::engine::window::{Charge, Window};

const START: u64 = 1_790_000_000_000_000;

/// A rule with its state.
#[derive(Clone, Debug)]
enum Limiter {
    Window(Window, Vec<Charge>),
    Bucket(Bucket, Arrival),
    Fixed(Fixed, Count),
}

/// What an attempt came to.
enum Tried {
    Admitted,
    /// When to come back; none: never.
    Refused(Option<Moment>),
}

impl Limiter {
    fn rule(&self) -> Rule {
        match self {
            Self::Window(window, _) => Rule::Window(*window),
            Self::Bucket(bucket, _) => Rule::Bucket(*bucket),
            Self::Fixed(fixed, _) => Rule::Fixed(*fixed),
        }
    }

    fn try_at(&mut self, now: Moment, cost: u64) -> Tried {
        let reading = match self {
            Self::Window(window, log) => window.read(log, now, cost),
            Self::Bucket(bucket, tat) => bucket.read(*tat, now, cost),
            Self::Fixed(fixed, count) => fixed.read(*count, now, cost),
        };
        if !reading.fits {
            return Tried::Refused(Some(reading.retry_at).filter(|at| at.0 > 0));
        }
        match self {
            Self::Window(window, log) => window.charge(log, now, cost),
            Self::Bucket(bucket, tat) => *tat = bucket.charged(*tat, now, cost),
            Self::Fixed(fixed, count) => *count = fixed.charged(*count, now, cost),
        }
        Tried::Admitted
    }

    /// Settles what was reserved to what it cost; how much came back.
    fn settle(&mut self, now: Moment, reserved: Charged, cost: u64) -> u64 {
        let (excess, shortfall) = (reserved.cost.saturating_sub(cost), cost.saturating_sub(reserved.cost));
        match self {
            Self::Window(window, log) if shortfall > 0 => window.charge(log, now, shortfall),
            Self::Bucket(bucket, tat) if shortfall > 0 => *tat = bucket.owed(*tat, now, shortfall),
            Self::Fixed(fixed, count) if shortfall > 0 => *count = fixed.charged(*count, now, shortfall),
            Self::Window(window, log) => return window.give_back(log, now, reserved.at, excess),
            Self::Bucket(bucket, tat) => {
                let (after, returned) = bucket.given_back(*tat, now, reserved, excess);
                *tat = after;
                return returned;
            }
            Self::Fixed(fixed, count) => {
                let (after, returned) = fixed.given_back(*count, now, reserved.at, excess);
                *count = after;
                return returned;
            }
        }
        0
    }

    fn admits(&self, now: Moment, cost: u64) -> bool {
        matches!(self.clone().try_at(now, cost), Tried::Admitted)
    }
}

fn limiter() -> impl Strategy<Value = Limiter> {
    let limit = prop_oneof![1_u64..=64, 65_u64..=5_000];
    let window = prop_oneof![1_000_u64..=100_000, Just(1_000_000), Just(60_000_000), Just(86_400_000_000)];
    (0..3_u8, limit, window, 1_u64..=200).prop_map(|(kind, limit, window, burst)| {
        let window = Micros(window);
        match kind {
            0 => Limiter::Window(Window::new(limit, window), Vec::new()),
            1 => Limiter::Bucket(Bucket::new(limit, window, burst), Arrival::default()),
            _ => Limiter::Fixed(Fixed { limit, window }, Count::default()),
        }
    })
}

/// Steps of time as an adversary picks them: bursts, crawls, and jumps near a whole window.
fn attempts() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    prop::collection::vec((0..5_u8, 0..1_000_000_u64, 1..=40_u64), 1..300)
}

fn step(window: u64, kind: u8, fraction: u64) -> u64 {
    match kind {
        0 => 0,
        1 => 1,
        2 => window * fraction / 1_000_000 / 50,
        3 => window.saturating_sub(fraction % 3),
        _ => window * fraction / 1_000_000,
    }
}

/// The most that a rule may admit in an interval of `span`.
fn bound(rule: &Rule, span: u64) -> u64 {
    match rule {
        Rule::Window(window) if span < window.window.0 => window.limit,
        Rule::Window(window) => window.limit * (span / window.window.0 + 1),
        Rule::Bucket(bucket) => {
            let refill = u128::from(span) * u128::from(bucket.limit) / u128::from(bucket.window.0);
            bucket.burst + u64::try_from(refill).unwrap_or(u64::MAX)
        }
        Rule::Fixed(fixed) => fixed.limit * (span / fixed.window.0 + 2),
        Rule::Leases(leases) => leases.limit,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_interval_admits_more_than_the_promise((mut limiter, attempts) in (limiter(), attempts())) {
        let rule = limiter.rule();
        let window = rule.window().map_or(0, |window| window.0);
        let mut now = START;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (kind, fraction, cost) in attempts {
            now += step(window, kind, fraction);
            let cost = cost.min(rule.capacity());
            if matches!(limiter.try_at(Moment(now), cost), Tried::Admitted) {
                admitted.push((now, cost));
            }
        }
        for (i, (from, _)) in admitted.iter().enumerate() {
            let mut units = 0;
            for (to, cost) in &admitted[i..] {
                units += cost;
                // Every interval [from, to], and with it every half-open one that is a microsecond longer.
                prop_assert!(units <= bound(&rule, to - from), "{units} units in {} µs of {rule:?}", to - from);
            }
        }
    }

    #[test]
    fn reservations_that_cover_their_cost_never_overshoot(
        (mut limiter, attempts) in (limiter(), attempts()),
        settlements in prop::collection::vec((0..4_u8, 0..8_usize, 0..=100_u64), 300),
    ) {
        let rule = limiter.rule();
        let window = rule.window().map_or(0, |window| window.0);
        let mut now = START;
        // When, what was reserved, what it cost in the end.
        let mut admitted: Vec<(u64, u64, u64)> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for ((kind, fraction, cost), (settle, which, percent)) in attempts.into_iter().zip(settlements) {
            now += step(window, kind, fraction);
            let cost = cost.min(rule.capacity());
            if matches!(limiter.try_at(Moment(now), cost), Tried::Admitted) {
                open.push(admitted.len());
                admitted.push((now, cost, cost));
            }
            if settle > 0 && !open.is_empty() {
                let (at, reserved, settled) = &mut admitted[open.swap_remove(which % open.len())];
                *settled = *reserved * percent / 100;
                let charged = Charged { at: Moment(*at), cost: *reserved, emission: u64::MAX };
                let returned = limiter.settle(Moment(now), charged, *settled);
                prop_assert!(returned <= *reserved - *settled);
            }
        }
        for (i, (from, _, _)) in admitted.iter().enumerate() {
            let mut units = 0;
            for (to, _, cost) in &admitted[i..] {
                units += cost;
                prop_assert!(units <= bound(&rule, to - from), "{units} units in {} µs of {rule:?}", to - from);
            }
        }
    }

    #[test]
    fn a_lone_caller_gets_back_just_what_it_did_not_use(
        (mut limiter, reserved, cost) in (limiter(), 1..=40_u64, 0..=80_u64),
        wait in 0..1_000_000_u64,
    ) {
        let rule = limiter.rule();
        let window = rule.window().map_or(0, |window| window.0);
        let (mut direct, at) = (limiter.clone(), Moment(START - START % window));
        let reserved = reserved.min(rule.capacity());
        let cost = cost.min(rule.capacity());
        prop_assert!(matches!(limiter.try_at(at, reserved), Tried::Admitted));
        prop_assert!(matches!(direct.try_at(at, cost.min(reserved)), Tried::Admitted));
        let now = Moment(at.0 + step(window, 4, wait));
        limiter.settle(now, Charged { at, cost: reserved, emission: u64::MAX }, cost);
        if cost > reserved {
            direct.settle(now, Charged { at, cost: reserved, emission: u64::MAX }, cost);
        }
        for probe in 1..=rule.capacity().min(200) {
            prop_assert_eq!(limiter.admits(now, probe), direct.admits(now, probe), "{} of {:?}", probe, rule);
        }
    }

    #[test]
    fn waiting_exactly_retry_after_succeeds_and_any_less_fails((mut limiter, attempts) in (limiter(), attempts())) {
        let rule = limiter.rule();
        let window = rule.window().map_or(0, |window| window.0);
        let mut now = START;
        for (kind, fraction, cost) in attempts {
            now += step(window, kind, fraction);
            let before = limiter.clone();
            match limiter.try_at(Moment(now), cost) {
                Tried::Admitted => {}
                Tried::Refused(None) => prop_assert!(cost > rule.capacity()),
                Tried::Refused(Some(at)) => {
                    prop_assert!(at.0 > now && cost <= rule.capacity());
                    prop_assert!(limiter.admits(at, cost), "at retry_at, {} µs on, {rule:?}", at.0 - now);
                    prop_assert!(!limiter.admits(Moment(at.0 - 1), cost), "a microsecond early, {rule:?}");
                    if at.0 - now > 1_000 {
                        prop_assert!(!limiter.admits(Moment(at.0 - 1_000), cost), "a millisecond early");
                    }
                    // A denial changes nothing that another request sees.
                    for probe in [1, rule.capacity()] {
                        prop_assert_eq!(before.admits(Moment(now), probe), limiter.admits(Moment(now), probe));
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_hands_nothing_out_twice((mut limiter, attempts) in (limiter(), attempts()), back in 1..3_600_000_000_u64) {
        let rule = limiter.rule();
        let now = Moment(START);
        let mut used = 0;
        while matches!(limiter.try_at(now, 1), Tried::Admitted) {
            used += 1;
        }
        prop_assert_eq!(used, rule.capacity());
        let jumped = START - back;
        // At once nothing is free, and what comes back is at most what time alone gives.
        let mut again = 0;
        for (_, fraction, _) in &attempts {
            let at = jumped + fraction % 1_000;
            if matches!(limiter.try_at(Moment(at), 1), Tried::Admitted) {
                again += 1;
            }
        }
        let refill = match rule {
            Rule::Bucket(bucket) => 1_000 / bucket.emission + 1,
            // The window in which the clock stands now may be over within the millisecond that was tried.
            Rule::Fixed(fixed) if jumped / fixed.window.0 != (jumped + 1_000) / fixed.window.0 => fixed.limit,
            Rule::Window(window) if window.window.0 <= 1_000 => window.limit,
            _ => 0,
        };
        prop_assert!(again <= refill, "{again} after the jump, {refill} by time, {rule:?}");
    }

    #[test]
    fn leases_never_exceed_the_limit(
        limit in 1..=6_u64,
        moves in prop::collection::vec((0..4_u8, 0..12_u8, 0..40_000_000_u64), 1..400),
    ) {
        let leases = Leases { limit, ttl: Micros(30_000_000) };
        let (mut held, mut now) = (LeaseSet::default(), START);
        for (kind, id, wait) in moves {
            now += if kind == 3 { wait } else { wait / 1_000 };
            let (at, id) = (Moment(now), format!("lease-{id}"));
            match kind {
                0 => {
                    let reading = leases.read(&held, at, &id);
                    if reading.fits {
                        leases.charge(&mut held, at, &id);
                    } else {
                        prop_assert!(leases.read(&held, reading.retry_at, &id).fits, "one has ended by then");
                        prop_assert!(reading.retry_at.since(at) <= leases.ttl);
                    }
                }
                1 => {
                    let before = held.end_of(&id).is_some_and(|ends| ends > at);
                    prop_assert_eq!(leases.renew(&mut held, at, &id), before, "a lost lease is not taken again");
                }
                _ => {
                    leases.release(&mut held, at, &id);
                    prop_assert!(held.end_of(&id).is_none());
                }
            }
            let live = held.live(at);
            prop_assert!(u64::try_from(live).is_ok_and(|live| live <= limit), "{live} live, limit {limit}");
        }
    }
}

/// Failing seeds stand in `properties.seeds`; more cases by `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000);
    let seeds =
        FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties.seeds"));
    ProptestConfig { cases, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}
