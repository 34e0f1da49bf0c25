//! The port to where counters, leases and revocations live.
//!
//! Promise: one call decides and charges, atomically, by the store's own clock; it returns raw readings and the
//! engine turns them into a decision. A call that fails says whether it may have been applied.
//!
//! Must never: retry a charge after it was sent, keep a key without an end, wait beyond the caller's patience.

pub mod memory;
pub mod redis;

use crate::engine::ask::{Answer, Ask, Weight};
use crate::engine::key::Key;
use crate::engine::leases::Leases;
use crate::engine::revocation::{Probe, Revocation};
use crate::engine::settlement::{Settled, Settlement};
use smallvec::SmallVec;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Why a store gave no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// No answer in time, or the connection broke under way. It may have been applied, so a retry may charge
    /// twice.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// Not connected; nothing was applied.
    #[error("the store is not reachable: {0}")]
    Unreachable(String),
    /// Too much is waiting already; nothing was applied. Said at once, not after a wait.
    #[error("the store's queue is full")]
    Overloaded,
    /// The store refused or answered nonsense; nothing was charged.
    #[error("the store answered: {0}")]
    Refused(String),
    /// Revocations cannot be kept on disk. Only the embedded store says this; counters need no disk.
    #[error("data_dir: {0}")]
    Disk(String),
}

/// One limit that a lease is held under.
#[derive(Clone, Debug)]
pub struct LeaseLimit {
    /// Whose leases.
    pub key: Key,
    /// How many, and for how long.
    pub limit: Leases,
    /// A shadow limit is renewed where it is held, and never decides whether the lease is.
    pub weight: Weight,
}

/// A held connection under all its connection policies.
/// It carries all that a renewal needs, so a store keeps nothing about leases but their ends.
#[derive(Clone, Debug)]
pub struct HeldLease {
    /// Made by the caller.
    pub id: Arc<str>,
    /// One a connection policy.
    pub limits: SmallVec<[LeaseLimit; 2]>,
    /// The token it was opened with.
    pub token: Option<Box<Probe>>,
    /// The token's end, leeway included; by the store's clock the lease does not outlive it.
    pub token_ends: Option<crate::engine::units::Moment>,
}

/// What became of a lease at its renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// Held for another TTL under every policy.
    Held,
    /// Ended or released under at least one policy; given back under all. Its place may be another's by now.
    Lost,
    /// Its token was revoked; given back.
    Revoked,
    /// Its token's life is over; given back.
    Expired,
}

/// How a store is, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// It answers.
    pub reachable: bool,
    /// What start-up checks found, each with a code.
    pub warnings: Vec<String>,
}

/// Where counters, leases and revocations live. `patience` is the longest that a caller waits.
pub trait Store: Send + Sync + 'static {
    /// Whether `take` can fail, so that a caller must keep what it needs to decide without the store.
    const MAY_BE_AWAY: bool = true;

    /// Charges all demands or none, and returns what it saw before the charge. Dropping the future may leave a
    /// charge that nobody learns of; it never leaves half of one.
    fn take(&self, ask: Ask, patience: Duration) -> impl Future<Output = Result<Answer, StoreError>> + Send;

    /// Moves counters from what a reservation charged to what it cost, all in one step, once: a repetition changes nothing and
    /// is told what the first one moved.
    fn settle(
        &self,
        settlement: Settlement,
        patience: Duration,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Renews each lease, in order. A lost one is not taken again: its place may have been given away, and
    /// taking it back would exceed the limit.
    fn renew(
        &self,
        leases: Vec<HeldLease>,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<Renewed>, StoreError>> + Send;

    /// Gives a lease back under all its policies; false when there was nothing to give back. Repeating is
    /// harmless, and one that never arrives is made good by the lease's end.
    fn release(
        &self,
        lease: HeldLease,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a revocation, durably; false when it was in force already. Of two the one that lasts longer holds;
    /// a second one of a subject also covers what was issued in between.
    fn revoke(
        &self,
        revocation: Revocation,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The number of quotad that share this store, at least 1: the last word of the store, and no fewer than configured.
    /// None: neither is known, and then nobody can say what all of them admit together without it. Asks nobody and never
    /// waits.
    fn replicas(&self) -> Option<u64>;

    /// How it is, as last known: operators ask most when the store does not answer, so it is not asked.
    fn health(&self) -> StoreHealth;
}

/// A store that all threads share.
impl<S: Store> Store for Arc<S> {
    const MAY_BE_AWAY: bool = S::MAY_BE_AWAY;

    fn take(&self, ask: Ask, patience: Duration) -> impl Future<Output = Result<Answer, StoreError>> + Send {
        S::take(self, ask, patience)
    }

    fn settle(
        &self,
        settlement: Settlement,
        patience: Duration,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send {
        S::settle(self, settlement, patience)
    }

    fn renew(
        &self,
        leases: Vec<HeldLease>,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<Renewed>, StoreError>> + Send {
        S::renew(self, leases, patience)
    }

    fn release(
        &self,
        lease: HeldLease,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::release(self, lease, patience)
    }

    fn revoke(
        &self,
        revocation: Revocation,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::revoke(self, revocation, patience)
    }

    fn replicas(&self) -> Option<u64> {
        S::replicas(self)
    }

    fn health(&self) -> StoreHealth {
        S::health(self)
    }
}

/// Most answers to request ids that are kept of one domain in Redis, by each process that shares it. One takes about 250
/// bytes there. The embedded store keeps those that it has memory for.
pub const MAX_ANSWERS: usize = 1_048_576;
