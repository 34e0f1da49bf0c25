//! What one thread of a bench has counted.

use super::course::nanos;
use super::frames::Answer;
use super::oracle::{Sighting, Witness};
use crate::pb::quotad::v1::Outcome;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies are told apart from a microsecond to a minute, to three digits.
const LEAST: u64 = 1_000;
const MOST: Duration = Duration::from_secs(60);
const DIGITS: u8 = 3;

/// Moments of one request, in nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it was due: in a closed loop the moment it was sent.
    pub due: u64,
    /// When it was sent.
    pub sent: u64,
    /// When its answer was there.
    pub received: u64,
}

/// Keys that were seen allowed, a bit each.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<u64>);

impl KeySet {
    fn add(&mut self, key: u32) {
        let (word, bit) = (usize::try_from(key / 64).unwrap_or(usize::MAX), key % 64);
        if word >= self.0.len() {
            self.0.resize(word.saturating_add(1), 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << bit;
        }
    }

    fn join(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }

    /// How many keys are in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }
}

/// Answers of the warm-up: they are not measured, and what they used up is gone all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// Answers that allow.
    pub allowed: u64,
    /// Answers that deny.
    pub denied: u64,
}

/// What one thread has counted. Where nothing else is said, the warm-up is left out.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Nanoseconds from due to received.
    pub latency: Histogram<u64>,
    /// Answers that allow.
    pub allowed: u64,
    /// Answers that deny.
    pub denied: u64,
    /// What the warm-up was answered.
    pub warmup: WarmUp,
    /// Keys of answers that allow, warm-up included.
    pub allowed_keys: KeySet,
    /// What got no decision, by the name of the gRPC code or what else went wrong.
    pub errors: BTreeMap<&'static str, u64>,
    /// Connections opened anew after the first.
    pub reconnects: u64,
    /// When the last answer came.
    pub last: u64,
    /// For the oracle, warm-up included: the server counts it too.
    pub witness: Witness,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that can happen: the bounds of the histogram are constants that fit.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            latency: Histogram::new_with_bounds(LEAST, nanos(MOST), DIGITS)?,
            allowed: 0,
            denied: 0,
            warmup: WarmUp::default(),
            allowed_keys: KeySet::default(),
            errors: BTreeMap::new(),
            reconnects: 0,
            last: 0,
            witness: Witness::default(),
        })
    }

    /// Counts an answer.
    pub fn answered(&mut self, times: Times, answer: &Answer) {
        self.latency.saturating_record(times.received.saturating_sub(times.due));
        self.last = self.last.max(times.received);
        match answer.outcome {
            Outcome::Allow => self.allowed += 1,
            Outcome::Deny => self.denied += 1,
            Outcome::Unspecified => self.failed("UNSPECIFIED", 1),
        }
    }

    /// Counts an answer of the warm-up.
    pub fn warmed_up(&mut self, answer: &Answer) {
        match answer.outcome {
            Outcome::Allow => self.warmup.allowed += 1,
            Outcome::Deny => self.warmup.denied += 1,
            Outcome::Unspecified => {}
        }
    }

    /// Notes whose answer it was.
    pub fn saw(&mut self, key: u32, answer: &Answer) {
        if answer.outcome == Outcome::Allow {
            self.allowed_keys.add(key);
        }
    }

    /// Lets the oracle see an answer.
    pub fn witnessed(&mut self, key: u32, cost: u32, times: Times, answer: &Answer) {
        if let Some(decision) = &answer.decision {
            let Times { sent, received, .. } = times;
            self.witness.see(Sighting { key, cost, sent, received }, decision);
        }
    }

    /// Counts requests without a decision.
    pub fn failed(&mut self, why: &'static str, requests: u64) {
        if requests > 0 {
            *self.errors.entry(why).or_default() += requests;
        }
    }

    /// Adds what another thread counted; what its oracle saw is handed back.
    pub fn add(&mut self, other: Self) -> Witness {
        // Both histograms have the same bounds, so adding cannot fail.
        let _ = self.latency.add(&other.latency);
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.warmup.allowed += other.warmup.allowed;
        self.warmup.denied += other.warmup.denied;
        self.allowed_keys.join(&other.allowed_keys);
        for (why, requests) in other.errors {
            self.failed(why, requests);
        }
        self.reconnects += other.reconnects;
        self.last = self.last.max(other.last);
        other.witness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let mut tally = Tally::new().unwrap();
        let answer = Answer { outcome: Outcome::Allow, decision: None };
        tally.answered(Times { due: 0, sent: 900_000, received: 1_000_000 }, &answer);
        assert_eq!((tally.allowed, tally.last), (1, 1_000_000));
        assert!((999_000..=1_001_000).contains(&tally.latency.max()), "{}", tally.latency.max());
    }

    #[test]
    fn threads_add_up() {
        let mut one = Tally::new().unwrap();
        one.failed("UNAVAILABLE", 2);
        let mut two = one.clone();
        let denied = Answer { outcome: Outcome::Deny, decision: None };
        two.answered(Times { due: 5_000, sent: 5_000, received: 10_000 }, &denied);
        let allowed = Answer { outcome: Outcome::Allow, decision: None };
        for key in [3, 3, 64] {
            one.saw(key, &allowed);
        }
        for (key, answer) in [(3, &allowed), (1_000, &allowed), (5, &denied)] {
            two.saw(key, answer);
            two.warmed_up(answer);
        }
        one.add(two);
        assert_eq!((one.denied, one.errors["UNAVAILABLE"], one.latency.len()), (1, 4, 1));
        assert_eq!(one.warmup, WarmUp { allowed: 2, denied: 1 });
        assert_eq!(one.allowed_keys.count(), 3, "3, 64 and 1000");
    }
}
