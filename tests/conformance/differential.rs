//! The same random sequences on a store and on the model, compared reading by reading.
//!
//! Lanes with names of their own go in step, so that their asks share calls as they do in life; the clock moves
//! between the steps, mostly on, sometimes back, a little or far. `QUOTAD_DIFF_OPS` asks for more operations, `QUOTAD_DIFF_SEED`
//! repeats a run.

use crate::bed::{BEGIN, Bed, PATIENCE};
use crate::build::*;
use crate::model::{Model, comparable, comparable_settled};
use crate::random::Random;
use crate::settling::settlement;
use quotad::clock;
use quotad::engine::ask::{Answer, Ask, Demand, OnceOver, Take};
use quotad::engine::revocation::{Keep, Probe, Revocation, Target};
use quotad::engine::rule::Rule;
use quotad::engine::settlement::Settlement;
use quotad::engine::units::{Micros, Moment};
use quotad::store::{HeldLease, Store};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::path::Path;

/// Three servers do a third of a hundred thousand each.
const OPERATIONS: u64 = 34_000;
const LANES: usize = 64;
/// Steps of one lane alone between steps of all: its asks have their calls for themselves.
const ALONE: usize = 16;
/// Identical asks at once: they meet on one key in one call.
const CROWD: u64 = 6;

/// What a lane does in a step.
#[derive(Clone, Debug)]
enum Step {
    Take(Ask),
    Crowd(Ask, u64),
    Settle(Settlement),
    Renew(Vec<HeldLease>),
    Release(HeldLease),
    Revoke(Revocation),
}

/// Runs the sequences; fails on the first difference, with its seed.
pub(crate) async fn run<B: Bed>(name: &str, bed: B) {
    let operations = number("QUOTAD_DIFF_OPS").unwrap_or(OPERATIONS);
    let seed = number("QUOTAD_DIFF_SEED").unwrap_or_else(|| clock::now().0);
    println!("{name}: seed {seed}, {operations} operations");
    let mut done = 0;
    let store = bed.store().await;
    let mut random = Random(seed);
    let mut lanes: Vec<Lane> = (0..LANES).map(|lane| Lane::new(format!("{}-{lane}", bed.domain()))).collect();
    let mut now = BEGIN;
    while done < operations {
        for turn in 0..=ALONE {
            now = step_clock(&mut random, now);
            bed.set_clock(now);
            let active = if turn == 0 { &mut lanes[..] } else { &mut lanes[..1] };
            let steps: Vec<Step> = active.iter_mut().map(|lane| lane.step(&mut random, now)).collect();
            let run = active.iter_mut().zip(&steps).map(|(lane, step)| lane.run(&store, step, now));
            for (lane, difference) in futures_util::future::join_all(run).await.into_iter().enumerate() {
                if let Err(difference) = difference {
                    let report = format!("lane {lane} at {now:?}: {:#?}\n{difference}", steps[lane]);
                    save(name, seed, &report);
                    panic!("QUOTAD_DIFF_SEED={seed}: {report}");
                }
            }
            done += u64::try_from(steps.len()).unwrap();
        }
    }
}

