//! `AcquireConnection`, `RenewConnections`, `ReleaseConnection`: leases that end by themselves.

use crate::engine::ask::Ask;
use crate::engine::decision::{Decision, Mode, Outcome, Reason};
use crate::engine::issuer::OnRevocationError;
use crate::engine::leases::Leases;
use crate::engine::policy::{Facts, OnStoreError};
use crate::engine::policy_set::{Kind, PolicySet};
use crate::engine::revocation::Probe;
use crate::engine::rule::Rule;
use crate::engine::units::{Micros, Moment};
use crate::service::fallback::{choice, exact};
use crate::service::plan::{Among, Amount, Plan, check_domain, domain_or_default};
use crate::service::settle::Receipt;
use crate::service::terms::{InDomain, LeaseTerms};
use crate::service::token::wrong;
use crate::service::{Answered, Deadline, Live, Service, ServiceError, answer};
use crate::store::{HeldLease, Renewed, Store};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// The life of a lease that no policy limits.
const UNLIMITED_TTL: Micros = Micros(30_000_000);

/// What identifies the token that a connection was opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenReference {
    /// The `iss` claim.
    pub issuer: String,
    /// The `sub` claim, or empty.
    pub subject: String,
    /// The `jti` claim, or empty.
    pub token_id: String,
    /// The `iat` claim.
    pub issued_at: Option<Moment>,
    /// The `exp` claim.
    pub expires_at: Option<Moment>,
}

/// One connection, within the bounds of the API.
#[derive(Clone, Debug)]
pub struct ConnectionCall<'a, F> {
    /// Empty means the default one.
    pub domain: &'a str,
    /// Exactly these; none: every connection policy that holds.
    pub policies: &'a [String],
    /// Exactly these too, of other domains.
    pub elsewhere: &'a [InDomain],
    /// The facts.
    pub facts: F,
    /// Made by the caller.
    pub lease_id: &'a str,
    /// The token, if any.
    pub token: Option<TokenReference>,
}

/// A lease as granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Made by the caller.
    pub lease_id: String,
    /// It ends after this unless it is renewed.
    pub ttl: Micros,
    /// When to renew: a third of it.
    pub renew_after: Micros,
    /// What a later renewal by somebody else needs.
    pub terms: LeaseTerms,
}

/// The answer to an acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// What was decided.
    pub answered: Answered,
    /// The lease, when allowed.
    pub lease: Option<LeaseGrant>,
}

/// What became of one lease at its renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalState {
    /// Held for another TTL.
    Held,
    /// Ended or released.
    Lost,
    /// The token was revoked.
    Revoked,
    /// The token's life is over.
    Expired,
    /// The store is away.
    Unknown,
}

impl<S: Store> Service<S> {
    /// Takes a lease under every connection policy that holds, or under none.
    ///
    /// # Errors
    /// As [`Service::check`]; an issuer that is not configured.
    pub async fn acquire<F: Facts>(
        &self,
        call: ConnectionCall<'_, F>,
        deadline: Deadline,
    ) -> Result<Acquired, ServiceError> {
        let live = self.live.load();
        let token = call.token.as_ref().map(|token| Held::new(&live, token)).transpose()?;
        let mut plan = match plan(&live.policies, &call)? {
            Ok(plan) => plan,
            Err(denied) => return Ok(Acquired { answered: answer(&live, denied, &[]), lease: None }),
        };
        let ends = token.as_ref().and_then(|token| token.ends);
        let on_store_error = token.as_ref().map(|token| token.on_store_error);
        let probe = token.map(|token| token.probe);
        let asks = !plan.0.is_empty() || probe.is_some();
        let ask = Ask { demands: plan.demands::<S>(), token: probe.map(Box::new), ..Ask::default() };
        let decision = if ends.is_some_and(|ends| ends <= crate::clock::now()) {
            Decision::plain(Outcome::Deny, Reason::TokenExpired)
        } else if asks {
            match self.store.take(ask, deadline.left()?).await {
                Ok(answer) if answer.revoked => Decision::plain(Outcome::Deny, Reason::TokenRevoked),
                Ok(answer) => exact(&plan, &answer),
                Err(error) if on_store_error == Some(OnRevocationError::Deny) => {
                    self.note(&error);
                    Decision::failed_closed()
                }
                Err(error) => {
                    let decision = self.without_store(&plan, &mut Receipt::default(), error).await?;
                    let unseen = if on_store_error.is_some() { Mode::FailedOpen } else { Mode::Exact };
                    Decision { mode: decision.mode.max(unseen), ..decision }
                }
            }
        } else {
            Decision::plain(Outcome::Allow, Reason::NoPolicy)
        };
        let lease = (decision.outcome == Outcome::Allow)
            .then(|| grant(call.lease_id, &plan, LeaseTerms::of(&plan, &call.facts, call.token.clone())));
        Ok(Acquired { answered: answer(&live, decision, &plan.policies()), lease })
    }

