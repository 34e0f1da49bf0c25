//! What `take.lua` answers, as answers of the engine.
//!
//! Promise: the readings are those that the engine's own step functions give for the same state; a reply that is not
//! what was asked for is an error for the asks it leaves unanswered, never a guess.

use crate::engine::ask::{Answer, Ask, Demand, Reading};
use crate::engine::fixed::Count;
use crate::engine::rule::Rule;
use crate::engine::units::{Micros, Moment};
use crate::store::StoreError;
use crate::store::redis::name;
use crate::store::redis::pack::integer;
use crate::store::redis::plan::{Place, Plan};
use smallvec::SmallVec;

/// An ask's number in the batch, and what became of it.
pub(super) type Outcome = (usize, Result<Answer, StoreError>);

/// Reads the reply to a plan of `asks`: one outcome for each ask of the plan, in the order of the reply. An ask
/// that the reply does not reach gets an error.
pub(super) fn read<'a>(plan: &Plan, ask: impl Fn(usize) -> Option<&'a Ask>, reply: &[u8]) -> Vec<Outcome> {
    let mut numbers = Numbers { left: reply };
    let now = numbers.integer().map(Moment);
    plan.order
        .iter()
        .map(|place| {
            let (Place::Grouped(at) | Place::Other(at)) = *place;
            let answer = match (now, ask(at), place) {
                (Some(now), Some(ask), Place::Grouped(_)) => grouped(&mut numbers, ask, now),
                (Some(now), Some(ask), Place::Other(_)) => other(&mut numbers, ask, (now, plan)),
                _ => None,
            };
            (at, answer.unwrap_or_else(|| Err(nonsense())))
        })
        .collect()
}

/// Our own script does not write such a reply: something between us and Redis changed it, or a kept answer is
/// not ours.
pub(super) fn nonsense() -> StoreError {
    StoreError::Refused("a reply that does not fit the question".to_owned())
}

/// Names the policy and not the key: a key holds what callers sent, and errors end up in logs.
fn not_ours(what: &str) -> StoreError {
    StoreError::Refused(format!("{what}: the key holds another type, or a value that is not quotad's"))
}

/// One demand's numbers among the groups; none when the reply ends early. A sliding window sends three numbers, a fixed
/// one two, a bucket one, and a bad key as many as a good one, so that the next ask is found.
fn grouped(numbers: &mut Numbers<'_>, ask: &Ask, now: Moment) -> Option<Result<Answer, StoreError>> {
    let demand = ask.demands.first()?;
    let first = numbers.next()?;
    let rest = match demand.rule {
        Rule::Window(_) => (numbers.next()?, numbers.next()?),
        Rule::Fixed(_) => (numbers.next()?, 0.0),
        _ => (0.0, 0.0),
    };
    if first < 0.0 {
        return Some(Err(not_ours(demand.key.policy())));
    }
    let raw = [integer(first)?, integer(rest.0)?, integer(rest.1)?];
    let readings = std::iter::once(counter(demand, now, raw)?).collect();
    Some(Ok(Answer { now, readings, ..Answer::default() }))
}

/// What the engine reads from a counter's numbers; none for leases, which are never grouped.
///
/// Of buckets and fixed windows the script sends the state alone and the engine's own step reads it: Redis,
/// which all replicas share, does less. A window's state is a list, so there the script reads and only its
/// findings are sent.
fn counter(demand: &Demand, now: Moment, raw: [u64; 3]) -> Option<Reading> {
    let cost = u64::from(demand.cost);
    let [level, second, reset] = raw;
    match demand.rule {
        Rule::Window(window) => Some(Reading {
            fits: level.saturating_add(cost) <= window.limit,
            level,
            retry_at: later_or_never(now, second),
            reset_at: now.plus(Micros(reset)),
        }),
        Rule::Bucket(bucket) => Some(bucket.read_mended(later_or_never(now, level).0, now, cost)),
        Rule::Fixed(fixed) => {
            let current = Moment(now.0 - now.0 % fixed.window.0.max(1));
            // The clock went back over an edge: the count is that of the later window.
            let start = if second > 0 { now.plus(Micros(second)) } else { current };
            Some(fixed.read_for(demand.take, Count { start, units: level }, now, cost))
        }
        Rule::Leases(_) => None,
    }
}

