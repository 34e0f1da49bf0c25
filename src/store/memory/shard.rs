//! One shard: a table for each kind of state, so that a token bucket costs 24 bytes and not the size of the
//! largest kind.
//!
//! Promise: an entry that is over reads as absent; every operation sweeps a few places, so that what is over
//! goes away in the time of a few passes, with a bound on the work of each call.

use crate::engine::ask::Answer;
use crate::engine::fixed::Count;
use crate::engine::leases::LeaseSet;
use crate::engine::units::Moment;
use crate::engine::window::Charge;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

/// Places that one operation sweeps in each table.
const SWEEP: usize = 8;
/// Every so many calls a shard sweeps another one, so that one which nobody asks any more empties too.
const OTHERS_TURN: usize = 8;

/// The name of a key: 112 bits of a keyed hash below 16 bits of its domain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    high: u64,
    low: u64,
}

impl Id {
    /// Puts the domain's bits above those of the key. Domains whose bits meet share their bound on keys, and no
    /// counter: the key's hash covers its domain too.
    pub(super) fn new(key: u128, domain: u128) -> Self {
        let tagged = (key >> 16) | (domain << 112);
        Self { high: half(tagged >> 64), low: half(tagged) }
    }

    /// The shard that holds it: by other bits than those that place it in the shard's tables.
    pub(super) fn shard(self, shards: usize) -> usize {
        usize::try_from(self.high & 0xffff_ffff).unwrap_or(0) % shards
    }

    /// The bits of its domain, which the population is counted by.
    fn domain(self) -> u64 {
        self.high >> 48
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
}

/// A bucket's arrival time, in microseconds.
/// A bucket that is full needs no entry: when the moment has passed, the entry says no more than its absence.
#[derive(Debug, Default)]
pub(super) struct Arrival(pub(super) u64);

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

/// The first answer to a request id.
#[derive(Debug)]
pub(super) struct Remembered {
    /// Given again, as it was.
    pub(super) answer: Answer,
    /// Its end, see [`Answer::life`].
    pub(super) until: Moment,
}

impl Mortal for Arrival {
    fn over(&self, now: Moment) -> bool {
        self.0 <= now.0
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
}

impl Mortal for LeaseSet {
    fn over(&self, now: Moment) -> bool {
        self.last_end().is_none_or(|ends| ends <= now)
    }
}

impl Mortal for Box<Remembered> {
    fn over(&self, now: Moment) -> bool {
        self.until <= now
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

/// Keys of each domain in one shard; few domains, so a list.
type Population = SmallVec<[(u64, usize); 2]>;

impl<S: Mortal> Table<S> {
    /// The state under an id, over or not: the engine's steps see to that.
    pub(super) fn get(&self, id: Id) -> Option<&S> {
        self.cells.find(id.hash(), |(other, _)| *other == id).map(|(_, state)| state)
    }

    /// The state under an id, to be changed in place.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut S> {
        self.cells.find_mut(id.hash(), |(other, _)| *other == id).map(|(_, state)| state)
    }

    /// Looks at the next [`SWEEP`] places and empties those whose state is over. The cursor goes round, so the whole
    /// table is seen in a bounded number of calls, however it grows.
    fn sweep(&mut self, now: Moment, population: &mut Population) {
        for _ in 0..SWEEP.min(self.cells.num_buckets()) {
            self.cursor = (self.cursor + 1) % self.cells.num_buckets().max(1);
            if self.cells.get_bucket(self.cursor).is_some_and(|(_, state)| state.over(now))
                && let Ok(entry) = self.cells.get_bucket_entry(self.cursor)
            {
                let ((id, _), _) = entry.remove();
                leave(population, id.domain());
            }
        }
    }

    /// Puts a state in; true when there was none under this id.
    fn insert(&mut self, id: Id, state: S) -> bool {
        match self.cells.entry(id.hash(), |(other, _)| *other == id, |(other, _)| other.hash()) {
            Entry::Occupied(mut held) => {
                held.get_mut().1 = state;
                false
            }
            Entry::Vacant(free) => {
                free.insert((id, state));
                true
            }
        }
    }
}

/// One shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) buckets: Table<Arrival>,
    pub(super) counts: Table<Counted>,
    pub(super) logs: Table<Log>,
    leases: Table<LeaseSet>,
    requests: Table<Box<Remembered>>,
    population: Population,
    /// Answers remembered, kept apart from the population so that request ids cannot crowd counters out.
    remembered: Population,
    calls: usize,
    /// Until then keys of this shard may have charges on an overflow counter that still count.
    crowded_until: Moment,
}

impl Shard {
    /// Removes a few entries that are over. Once in [`OTHERS_TURN`] calls it is another shard's turn: how far on.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<usize> {
        self.buckets.sweep(now, &mut self.population);
        self.counts.sweep(now, &mut self.population);
        self.logs.sweep(now, &mut self.population);
        self.leases.sweep(now, &mut self.population);
        self.requests.sweep(now, &mut self.remembered);
        self.calls = self.calls.wrapping_add(1);
        self.calls.is_multiple_of(OTHERS_TURN).then_some(self.calls / OTHERS_TURN)
    }

