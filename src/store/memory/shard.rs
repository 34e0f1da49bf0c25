//! One shard: a table for each kind of state, so that a token bucket costs 24 bytes and not the size of the
//! largest kind.
//!
//! Promise: an entry that is over reads as absent; every operation sweeps a few places, so that what is over
//! goes away in the time of a few passes, with a bound on the work of each call. Every byte that is kept or given back
//! stands in the ledger, under the policy whose it is.

use super::ledger::Ledger;
use crate::engine::ask::{Answer, Reading};
use crate::engine::bucket::Arrival;
use crate::engine::fixed::Count;
use crate::engine::leases::LeaseSet;
use crate::engine::settlement::Movement;
use crate::engine::units::Moment;
use crate::engine::window::Charge;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;
use std::sync::Arc;

/// Places that one operation sweeps in each table.
const SWEEP: usize = 8;
/// Every so many calls a shard sweeps another one, so that one which nobody asks any more empties too.
const OTHERS_TURN: usize = 8;
/// A table that is less than this part full gives half of its places back: what a flood left behind is memory again.
/// The ledger counts every entry as so many places.
const SPARSE: usize = 4;
/// Tables of fewer places stay as they are: all of a store's together are below a megabyte.
const SMALL: usize = 16;

/// The name of a key: 112 bits of a keyed hash below 16 bits of its policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    high: u64,
    low: u64,
}

impl Id {
    /// Puts the policy's bits above those of the key. Policies whose bits meet share their part of the memory, and no
    /// counter: the key's hash covers its policy too.
    pub(super) fn new(key: u128, policy: u128) -> Self {
        let tagged = (key >> 16) | (policy << 112);
        Self { high: half(tagged >> 64), low: half(tagged) }
    }

    /// The shard that holds it: by other bits than those that place it in the shard's tables.
    pub(super) fn shard(self, shards: usize) -> usize {
        usize::try_from(self.high & 0xffff_ffff).unwrap_or(0) % shards
    }

    /// The bits of its policy, which bytes are counted by.
    fn policy(self) -> u16 {
        u16::try_from(self.high >> 48).unwrap_or(0)
    }

    /// The bits that place it in a table.
    fn hash(self) -> u64 {
        self.low
    }
}

/// The low 64 bits.
fn half(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0)
}

/// State that ends by itself.
pub(super) trait Mortal {
    /// Whether it is over.
    fn over(&self, now: Moment) -> bool;

    /// Bytes that it points to.
    fn heap(&self) -> usize {
        0
    }
}

/// A count of one calendar window.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Its window and units.
    pub(super) count: Count,
    /// The edge of its window, by the rule that last charged it.
    pub(super) ends: Moment,
}

/// A log of charges.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// From the oldest.
    pub(super) charges: Vec<Charge>,
    /// When the newest of them stops counting, by the rule that last charged it.
    pub(super) ends: Moment,
}

/// What a repetition gets.
#[derive(Debug)]
pub(super) enum Kept {
    /// The first answer to a request id.
    Answer(Answer),
    /// What the settlement of a reservation moved.
    Movements(SmallVec<[Movement; 2]>),
}

/// What is remembered of something that may be asked again.
#[derive(Debug)]
pub(super) struct Remembered {
    /// Given again, as it was.
    pub(super) kept: Kept,
    /// Its end: of an answer see [`Answer::life`], of a settlement the end of the time in which it can be asked.
    pub(super) until: Moment,
}

/// A bucket that is full needs no entry: when the moment has passed, the entry says no more than its absence.
impl Mortal for Arrival {
    fn over(&self, now: Moment) -> bool {
        self.time() <= now.0
    }
}

impl Mortal for Counted {
    fn over(&self, now: Moment) -> bool {
        self.ends <= now
    }
}

impl Mortal for Log {
    fn over(&self, now: Moment) -> bool {
        self.ends <= now
    }

    fn heap(&self) -> usize {
        self.charges.capacity() * size_of::<Charge>()
    }
}

impl Mortal for LeaseSet {
    fn over(&self, now: Moment) -> bool {
        self.last_end().is_none_or(|ends| ends <= now)
    }

    fn heap(&self) -> usize {
        self.bytes()
    }
}

impl Mortal for Box<Remembered> {
    fn over(&self, now: Moment) -> bool {
        self.until <= now
    }

