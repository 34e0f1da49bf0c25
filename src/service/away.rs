//! For tests: a service whose store can be away, or slow.

use crate::config::{Environment, Source, load};
use crate::engine::ask::{Answer, Ask};
use crate::engine::rate_limit::RateLimits;
use crate::engine::revocation::Revocation;
use crate::engine::settlement::{Settled, Settlement};
use crate::service::{Deadline, HttpCall, LeaseTerms, MadeBy, Offer, Service};
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::{HeldLease, Renewed, Store, StoreError, StoreHealth};
use crate::token::{Keys, Verifier};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A store that is away or not. While it is, a call to take does its work and its answer is lost.
pub(super) struct Away {
    is_away: AtomicBool,
    /// A call to take waits a turn before it does its work.
    is_slow: AtomicBool,
    memory: Arc<MemoryStore>,
}

impl Store for Away {
    async fn take(&self, ask: Ask, patience: Duration) -> Result<Answer, StoreError> {
        if self.is_slow.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let answer = self.memory.take(ask, patience).await;
        if self.is_away.load(Ordering::SeqCst) { Err(StoreError::Timeout(patience)) } else { answer }
    }

    async fn settle(&self, settlement: Settlement, patience: Duration) -> Result<Settled, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable("away".to_owned()));
        }
        self.memory.settle(settlement, patience).await
    }

    async fn renew(&self, leases: Vec<HeldLease>, patience: Duration) -> Result<Vec<Renewed>, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable("away".to_owned()));
        }
        self.memory.renew(leases, patience).await
    }

    async fn release(&self, lease: HeldLease, patience: Duration) -> Result<bool, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            // As long as a store that has much to do.
            tokio::task::yield_now().await;
            return Err(StoreError::Unreachable("away".to_owned()));
        }
        self.memory.release(lease, patience).await
    }

    async fn revoke(&self, revocation: Revocation, patience: Duration) -> Result<bool, StoreError> {
        self.memory.revoke(revocation, patience).await
    }

    fn replicas(&self) -> Option<u64> {
        Some(1)
    }

    fn health(&self) -> StoreHealth {
        StoreHealth { reachable: true, warnings: Vec::new() }
    }
}

const YAML: &str = "
policies:
  - {name: p, algorithm: concurrency, limit: 40, lease_ttl: 1h}
  - {name: two, algorithm: concurrency, limit: 2, lease_ttl: 1h}
  - {name: closed, algorithm: concurrency, limit: 1, lease_ttl: 1h, on_store_error: deny}
  - {name: loud, algorithm: concurrency, limit: 1, lease_ttl: 1h, on_store_error: error}
  - {name: open, algorithm: concurrency, limit: 1, lease_ttl: 1h, on_store_error: allow}
routes:
  - {name: closed, paths: [/closed], connection: [closed]}
  - {name: loud, paths: [/loud], connection: [loud]}
  - {name: open, paths: [/open], connection: [open]}
";

pub(super) fn service() -> Service<Away> {
    let none: [(&str, &str); 0] = [];
    let config = load(&Source::text("q.yaml", YAML).with_environment(Environment::given(none))).unwrap();
    let verifier = Arc::new(Verifier::build(Vec::new(), Keys::CheckOnly).unwrap());
    let live = crate::app::live(&config, verifier, &RateLimits::Off);
    let memory = || Arc::new(MemoryStore::new(MemoryOptions::default()).unwrap());
    let store = Away { is_away: AtomicBool::new(false), is_slow: AtomicBool::new(false), memory: memory() };
    Service::new(Arc::new(ArcSwap::from_pointee(live)), store, memory())
}

pub(super) fn under(policy: &str) -> LeaseTerms {
    LeaseTerms { policies: vec![policy.to_owned()], ..LeaseTerms::default() }
}

pub(super) fn terms() -> LeaseTerms {
    under("p")
}

pub(super) fn away(service: &Service<Away>, is_away: bool) {
    service.store.is_away.store(is_away, Ordering::SeqCst);
}

pub(super) async fn takes(service: &Service<Away>, policy: &str, id: &str) -> bool {
    let acquired = service.acquire(under(policy).call(id), Deadline::default()).await;
    acquired.is_ok_and(|acquired| acquired.lease.is_some())
}

/// Whether taking takes its time.
pub(super) fn slow(service: &Service<Away>, is_slow: bool) {
    service.store.is_slow.store(is_slow, Ordering::SeqCst);
}

/// A request by the policy's route, with a lease whose id is made by `who`.
pub(super) async fn opens(service: &Service<Away>, policy: &str, id: &str, made_by: MadeBy) -> bool {
    let path = format!("/{policy}");
    let call = HttpCall {
        domain: "",
        method: "GET",
        host: "",
        path: &path,
        peer_address: "",
        client: None,
        route: None,
        policies: &[],
        headers: &[],
        token: None,
        entries: &HashMap::new(),
        cost: None,
        request_id: "",
        settle_within: None,
        connection: Some(Offer { lease_id: id, made_by }),
    };
    let answer = service.authorize(call, Deadline::default()).await;
    answer.is_ok_and(|authorized| authorized.lease.is_some())
}

pub(super) async fn taken(service: &Service<Away>, id: &str) -> bool {
    takes(service, "p", id).await
}
