//! The atomic step: lock the shards of all keys in one order, read everything, then charge everything or nothing.
//!
//! Lock order is by shard index, so two decisions never wait for each other in a circle.
//!
//! Promise: the moment of a decision is read when all its locks are held, and so the moments of the decisions on one key
//! are in the order in which these see its state. A thread that is held up, before its locks or with them, for however
//! long, is never behind what another one charged; what looks as if it came from the future did so because the clock
//! itself went back (`engine/units.rs`, `CLOCK_JUMP`). [`Locked`] carries the moment, and nothing else makes one.
//!
//! Must never: read or change a counter or a lease at a moment that was read before its lock.

use super::overflow::{Spot, Spots};
use super::shard::{Counted, Id, Kept, Log, Remembered, Shard};
use super::{MemoryStore, SHARDS, lock};
use crate::engine::ask::{Answer, AnswerRoom, Ask, Demand, Reading, Take};
use crate::engine::leases::LeaseSet;
use crate::engine::rule::Rule;
use crate::engine::units::{Micros, Moment};
use crate::engine::window::{Charge, Window};
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::fmt::Write as _;

type Ids = SmallVec<[Id; 2]>;

/// The locked shards of one decision, and its moment.
/// Nothing of another decision on the same keys happens between the first reading and the last charge.
pub(super) struct Locked<'a> {
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 2]>,
    /// Read when all of them were locked.
    pub(super) now: Moment,
}

impl Locked<'_> {
    /// The shard of an id; it is there for every id that was locked.
    pub(super) fn shard(&mut self, id: Id) -> Option<&mut Shard> {
        let index = id.shard(SHARDS);
        self.shards.iter_mut().find(|(other, _)| *other == index).map(|(_, shard)| &mut **shard)
    }

    /// The first answer to this request, if it was asked before.
    fn remembered(&mut self, request: Option<Id>) -> Option<Answer> {
        let (id, now) = (request?, self.now);
        self.shard(id)?.remembered(id, now).cloned()
    }
}

impl MemoryStore {
    /// Decides and charges.
    ///
    /// A revoked token is found before anything is locked. A request that was answered before gets that answer again.
    /// Where a demand concerns an overflow counter, the locks are let go and taken again with its shard.
    pub(super) fn take_now(&self, ask: &Ask) -> Answer {
        if let Some(token) = ask.token.as_deref() {
            let now = self.clock.now();
            if self.revocations.refuses(token, now) {
                return Answer { now, revoked: true, ..Answer::default() };
            }
        }
        let request = self.request_id(ask);
        let own: Ids = ask.demands.iter().map(|demand| self.id(&demand.key)).collect();
        let mut locked = self.lock_all(own.iter().chain(&request));
        if let Some(answer) = locked.remembered(request) {
            return answer;
        }
        let mut spots: Spots = own.iter().map(|id| Spot::own(*id)).collect();
        if self.crosses(ask, &own, &mut locked) {
            drop(locked);
            (locked, spots) = self.cross(ask, &own, request);
            // The locks were let go: a repetition of this request may have been answered meanwhile.
            if let Some(answer) = locked.remembered(request) {
                return answer;
            }
        }
        let now = locked.now;
        let readings = ask.demands.iter().zip(&spots).map(|(demand, spot)| read(&mut locked, *spot, demand));
        let answer = Answer { now, readings: readings.collect(), ..Answer::default() };
        let outcome = answer.outcome(&ask.demands);
        let stopped = ask.is_stopped(&answer.readings);
        for ((demand, spot), reading) in ask.demands.iter().zip(&spots).zip(&answer.readings) {
            if spot.is_idle(demand) {
                continue;
            }
            let charge = !stopped && demand.takes().is_charged(demand.weight, reading, outcome);
            if charge {
                spot.prepare(&mut locked, &demand.rule);
            }
            if let Some(shard) = locked.shard(spot.charge) {
                settle(shard, spot.charge, demand, now, charge);
            }
        }
        if let Some(id) = request.filter(|_| ask.answer_room == AnswerRoom::Free) {
            let life = answer.life(&ask.demands);
            if let Some(shard) = locked.shard(id).filter(|_| life > Micros(0)) {
                let again = Answer { repeated: true, ..answer.clone() };
                let remembered = Remembered { kept: Kept::Answer(again), until: now.plus(life) };
                shard.remember(id, remembered, self.max_keys_a_shard);
            }
        }
        self.sweep(locked);
        answer
    }

    /// Sweeps the decision's own shards, and now and then one that nobody may be asking any more. What was over at the
    /// decision's moment is over for good, so that moment serves for the other shard too.
    pub(super) fn sweep(&self, mut locked: Locked<'_>) {
        let (now, mut other) = (Moment(locked.now.0.saturating_sub(self.hold.0)), None);
        for (index, shard) in &mut locked.shards {
            other = shard.sweep(now).map(|turn| (*index + turn) % SHARDS).or(other);
        }
        drop(locked);
        if let Some(shard) = other.and_then(|index| self.shards.get(index)?.0.try_lock()) {
            let mut shard = shard;
            shard.sweep(now);
        }
    }