    /// Renews leases, in order; while the store is away their state is unknown. One that names an unknown domain, policy
    /// or issuer beside good ones is lost.
    ///
    /// # Errors
    /// No connection names what is configured; then none was renewed.
    pub async fn renew<F: Facts>(
        &self,
        calls: &[ConnectionCall<'_, F>],
        deadline: Deadline,
    ) -> Result<Vec<(RenewalState, Micros)>, ServiceError> {
        let live = self.live.load();
        let named: Vec<_> = calls.iter().map(|call| held(&live, call)).collect();
        // A policy that was taken out of the configuration must not end every other lease of the process.
        if let Some(error) = none_good(&named) {
            return Err(error);
        }
        let good: Vec<&Named> = named.iter().filter_map(|lease| lease.as_ref().ok()).collect();
        let leases = good.iter().map(|named| named.lease.clone()).collect();
        let renewed: Vec<RenewalState> = match self.store.renew(leases, deadline.left()?).await {
            Ok(renewed) => {
                let mut states: Vec<_> = renewed.into_iter().map(RenewalState::from).collect();
                if S::MAY_BE_AWAY {
                    self.adopt(&good, &mut states, deadline).await?;
                }
                states
            }
            Err(error) => {
                self.note(&error);
                // Leases that were granted in this process are kept alive in it.
                let here = good.iter().filter_map(|named| named.here()).collect();
                self.local.renew(here, Duration::MAX).await?;
                vec![RenewalState::Unknown; good.len()]
            }
        };
        let mut renewed = renewed.into_iter();
        let state = |named: &Result<Named, ServiceError>| match named {
            Ok(named) => {
                (renewed.next().unwrap_or(RenewalState::Unknown), Micros(ttl_of(&named.lease).0 / 3))
            }
            Err(_) => (RenewalState::Lost, Micros(0)),
        };
        Ok(named.iter().map(state).collect())
    }

    /// Gives a lease back; false when there was nothing to give back.
    ///
    /// # Errors
    /// An unknown domain or policy, or a store that is away: the lease then ends by itself.
    pub async fn release<F: Facts>(
        &self,
        call: &ConnectionCall<'_, F>,
        deadline: Deadline,
    ) -> Result<bool, ServiceError> {
        let live = self.live.load();
        let lease = held(&live, call)?.lease;
        // A lease that was granted here while the store was away.
        let local = self.local.release(lease.clone(), Duration::MAX).await?;
        let shared = self.store.release(lease, deadline.left()?).await?;
        Ok(shared || local)
    }
}

impl From<Renewed> for RenewalState {
    fn from(renewed: Renewed) -> Self {
        match renewed {
            Renewed::Held => Self::Held,
            Renewed::Lost => Self::Lost,
            Renewed::Revoked => Self::Revoked,
            Renewed::Expired => Self::Expired,
        }
    }
}

/// A token reference as the store needs it.
struct Held {
    probe: Probe,
    ends: Option<Moment>,
    on_store_error: OnRevocationError,
}

impl Held {
    fn new(live: &Live, token: &TokenReference) -> Result<Self, ServiceError> {
        let TokenReference { issuer, subject, token_id, issued_at, .. } = token;
        let probe = live.verifier.probe_of_reference(issuer, subject, token_id, *issued_at).map_err(wrong)?;
        let leeway = live.verifier.leeway(&token.issuer).unwrap_or_default();
        let on_store_error = live.verifier.on_store_error(&token.issuer).unwrap_or_default();
        Ok(Self { probe, ends: token.expires_at.map(|at| at.plus(leeway)), on_store_error })
    }
}

fn plan<'a, F: Facts>(
    set: &'a PolicySet,
    call: &ConnectionCall<'_, F>,
) -> Result<Result<Plan<'a>, Decision>, ServiceError> {
    let (mut plan, amount) = (Plan::default(), Amount::Lease(Arc::from(call.lease_id)));
    let among = Among { set, domain: domain_or_default(call.domain), kind: Kind::Connection };
    check_domain(set, among.domain)?;
    if call.policies.is_empty() {
        plan.add_matching(among, &call.facts, &amount)?;
        return Ok(Ok(plan));
    }
    let mut added = plan.add_named(among, call.policies, &call.facts, &amount)?;
    for InDomain { domain, policies } in call.elsewhere {
        let more = plan.add_named(Among { domain, ..among }, policies, &call.facts, &amount)?;
        added = added.and(more);
    }
    Ok(added.map(|()| plan).map_err(Decision::from))
}

