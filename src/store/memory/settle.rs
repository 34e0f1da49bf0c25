//! The settlement of a reservation, under the locks of all its counters.
//!
//! Promise: as `take.rs`: the moment is read when all locks are held, and nothing of another decision on these counters
//! happens between the first reading and the last change. It is remembered before the locks are let go, so of two that come
//! at once one holds.
//!
//! Must never: give back to a counter that others share, for what it gives back may be theirs; change anything that could
//! not be remembered, for a repetition would change it again.

use super::MemoryStore;
use super::overflow::{Spot, Spots};
use super::shard::{Counted, Id, Kept, Remembered, Shard};
use super::take::{Locked, charge_log, read};
use crate::engine::ask::{Ask, Demand, Take, Weight};
use crate::engine::rule::Rule;
use crate::engine::settlement::{Adjustment, Movement, Settled, Settlement, SettlementState};
use crate::engine::units::Moment;
use crate::engine::window::Charge;
use smallvec::SmallVec;

impl MemoryStore {
    /// Settles, or says why not.
    pub(super) fn settle_now(&self, settlement: &Settlement) -> Settled {
        let ask = Ask { demands: settlement.adjustments.iter().map(next).collect(), ..Ask::default() };
        let record = self.settlement_id(settlement);
        let own: SmallVec<[Id; 2]> = ask.demands.iter().map(|demand| self.id(&demand.key)).collect();
        let mut locked = self.lock_all(own.iter().chain(&record));
        let mut spots: Spots = own.iter().map(|id| Spot::own(*id)).collect();
        if self.crosses(&ask, &own, &mut locked) {
            drop(locked);
            (locked, spots) = self.cross(&ask, &own, record);
        }
        let now = locked.now;
        let (state, known) = self.state(settlement, record, &mut locked);
        let each = settlement.adjustments.iter().zip(&mut spots);
        let movements: SmallVec<[Movement; 2]> = match known {
            Some(known) => known,
            None if state == SettlementState::Settled => {
                each.map(|(adjustment, spot)| adjust(&mut locked, spot, adjustment, settlement.at)).collect()
            }
            None => settlement.adjustments.iter().map(Adjustment::unmoved).collect(),
        };
        if let Some(shard) =
            record.filter(|_| state == SettlementState::Settled).and_then(|id| locked.shard(id))
            && let Some(id) = record
        {
            let kept = Kept::Movements(movements.clone());
            let remembered = Remembered { kept, until: settlement.remembered_until() };
            shard.remember(id, remembered, self.max_keys_a_shard);
        }
        let readings =
            ask.demands.iter().zip(&spots).map(|(demand, spot)| read(&mut locked, *spot, demand)).collect();
        self.sweep(locked);
        Settled { now, state, movements, readings }
    }

    /// What will become of it, and what was moved where it was settled before.
    fn state(
        &self,
        settlement: &Settlement,
        record: Option<Id>,
        locked: &mut Locked<'_>,
    ) -> (SettlementState, Option<SmallVec<[Movement; 2]>>) {
        let now = locked.now;
        let Some((id, shard)) = record.and_then(|id| Some((id, locked.shard(id)?))) else {
            return (SettlementState::TooLate, None);
        };
        if let Some(known) = shard.settled(id, now) {
            return (SettlementState::Repeated, Some(known.clone()));
        }
        let state = if !settlement.is_in_time(now) {
            SettlementState::TooLate
        } else if shard.has_room_to_remember(id, self.max_keys_a_shard) {
            SettlementState::Settled
        } else {
            SettlementState::NoRoom
        };
        (state, None)
    }

    /// What it is remembered under; none without a counter.
    fn settlement_id(&self, settlement: &Settlement) -> Option<Id> {
        let domain = settlement.adjustments.first()?.key.domain();
        let name = format!("s:{domain} {}", settlement.name);
        // Where the domain's answers are counted.
        Some(Id::new(self.hash(name.as_bytes()), self.hash(domain.as_bytes())))
    }
}

/// What comes next on the counter of an adjustment: a demand of one unit.
fn next(adjustment: &Adjustment) -> Demand {
    Demand {
        key: adjustment.key.clone(),
        rule: adjustment.rule,
        cost: 1,
        take: Take::Charge,
        weight: Weight::Enforced,
        lease: None,
    }
}

/// Moves one counter. Where the key gets a counter of its own for that, it is read from then on.
fn adjust(locked: &mut Locked<'_>, spot: &mut Spot, adjustment: &Adjustment, at: Moment) -> Movement {
    let now = locked.now;
    if adjustment.shortfall() > 0 {
        spot.prepare(locked, &adjustment.rule);
        spot.read = spot.charge;
        if let Some(shard) = locked.shard(spot.charge) {
            owe(shard, spot.charge, adjustment, now);
        }
        return adjustment.moved(0);
    }
    if spot.is_shared() || adjustment.excess() == 0 {
        return adjustment.moved(0);
    }
    let returned =
        locked.shard(spot.read).map_or(0, |shard| give_back(shard, spot.read, adjustment, (at, now)));
    adjustment.moved(returned)
}

/// Charges what the reservation lacked.
fn owe(shard: &mut Shard, id: Id, adjustment: &Adjustment, now: Moment) {
    let units = u64::from(adjustment.shortfall());
    match &adjustment.rule {
        Rule::Window(window) => charge_log(shard, id, window, Charge { at: now, cost: units }),
        Rule::Bucket(bucket) => {
            let stored = shard.buckets.get(id).copied().unwrap_or_default();
            shard.put_bucket(id, bucket.owed(stored, now, units));
        }
        Rule::Fixed(fixed) => {
            let stored = shard.counts.get(id).map(|counted| counted.count).unwrap_or_default();
            let count = fixed.charged(stored, now, units);
            shard.put_count(id, Counted { count, ends: fixed.ends(count) });
        }
        Rule::Leases(_) => {}
    }
}

/// Gives back what was too much, as far as it still counts: how many units.
fn give_back(shard: &mut Shard, id: Id, adjustment: &Adjustment, (at, now): (Moment, Moment)) -> u64 {
    let units = u64::from(adjustment.excess());
    match &adjustment.rule {
        Rule::Window(window) => shard
            .change_log(id, |log| {
                let returned = window.give_back(&mut log.charges, now, at, units);
                log.ends = window.ends(&log.charges);
                returned
            })
            .unwrap_or(0),
        Rule::Bucket(bucket) => {
            let Some(stored) = shard.buckets.get(id).copied() else { return 0 };
            let (arrival, returned) = bucket.given_back(stored, now, adjustment.charged(at), units);
            if arrival != stored {
                shard.put_bucket(id, arrival);
            }
            returned
        }
        Rule::Fixed(fixed) => {
            let Some(stored) = shard.counts.get(id).map(|counted| counted.count) else { return 0 };
            let (count, returned) = fixed.given_back(stored, now, at, units);
            if count != stored {
                shard.put_count(id, Counted { count, ends: fixed.ends(count) });
            }
            returned
        }
        Rule::Leases(_) => 0,
    }
}
