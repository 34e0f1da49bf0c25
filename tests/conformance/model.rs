//! What every store must do, written as plainly as possible: the engine's step functions on a map.

use quotad::engine::ask::{Answer, AnswerRoom, Ask, Demand, OnceOver, Reading, Take, Weight};
use quotad::engine::bucket::Arrival;
use quotad::engine::fixed::Count;
use quotad::engine::leases::LeaseSet;
use quotad::engine::revocation::{Keep, Probe, Revocation, Target, subject_revokes};
use quotad::engine::rule::Rule;
use quotad::engine::settlement::{Adjustment, Movement, Settled, Settlement, SettlementState};
use quotad::engine::units::{Micros, Moment};
use quotad::engine::window::Charge;
use quotad::store::{HeldLease, Renewed};
use std::collections::HashMap;

/// The state of one key.
#[derive(Clone, Debug)]
enum State {
    Window(Vec<Charge>),
    Bucket(Arrival),
    Fixed(Count),
    Leases(LeaseSet),
}

#[derive(Clone, Copy, Debug)]
struct Revoked {
    at: Moment,
    ends: Moment,
}

/// The model store.
#[derive(Debug, Default)]
pub(crate) struct Model {
    states: HashMap<String, State>,
    revoked: HashMap<(Box<str>, Target), Revoked>,
    /// By request: the end, the first moment, and the readings by what each is of; the order of demands is no matter.
    answers: HashMap<String, (Moment, Moment, HashMap<String, Reading>)>,
    /// By name: the end, and what was moved.
    settled: HashMap<String, (Moment, Vec<Movement>)>,
    /// Keys of the application that exist.
    pub(crate) foreign: std::collections::HashSet<String>,
}

impl Model {
    /// Decides and charges.
    pub(crate) fn take(&mut self, ask: &Ask, now: Moment) -> Answer {
        if ask.token.as_deref().is_some_and(|probe| self.is_revoked(probe, now)) {
            return Answer { now, revoked: true, ..Answer::default() };
        }
        let kept = ask.request_id.as_ref().filter(|_| !ask.demands.is_empty()).map(|id| kept_key(id, ask));
        if let Some((ends, first, readings)) = kept.as_ref().and_then(|key| self.answers.get(key))
            && *ends > now
        {
            let readings = ask.demands.iter().map(|demand| readings[&line(demand)]).collect();
            return Answer { now: *first, readings, repeated: true, ..Answer::default() };
        }
        let readings = ask.demands.iter().map(|demand| self.read(demand, now)).collect();
        let answer = Answer { now, readings, ..Answer::default() };
        let outcome = answer.outcome(&ask.demands);
        let stopped = ask.once_over == OnceOver::Stops
            && ask.demands.iter().zip(&answer.readings).any(|(demand, reading)| match demand.rule {
                Rule::Fixed(fixed) => demand.take != Take::Refund && reading.level > fixed.limit,
                _ => false,
            });
        for (demand, reading) in ask.demands.iter().zip(&answer.readings) {
            if demand.takes() != Take::Peek {
                self.mend(demand, now);
                if !stopped && demand.takes().is_charged(demand.weight, reading, outcome) {
                    self.charge(demand, now);
                }
            }
        }
        if let Some(key) = kept {
            let readings = ask.demands.iter().map(line).zip(answer.readings.iter().copied()).collect();
            let life = kept_for(ask, &answer);
            // Nothing is kept for a life of nothing, not even for a clock that jumps back.
            if ask.answer_room == AnswerRoom::Free && life > Micros(0) {
                self.answers.insert(key, (now.plus(life), now, readings));
            }
        }
        answer
    }

    fn state(&mut self, demand: &Demand) -> &mut State {
        self.states.entry(demand.key.as_str().to_owned()).or_insert_with(|| match demand.rule {
            Rule::Window(_) => State::Window(Vec::new()),
            Rule::Bucket(_) => State::Bucket(Arrival::default()),
            Rule::Fixed(_) => State::Fixed(Count::default()),
            Rule::Leases(_) => State::Leases(LeaseSet::default()),
        })
    }

    fn read(&mut self, demand: &Demand, now: Moment) -> Reading {
        let cost = u64::from(demand.cost);
        match (&demand.rule, self.state(demand)) {
            (Rule::Window(window), State::Window(log)) => window.read(log, now, cost),
            (Rule::Bucket(bucket), State::Bucket(tat)) => bucket.read(*tat, now, cost),
            (Rule::Fixed(fixed), State::Fixed(count)) => fixed.read_for(demand.take, *count, now, cost),
            (Rule::Leases(leases), State::Leases(held)) => leases.read(held, now, lease(demand)),
            _ => unreachable!("kinds never share a key"),
        }
    }