    /// The name of a request: its id together with all that it asks, so that an id used for another question is
    /// another request.
    fn request_id(&self, ask: &Ask) -> Option<Id> {
        let request_id = ask.request_id.as_deref()?;
        let first = ask.demands.first()?;
        let mut text = format!("r:{request_id}");
        for demand in &ask.demands {
            let lease = demand.lease.as_deref().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{} {} {:?} {lease}", demand.key.as_str(), demand.cost, demand.take);
        }
        // Answers of a domain have a part of the memory of their own, so that ids cannot crowd counters out.
        let answers = self.hash(first.key.domain().as_bytes());
        Some(Id::new(self.hash(text.as_bytes()), answers))
    }

    /// Locks every shard that is concerned, each once, by ascending index, and then reads the clock.
    pub(super) fn lock_all<'a>(&self, ids: impl Iterator<Item = &'a Id>) -> Locked<'_> {
        let mut indexes: SmallVec<[usize; 4]> = ids.map(|id| id.shard(SHARDS)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let shards = indexes.into_iter().filter_map(|index| Some((index, lock(&self.shards.get(index)?.0))));
        let shards = shards.collect();
        Locked { shards, now: self.clock.now() }
    }
}

/// What a demand sees; a key without a state is an untouched one.
pub(super) fn read(locked: &mut Locked<'_>, spot: Spot, demand: &Demand) -> Reading {
    let (id, now) = (spot.read, locked.now);
    let Some(shard) = locked.shard(id) else { return Reading::default() };
    let cost = u64::from(demand.cost);
    match &demand.rule {
        Rule::Window(window) => {
            let charges = shard.logs.get(id).map_or(&[][..], |log| &log.charges);
            window.read(charges, now, cost)
        }
        Rule::Bucket(bucket) => bucket.read(shard.buckets.get(id).copied().unwrap_or_default(), now, cost),
        Rule::Fixed(fixed) => {
            let count = shard.counts.get(id).map(|counted| counted.count).unwrap_or_default();
            fixed.read_for(demand.take, count, now, cost)
        }
        Rule::Leases(leases) => {
            let lease = demand.lease.as_deref().unwrap_or_default();
            match shard.leases(id) {
                None => leases.read(&LeaseSet::default(), now, lease),
                // What all new keys share may take a little of what others left; else each of them would be refused.
                Some(held) if shard.may_grow(id) || (spot.is_shared() && shard.has_spare(held.bytes())) => {
                    leases.read(held, now, lease)
                }
                Some(held) => leases.read_full(held, now, lease),
            }
        }
    }
}

/// Charges. Where nothing is charged, nothing changes unless the clock jumped back: what that left in the future is mended.
fn settle(shard: &mut Shard, id: Id, demand: &Demand, now: Moment, charge: bool) {
    let cost = u64::from(demand.cost);
    match &demand.rule {
        Rule::Window(window) if charge => charge_log(shard, id, window, Charge { at: now, cost }),
        Rule::Window(window) => {
            shard.change_log(id, |log| {
                if window.mend(&mut log.charges, now) {
                    log.ends = window.ends(&log.charges);
                }
            });
        }
        Rule::Bucket(bucket) => {
            let stored = shard.buckets.get(id).copied().unwrap_or_default();
            let arrival = if charge { bucket.charged(stored, now, cost) } else { bucket.mended(stored, now) };
            if arrival != stored {
                shard.put_bucket(id, arrival);
            }
        }
        Rule::Fixed(fixed) => {
            let stored = shard.counts.get(id).map(|counted| counted.count).unwrap_or_default();
            let count =
                if charge { fixed.taken(demand.take, stored, now, cost) } else { fixed.mended(stored, now) };
            // Only a refund leaves nothing of something, and that has to be kept; a charge of nothing makes no counter.
            if count != stored && (count.units > 0 || !charge || demand.take == Take::Refund) {
                shard.put_count(id, Counted { count, ends: fixed.ends(count) });
            }
        }
        Rule::Leases(leases) => {
            let lease = demand.lease.as_deref().unwrap_or_default();
            let settled = shard.change_leases(id, |held| {
                if charge {
                    leases.charge(held, now, lease);
                } else {
                    leases.mend(held, now);
                }
            });
            if settled.is_none() && charge {
                let mut held = LeaseSet::default();
                leases.charge(&mut held, now, lease);
                shard.put_leases(id, held);
            }
        }
    }
}

