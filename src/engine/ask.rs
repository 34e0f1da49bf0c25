//! What a store is asked, and the raw numbers it answers with.
//!
//! One ask is one atomic step: all enforced demands fit and everything that fits is charged, or nothing is.
//! A revoked token is found out in the same step, and then nothing is charged either.

use super::decision::Outcome;
use super::key::Key;
use super::revocation::Probe;
use super::rule::Rule;
use super::units::{Micros, Moment};
use smallvec::SmallVec;
use std::sync::Arc;

/// Most policies one request is checked against.
pub const MAX_DEMANDS: usize = 16;
/// Most demands of an ask that counts descriptors of a rate limit protocol.
pub const MAX_COUNTED: usize = 128;

/// What becomes of a demand once everything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Charged when it fits and the ask passes.
    Charge,
    /// Never charged.
    Peek,
    /// Counted as envoyproxy/ratelimit counts: also when it does not fit. A shadow one is counted always; an enforced
    /// one that fits is not counted when another refuses the ask. Fixed windows only; elsewhere it is `Charge`.
    Count,
    /// Taken off the count, down to nothing; it always fits and never makes a counter. Fixed windows only; elsewhere it
    /// is `Peek`.
    Refund,
}

impl Take {
    /// What it is under `rule`.
    #[must_use]
    pub fn under(self, rule: &Rule) -> Self {
        match (self, rule) {
            (Self::Count | Self::Refund, Rule::Fixed(_)) => self,
            (Self::Count, _) => Self::Charge,
            (Self::Refund, _) => Self::Peek,
            _ => self,
        }
    }

    /// Whether a demand that takes so is charged, given what it saw and what became of its ask.
    #[must_use]
    pub fn is_charged(self, weight: Weight, reading: &Reading, outcome: Outcome) -> bool {
        let passed = outcome == Outcome::Allow;
        match self {
            Self::Charge => reading.fits && passed,
            Self::Peek => false,
            Self::Count => !reading.fits || passed || weight == Weight::Shadow,
            Self::Refund => true,
        }
    }

    /// Its number where it is packed.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Charge => 0,
            Self::Peek => 1,
            Self::Count => 2,
            Self::Refund => 3,
        }
    }
}

/// Whether a demand that does not fit refuses the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It does.
    Enforced,
    /// It is counted while it fits and never refuses.
    Shadow,
}

/// What one policy asks of the store.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whose counter.
    pub key: Key,
    /// How it is counted.
    pub rule: Rule,
    /// Units that must fit; for leases it is 1.
    pub cost: u32,
    /// Charge or peek.
    pub take: Take,
    /// Enforced or shadow.
    pub weight: Weight,
    /// The lease to take, for [`Rule::Leases`].
    pub lease: Option<Arc<str>>,
}

impl Demand {
    /// What it takes under its rule.
    #[must_use]
    pub fn takes(&self) -> Take {
        self.take.under(&self.rule)
    }

    /// Whether it can stop an ask of [`OnceOver::Stops`].
    #[must_use]
    pub fn stops_once_over(&self) -> bool {
        matches!(self.rule, Rule::Fixed(_)) && self.take != Take::Refund
    }
}

/// The longest that the answer to a `request_id` is kept: it is meant to outlast the retries of a caller that still
/// waits, not its window, which may be a year.
pub const MAX_ANSWER_LIFE: Micros = Micros(600_000_000);

/// Whether there is room to keep the answer to a `request_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerRoom {
    /// There is.
    #[default]
    Free,
    /// There is none: an answer that was kept before is found, a new one is not kept. The ask is charged and may pass all
    /// the same, so that a flood of ids neither refuses anybody nor passes free.
    Full,
}

/// What it means for an ask that a counter of it was over its limit before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnceOver {
    /// Nothing of its own: each demand is charged as its [`Take`] says.
    #[default]
    Nothing,
    /// Nothing of the ask is charged. Only fixed windows that were counted above their limit ([`Take::Count`]) say so; one
    /// that goes over now does not.
    Stops,
}

/// One atomic question.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The demands; at most [`MAX_DEMANDS`], or [`MAX_COUNTED`] that count.
    pub demands: SmallVec<[Demand; 2]>,
    /// The token that comes with the request.
    pub token: Option<Box<Probe>>,
    /// A repeated ask with the same id and the same demands gets the first answer and is charged once, for as long as
    /// [`Answer::life`] says.
    pub request_id: Option<Box<str>>,
    /// Room for the answer to it.
    pub answer_room: AnswerRoom,
    /// Whether a counter that is over already keeps the ask from being charged.
    pub once_over: OnceOver,
}

/// The raw numbers that one demand saw, before anything was charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The cost fits.
    pub fits: bool,
    /// Units used; for a token bucket its arrival time in microseconds; for leases those held by others.
    pub level: u64,
    /// When the cost will fit; zero when it fits now or never can.
    pub retry_at: Moment,
    /// When the whole quota is free again if nothing more is charged.
    pub reset_at: Moment,
}

/// What the store answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The store's clock, read once.
    pub now: Moment,
    /// The token was revoked; the readings are empty then.
    pub revoked: bool,
    /// One for each demand, in order.
    pub readings: SmallVec<[Reading; 2]>,
    /// It was given before, to this request: nothing was charged now, and a lease in it may be gone since.
    pub repeated: bool,
}

