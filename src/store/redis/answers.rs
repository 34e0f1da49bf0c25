//! How many answers to request ids, and settlements, this process has Redis keep.
//!
//! Promise: of one domain at most [`MAX_ANSWERS`] of this process are kept at any time. Beyond them an ask is charged and
//! its answer is not kept: never a denial, never free.
//!
//! Counted here and not in Redis: a count of the whole domain would be a key in another slot than the counters, and so a
//! second call in a Cluster, and a hot key in any case. Here it costs no byte on the wire. So what a domain has in Redis
//! is bounded by the number of processes times that many.
//!
//! Must never: count an answer as gone that may still be there. What became of a call is unknown after a timeout, so its
//! answer counts until the moment at which any that it may have kept is over.

use crate::clock;
use crate::engine::ask::{AnswerRoom, Ask};
use crate::engine::key::Key;
use crate::engine::settlement::MAX_SETTLE_WITHIN;
use crate::engine::units::Micros;
use crate::store::{MAX_ANSWERS, StoreError};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Answers are counted by the tenth of a minute in which they end: exact enough for a life of minutes, and a bounded
/// number of counts whatever their number.
const SPAN: Micros = Micros(6_000_000);
/// How much longer than its answer a key lives in Redis, with room to spare.
const MARGIN: Micros = Micros(3_000_000);

/// What the stores of one process have kept. Clones share it.
#[derive(Clone, Debug)]
pub struct Answers(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// Most of one domain.
    most: usize,
    /// Spans are counted from here.
    begun: Instant,
    /// Held for a few additions, and only for asks with a request id. Domains are those of the configuration.
    domains: Mutex<HashMap<Box<str>, Ends>>,
}

/// The answers of one domain by the span in which they end.
#[derive(Debug, Default)]
struct Ends {
    /// The number of the first span; earlier ones are over.
    first: u64,
    /// From the first span on.
    counts: VecDeque<usize>,
    /// Their sum.
    total: usize,
}

/// A place for the answer to an ask, to be settled when it is known what became of it. Dropped unsettled it counts to
/// the end of the longest life, as it must for a caller that left.
#[derive(Debug)]
pub(super) struct Place {
    domain: Box<str>,
    /// The span in which its answer ends at the latest.
    span: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Self::at_most(MAX_ANSWERS)
    }
}

impl Answers {
    /// At most so many of one domain.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self(Arc::new(Kept { most, begun: clock::monotonic(), domains: Mutex::default() }))
    }

    /// A place for the answer to `ask`, which is told when there is none. An ask without a request id needs none.
    pub(super) fn reserve(&self, ask: &mut Ask) -> Option<Place> {
        ask.request_id.as_ref()?;
        let place = self.reserve_for(&ask.demands.first()?.key, ask.answer_life());
        if place.is_none() {
            ask.answer_room = AnswerRoom::Full;
        }
        place
    }

    /// A place in the domain of a key for what lives so long at most; none where there is none.
    pub(super) fn reserve_for(&self, key: &Key, life: Micros) -> Option<Place> {
        let (domain, now) = (key.domain(), self.span_now());
        let span = now + spans(life);
        let mut domains = self.0.domains.lock();
        if !domains.contains_key(domain) {
            // A domain that a reload took away is forgotten with its last answer.
            domains.retain(|_, ends| ends.forget(now) > 0);
            domains.insert(domain.into(), Ends::default());
        }
        let ends = domains.get_mut(domain)?;
        if ends.forget(now) >= self.0.most {
            return None;
        }
        ends.add(span);
        Some(Place { domain: domain.into(), span })
    }

    /// Gives a place back, or moves it to where what it was for really ends: after the life that is known, or not at all.
    pub(super) fn settle(&self, place: Place, life: Result<Micros, &StoreError>) {
        let life = match life {
            Ok(life) => life,
            // Nothing was sent.
            Err(StoreError::Unreachable(_) | StoreError::Overloaded) => Micros(0),
            // It may have been kept.
            Err(StoreError::Timeout(_) | StoreError::Refused(_) | StoreError::Disk(_)) => return,
        };
        let now = self.span_now();
        let mut domains = self.0.domains.lock();
        if let Some(ends) = domains.get_mut(&*place.domain) {
            ends.forget(now);
            if life == Micros(0) {
                ends.remove(place.span);
            } else if now + spans(life) < place.span && ends.remove(place.span) {
                ends.add(now + spans(life));
            }
        }
    }

    /// The number of the span that it is now.
    fn span_now(&self) -> u64 {
        Micros::from(clock::monotonic().saturating_duration_since(self.0.begun)).0 / SPAN.0
    }
}

/// How many spans on an answer of that life is surely over.
fn spans(life: Micros) -> u64 {
    life.min(MAX_SETTLE_WITHIN).0.saturating_add(MARGIN.0).div_ceil(SPAN.0)
}

impl Ends {
    /// Forgets what is over, and says how many are left.
    fn forget(&mut self, now: u64) -> usize {
        while self.first < now {
            match self.counts.pop_front() {
                Some(over) => {
                    self.total = self.total.saturating_sub(over);
                    self.first += 1;
                }
                None => self.first = now,
            }
        }
        self.total
    }

    /// One more that ends in `span`.
    fn add(&mut self, span: u64) {
        let place = usize::try_from(span.saturating_sub(self.first)).unwrap_or(0);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
            self.total += 1;
        }
    }

    /// One less that ends in `span`; false when that is over.
    fn remove(&mut self, span: u64) -> bool {
        let place = span.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.counts.get_mut(place)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                self.total = self.total.saturating_sub(1);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_forgotten_and_the_counts_are_bounded() {
        let mut ends = Ends::default();
        for now in 0..10_000 {
            ends.forget(now);
            ends.add(now + spans(MAX_SETTLE_WITHIN));
            assert!(ends.counts.len() <= 602 && ends.total <= 602, "{now}: {ends:?}");
        }
        assert!(ends.remove(10_000) && ends.remove(10_000 + spans(MAX_SETTLE_WITHIN) - 1));
        assert!(!ends.remove(9_000) && !ends.remove(20_000));
        assert_eq!(ends.forget(20_000), 0);
        assert!(ends.counts.is_empty());
    }

    #[test]
    fn a_place_counts_longer_than_its_key_lives() {
        for life in [1, 5_999_999, 6_000_000, 600_000_000] {
            let key = super::super::life::Life::fixed(Micros(life), Micros(0)).px() * 1_000;
            // The worst: the span is nearly over when the answer is kept.
            assert!((spans(Micros(life)) - 1) * SPAN.0 + SPAN.0 >= key, "{life}");
        }
    }
}
