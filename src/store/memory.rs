//! The embedded store: counters and leases in sharded tables of this process, revocations on disk.
//!
//! Promises: a decision locks only the shards of its keys, in one order, and never across an await; an entry that
//! is over costs nothing but its place until the sweep passes; all state together stays below a cap in bytes, which
//! no flood under one policy uses up for the others (`ledger.rs`; new keys of a policy without room share one overflow
//! counter, so a flood of keys neither evicts live counters nor passes free; `overflow.rs` says why a key that goes
//! between the two gets nothing twice); a revocation is acknowledged
//! after it is on disk.
//!
//! Must never: wait for anything on the decision path; keep a thread for longer than a few leases' renewals.

#[cfg(test)]
mod floods;
#[cfg(test)]
mod interleavings;
mod ledger;
mod overflow;
mod revocations;
mod settle;
mod shard;
mod take;

pub use revocations::DataDirError;

use crate::clock;
use crate::engine::ask::{Answer, Ask, Weight};
use crate::engine::key::Key;
use crate::engine::revocation::Revocation;
use crate::engine::settlement::{Settled, Settlement};
use crate::engine::units::{Micros, Moment};
use crate::store::{HeldLease, LeaseLimit, Renewed, Store, StoreError, StoreHealth};
use ledger::Ledger;
use parking_lot::{Mutex, MutexGuard};
use revocations::Revocations;
use shard::{Id, Shard};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::hash::Hasher as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shards: enough that threads seldom meet, and that a growing table moves few entries at once.
const SHARDS: usize = 256;
/// Leases of a renewal between two turns of the thread's other work: well below a millisecond.
const MAX_AT_ONCE: usize = 128;
/// Most bytes of all state, unless said otherwise; the process says otherwise (`store.max_memory`).
const DEFAULT_MAX_MEMORY: usize = 1 << 30;

/// Where a store reads the time.
#[derive(Clone, Debug, Default)]
pub enum StoreClock {
    /// The system's wall clock.
    #[default]
    System,
    /// Microseconds set by a test.
    Manual(Arc<AtomicU64>),
    /// Tests only: a reading may hold its thread up, or let others go first.
    #[doc(hidden)]
    #[cfg(test)]
    Scripted(Scripted),
}

/// A clock whose readings are a test's own.
#[cfg(test)]
#[derive(Clone)]
pub struct Scripted(pub(crate) Arc<dyn Fn() -> Moment + Send + Sync>);

#[cfg(test)]
impl std::fmt::Debug for Scripted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Scripted")
    }
}

impl StoreClock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Moment {
        match self {
            Self::System => clock::now(),
            Self::Manual(at) => Moment(at.load(Ordering::SeqCst)),
            #[cfg(test)]
            Self::Scripted(read) => read.0(),
        }
    }
}

/// What an embedded store is made of.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Most bytes of all state but revocations.
    pub max_memory: usize,
    /// Tests only: most keys, and most answers to request ids.
    #[doc(hidden)]
    pub max_keys: usize,
    /// Where revocations are kept; without it they end with the process.
    pub data_dir: Option<PathBuf>,
    /// The time.
    pub clock: StoreClock,
    /// Tests only: what is over is swept this much later, for clocks that jump far back.
    #[doc(hidden)]
    pub hold: Micros,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            max_memory: DEFAULT_MAX_MEMORY,
            max_keys: usize::MAX,
            data_dir: None,
            clock: StoreClock::System,
            hold: Micros(0),
        }
    }
}

/// The embedded store.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[Padded]>,
    names: SipHasher13,
    ledger: Arc<Ledger>,
    max_keys_a_shard: usize,
    clock: StoreClock,
    hold: Micros,
    revocations: Revocations,
    overflowed: AtomicU64,
}

