//! Descriptors under our own policies: each is a `CheckLimit` of its entries, all or nothing for itself.
//!
//! A connection policy is asked through its `lease_entry`: the value of that entry is the id of the lease. To give hits
//! back releases the lease; an id that nobody holds is nothing to release, and what was refused holds nothing.

use super::parts::Part;
use super::{
    Company, Descriptor, DescriptorStatus, Direction, RateLimitCall, RateLimited, ShownLimit, Source, verdict,
};
use crate::engine::ask::Take;
use crate::engine::decision::{Decision, Outcome, PolicyStatus, Reason};
use crate::engine::http::tightest;
use crate::engine::leases::{MAX_LEASE_ID_BYTES, is_lease_id};
use crate::engine::policy::{Facts, Policy};
use crate::engine::policy_set::Kind;
use crate::engine::rate_limit::{RateLimitOptions, Unit};
use crate::engine::rule::Rule;
use crate::engine::units::Micros;
use crate::service::plan::{Among, Amount, Plan, Planned};
use crate::service::settle::Receipt;
use crate::service::{Deadline, Live, Service, ServiceError};
use crate::store::{HeldLease, Store};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// Longest first: a window is shown in the longest unit that it is a multiple of.
const UNITS: [Unit; 7] =
    [Unit::Year, Unit::Month, Unit::Week, Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];

/// The entries of a descriptor; of two with one key the first counts.
struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Facts for Pairs<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(*value))
    }
}

/// A decision with the policies that it is about.
type Decided<'a> = (Decision, SmallVec<[&'a Policy; 4]>);

impl<S: Store> Service<S> {
    /// Asks the policies of a domain for each descriptor; one with a limit of its own is counted under that.
    pub(super) async fn limit_natively(
        &self,
        live: &Live,
        call: RateLimitCall<'_>,
        deadline: Deadline,
    ) -> Result<RateLimited, ServiceError> {
        let options = RateLimitOptions::default();
        let source = Source { set: None, takes_overrides: true, company: Company::None, options: &options };
        let (parts, mut statuses) = self.count(source, call, deadline).await?;
        let asked = call.descriptors.iter().zip(&parts).map(async |(descriptor, part)| match part {
            Part::Counted(_) => Ok(None),
            _ => self.descriptor(live, (&call, descriptor), deadline).await.map(Some),
        });
        let brought = verdict::overall(&parts, &statuses, &options);
        let mut whole = Decision::plain(brought, Reason::LimitExceeded);
        if brought == Outcome::Deny {
            let over = statuses.iter().filter(|status| status.outcome == Outcome::Deny);
            whole.retry_after = over.filter_map(|status| status.until_reset).max();
        }
        let mut policies: SmallVec<[&Policy; 4]> = SmallVec::new();
        for (decided, status) in futures_util::future::join_all(asked).await.into_iter().zip(&mut statuses) {
            let Some((decision, consulted)) = decided? else { continue };
            *status = shown(&decision);
            policies.extend(consulted);
            join(&mut whole, decision);
        }
        let fields: SmallVec<[&str; 4]> = policies.iter().map(|policy| policy.policy_field()).collect();
        let rendered = live.face.render(&whole, &fields);
        let headers = rendered.headers;
        Ok(RateLimited { outcome: whole.outcome, statuses, headers, body: rendered.body, metadata: None })
    }

    async fn descriptor<'a>(
        &self,
        live: &'a Live,
        of: (&RateLimitCall<'_>, &Descriptor<'_>),
        deadline: Deadline,
    ) -> Result<Decided<'a>, ServiceError> {
        let (_, descriptor) = of;
        let Asked { mut plan, leases } = asked_of(live, of)?;
        let decision = match descriptor.direction {
            Direction::GiveBack => self.give_back(&mut plan, leases, deadline).await?,
            Direction::Count => {
                plan.join(leases)?;
                self.decide_some(&mut plan, deadline).await?
            }
        };
        Ok((decision, plan.policies()))
    }

    async fn decide_some(&self, plan: &mut Plan<'_>, deadline: Deadline) -> Result<Decision, ServiceError> {
        if plan.0.is_empty() {
            return Ok(Decision::plain(Outcome::Allow, Reason::NoPolicy));
        }
        self.decide(plan, &mut Receipt::default(), deadline).await
    }

    /// Releases the leases, and takes the hits off what counts in fixed windows.
    pub(super) async fn give_back<'a>(
        &self,
        plan: &mut Plan<'a>,
        leases: Plan<'a>,
        deadline: Deadline,
    ) -> Result<Decision, ServiceError> {
        takes_back(plan, &leases)?;
        plan.0.retain(|planned| matches!(planned.policy.rule, Rule::Fixed(_)));
        for planned in leases.0 {
            let limits = planned.lease_limit().into_iter().collect();
            let id = planned.lease.unwrap_or_default();
            self.end_held(HeldLease { id, limits, token: None, token_ends: None }, deadline).await?;
        }
        plan.0.iter_mut().for_each(|planned| planned.take = Take::Refund);
        self.decide_some(plan, deadline).await
    }
}

