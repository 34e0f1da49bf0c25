//! A rate limit service over a store of the test's own.

use crate::corpus::Case;
use crate::words;
use arc_swap::ArcSwap;
use quotad::engine::ask::{Answer, Ask};
use quotad::engine::http::HttpFace;
use quotad::engine::policy_set::PolicySet;
use quotad::engine::rate_limit::{RateLimitOptions, RateLimits};
use quotad::engine::revocation::Revocation;
use quotad::engine::settlement::{Settled, Settlement};
use quotad::engine::units::Moment;
use quotad::envoy::Envoy;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService as _;
use quotad::service::{Live, Service};
use quotad::store::memory::{MemoryOptions, MemoryStore};
use quotad::store::{HeldLease, Renewed, Store, StoreError, StoreHealth};
use quotad::token::{Keys, Verifier};
use std::sync::Arc;
use std::time::Duration;

/// A second of the store's clock.
pub(crate) fn moment(second: u64) -> Moment {
    Moment(second * 1_000_000)
}

/// The service under test.
#[derive(Debug)]
pub(crate) struct World<S> {
    envoy: Envoy<S>,
}

impl<S: Store> World<S> {
    /// Of a case.
    pub(crate) fn new(store: S, case: &Case, domain: &str) -> Self {
        let set = Arc::new(words::rules(domain, &case.rules));
        Self::with(store, RateLimits::Set(set), case.options.clone())
    }

    /// With these limits.
    pub(crate) fn with(store: S, rate_limits: RateLimits, rate_limit_options: RateLimitOptions) -> Self {
        let verifier = Arc::new(Verifier::build(Vec::new(), Keys::CheckOnly).unwrap());
        let live = live(verifier, rate_limits, rate_limit_options);
        let local = Arc::new(MemoryStore::new(MemoryOptions::default()).unwrap());
        let service = Service::new(Arc::new(ArcSwap::from_pointee(live)), store, local);
        Self { envoy: Envoy::new(Arc::new(service)) }
    }

    /// Asks, in words; an error is its code and its message.
    pub(crate) async fn ask(&self, domain: &str, request: &str) -> String {
        let request = tonic::Request::new(words::request(domain, request));
        match self.envoy.should_rate_limit(request).await {
            Ok(answer) => words::answer(domain, &answer.into_inner()),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        }
    }
}

fn live(verifier: Arc<Verifier>, rate_limits: RateLimits, rate_limit_options: RateLimitOptions) -> Live {
    Live {
        policies: Arc::new(PolicySet::default()),
        face: HttpFace::default(),
        trusted_proxies: Vec::new(),
        client_ip: Default::default(),
        identity_headers: Vec::new(),
        verifier,
        rate_limits,
        rate_limit_options,
    }
}

/// A store that is away.
#[derive(Clone, Debug)]
pub(crate) struct Away<S>(pub(crate) S);

fn away() -> StoreError {
    StoreError::Unreachable("away".to_owned())
}

impl<S: Store> Store for Away<S> {
    async fn take(&self, _: Ask, _: Duration) -> Result<Answer, StoreError> {
        Err(away())
    }

    async fn settle(&self, _: Settlement, _: Duration) -> Result<Settled, StoreError> {
        Err(away())
    }

    async fn renew(&self, _: Vec<HeldLease>, _: Duration) -> Result<Vec<Renewed>, StoreError> {
        Err(away())
    }

    async fn release(&self, _: HeldLease, _: Duration) -> Result<bool, StoreError> {
        Err(away())
    }

    async fn revoke(&self, _: Revocation, _: Duration) -> Result<bool, StoreError> {
        Err(away())
    }

    fn replicas(&self) -> Option<u64> {
        Some(1)
    }

    fn health(&self) -> StoreHealth {
        self.0.health()
    }
}