    fn mend(&mut self, demand: &Demand, now: Moment) {
        match (&demand.rule, self.state(demand)) {
            (Rule::Window(window), State::Window(log)) => {
                window.mend(log, now);
            }
            (Rule::Bucket(bucket), State::Bucket(tat)) => *tat = bucket.mended(*tat, now),
            (Rule::Fixed(fixed), State::Fixed(count)) => *count = fixed.mended(*count, now),
            (Rule::Leases(leases), State::Leases(held)) => leases.mend(held, now),
            _ => unreachable!("kinds never share a key"),
        }
    }

    fn charge(&mut self, demand: &Demand, now: Moment) {
        let cost = u64::from(demand.cost);
        match (&demand.rule, self.state(demand)) {
            (Rule::Window(window), State::Window(log)) => window.charge(log, now, cost),
            (Rule::Bucket(bucket), State::Bucket(tat)) => *tat = bucket.charged(*tat, now, cost),
            (Rule::Fixed(fixed), State::Fixed(count)) => *count = fixed.taken(demand.take, *count, now, cost),
            (Rule::Leases(leases), State::Leases(held)) => leases.charge(held, now, lease(demand)),
            _ => unreachable!("kinds never share a key"),
        }
    }

    /// Moves from what was reserved to what it cost, once.
    pub(crate) fn settle(&mut self, settlement: &Settlement, now: Moment) -> Settled {
        let domain = settlement.adjustments[0].key.domain();
        let name = format!("{:?}", (domain, &settlement.name));
        let known = self.settled.get(&name).filter(|(ends, _)| *ends > now).map(|(_, moved)| moved.clone());
        let (state, moved) = match known {
            Some(moved) => (SettlementState::Repeated, moved),
            None if settlement.until <= now || settlement.at.0 > now.0 + 1_000_000 => {
                (SettlementState::TooLate, settlement.adjustments.iter().map(Adjustment::unmoved).collect())
            }
            None => {
                let moved: Vec<Movement> =
                    settlement.adjustments.iter().map(|one| self.adjust(one, settlement.at, now)).collect();
                self.settled.insert(name, (settlement.until.plus(Micros(2_000_000)), moved.clone()));
                (SettlementState::Settled, moved)
            }
        };
        let next = |one: &Adjustment| Demand {
            key: one.key.clone(),
            rule: one.rule,
            cost: 1,
            take: Take::Charge,
            weight: Weight::Enforced,
            lease: None,
        };
        let readings = settlement.adjustments.iter().map(|one| self.read(&next(one), now)).collect();
        Settled { now, state, movements: moved.into(), readings }
    }

    fn adjust(&mut self, one: &Adjustment, at: Moment, now: Moment) -> Movement {
        let demand = Demand {
            key: one.key.clone(),
            rule: one.rule,
            cost: one.cost.saturating_sub(one.reserved),
            take: Take::Charge,
            weight: Weight::Enforced,
            lease: None,
        };
        let (more, less) = (u64::from(demand.cost), u64::from(one.reserved.saturating_sub(one.cost)));
        let returned = match (&one.rule, self.state(&demand)) {
            _ if more == 0 && less == 0 => 0,
            (Rule::Bucket(bucket), State::Bucket(arrival)) if more > 0 => {
                *arrival = bucket.owed(*arrival, now, more);
                0
            }
            _ if more > 0 => {
                self.charge(&demand, now);
                0
            }
            (Rule::Window(window), State::Window(log)) => window.give_back(log, now, at, less),
            (Rule::Bucket(bucket), State::Bucket(arrival)) => {
                let (after, returned) = bucket.given_back(*arrival, now, one.charged(at), less);
                *arrival = after;
                returned
            }
            (Rule::Fixed(fixed), State::Fixed(count)) => {
                let (after, returned) = fixed.given_back(*count, now, at, less);
                *count = after;
                returned
            }
            _ => unreachable!("kinds never share a key"),
        };
        let charged = demand.cost;
        Movement { cost: one.cost, returned: u32::try_from(returned).unwrap(), charged }
    }

    /// Renews under all limits or none.
    pub(crate) fn renew(&mut self, lease: &HeldLease, now: Moment) -> Renewed {
        let revoked = lease.token.as_deref().is_some_and(|probe| self.is_revoked(probe, now));
        let expired = lease.token_ends.is_some_and(|ends| ends <= now);
        let held = lease.limits.iter().all(|one| {
            one.weight == Weight::Shadow
                || one.limit.renew(&mut self.held(one.key.as_str()).clone(), now, &lease.id)
        });
        if held && !revoked && !expired {
            for one in &lease.limits {
                one.limit.renew(self.held(one.key.as_str()), now, &lease.id);
            }
            return Renewed::Held;
        }
        self.release(lease, now);
        match (revoked, expired) {
            (true, _) => Renewed::Revoked,
            (_, true) => Renewed::Expired,
            _ => Renewed::Lost,
        }
    }