/// A shard on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl MemoryStore {
    /// An empty store, with the revocations that `data_dir` holds.
    ///
    /// # Errors
    /// `data_dir` cannot be used, or another quotad uses it.
    pub fn new(options: MemoryOptions) -> Result<Self, DataDirError> {
        let mut seed = [0; 16];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| DataDirError::Random)?;
        let ledger = Arc::new(Ledger::new(options.max_memory));
        let shards = (0..SHARDS).map(|_| Padded(Mutex::new(Shard::new(Arc::clone(&ledger))))).collect();
        Ok(Self {
            shards,
            names: SipHasher13::new_with_key(&seed),
            ledger,
            max_keys_a_shard: options.max_keys.div_ceil(SHARDS).max(1),
            revocations: Revocations::open(options.data_dir.as_deref())?,
            clock: options.clock,
            hold: options.hold,
            overflowed: AtomicU64::new(0),
        })
    }

    /// Live and not yet swept keys, and the bytes of their tables (what they point to not counted).
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(keys, bytes), shard| {
            let shard = shard.0.lock();
            (keys + shard.len(), bytes + shard.bytes())
        })
    }

    /// Bytes of all state, what the tables' entries point to included, as they are counted against the cap.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.ledger.used()
    }

    /// Names this store among those of other processes, and of earlier ones.
    #[must_use]
    pub fn instance(&self) -> String {
        format!("{:032x}", self.hash(b"instance"))
    }

    /// Decisions that used an overflow counter.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// The name of a key in the tables: a keyed hash, its top bits the policy's.
    fn id(&self, key: &Key) -> Id {
        let mut policy = self.names;
        policy.write(key.domain().as_bytes());
        policy.write(key.after_tag().as_bytes());
        Id::new(self.hash(key.as_str().as_bytes()), policy.finish128().as_u128())
    }

    /// A hash with a key of this process: nobody outside can choose keys that collide.
    fn hash(&self, bytes: &[u8]) -> u128 {
        let mut hasher = self.names;
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }

    /// Renews one lease under all its limits, or gives it back under all.
    fn renew_one(&self, lease: &HeldLease) -> Renewed {
        let now = self.clock.now();
        let state = if lease.token.as_deref().is_some_and(|token| self.revocations.refuses(token, now)) {
            Renewed::Revoked
        } else if lease.token_ends.is_some_and(|ends| ends <= now) {
            Renewed::Expired
        } else if self.renew_all(lease) {
            return Renewed::Held;
        } else {
            Renewed::Lost
        };
        self.release_now(lease);
        state
    }

    /// Renews a lease under every limit; whether it is held under all that are enforced.
    fn renew_all(&self, lease: &HeldLease) -> bool {
        let mut held = true;
        for one in &lease.limits {
            let renewed = self.renew_under(one, &lease.id);
            held &= renewed || one.weight == Weight::Shadow;
        }
        held
    }

    /// Gives a lease back under all its limits; true when it was held under any.
    fn release_now(&self, lease: &HeldLease) -> bool {
        let mut released = false;
        for one in &lease.limits {
            released |= self.release_under(one, &lease.id);
        }
        released
    }
}

/// Locks a shard. Every lock of a shard that is waited for goes through here, so that a model can set the order.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    #[cfg(test)]
    if let Some(guard) = interleavings::lock(shard) {
        return guard;
    }
    shard.lock()
}

impl Store for MemoryStore {
    const MAY_BE_AWAY: bool = false;

    async fn take(&self, mut ask: Ask, _patience: Duration) -> Result<Answer, StoreError> {
        let places = ask.sort();
        Ok(self.take_now(&ask).placed(&places))
    }

    async fn settle(&self, settlement: Settlement, _: Duration) -> Result<Settled, StoreError> {
        Ok(self.settle_now(&settlement))
    }

    async fn renew(&self, leases: Vec<HeldLease>, _: Duration) -> Result<Vec<Renewed>, StoreError> {
        let mut renewed = Vec::with_capacity(leases.len());
        for piece in leases.chunks(MAX_AT_ONCE) {
            if !renewed.is_empty() {
                // The thread has others to answer, and thousands of leases are milliseconds.
                tokio::task::yield_now().await;
            }
            renewed.extend(piece.iter().map(|lease| self.renew_one(lease)));
        }
        Ok(renewed)
    }

    async fn release(&self, lease: HeldLease, _: Duration) -> Result<bool, StoreError> {
        Ok(self.release_now(&lease))
    }