/// Keeps a failed run's seed beside the tests.
fn save(name: &str, seed: u64, report: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("QUOTAD_DIFF_SEED={seed} cargo test --test conformance {name}::\n{report}\n");
    std::fs::write(dir.join(format!("{name}-{seed}.txt")), text).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn step_clock(random: &mut Random, now: Moment) -> Moment {
    let step = match random.below(40) {
        0..8 => 0,
        8..16 => random.below(5),
        16..24 => random.below(20_000),
        24..31 => random.below(1_500_000),
        31..36 => random.below(70_000_000),
        36 => random.below(4_000_000_000),
        37 if random.once_in(2) => random.below(300_000_000_000),
        // Back: by less than a jump, by a little more, and far.
        37 => return Moment((now.0 - random.below(1_000)).max(BEGIN.0)),
        38 if random.once_in(2) => return Moment((now.0 - random.below(1_000_000)).max(BEGIN.0)),
        38 => return Moment((now.0 - random.below(2_000_000)).max(BEGIN.0)),
        _ => return Moment((now.0 - random.below(4_000_000_000)).max(BEGIN.0)),
    };
    now.plus(Micros(step))
}

/// The rules of the policies, two versions of each: a limit may be edited.
fn rules() -> Vec<[Rule; 2]> {
    let second = Micros::SECOND;
    vec![
        [window(3, second), window(5, second)],
        [window(10, seconds(60)), window(100, seconds(60))],
        [window(64, Micros(10_000)), window(65, Micros(10_000))],
        [window(1_000, seconds(6)), window(1_000, seconds(7))],
        [window(4_000_000_000, seconds(3_600)), window(2, seconds(3_600))],
        [bucket(10, second, 10), bucket(10, second, 4)],
        [bucket(7, seconds(60), 3), bucket(7, seconds(61), 9)],
        [bucket(1_000, second, 2_000), bucket(1_000, second, 20)],
        [fixed(5, second), fixed(7, second)],
        [fixed(50, seconds(60)), fixed(50, seconds(3_600))],
        [leases(2, seconds(30)), leases(3, seconds(20))],
        [leases(5, second), leases(5, seconds(2))],
    ]
}

/// One sequence, with names of its own.
struct Lane {
    name: String,
    model: Model,
    /// An edit of the limits changes this.
    version: usize,
    /// What was charged lately, and when.
    reserved: VecDeque<(Moment, SmallVec<[Demand; 2]>)>,
}

impl Lane {
    fn new(name: String) -> Self {
        Self { name, model: Model::default(), version: 0, reserved: VecDeque::new() }
    }

    fn step(&mut self, random: &mut Random, now: Moment) -> Step {
        if random.once_in(50) {
            self.version = 1 - self.version;
        }
        match random.below(40) {
            0..3 => Step::Renew((0..1 + random.below(4)).map(|_| self.lease(random, now)).collect()),
            3..5 => Step::Release(self.lease(random, now)),
            5 => Step::Revoke(self.revocation(random, now)),
            6..9 => {
                let ask = ask([self.counter(random)]);
                Step::Crowd(ask, 2 + random.below(CROWD))
            }
            9..13 => match self.settlement(random) {
                Some(settlement) => Step::Settle(settlement),
                None => Step::Take(ask([self.counter(random)])),
            },
            13..24 => Step::Take(ask([self.counter(random)])),
            _ => Step::Take(self.ask(random, now)),
        }
    }

    /// Any ask: several demands, tokens, request ids.
    fn ask(&self, random: &mut Random, now: Moment) -> Ask {
        let mut ask = Ask::default();
        for _ in 0..random.below(5) {
            let demand = self.demand(random);
            if ask.demands.iter().all(|other| other.key != demand.key) {
                ask.demands.push(demand);
            }
        }
        if random.once_in(4) {
            ask.once_over = OnceOver::Stops;
        }
        if random.once_in(3) {
            ask.token = Some(Box::new(self.token(random, now)));
        }
        if random.once_in(3) {
            ask.request_id = Some(format!("request {}", random.below(4)).into());
        }
        ask
    }

    fn counter(&self, random: &mut Random) -> Demand {
        loop {
            let demand = self.demand(random);
            if !matches!(demand.rule, Rule::Leases(_)) {
                return demand;
            }
        }
    }

    fn demand(&self, random: &mut Random) -> Demand {
        let rules = rules();
        let policy = usize::try_from(random.below(12)).unwrap();
        let rule = rules[policy][self.version];
        let user = random.pick(&["a", "a", "a", "Zoë", "with space"]);
        let mut demand = demand(&self.name, &format!("p{policy}"), user, rule);
        demand = costing(demand, random.pick(&[1, 1, 1, 1, 2, 3, 7, 40, u32::MAX]));
        if matches!(rule, Rule::Leases(_)) {
            let id = random.pick(&["l1", "l2", "l3", "l4", "l5", "l6"]);
            demand = leasing(costing(demand, 1), id);
        }
        if random.once_in(6) {
            demand = peeking(demand);
        }
        if random.once_in(3) {
            demand = taking(random.pick(&[Take::Count, Take::Count, Take::Refund]), demand);
        }
        if random.once_in(6) {
            demand = shadow(demand);
        }
        demand
    }

    /// Of something that was charged, or nearly: a settlement must not trust what it is told.
    fn settlement(&self, random: &mut Random) -> Option<Settlement> {
        let count = u64::try_from(self.reserved.len()).unwrap();
        let (at, demands) = self.reserved.get(usize::try_from(random.below(count.max(1))).unwrap())?;
        let cost = random.pick(&[0, 0, 1, 2, 3, 7, 40, 200, u32::MAX]);
        let at = if random.once_in(10) { Moment(at.0 + random.below(3_000)) } else { *at };
        // A name is of one reservation: of these counters, charged then.
        let keys: Vec<&str> = demands.iter().map(|demand| demand.key.as_str()).collect();
        let name = format!("{} {} {keys:?}", at.0, random.below(2));
        let mut settlement = settlement(&name, at, demands, cost);
        let within = random.pick(&[1_000, 3_000_000, 70_000_000]);
        settlement.until = settlement.at.plus(Micros(within));
        for one in &mut settlement.adjustments {
            if random.once_in(8) {
                one.cost = one.reserved;
            }
        }
        Some(settlement)
    }

    /// Remembers what an ask charged.
    fn note(&mut self, ask: &Ask, answer: &Answer) {
        let counters = ask.demands.iter().filter(|demand| !matches!(demand.rule, Rule::Leases(_)));
        let demands: SmallVec<[Demand; 2]> = counters.cloned().collect();
        if !demands.is_empty() && answer.passed(&ask.demands) {
            self.reserved.push_front((answer.now, demands));
            self.reserved.truncate(6);
        }
    }

    fn lease(&self, random: &mut Random, now: Moment) -> HeldLease {
        let rules = rules();
        let id = random.pick(&["l1", "l2", "l3", "l4", "l5", "l6"]);
        let user = random.pick(&["a", "a", "a", "Zoë", "with space"]);
        let of = |policy: usize| demand(&self.name, &format!("p{policy}"), user, rules[policy][self.version]);
        let mut lease = match random.below(3) {
            0 => held(id, [&of(10)]),
            1 => held(id, [&of(11)]),
            _ => held(id, [&of(10), &of(11)]),
        };
        if random.once_in(3) {
            lease.token = Some(Box::new(self.token(random, now)));
        }
        if random.once_in(3) {
            lease.token_ends = Some(Moment(now.0 - 1_000_000 + random.below(3_000_000)));
        }
        lease
    }

    fn token(&self, random: &mut Random, now: Moment) -> Probe {
        let recent = now.seconds() - 3 + random.below(6);
        Probe {
            issuer: self.name.as_str().into(),
            token_id: random.pick(&[None, Some("t1"), Some("t 2"), Some("t3")]).map(Into::into),
            subject: random.pick(&[None, Some("s1"), Some("s}2"), Some("s3")]).map(Into::into),
            issued_at: random.pick(&[None, Some(recent), Some(recent), Some(recent)]),
            foreign_key: None,
        }
    }

    fn revocation(&self, random: &mut Random, now: Moment) -> Revocation {
        let target = match random.below(2) {
            0 => Target::TokenId(random.pick(&["t1", "t 2"]).into()),
            _ => Target::Subject(random.pick(&["s1", "s}2"]).into()),
        };
        let keep = match random.below(3) {
            0 => Keep::Until(Moment(now.0 - 1_000 + random.below(5_000_000))),
            _ => Keep::For(Micros(random.below(30_000_000))),
        };
        Revocation { issuer: self.name.as_str().into(), target, keep }
    }

    async fn run(&mut self, store: &impl Store, step: &Step, now: Moment) -> Result<(), String> {
        match step {
            Step::Take(ask) => {
                let got = store.take(ask.clone(), PATIENCE).await;
                let wanted = self.model.take(ask, now);
                self.note(ask, &wanted);
                same(got.map(|got| comparable(ask, got)), comparable(ask, wanted))
            }
            Step::Crowd(ask, count) => {
                let all = (0..*count).map(|_| store.take(ask.clone(), PATIENCE));
                let mut got = Vec::new();
                for answer in futures_util::future::join_all(all).await {
                    got.push(
                        answer.map(|answer| comparable(ask, answer)).map_err(|error| error.to_string())?,
                    );
                }
                let mut wanted: Vec<_> =
                    (0..*count).map(|_| comparable(ask, self.model.take(ask, now))).collect();
                // Who of a crowd comes first is nobody's business.
                got.sort_by_key(|answer| answer.readings[0].level);
                wanted.sort_by_key(|answer| answer.readings[0].level);
                same(Ok(got), wanted)
            }
            Step::Settle(settlement) => {
                let got = store.settle(settlement.clone(), PATIENCE).await;
                let wanted = self.model.settle(settlement, now);
                let comparable = |settled| comparable_settled(settlement, settled);
                same(got.map(comparable), comparable(wanted))
            }
            Step::Renew(leases) => {
                let got = store.renew(leases.clone(), PATIENCE).await;
                let wanted = leases.iter().map(|lease| self.model.renew(lease, now)).collect();
                same(got, wanted)
            }
            Step::Release(lease) => {
                let got = store.release(lease.clone(), PATIENCE).await;
                same(got, self.model.release(lease, now))
            }
            Step::Revoke(revocation) => {
                let got = store.revoke(revocation.clone(), PATIENCE).await;
                same(got, self.model.revoke(revocation, now))
            }
        }
    }
}

fn same<T: std::fmt::Debug + PartialEq>(
    got: Result<T, quotad::store::StoreError>,
    wanted: T,
) -> Result<(), String> {
    match got {
        Ok(got) if got == wanted => Ok(()),
        got => Err(format!("store: {got:#?}\nmodel: {wanted:#?}")),
    }
}
