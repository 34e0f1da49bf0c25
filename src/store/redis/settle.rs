//! A settlement as its script reads it, and the script's reply.
//!
//! Promise: the rule's numbers and the key's life are those of `plan.rs`, so that a settlement and a charge of one counter
//! agree on what its value means and how long it is kept.
//!
//! Must never: take a reply of another length for an answer; which counter's numbers are whose would be a guess.

use crate::engine::ask::Reading;
use crate::engine::key::Key;
use crate::engine::rule::Rule;
use crate::engine::settlement::{Adjustment, Movement, Settled, Settlement, SettlementState};
use crate::engine::units::{Micros, Moment};
use crate::store::StoreError;
use crate::store::redis::life::Life;
use crate::store::redis::name;
use crate::store::redis::pack::{double, integer};
use fred::types::{Key as RedisKey, Value};

/// Numbers of a counter in a reply: cost, returned, charged, level, retry offset, reset offset.
const WIDTH: usize = 6;

/// KEYS, and the first counter's key; none without a counter.
pub(super) fn keys(settlement: &Settlement) -> Option<(Vec<RedisKey>, &Key)> {
    let first = &settlement.adjustments.first()?.key;
    let record = RedisKey::from(name::settlement(&settlement.name, first));
    let counters = settlement.adjustments.iter().map(|one| RedisKey::from(name::counter(&one.key).as_ref()));
    Some((std::iter::once(record).chain(counters).collect(), first))
}

/// ARGV.
pub(super) fn arguments(settlement: &Settlement, has_room: bool, hold: Micros) -> Vec<Value> {
    let margin = Life::fixed(Micros(0), hold).keep;
    let head = doubles(&[settlement.at.0, settlement.until.0, settlement.remembered_until().0, margin]);
    let room = if has_room { "1" } else { "0" };
    let mut args = vec![Value::Bytes(head.into()), Value::String(room.into())];
    args.extend(settlement.adjustments.iter().map(|one| Value::Bytes(row(one, hold).into())));
    args
}

/// One counter: its kind, what was reserved and what it cost, its rule's numbers, and its key's life.
fn row(adjustment: &Adjustment, hold: Micros) -> Vec<u8> {
    let life = Life::renewed(adjustment.rule.memory(), hold);
    let (kind, [first, second, third]) = match adjustment.rule {
        Rule::Window(window) => (1, [window.limit, adjustment.rule.memory().0, window.grain]),
        Rule::Bucket(bucket) => {
            (2, [bucket.tolerance(), bucket.emission, adjustment.emission.clamp(1, bucket.emission)])
        }
        Rule::Fixed(fixed) => (3, [fixed.limit, fixed.window.0, 0]),
        // Nothing is moved.
        Rule::Leases(_) => (0, [0, 0, 0]),
    };
    let mut packed = vec![kind];
    let (reserved, cost) = (u64::from(adjustment.reserved), u64::from(adjustment.cost));
    packed.extend(doubles(&[reserved, cost, first, second, third, life.keep]));
    packed.extend_from_slice(life.px().to_string().as_bytes());
    packed.push(0);
    packed
}

/// Integers as the scripts take them, packed.
fn doubles(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| double(*number).to_le_bytes()).collect()
}

/// What a reply says.
///
/// # Errors
/// A key holds what is not quotad's, or the reply does not fit the question.
pub(super) fn settled(reply: &[u8], settlement: &Settlement) -> Result<Settled, StoreError> {
    let (numbers, rest) = reply.as_chunks::<8>();
    let numbers: Vec<f64> = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    if numbers.get(1).is_some_and(|state| *state < 0.0) {
        return Err(StoreError::Refused(
            "a key holds another type, or a value that is not quotad's".to_owned(),
        ));
    }
    let read = || {
        let (now, state) = (Moment(integer(*numbers.first()?)?), integer(*numbers.get(1)?)?);
        let state = match state {
            1 => SettlementState::Settled,
            2 => SettlementState::Repeated,
            3 => SettlementState::TooLate,
            4 => SettlementState::NoRoom,
            _ => return None,
        };
        let counters = numbers.get(2..)?.chunks(WIDTH);
        if !rest.is_empty() || counters.len() != settlement.adjustments.len() {
            return None;
        }
        let mut settled =
            Settled { now, state, movements: smallvec::smallvec![], readings: smallvec::smallvec![] };
        for (one, numbers) in settlement.adjustments.iter().zip(counters) {
            let (movement, reading) = counter(one, now, numbers)?;
            settled.movements.push(movement);
            settled.readings.push(reading);
        }
        Some(settled)
    };
    read().ok_or_else(|| StoreError::Refused("a reply that does not fit the question".to_owned()))
}

fn counter(adjustment: &Adjustment, now: Moment, numbers: &[f64]) -> Option<(Movement, Reading)> {
    let mut whole = [0; WIDTH];
    for (into, number) in whole.iter_mut().zip(numbers) {
        *into = integer(*number)?;
    }
    let [cost, returned, charged, level, retry, reset] = whole;
    let units = |number| u32::try_from(number).ok();
    let movement = Movement { cost: units(cost)?, returned: units(returned)?, charged: units(charged)? };
    let at = |offset| if offset == 0 { Moment(0) } else { now.plus(Micros(offset)) };
    let level = match adjustment.rule {
        Rule::Bucket(_) => at(level).0,
        _ => level,
    };
    let fits = match adjustment.rule {
        Rule::Bucket(_) => retry == 0,
        rule => level < rule.limit(),
    };
    (numbers.len() == WIDTH).then_some(())?;
    Some((movement, Reading { fits, level, retry_at: at(retry), reset_at: now.plus(Micros(reset)) }))
}