/// Charges a log, whatever it holds.
pub(super) fn charge_log(shard: &mut Shard, id: Id, window: &Window, charge: Charge) {
    let may_grow = shard.may_grow(id);
    let charged = shard.change_log(id, |log| {
        let most = if may_grow { usize::MAX } else { log.charges.capacity() };
        window.charge_within(&mut log.charges, charge.at, charge.cost, most);
        log.ends = window.ends(&log.charges);
    });
    if charged.is_none() {
        let mut charges = Vec::new();
        window.charge(&mut charges, charge.at, charge.cost);
        let ends = window.ends(&charges);
        shard.put_log(id, Log { charges, ends });
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::ask::{Answer, Ask, Demand, Take, Weight};
    use crate::engine::key::Key;
    use crate::engine::rule::Rule;
    use crate::engine::units::Micros;
    use crate::engine::window::Window;
    use crate::store::memory::{MemoryOptions, MemoryStore, StoreClock};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn store(max_keys: usize) -> (MemoryStore, Arc<AtomicU64>) {
        let at = Arc::new(AtomicU64::new(1_700_000_000_000_000));
        let clock = StoreClock::Manual(Arc::clone(&at));
        (MemoryStore::new(MemoryOptions { max_keys, clock, ..MemoryOptions::default() }).unwrap(), at)
    }

    fn demand(policy: &str, who: &str, limit: u64) -> Demand {
        let rule = Rule::Window(Window::new(limit, Micros::from_seconds(60)));
        Demand {
            key: Key::new("default", policy, [("ip", who)].into_iter(), &rule),
            rule,
            cost: 1,
            take: Take::Charge,
            weight: Weight::Enforced,
            lease: None,
        }
    }

    fn ask(demands: impl IntoIterator<Item = Demand>) -> Ask {
        Ask { demands: demands.into_iter().collect(), ..Ask::default() }
    }

    #[test]
    fn charges_all_or_nothing() {
        let (store, _) = store(1_000);
        let both = || ask([demand("wide", "a", 10), demand("tight", "a", 1)]);
        assert!(store.take_now(&both()).passed(&both().demands));
        let refused = store.take_now(&both());
        assert!(!refused.passed(&both().demands));
        assert_eq!(refused.readings[0].level, 1, "the refused request charged nothing");
        assert_eq!(store.take_now(&both()).readings[0].level, 1);
    }

    #[test]
    fn a_repeated_request_id_gets_the_first_answer_and_is_charged_once() {
        let (store, at) = store(1_000);
        let mut question = ask([demand("p", "a", 1)]);
        question.request_id = Some("r1".into());
        let first = store.take_now(&question);
        at.fetch_add(5, Ordering::SeqCst);
        let again = |answer: &Answer| Answer { repeated: true, ..answer.clone() };
        assert_eq!(store.take_now(&question), again(&first));
        question.request_id = Some("r2".into());
        let second = store.take_now(&question);
        assert!(!second.readings[0].fits);
        at.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(store.take_now(&question), again(&second), "a denial is repeated too");
    }

    #[test]
    fn a_flood_of_request_ids_is_charged_and_what_is_kept_of_it_is_bounded() {
        let (store, at) = store(1);
        let request =
            |id: u64| Ask { request_id: Some(format!("{id}").into()), ..ask([demand("p", "a", 1_000_000)]) };
        for id in 0..5_000 {
            assert!(store.take_now(&request(id)).passed(&request(id).demands), "nobody is refused");
        }
        let repeats = (0..5_000).filter(|id| store.take_now(&request(*id)).repeated).count();
        assert!((200..=super::SHARDS).contains(&repeats), "{repeats} are kept, one a shard at most");
        let peek = Demand { take: Take::Peek, ..demand("p", "a", 1_000_000) };
        let level = store.take_now(&ask([peek])).readings[0].level;
        assert_eq!(level, 10_000 - u64::try_from(repeats).unwrap(), "and nobody passes free");
        at.fetch_add(60_000_000, Ordering::SeqCst);
        assert!(!(0..5_000).any(|id| store.take_now(&request(id)).repeated), "over with the window");
    }

    #[test]
    fn a_flood_of_keys_shares_one_counter_and_evicts_nothing() {
        let (store, _) = store(1);
        let live = ask([demand("p", "first", 3)]);
        store.take_now(&live);
        let mut passed = 0;
        for i in 0..5_000 {
            let new = ask([demand("p", &format!("flood-{i}"), 3)]);
            passed += usize::from(store.take_now(&new).passed(&new.demands));
        }
        assert!(passed <= super::SHARDS + 3, "{passed} passed");
        assert_eq!(store.take_now(&live).readings[0].level, 1, "a live counter is not evicted");
        assert!(store.overflowed() > 4_000);
    }

    #[test]
    fn what_is_over_is_swept() {
        let (store, at) = store(1_000_000);
        for i in 0..2_000 {
            store.take_now(&ask([demand("p", &format!("{i}"), 3)]));
        }
        assert_eq!(store.size().0, 2_000);
        at.fetch_add(61_000_000, Ordering::SeqCst);
        for i in 0..20_000 {
            store.take_now(&ask([demand("q", &format!("{}", i % 300), 3)]));
        }
        assert!(store.size().0 <= 400, "{} keys are left", store.size().0);
    }

    #[test]
    fn threads_never_admit_more_than_the_limit_nor_lock_each_other_up() {
        let (store, _) = store(1_000_000);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (store, passed) = (&store, &passed);
                scope.spawn(move || {
                    for i in 0..2_000_u32 {
                        let (a, b) = (demand("a", "x", 500), demand("b", &format!("{}", i % 7), 400));
                        let question = ask(if (i + worker) % 2 == 0 { [a, b] } else { [b, a] });
                        if store.take_now(&question).passed(&question.demands) {
                            passed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.load(Ordering::SeqCst), 500);
    }
}