    /// Whether the domain of `id` holds `most` keys here already.
    pub(super) fn is_full(&self, id: Id, most: usize) -> bool {
        count(&self.population, id.domain()) >= most
    }

    /// Whether keys of this shard may have charges on an overflow counter that still count.
    pub(super) fn was_crowded(&self, now: Moment) -> bool {
        self.crowded_until > now
    }

    /// A key of this shard made a charge on an overflow counter that counts until then.
    pub(super) fn note_crowded(&mut self, until: Moment) {
        self.crowded_until = self.crowded_until.max(until);
    }

    /// Keeps a bucket, and counts it when it is new.
    pub(super) fn put_bucket(&mut self, id: Id, state: Arrival) {
        if self.buckets.insert(id, state) {
            join(&mut self.population, id.domain());
        }
    }

    /// Keeps a count of a calendar window, and counts the key when it is new.
    pub(super) fn put_count(&mut self, id: Id, state: Counted) {
        if self.counts.insert(id, state) {
            join(&mut self.population, id.domain());
        }
    }

    /// Keeps a log of charges, and counts the key when it is new.
    pub(super) fn put_log(&mut self, id: Id, state: Log) {
        if self.logs.insert(id, state) {
            join(&mut self.population, id.domain());
        }
    }

    /// The leases under an id.
    pub(super) fn leases(&self, id: Id) -> Option<&LeaseSet> {
        self.leases.get(id)
    }

    /// The leases under an id, to be changed in place.
    pub(super) fn leases_mut(&mut self, id: Id) -> Option<&mut LeaseSet> {
        self.leases.get_mut(id)
    }

    /// Keeps leases, and counts the key when it is new.
    pub(super) fn put_leases(&mut self, id: Id, state: LeaseSet) {
        if self.leases.insert(id, state) {
            join(&mut self.population, id.domain());
        }
    }

    /// The first answer to a request, while it is remembered.
    pub(super) fn remembered(&self, id: Id, now: Moment) -> Option<&Answer> {
        self.requests.get(id).filter(|held| !held.over(now)).map(|held| &held.answer)
    }

    /// Keeps the first answer to a request id, while the domain has room for more. Without room the request is charged and
    /// its repetition charged again.
    pub(super) fn remember(&mut self, id: Id, remembered: Remembered, most: usize) {
        let room = count(&self.remembered, id.domain()) < most || self.requests.get(id).is_some();
        if room && self.requests.insert(id, Box::new(remembered)) {
            join(&mut self.remembered, id.domain());
        }
    }

    /// Keys here, those that are over and not yet swept included.
    pub(super) fn len(&self) -> usize {
        self.population.iter().map(|(_, count)| count).sum()
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

/// Keys of one domain.
fn count(population: &Population, domain: u64) -> usize {
    population.iter().find(|(other, _)| *other == domain).map_or(0, |(_, count)| *count)
}

/// One key more.
fn join(population: &mut Population, domain: u64) {
    match population.iter_mut().find(|(other, _)| *other == domain) {
        Some((_, count)) => *count = count.saturating_add(1),
        None => population.push((domain, 1)),
    }
}

/// One key less; a domain that is empty stays listed, because there are few.
fn leave(population: &mut Population, domain: u64) {
    if let Some((_, count)) = population.iter_mut().find(|(other, _)| *other == domain) {
        *count = count.saturating_sub(1);
    }
}
