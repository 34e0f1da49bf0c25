//! The use cases: match policies, ask the store once, decide.
//!
//! This module alone knows that sequence, and it alone applies `on_store_error` and shadow mode. One service
//! stands on each worker thread, with a store client of its own; what the configuration says is shared and
//! swapped whole.
//!
//! Must never: touch the store for a caller whose deadline has passed, or let a store's failure pass as an exact answer.

mod adopt;
mod authorize;
#[cfg(test)]
mod away;
mod check;
mod connection;
mod facts;
mod fallback;
mod identity;
mod owed;
mod plan;
mod rate_limit;
mod readings;
mod repeat;
mod settle;
mod terms;
mod token;

pub use authorize::{Authorized, HttpCall, MadeBy, Offer};
pub use check::CheckCall;
pub use connection::{Acquired, ConnectionCall, LeaseGrant, RenewalState, TokenReference};
pub use facts::Entries;
pub use rate_limit::{
    Descriptor, DescriptorStatus, Direction, Override, RateLimitCall, RateLimitError, RateLimited, ShownLimit,
};
pub use settle::{MAX_TICKET, PolicySettlement, Reservation, SettleCall, SettledCost};
pub use terms::{InDomain, LeaseTerms};
pub use token::{RevokeTarget, Validated};

use crate::clock;
use crate::engine::address::{Cidr, ClientIp, Seen};
use crate::engine::decision::Decision;
use crate::engine::http::{HttpFace, Refusal, Rendered};
use crate::engine::policy::Policy;
use crate::engine::policy_set::{LookupError, PolicySet};
use crate::engine::rate_limit::{RateLimitOptions, RateLimits};
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreError};
use crate::telemetry::Seldom;
use crate::token::Verifier;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the configuration says, swapped whole on reload.
#[derive(Debug)]
pub struct Live {
    /// Policies and routes.
    pub policies: Arc<PolicySet>,
    /// How decisions look over HTTP.
    pub face: HttpFace,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<Cidr>,
    /// Where the client's address is in a request from Envoy.
    pub client_ip: ClientIp,
    /// (header, claim): set for the application, removed when a client sends them.
    pub identity_headers: Vec<(String, String)>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Limits in the form of envoyproxy/ratelimit.
    pub rate_limits: RateLimits,
    /// What holds for all of them.
    pub rate_limit_options: RateLimitOptions,
}

/// Why no decision could be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServiceError {
    /// The request is wrong.
    #[error("{field}: {why}")]
    Invalid {
        /// The field, as the proto names it.
        field: &'static str,
        /// What is wrong, and what to send instead.
        why: String,
    },
    /// A policy or domain was named that does not fit.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A rate limit service of another make says so in these words.
    #[error(transparent)]
    RateLimit(#[from] RateLimitError),
    /// The caller's deadline passed before anything was charged.
    #[error("the deadline passed before the decision; nothing was charged")]
    TooLate,
    /// The caller's deadline passed while the store was writing.
    #[error("the deadline passed while the store was asked; the change may have been made")]
    InDoubt,
    /// A settlement could not be remembered, so nothing was settled.
    #[error("no room to remember one more settlement now; nothing was changed")]
    NoRoom,
    /// The store cannot answer and the policy says to say so.
    #[error("the store cannot answer now")]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// A wrong request.
    #[must_use]
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}

/// A decision with its HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was decided.
    pub decision: Decision,
    /// The response to send.
    pub rendered: Rendered,
    /// What settles it, where that was asked for and something was charged.
    pub reservation: Option<Box<Reservation>>,
}

/// Until when a caller waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline(pub Option<Instant>);

impl Deadline {
    /// What is left of it.
    ///
    /// # Errors
    /// It has passed.
    pub fn left(self) -> Result<Duration, ServiceError> {
        match self.0 {
            None => Ok(Duration::MAX),
            Some(at) => match at.saturating_duration_since(clock::monotonic()) {
                Duration::ZERO => Err(ServiceError::TooLate),
                left => Ok(left),
            },
        }
    }
}

/// The use cases over one store.
#[derive(Debug)]
pub struct Service<S> {
    live: Arc<ArcSwap<Live>>,
    store: S,
    /// Decides while the store is away, for policies that say `local`.
    local: Arc<MemoryStore>,
    clean: token::CleanTokens,
    owed: owed::Owed,
    failures: Seldom,
    /// What a proxy's configuration gets wrong, it gets wrong at every request.
    mistakes: Seldom,
}

impl<S: Store> Service<S> {
    /// A service over `store`.
    #[must_use]
    pub fn new(live: Arc<ArcSwap<Live>>, store: S, local: Arc<MemoryStore>) -> Self {
        let clean = token::CleanTokens::default();
        let (failures, mistakes) = (Seldom::default(), Seldom::default());
        Self { live, store, local, clean, owed: owed::Owed::default(), failures, mistakes }
    }

    /// Says once a second at most that the store failed: the answers carry their mode, the log the cause.
    fn note(&self, error: &StoreError) {
        if self.failures.due(clock::now()) {
            tracing::warn!(%error, "the store failed; each policy's on_store_error decides");
        }
    }

    /// The client of a request from Envoy. None: the peer is the client.
    #[must_use]
    pub fn find_client(&self, seen: &Seen<'_>) -> Option<std::net::IpAddr> {
        self.live.load().client_ip.find(seen)
    }

    /// A refusal without a decision, ready to send.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal) -> Rendered {
        self.live.load().face.refuse(refusal)
    }

    /// The same for a request whose proxy is configured wrongly; said in the log once a second at most.
    #[must_use]
    pub fn refuse_unconfigured(&self, mistake: &dyn std::fmt::Display) -> Rendered {
        if self.mistakes.due(clock::now()) {
            tracing::error!(%mistake, "a proxy's configuration does not fit this one; its requests are refused");
        }
        self.refuse(Refusal::NotConfigured)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }
}

fn answer(live: &Live, decision: Decision, policies: &[&Policy]) -> Answered {
    let fields: smallvec::SmallVec<[&str; 4]> = policies.iter().map(|policy| policy.policy_field()).collect();
    let rendered = live.face.render(&decision, &fields);
    Answered { decision, rendered, reservation: None }
}