    fn heap(&self) -> usize {
        let spilled = match &self.kept {
            Kept::Answer(answer) if answer.readings.spilled() => {
                answer.readings.capacity() * size_of::<Reading>()
            }
            Kept::Movements(movements) if movements.spilled() => movements.capacity() * size_of::<Movement>(),
            Kept::Answer(_) | Kept::Movements(_) => 0,
        };
        size_of::<Remembered>() + spilled
    }
}

/// States of one kind by id.
#[derive(Debug)]
pub(super) struct Table<S> {
    cells: HashTable<(Id, S)>,
    cursor: usize,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { cells: HashTable::new(), cursor: 0 }
    }
}

impl<S: Mortal> Table<S> {
    /// What an entry takes in the table, at its worst: with its byte of control, and as sparse as a table ever stays.
    const ENTRY: usize = (size_of::<(Id, S)>() + 1) * SPARSE;

    /// The state under an id, over or not: the engine's steps see to that.
    pub(super) fn get(&self, id: Id) -> Option<&S> {
        self.cells.find(id.hash(), |(other, _)| *other == id).map(|(_, state)| state)
    }

    /// Changes the state under an id in place, if there is one.
    fn change<R>(&mut self, id: Id, ledger: &Ledger, step: impl FnOnce(&mut S) -> R) -> Option<R> {
        let (_, state) = self.cells.find_mut(id.hash(), |(other, _)| *other == id)?;
        let before = state.heap();
        let result = step(state);
        ledger.change(id.policy(), before, state.heap());
        Some(result)
    }

    /// Looks at the next [`SWEEP`] places and empties those whose state is over. The cursor goes round, so the whole
    /// table is seen in a bounded number of calls, however it grows.
    fn sweep(&mut self, now: Moment, ledger: &Ledger) {
        for _ in 0..SWEEP.min(self.cells.num_buckets()) {
            self.cursor = (self.cursor + 1) % self.cells.num_buckets().max(1);
            if self.cells.get_bucket(self.cursor).is_some_and(|(_, state)| state.over(now))
                && let Ok(entry) = self.cells.get_bucket_entry(self.cursor)
            {
                let ((id, state), _) = entry.remove();
                ledger.change(id.policy(), Self::ENTRY + state.heap(), 0);
            }
        }
        let places = self.cells.num_buckets();
        if places > SMALL && self.cells.len() < places / SPARSE {
            // Half of the places hold that many entries, and are at most half full then: the next turn is far.
            self.cells.shrink_to(places / 2 / 8 * 7, |(other, _)| other.hash());
        }
    }

    /// Keeps a state under an id.
    fn put(&mut self, id: Id, ledger: &Ledger, state: S) {
        let heap = state.heap();
        match self.cells.entry(id.hash(), |(other, _)| *other == id, |(other, _)| other.hash()) {
            Entry::Occupied(mut held) => {
                let before = held.get().1.heap();
                held.get_mut().1 = state;
                ledger.change(id.policy(), before, heap);
            }
            Entry::Vacant(free) => {
                free.insert((id, state));
                ledger.change(id.policy(), 0, Self::ENTRY + heap);
            }
        }
    }
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) buckets: Table<Arrival>,
    pub(super) counts: Table<Counted>,
    pub(super) logs: Table<Log>,
    leases: Table<LeaseSet>,
    requests: Table<Box<Remembered>>,
    ledger: Arc<Ledger>,
    calls: usize,
    /// Until then keys of this shard may have charges on an overflow counter that still count.
    crowded_until: Moment,
}