/// The moment `offset` from now. Zero stays zero: for a retry it means that the cost fits now or never will,
/// for a bucket that it is full.
fn later_or_never(now: Moment, offset: u64) -> Moment {
    if offset == 0 { Moment(0) } else { now.plus(Micros(offset)) }
}

/// An ask's numbers among the others, by their state.
///
/// | state | then |
/// |---|---|
/// | 0 | four numbers for each demand |
/// | -1 | nothing: the token is revoked |
/// | -2 | the number of the key whose value is not ours |
/// | -3 | the first answer's now, how many numbers, those numbers |
///
/// A kept answer of another length was not written for this ask; it is passed over whole, so that the asks
/// behind it are still read from the right place.
fn other(numbers: &mut Numbers<'_>, ask: &Ask, of: (Moment, &Plan)) -> Option<Result<Answer, StoreError>> {
    let (now, plan) = of;
    let state = numbers.next()?;
    if state == 0.0 {
        return decided(numbers, ask, now);
    }
    if state == -1.0 {
        return Some(Ok(Answer { now, revoked: true, ..Answer::default() }));
    }
    if state == -2.0 {
        let key = usize::try_from(numbers.integer()?).ok()?;
        let bad = plan.keys.get(key.checked_sub(1)?)?;
        let is_bad = |demand: &&Demand| bad.as_bytes() == name::counter(&demand.key).as_bytes();
        let demand = ask.demands.iter().find(is_bad);
        return Some(Err(not_ours(
            demand.map_or("a revocation or a kept answer", |demand| demand.key.policy()),
        )));
    }
    let (first_now, count) = (Moment(numbers.integer()?), numbers.integer()?);
    if u64::try_from(ask.demands.len() * WIDTH) != Ok(count) {
        numbers.skip(count);
        return Some(Err(nonsense()));
    }
    decided(numbers, ask, first_now).map(|kept| kept.map(|answer| Answer { repeated: true, ..answer }))
}

/// Numbers of a demand among the others: whether it fits, level, retry offset, reset offset.
const WIDTH: usize = 4;

/// What each demand saw, fresh or kept. Offsets count from `now`, which for a kept answer is the moment of the
/// first: the repeated answer is the same, not a later one.
fn decided(numbers: &mut Numbers<'_>, ask: &Ask, now: Moment) -> Option<Result<Answer, StoreError>> {
    let mut readings = SmallVec::new();
    for demand in &ask.demands {
        let (fits, level) = (numbers.integer()? == 1, numbers.integer()?);
        let (retry, reset) = (numbers.integer()?, numbers.integer()?);
        let level = match demand.rule {
            Rule::Bucket(_) => later_or_never(now, level).0,
            _ => level,
        };
        let (retry_at, reset_at) = (later_or_never(now, retry), now.plus(Micros(reset)));
        readings.push(Reading { fits, level, retry_at, reset_at });
    }
    Some(Ok(Answer { now, readings, ..Answer::default() }))
}

/// Packed little-endian doubles, read from the front. Nothing is read beyond the end, however long the reply
/// says that it is.
struct Numbers<'a> {
    /// What is not read yet.
    left: &'a [u8],
}

impl Numbers<'_> {
    /// None at the end, also when less than a whole double is left.
    fn next(&mut self) -> Option<f64> {
        let (first, left) = self.left.split_first_chunk::<8>()?;
        self.left = left;
        Some(f64::from_le_bytes(*first))
    }

    /// None also for what no integer of ours could be: a fraction, a negative number, one from 2^53 on.
    fn integer(&mut self) -> Option<u64> {
        integer(self.next()?)
    }

    /// `count` is the reply's word and may be anything; the end of the reply ends the loop.
    fn skip(&mut self, count: u64) {
        for _ in 0..count {
            if self.next().is_none() {
                return;
            }
        }
    }
}