    async fn revoke(&self, revocation: Revocation, patience: Duration) -> Result<bool, StoreError> {
        self.revocations.revoke(revocation, self.clock.clone(), patience).await
    }

    fn replicas(&self) -> Option<u64> {
        Some(1)
    }

    fn health(&self) -> StoreHealth {
        StoreHealth { reachable: true, warnings: self.revocations.warnings() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ask::{Demand, Take};
    use crate::engine::leases::Leases;
    use crate::engine::rule::Rule;
    use std::cell::Cell;

    const LIMIT: Leases = Leases { limit: 20_000, ttl: Micros(600_000_000) };

    /// Leases on one key.
    fn hold(store: &MemoryStore, count: usize) -> Vec<HeldLease> {
        let rule = Rule::Leases(LIMIT);
        let key = Key::new("d", "p", [("who", "all")].into_iter(), &rule);
        let one = |i: usize| {
            let id: Arc<str> = format!("{i:032x}").into();
            let demand = Demand {
                key: key.clone(),
                rule,
                cost: 1,
                take: Take::Charge,
                weight: Weight::Enforced,
                lease: Some(Arc::clone(&id)),
            };
            let ask = Ask { demands: std::iter::once(demand).collect(), ..Ask::default() };
            assert!(store.take_now(&ask).passed(&ask.demands));
            let limit = LeaseLimit { key: key.clone(), limit: LIMIT, weight: Weight::Enforced };
            HeldLease { id, limits: std::iter::once(limit).collect(), token: None, token_ends: None }
        };
        (0..count).map(one).collect()
    }

    fn store() -> MemoryStore {
        MemoryStore::new(MemoryOptions::default()).unwrap()
    }

    /// The least that so many calls took in several runs: what others do on the machine only adds.
    fn least(mut calls: impl FnMut()) -> Duration {
        let timed = |_| {
            let begun = clock::monotonic();
            calls();
            begun.elapsed()
        };
        (0..7).map(timed).min().unwrap()
    }

    #[test]
    fn a_lease_among_sixteen_thousand_costs_no_more_than_a_few_times_one_among_a_hundred() {
        let (few, many) = (store(), store());
        let (of_few, of_many) = (hold(&few, 100), hold(&many, 16_000));
        let renew =
            |store: &MemoryStore, lease: &HeldLease| assert_eq!(store.renew_one(lease), Renewed::Held);
        let acquire_and_release = |store: &MemoryStore, lease: &HeldLease| {
            let one = &lease.limits[0];
            let demand = Demand {
                key: one.key.clone(),
                rule: Rule::Leases(one.limit),
                cost: 1,
                take: Take::Charge,
                weight: Weight::Enforced,
                lease: Some("another".into()),
            };
            let ask = Ask { demands: std::iter::once(demand).collect(), ..Ask::default() };
            assert!(store.take_now(&ask).passed(&ask.demands));
            assert!(store.release_now(&HeldLease { id: "another".into(), ..lease.clone() }));
        };
        let compare = |name: &str, work: &dyn Fn(&MemoryStore, &HeldLease)| {
            let of_a_hundred = least(|| of_few.iter().for_each(|lease| work(&few, lease)));
            let of_thousands = least(|| of_many.iter().step_by(160).for_each(|lease| work(&many, lease)));
            assert!(
                of_thousands < of_a_hundred * 12,
                "{name}: {of_thousands:?}, {of_a_hundred:?} among a hundred"
            );
        };
        compare("renew", &renew);
        compare("acquire and release", &acquire_and_release);
    }

    #[tokio::test]
    async fn a_renewal_of_thousands_lets_others_go_on_between_its_pieces() {
        let store = store();
        let leases = hold(&store, 4_096);
        let (turns, is_done) = (Cell::new(0), Cell::new(false));
        let renewal = async {
            let renewed = store.renew(leases, Duration::MAX).await.unwrap();
            is_done.set(true);
            renewed
        };
        let others = async {
            while !is_done.get() {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let (renewed, ()) = futures_util::future::join(renewal, others).await;
        assert!(renewed.iter().all(|renewed| *renewed == Renewed::Held));
        assert!(turns.get() + 1 >= 4_096 / MAX_AT_ONCE, "{} turns", turns.get());
    }
}
