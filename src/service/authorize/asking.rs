//! From the readings of a request's path to what its store call asks: every policy of each reading, with that reading's facts.

use super::{HttpCall, MadeBy};
use crate::engine::decision::Decision;
use crate::engine::policy::Policy;
use crate::engine::policy_set::{Kind, LookupError, PolicySet};
use crate::service::ServiceError;
use crate::service::facts::HttpFacts;
use crate::service::plan::{Amount, PartitionMissing, Plan, domain_or_default};
use crate::service::readings::{Reading, ambiguous};
use crate::service::terms::{LeaseTerms, OtherValue};
use smallvec::SmallVec;
use std::sync::Arc;

/// What one request asks of the store.
pub(super) struct Asking<'a> {
    pub(super) plan: Plan<'a>,
    /// Of the lease that it would take, without the token.
    pub(super) terms: LeaseTerms,
}

/// Why a request is not asked about.
pub(super) enum Unplanned {
    /// That is an answer.
    Denied(Decision),
    /// There is none.
    Failed(ServiceError),
}

impl<'a> Asking<'a> {
    /// Under every reading, with its facts: its route's policies and, for a request that opens a connection, its
    /// connection policies; then the named ones.
    pub(super) fn plan(
        set: &'a PolicySet,
        call: &HttpCall<'_>,
        readings: &[Reading<'a>],
        facts: &HttpFacts<'_>,
    ) -> Result<Self, Unplanned> {
        let mut asking = Self { plan: Plan::default(), terms: LeaseTerms::default() };
        let facts: SmallVec<[HttpFacts<'_>; 1]> =
            readings.iter().map(|reading| reading.facts(facts)).collect();
        let lease = call.connection.map(|offer| Amount::Lease(Arc::from(offer.lease_id)));
        for (route, facts) in
            readings.iter().zip(&facts).filter_map(|(reading, facts)| Some((reading.route?, facts)))
        {
            let cost = Amount::Cost(call.cost.or(route.cost));
            let limits = route.policies.iter().map(|policy| (policy, &cost));
            let leases =
                lease.iter().flat_map(|lease| route.connection.iter().map(move |policy| (policy, lease)));
            for (policy, amount) in limits.chain(leases).filter(|(policy, _)| policy.matches(facts)) {
                asking.add(policy, facts, amount, readings)?.map_err(Decision::from)?;
            }
        }
        let domain = match readings.iter().find_map(|reading| reading.route) {
            Some(route) if call.domain.is_empty() => &*route.domain,
            _ => domain_or_default(call.domain),
        };
        for name in call.policies {
            let (policy, amount) = match (set.named(domain, Kind::Limit, name), &lease) {
                (Err(LookupError::WrongKind { .. }), Some(lease)) => {
                    (set.named(domain, Kind::Connection, name)?, lease.clone())
                }
                (named, _) => (named?, Amount::Cost(call.cost)),
            };
            // A reading without a route has no `route`: the counters of the other readings hold then.
            let mut missing = None;
            let mut has_counter = false;
            for facts in &facts {
                match asking.add(policy, facts, &amount, readings)? {
                    Ok(()) => has_counter = true,
                    Err(none) => missing = Some(none),
                }
            }
            if let Some(missing) = missing.filter(|_| !has_counter) {
                return Err(Decision::from(missing).into());
            }
        }
        let by_caller = call.connection.is_some_and(|offer| offer.made_by == MadeBy::Caller);
        // A caller renews its lease in one domain.
        if by_caller && !asking.terms.elsewhere.is_empty() {
            return Err(ambiguous().into());
        }
        Ok(asking)
    }

    fn add(
        &mut self,
        policy: &'a Arc<Policy>,
        facts: &HttpFacts<'_>,
        amount: &Amount,
        readings: &[Reading<'_>],
    ) -> Result<Result<(), PartitionMissing>, Unplanned> {
        let stood = self.plan.0.len();
        let added = match self.plan.add(policy, facts, amount) {
            // The client chose how many readings its path has.
            Err(_) if self.plan.is_full() && readings.len() > 1 => return Err(ambiguous().into()),
            added => added?,
        };
        let new = self.plan.0.get(stood..).unwrap_or_default();
        self.terms.extend(new, facts).map_err(|OtherValue| ambiguous())?;
        Ok(added)
    }
}

impl From<Decision> for Unplanned {
    fn from(denied: Decision) -> Self {
        Self::Denied(denied)
    }
}

impl From<ServiceError> for Unplanned {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl From<LookupError> for Unplanned {
    fn from(error: LookupError) -> Self {
        Self::Failed(error.into())
    }
}
