//! From policies and facts to what the store is asked.

use crate::engine::ask::{Demand, MAX_DEMANDS, Take, Weight};
use crate::engine::key::Key;
use crate::engine::policy::{Facts, NoKey, Policy};
use crate::engine::policy_set::{Kind, LookupError, PolicySet};
use crate::engine::rule::Rule;
use crate::service::ServiceError;
use crate::store::{LeaseLimit, Store};
use smallvec::SmallVec;
use std::sync::Arc;

/// One policy with what it asks.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) policy: &'a Policy,
    pub(super) key: Key,
    pub(super) cost: u32,
    pub(super) take: Take,
    pub(super) lease: Option<Arc<str>>,
}

/// What is asked for one request.
#[derive(Debug, Default)]
pub(super) struct Plan<'a>(pub(super) SmallVec<[Planned<'a>; 2]>);

/// The policies that a call may consult.
#[derive(Clone, Copy, Debug)]
pub(super) struct Among<'a, 'd> {
    pub(super) set: &'a PolicySet,
    pub(super) domain: &'d str,
    pub(super) kind: Kind,
}

/// A named policy has no counter for this request.
#[derive(Debug)]
pub(super) struct PartitionMissing;

/// How much a request takes.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    /// Units; none: each policy's own; zero: decide as for its own, and charge nothing.
    Cost(Option<u32>),
    /// This lease.
    Lease(Arc<str>),
}

impl<'a> Plan<'a> {
    /// Adds the policies that a caller named.
    ///
    /// # Errors
    /// No such policy, one of the other kind, an `ip` that is no address, or too many.
    pub(super) fn add_named(
        &mut self,
        among: Among<'a, '_>,
        names: &[String],
        facts: &impl Facts,
        amount: &Amount,
    ) -> Result<Result<(), PartitionMissing>, ServiceError> {
        let mut missing = false;
        for name in names {
            let policy = among.set.named(among.domain, among.kind, name)?;
            missing |= self.add(policy, facts, amount)?.is_err();
        }
        Ok(if missing { Err(PartitionMissing) } else { Ok(()) })
    }

    /// Adds every policy of the domain that holds for the facts and has a counter for them.
    ///
    /// # Errors
    /// No such domain, an `ip` that is no address, or too many.
    pub(super) fn add_matching(
        &mut self,
        among: Among<'a, '_>,
        facts: &impl Facts,
        amount: &Amount,
    ) -> Result<(), ServiceError> {
        for policy in among.set.matching(among.domain, among.kind, facts)? {
            // Without its partition an unnamed policy does not hold.
            let _ = self.add(policy, facts, amount)?;
        }
        Ok(())
    }

    /// Adds one policy; with a counter that stands already it stays once, at the higher cost.
    ///
    /// # Errors
    /// An `ip` that is no address, or too many policies.
    pub(super) fn add(
        &mut self,
        policy: &'a Arc<Policy>,
        facts: &impl Facts,
        amount: &Amount,
    ) -> Result<Result<(), PartitionMissing>, ServiceError> {
        let key = match policy.key(facts) {
            Ok(key) => key,
            // A shadow policy never denies; without its counter there is nothing to count.
            Err(NoKey::Missing(_)) if policy.shadow => return Ok(Ok(())),
            Err(NoKey::Missing(_)) => return Ok(Err(PartitionMissing)),
            Err(NoKey::NoAddress) => {
                return Err(ServiceError::invalid(
                    "entries.ip",
                    "not an IP address; send 203.0.113.7 or 2001:db8::1",
                ));
            }
        };
        let (cost, take, lease) = match amount {
            Amount::Cost(None) => (policy.cost, Take::Charge, None),
            Amount::Cost(Some(0)) => (policy.cost, Take::Peek, None),
            Amount::Cost(Some(cost)) => (*cost, Take::Charge, None),
            Amount::Lease(lease) => (1, Take::Charge, Some(Arc::clone(lease))),
        };
        let same = |planned: &&mut Planned<'_>| {
            std::ptr::eq(planned.policy, &raw const **policy) && planned.key == key
        };
        if let Some(standing) = self.0.iter_mut().find(same) {
            standing.cost = standing.cost.max(cost);
            return Ok(Ok(()));
        }
        if self.is_full() {
            return Err(too_many());
        }
        self.0.push(Planned { policy, key, cost, take, lease });
        Ok(Ok(()))
    }

    /// Whether no further demand has a place.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() == MAX_DEMANDS
    }

    /// Adds all of another plan.
    ///
    /// # Errors
    /// Too many policies.
    pub(super) fn join(&mut self, other: Self) -> Result<(), ServiceError> {
        self.0.extend(other.0);
        if self.0.len() > MAX_DEMANDS {
            return Err(too_many());
        }
        Ok(())
    }

    /// What the store is asked, in the order of the configuration. The keys stay here too when the store may be away: without it they are needed again.
    pub(super) fn demands<S: Store>(&mut self) -> SmallVec<[Demand; 2]> {
        let demand = |planned: &mut Planned<'_>| {
            let key = if S::MAY_BE_AWAY { planned.key.clone() } else { std::mem::take(&mut planned.key) };
            planned.demand(key, planned.policy.rule)
        };
        self.0.sort_by_key(|planned| planned.policy.order);
        self.0.iter_mut().map(demand).collect()
    }

    /// The policies, in order.
    pub(super) fn policies(&self) -> SmallVec<[&'a Policy; 4]> {
        self.0.iter().map(|planned| planned.policy).collect()
    }
}

impl Planned<'_> {
    /// The lease under this policy; none where it takes none.
    pub(super) fn lease_limit(&self) -> Option<LeaseLimit> {
        let Rule::Leases(limit) = self.policy.rule else { return None };
        Some(LeaseLimit { key: self.key.clone(), limit, weight: self.weight() })
    }

    fn weight(&self) -> Weight {
        if self.policy.shadow { Weight::Shadow } else { Weight::Enforced }
    }

    /// The demand under `rule`: the policy's own, or this replica's share of it.
    pub(super) fn demand(&self, key: Key, rule: Rule) -> Demand {
        Demand {
            key,
            rule,
            cost: self.cost,
            take: self.take,
            weight: self.weight(),
            lease: self.lease.clone(),
        }
    }
}

impl From<PartitionMissing> for crate::engine::decision::Decision {
    fn from(_: PartitionMissing) -> Self {
        use crate::engine::decision::{Outcome, Reason};
        Self::plain(Outcome::Deny, Reason::PartitionMissing)
    }
}

/// Nothing was asked yet, so nothing was charged.
fn too_many() -> ServiceError {
    let why = format!("more than {MAX_DEMANDS} policies hold; name those to check, or give them a match");
    ServiceError::invalid("policies", why)
}

/// A domain by name; empty means the default one.
pub(super) fn domain_or_default(domain: &str) -> &str {
    if domain.is_empty() { crate::engine::name::DEFAULT_DOMAIN } else { domain }
}

/// A caller that names an unknown domain is told so even when it asks for no policy.
pub(super) fn check_domain(set: &PolicySet, domain: &str) -> Result<(), LookupError> {
    struct Nothing;
    impl Facts for Nothing {
        fn get(&self, _: &str) -> Option<std::borrow::Cow<'_, str>> {
            None
        }
    }
    set.matching(domain, Kind::Limit, &Nothing).map(|_| ())
}