/// Where the demands of an ask stood before it was put in order; empty: as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the readings stand in another order"]
pub struct Places(SmallVec<[usize; 4]>);

impl Ask {
    /// The longest that its answer is kept, whatever it will be.
    #[must_use]
    pub fn answer_life(&self) -> Micros {
        answer_life(&self.demands)
    }

    /// Whether a counter that was over before keeps it from being charged, given what it saw.
    #[must_use]
    pub fn is_stopped(&self, readings: &[Reading]) -> bool {
        let mut each = self.demands.iter().zip(readings);
        self.once_over == OnceOver::Stops
            && each.any(|(demand, reading)| demand.stops_once_over() && reading.level > demand.rule.limit())
    }

    /// Puts the demands of an ask with a `request_id` in an order of their own, so that the same policies in any order
    /// are the same request. Its answer is read by [`Answer::placed`].
    pub fn sort(&mut self) -> Places {
        let by = |one: &Demand, other: &Demand| {
            let rest = |demand: &Demand| (demand.cost, demand.take.number());
            let keys = one.key.as_str().cmp(other.key.as_str());
            keys.then_with(|| rest(one).cmp(&rest(other))).then_with(|| one.lease.cmp(&other.lease))
        };
        if self.request_id.is_none() || self.demands.is_sorted_by(|one, other| by(one, other).is_le()) {
            return Places::default();
        }
        let mut placed: SmallVec<[(usize, Demand); 4]> = self.demands.drain(..).enumerate().collect();
        placed.sort_by(|(_, one), (_, other)| by(one, other));
        let (places, demands) = placed.into_iter().unzip();
        self.demands = demands;
        Places(places)
    }
}

impl Answer {
    /// The same with the readings where the demands stood before the ask was put in order.
    #[must_use]
    pub fn placed(mut self, places: &Places) -> Self {
        // A revoked token leaves no readings, and what stands in order already has no places.
        if self.readings.len() != places.0.len() {
            return self;
        }
        let seen = self.readings.clone();
        for (place, reading) in places.0.iter().zip(seen) {
            if let Some(into) = self.readings.get_mut(*place) {
                *into = reading;
            }
        }
        self
    }

    /// How long it is kept for a `request_id`, from its moment: as long as its demands may be, and a denial no longer than
    /// until its retry-at, for from then on it would be wrong. A denial that waiting cannot help is not kept: it costs
    /// nobody anything to make it again.
    #[must_use]
    pub fn life(&self, demands: &[Demand]) -> Micros {
        let refused = || {
            let each = demands.iter().zip(&self.readings);
            each.filter(|(demand, reading)| !reading.fits && demand.weight == Weight::Enforced)
        };
        let wait = match refused().map(|(_, reading)| reading.retry_at).max() {
            _ if self.passed(demands) => return answer_life(demands),
            Some(at) if refused().all(|(_, reading)| reading.retry_at > Moment(0)) => at.since(self.now),
            _ => Micros(0),
        };
        wait.min(answer_life(demands))
    }

    /// Whether the ask passed, as an outcome.
    #[must_use]
    pub fn outcome(&self, demands: &[Demand]) -> Outcome {
        if self.passed(demands) { Outcome::Allow } else { Outcome::Deny }
    }

    /// Whether the ask passed: the token stands, and every enforced demand fits.
    #[must_use]
    pub fn passed(&self, demands: &[Demand]) -> bool {
        !self.revoked
            && demands.len() == self.readings.len()
            && demands
                .iter()
                .zip(&self.readings)
                .all(|(demand, reading)| reading.fits || demand.weight == Weight::Shadow)
    }
}

/// The longest window of the demands, a lease's being its life, at most [`MAX_ANSWER_LIFE`].
fn answer_life(demands: &[Demand]) -> Micros {
    let window = |rule: &Rule| rule.window().unwrap_or_else(|| rule.memory());
    demands.iter().map(|demand| window(&demand.rule)).max().unwrap_or_default().min(MAX_ANSWER_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::Micros;
    use crate::engine::window::Window;

    fn demand(policy: &str, cost: u32) -> Demand {
        let rule = Rule::Window(Window::new(10, Micros::SECOND));
        let key = Key::new("d", policy, std::iter::empty(), &rule);
        Demand { key, rule, cost, take: Take::Charge, weight: Weight::Enforced, lease: None }
    }

    #[test]
    fn the_order_of_demands_is_given_back_with_the_readings() {
        let request_id = Some("r".into());
        let mut ask = Ask {
            demands: [("c", 1), ("a", 2), ("b", 3), ("a", 1)]
                .map(|(name, cost)| demand(name, cost))
                .into_iter()
                .collect(),
            request_id,
            ..Ask::default()
        };
        let places = ask.sort();
        let costs: Vec<u32> = ask.demands.iter().map(|demand| demand.cost).collect();
        assert_eq!(costs, [1, 2, 3, 1], "a for 1, a for 2, b, c");
        let reading = |level| Reading { level, ..Reading::default() };
        let answer = Answer { readings: (0..4).map(reading).collect(), ..Answer::default() }.placed(&places);
        let levels: Vec<u64> = answer.readings.iter().map(|reading| reading.level).collect();
        assert_eq!(levels, [3, 1, 2, 0]);
        assert_eq!(ask.sort(), Places::default(), "once is enough");
        let revoked = Answer { revoked: true, ..Answer::default() };
        assert_eq!(revoked.clone().placed(&places), revoked);
    }
}