impl Shard {
    /// An empty one, whose bytes are counted there.
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            buckets: Table::default(),
            counts: Table::default(),
            logs: Table::default(),
            leases: Table::default(),
            requests: Table::default(),
            ledger,
            calls: 0,
            crowded_until: Moment(0),
        }
    }

    /// Removes a few entries that are over. Once in [`OTHERS_TURN`] calls it is another shard's turn: how far on.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<usize> {
        self.buckets.sweep(now, &self.ledger);
        self.counts.sweep(now, &self.ledger);
        self.logs.sweep(now, &self.ledger);
        self.leases.sweep(now, &self.ledger);
        self.requests.sweep(now, &self.ledger);
        self.calls = self.calls.wrapping_add(1);
        self.calls.is_multiple_of(OTHERS_TURN).then_some(self.calls / OTHERS_TURN)
    }

    /// Whether a new key has to share a counter: its policy has no room, or the shard holds `most` keys.
    pub(super) fn is_full(&self, id: Id, most: usize) -> bool {
        !self.ledger.has_room(id.policy()) || self.len() >= most
    }

    /// Whether a key's state may become larger than it is.
    pub(super) fn may_grow(&self, id: Id) -> bool {
        self.ledger.has_room(id.policy())
    }

    /// Whether a state of so many bytes that all new keys of a policy share may become larger.
    pub(super) fn has_spare(&self, bytes: usize) -> bool {
        self.ledger.has_spare(bytes)
    }

    /// Whether keys of this shard may have charges on an overflow counter that still count.
    pub(super) fn was_crowded(&self, now: Moment) -> bool {
        self.crowded_until > now
    }

    /// A key of this shard made a charge on an overflow counter that counts until then.
    pub(super) fn note_crowded(&mut self, until: Moment) {
        self.crowded_until = self.crowded_until.max(until);
    }

    /// Keeps a bucket.
    pub(super) fn put_bucket(&mut self, id: Id, state: Arrival) {
        self.buckets.put(id, &self.ledger, state);
    }

    /// Keeps a count of a calendar window.
    pub(super) fn put_count(&mut self, id: Id, state: Counted) {
        self.counts.put(id, &self.ledger, state);
    }

    /// Keeps a log of charges.
    pub(super) fn put_log(&mut self, id: Id, state: Log) {
        self.logs.put(id, &self.ledger, state);
    }

    /// Changes the log of charges under an id, if there is one.
    pub(super) fn change_log<R>(&mut self, id: Id, step: impl FnOnce(&mut Log) -> R) -> Option<R> {
        self.logs.change(id, &self.ledger, step)
    }

    /// The leases under an id.
    pub(super) fn leases(&self, id: Id) -> Option<&LeaseSet> {
        self.leases.get(id)
    }

    /// Changes the leases under an id, if there are any.
    pub(super) fn change_leases<R>(&mut self, id: Id, step: impl FnOnce(&mut LeaseSet) -> R) -> Option<R> {
        self.leases.change(id, &self.ledger, step)
    }

    /// Keeps leases.
    pub(super) fn put_leases(&mut self, id: Id, state: LeaseSet) {
        self.leases.put(id, &self.ledger, state);
    }

    /// The first answer to a request, while it is remembered.
    pub(super) fn remembered(&self, id: Id, now: Moment) -> Option<&Answer> {
        match &self.requests.get(id).filter(|held| !held.over(now))?.kept {
            Kept::Answer(answer) => Some(answer),
            Kept::Movements(_) => None,
        }
    }

    /// What the settlement of this name moved, while it is remembered.
    pub(super) fn settled(&self, id: Id, now: Moment) -> Option<&SmallVec<[Movement; 2]>> {
        match &self.requests.get(id).filter(|held| !held.over(now))?.kept {
            Kept::Movements(movements) => Some(movements),
            Kept::Answer(_) => None,
        }
    }

    /// Whether one more answer or settlement of a domain can be remembered here.
    pub(super) fn has_room_to_remember(&self, id: Id, most: usize) -> bool {
        let has_room = self.requests.cells.len() < most && self.ledger.has_room(id.policy());
        has_room || self.requests.get(id).is_some()
    }

    /// Keeps what a repetition gets, while the domain's have room for more and the shard holds fewer than `most`.
    /// Without room a request is charged and its repetition charged again.
    pub(super) fn remember(&mut self, id: Id, remembered: Remembered, most: usize) {
        if self.has_room_to_remember(id, most) {
            self.requests.put(id, &self.ledger, Box::new(remembered));
        }
    }

    /// Keys here, those that are over and not yet swept included.
    pub(super) fn len(&self) -> usize {
        self.buckets.cells.len() + self.counts.cells.len() + self.logs.cells.len() + self.leases.cells.len()
    }

    /// Bytes of the tables; what their entries point to is not counted.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.cells.allocation_size()
            + self.counts.cells.allocation_size()
            + self.logs.cells.allocation_size()
            + self.leases.cells.allocation_size()
            + self.requests.cells.allocation_size()
    }
}