    /// Gives a lease back under all limits.
    pub(crate) fn release(&mut self, lease: &HeldLease, now: Moment) -> bool {
        let mut released = false;
        for one in &lease.limits {
            released |= one.limit.release(self.held(one.key.as_str()), now, &lease.id);
        }
        released
    }

    fn held(&mut self, key: &str) -> &mut LeaseSet {
        match self.states.entry(key.to_owned()).or_insert_with(|| State::Leases(LeaseSet::default())) {
            State::Leases(held) => held,
            _ => unreachable!("kinds never share a key"),
        }
    }

    /// Keeps a revocation; whether it is new.
    pub(crate) fn revoke(&mut self, revocation: &Revocation, now: Moment) -> bool {
        let ends = match revocation.keep {
            Keep::Until(ends) => ends,
            Keep::For(span) => now.plus(span),
        };
        if ends <= now {
            return true;
        }
        let key = (revocation.issuer.clone(), revocation.target.clone());
        let known = self.revoked.get(&key).copied().filter(|known| known.ends > now);
        let newly = match (known, &revocation.target) {
            (None, _) => true,
            (Some(_), Target::TokenId(_)) => false,
            (Some(known), Target::Subject(_)) => now.seconds() > known.at.seconds(),
        };
        let at = known.map_or(now, |known| known.at.max(now));
        let ends = known.map_or(ends, |known| known.ends.max(ends));
        self.revoked.insert(key, Revoked { at, ends });
        newly
    }

    fn is_revoked(&self, probe: &Probe, now: Moment) -> bool {
        let in_force = |target: Target| {
            self.revoked.get(&(probe.issuer.clone(), target)).copied().filter(|known| known.ends > now)
        };
        let by_id = probe.token_id.clone().and_then(|id| in_force(Target::TokenId(id)));
        let by_subject = probe.subject.clone().and_then(|subject| in_force(Target::Subject(subject)));
        probe.foreign_key.as_deref().is_some_and(|key| self.foreign.contains(key))
            || by_id.is_some()
            || by_subject.is_some_and(|known| subject_revokes(known.at, probe.issued_at))
    }
}

fn lease(demand: &Demand) -> &str {
    demand.lease.as_deref().unwrap_or_default()
}

/// The longest window, at most ten minutes, and for a denial its wait; said here once more, and not by the engine.
fn kept_for(ask: &Ask, answer: &Answer) -> Micros {
    let mut life = Micros(0);
    let mut wait = None;
    for (demand, reading) in ask.demands.iter().zip(&answer.readings) {
        life = life.max(match demand.rule {
            Rule::Window(window) => window.window,
            Rule::Bucket(bucket) => bucket.window,
            Rule::Fixed(fixed) => fixed.window,
            Rule::Leases(leases) => leases.ttl,
        });
        if !reading.fits && demand.weight == Weight::Enforced {
            let own = if reading.retry_at.0 == 0 { 0 } else { reading.retry_at.since(answer.now).0 };
            wait = Some(match wait {
                Some(0) => 0,
                Some(_) if own == 0 => 0,
                Some(other) => own.max(other),
                None => own,
            });
        }
    }
    let life = life.0.min(600_000_000);
    Micros(wait.map_or(life, |wait: u64| wait.min(life)))
}

fn kept_key(id: &str, ask: &Ask) -> String {
    let key = format!("{:?}", (ask.demands.first().map(|demand| demand.key.domain()), id));
    let mut lines: Vec<String> = ask.demands.iter().map(line).collect();
    lines.sort();
    key + &lines.concat()
}

fn line(demand: &Demand) -> String {
    format!("{:?}", (demand.key.as_str(), demand.cost, demand.take, lease(demand)))
}

/// The same of a settlement.
pub(crate) fn comparable_settled(settlement: &Settlement, mut settled: Settled) -> Settled {
    for (one, reading) in settlement.adjustments.iter().zip(&mut settled.readings) {
        if matches!(one.rule, Rule::Bucket(_)) {
            reading.level = reading.level.max(settled.now.0);
        }
    }
    settled
}

/// The same answer in a form that can be compared: an arrival time that has passed says no more than "full".
pub(crate) fn comparable(ask: &Ask, mut answer: Answer) -> Answer {
    for (demand, reading) in ask.demands.iter().zip(&mut answer.readings) {
        if matches!(demand.rule, Rule::Bucket(_)) {
            reading.level = reading.level.max(answer.now.0);
        }
    }
    answer
}