/// A lease by its name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// As the store knows it.
    pub(super) lease: HeldLease,
    /// Which of its limits this process counts itself while the store is away.
    is_local: SmallVec<[bool; 2]>,
}

impl Named {
    /// As this process knows it when it granted it: under the limits that it counted. None: it counted none.
    pub(super) fn here(&self) -> Option<HeldLease> {
        let HeldLease { id, limits, token, token_ends } = &self.lease;
        let limits = limits.iter().zip(&self.is_local).filter(|(_, local)| **local);
        let limits: SmallVec<_> = limits.map(|(limit, _)| limit.clone()).collect();
        let (id, token, token_ends) = (Arc::clone(id), token.clone(), *token_ends);
        (!limits.is_empty()).then_some(HeldLease { id, limits, token, token_ends })
    }
}

/// A lease by its name.
pub(super) fn held<F: Facts>(live: &Live, call: &ConnectionCall<'_, F>) -> Result<Named, ServiceError> {
    let plan = plan(&live.policies, call)?.map_err(|_| {
        ServiceError::invalid("connection.entries", "a named policy's partition entry is missing")
    })?;
    let token = call.token.as_ref().map(|token| Held::new(live, token)).transpose()?;
    let token_ends = token.as_ref().and_then(|token| token.ends);
    let leases = || plan.0.iter().filter_map(|planned| Some((planned, planned.lease_limit()?)));
    let lease = HeldLease {
        id: Arc::from(call.lease_id),
        limits: leases().map(|(_, limit)| limit).collect(),
        token: token.map(|token| Box::new(token.probe)),
        token_ends,
    };
    let is_local = leases().map(|(planned, _)| choice(planned) == OnStoreError::Local).collect();
    Ok(Named { lease, is_local })
}

/// The first error when there is nothing but errors.
fn none_good(named: &[Result<Named, ServiceError>]) -> Option<ServiceError> {
    match named.first() {
        Some(Err(error)) if named.iter().all(Result::is_err) => Some(error.clone()),
        _ => None,
    }
}

fn ttl_of(lease: &HeldLease) -> Micros {
    shortest(lease.limits.iter().map(|limit| limit.limit))
}

/// A lease as granted by a plan.
pub(super) fn grant(lease_id: &str, plan: &Plan<'_>, terms: LeaseTerms) -> LeaseGrant {
    let ttl = shortest(plan.0.iter().filter_map(|planned| match planned.policy.rule {
        Rule::Leases(leases) => Some(leases),
        _ => None,
    }));
    LeaseGrant { lease_id: lease_id.to_owned(), ttl, renew_after: Micros(ttl.0 / 3), terms }
}

fn shortest(limits: impl Iterator<Item = Leases>) -> Micros {
    limits.map(|limit| limit.ttl).min().unwrap_or(UNLIMITED_TTL)
}
