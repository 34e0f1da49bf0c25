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

/// What one thread has counted, the warm-up left out.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Nanoseconds from due to received.
    pub latency: Histogram<u64>,
    /// Answers that allow.
    pub allowed: u64,
    /// Answers that deny.
    pub denied: u64,
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
        one.add(two);
        assert_eq!((one.denied, one.errors["UNAVAILABLE"], one.latency.len()), (1, 4, 1));
    }
}