/// Whether a plan whose hits are given back can give any.
///
/// # Errors
/// Policies hold, and none of them takes anything back.
pub(super) fn takes_back(plan: &Plan<'_>, leases: &Plan<'_>) -> Result<(), ServiceError> {
    let can = |planned: &Planned<'_>| matches!(planned.policy.rule, Rule::Fixed(_));
    if plan.0.is_empty() || plan.0.iter().any(can) || !leases.0.is_empty() {
        return Ok(());
    }
    Err(ServiceError::invalid(
        "is_negative_hits",
        "no policy that holds can take units back; a fixed_window or a concurrency policy can",
    ))
}

/// What the policies of a domain ask for one descriptor.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    /// Limits on requests.
    pub(super) plan: Plan<'a>,
    /// Limits on connections, each with the lease that the descriptor names.
    pub(super) leases: Plan<'a>,
}

/// What the policies that hold for a descriptor ask.
///
/// # Errors
/// A lease id or an `ip` that is none, or too many policies.
pub(super) fn asked_of<'a>(
    live: &'a Live,
    of: (&RateLimitCall<'_>, &Descriptor<'_>),
) -> Result<Asked<'a>, ServiceError> {
    let (call, descriptor) = of;
    let facts = Pairs(&descriptor.entries);
    let cost = match (descriptor.hits, call.hits_addend) {
        (Some(hits), _) => Some(u32::try_from(hits).unwrap_or(u32::MAX)),
        (None, 0) => None,
        (None, hits) => Some(hits),
    };
    let among = |kind| Among { set: &live.policies, domain: call.domain, kind };
    let mut plan = Plan::default();
    plan.add_matching(among(Kind::Limit), &facts, &Amount::Cost(cost))?;
    let mut leases = Plan::default();
    for policy in live.policies.matching(call.domain, Kind::Connection, &facts)? {
        let Some(id) = facts.get(&policy.lease_entry).filter(|id| !id.is_empty()) else { continue };
        check_lease_id(&policy.lease_entry, &id)?;
        // Without its partition an unnamed policy does not hold.
        let _ = leases.add(policy, &facts, &Amount::Lease(Arc::from(&*id)))?;
    }
    if call.hits(descriptor) == 0 {
        leases.0.iter_mut().for_each(|planned| planned.take = Take::Peek);
    }
    Ok(Asked { plan, leases })
}

fn check_lease_id(entry: &str, id: &str) -> Result<(), ServiceError> {
    if is_lease_id(id) {
        return Ok(());
    }
    let most = MAX_LEASE_ID_BYTES;
    let why = format!("`{entry}` is a lease id: at most {most} visible ASCII characters");
    Err(ServiceError::invalid("descriptors.entries", why))
}

/// One decision of all: denied when one is, for the first reason, with the longest wait.
pub(super) fn join(whole: &mut Decision, one: Decision) {
    if one.outcome == Outcome::Deny {
        if whole.outcome == Outcome::Allow {
            whole.reason = one.reason;
        }
        whole.outcome = Outcome::Deny;
        whole.retry_after = whole.retry_after.max(one.retry_after);
    }
    whole.mode = whole.mode.max(one.mode);
    whole.statuses.extend(one.statuses);
}

/// The status of a descriptor: of the policy that binds most.
pub(super) fn shown(decision: &Decision) -> DescriptorStatus {
    let Some(tightest) = tightest(decision) else {
        return DescriptorStatus { outcome: decision.outcome, ..DescriptorStatus::free() };
    };
    let until_reset = match tightest.retry_after {
        Some(wait) if tightest.violated => wait,
        _ => tightest.reset_after,
    };
    DescriptorStatus {
        outcome: decision.outcome,
        limit: Some(limit(tightest)),
        remaining: u32::try_from(tightest.remaining).unwrap_or(u32::MAX),
        until_reset: Some(until_reset),
    }
}

fn limit(status: &PolicyStatus) -> ShownLimit {
    let name = Arc::clone(&status.policy);
    let requests = u32::try_from(status.limit).unwrap_or(u32::MAX);
    let seconds = status.window.and_then(Micros::whole_seconds);
    let fits = |unit: &Unit| seconds.is_some_and(|seconds| seconds.is_multiple_of(unit.seconds()));
    let unit = UNITS.into_iter().find(fits);
    let units = unit.zip(seconds).map(|(unit, seconds)| seconds / unit.seconds()).filter(|units| *units > 1);
    ShownLimit { name, requests, unit, multiplier: units.and_then(|units| u32::try_from(units).ok()) }
}
