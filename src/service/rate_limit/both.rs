//! A domain that the directory has and our own policies have too: both are asked in one step, all or nothing.
//!
//! Promise: a request passes when the limits of its descriptors have room and every policy that holds has. Of a request
//! that is refused nothing is charged but, as the directory counts, under the limit of the directory that is over itself.
//! The status of a descriptor is the directory's, or that of the policy that binds most where it refuses and the directory
//! does not, or where it has less left.
//!
//! Must never: take a lease or charge a policy for a request that the directory refuses; ask the store twice.

use super::asks::{Asks, Class, Place};
use super::native::{Asked, asked_of, join, shown, takes_back};
use super::parts::{Part, parts};
use super::{
    Apart, DescriptorStatus, Direction, RateLimitCall, RateLimited, Seen, Source, metadata, share, verdict,
};
use crate::engine::ask::{Answer, Ask, MAX_COUNTED, Take, Weight};
use crate::engine::decision::{Decision, Judged, Mode, Outcome, Reason};
use crate::engine::policy::{OnStoreError, Policy};
use crate::engine::rule::Rule;
use crate::service::fallback::{choice, judge, judge_locally};
use crate::service::plan::Planned;
use crate::service::{Deadline, Live, Service, ServiceError};
use crate::store::{Store, StoreError};
use smallvec::SmallVec;
use std::time::Duration;

/// A policy that holds for a descriptor, and where its reading will be.
struct Placed<'a> {
    descriptor: usize,
    planned: Planned<'a>,
    place: Place,
}

/// What the policies are asked.
#[derive(Default)]
struct Policies<'a> {
    placed: Vec<Placed<'a>>,
    /// What is given back beside that; it is never over.
    backs: Vec<Asked<'a>>,
}

impl<S: Store> Service<S> {
    /// Asks the directory and the policies of a domain.
    pub(super) async fn limit_by_both<'a>(
        &self,
        live: &'a Live,
        source: Source<'a>,
        call: RateLimitCall<'a>,
        deadline: Deadline,
    ) -> Result<RateLimited, ServiceError> {
        let mut asks = Asks::default();
        let parts = parts(source, call, &mut asks)?;
        let Policies { placed, backs } = policies(live, (call, &parts), &mut asks)?;
        let seen = self.see_both(asks, &placed, deadline).await?;
        for Asked { mut plan, leases } in backs {
            self.give_back(&mut plan, leases, deadline).await?;
        }
        let mut statuses: Vec<DescriptorStatus> =
            parts.iter().map(|part| verdict::status(part, std::slice::from_ref(&seen))).collect();
        let directory = verdict::overall(&parts, &statuses, source.options);
        let mut headers = verdict::trio(&parts, &statuses, source.options);
        let over = statuses.iter().filter(|status| status.outcome == Outcome::Deny);
        let wait = over.filter_map(|status| status.until_reset).max();
        let mut whole = Decision::plain(Outcome::Allow, Reason::NoPolicy);
        let mut consulted: SmallVec<[&Policy; 4]> = SmallVec::new();
        for (index, status) in statuses.iter_mut().enumerate() {
            let own = placed.iter().filter(|placed| placed.descriptor == index);
            let judged: SmallVec<[Judged<'_>; 4]> = own.map(|placed| seen.judge(placed)).collect();
            if judged.is_empty() {
                continue;
            }
            consulted.extend(judged.iter().map(|one| one.policy));
            let decision = Decision::combine_beside(&judged, seen.answer.now, seen.outcome);
            fold(status, &decision);
            join(&mut whole, decision);
        }
        if directory == Outcome::Deny && whole.retry_after.is_some() {
            // Who waits as long as the policies say must not find the directory over then.
            whole.retry_after = whole.retry_after.max(wait);
        }
        let metadata = source.options.metadata.then(|| metadata::of(&call, &parts, &statuses));
        let outcome = if directory == Outcome::Deny { directory } else { whole.outcome };
        let fields: SmallVec<[&str; 4]> = consulted.iter().map(|policy| policy.policy_field()).collect();
        let rendered = live.face.render(&whole, &fields);
        for header in rendered.headers {
            if !headers.iter().any(|set| set.name.eq_ignore_ascii_case(&header.name)) {
                headers.push(header);
            }
        }
        Ok(RateLimited { outcome, statuses, headers, body: rendered.body, metadata })
    }

    /// One ask for all, or what each limit is to do while the store is away.
    async fn see_both(
        &self,
        asks: Asks,
        placed: &[Placed<'_>],
        deadline: Deadline,
    ) -> Result<Seen, ServiceError> {
        let Some((ask, slots)) = asks.0.into_iter().next() else {
            return Ok(Seen::of(Answer::default(), Vec::new(), None));
        };
        let kept = S::MAY_BE_AWAY.then(|| ask.clone());
        let error = match self.store.take(ask, deadline.left()?).await {
            Ok(answer) => return Ok(Seen::of(answer, slots, None)),
            Err(error) => error,
        };
        self.note(&error);
        let apart = Apart { replicas: self.store.replicas() };
        let ask = away(kept.unwrap_or_default(), placed, apart, error)?;
        let is_denied = placed.iter().any(|placed| choice(&placed.planned) == OnStoreError::Deny);
        let demands = ask.demands.clone();
        let answer = self.local.take(ask, Duration::MAX).await?;
        let outcome = if is_denied { Outcome::Deny } else { answer.outcome(&demands) };
        Ok(Seen { outcome, ..Seen::of(answer, slots, Some(apart)) })
    }
}

impl Seen {
    /// What a policy has to say.
    fn judge<'a>(&self, placed: &Placed<'a>) -> Judged<'a> {
        let reading = self.answer.readings.get(placed.place.demand).copied();
        let planned = &placed.planned;
        let judged = match (self.apart, choice(planned)) {
            (None, _) => judge(planned, planned.policy.rule, reading, Mode::Exact),
            (Some(apart), OnStoreError::Local) => judge_locally(planned, reading, apart.replicas),
            (Some(_), OnStoreError::Deny) => judge(planned, planned.policy.rule, None, Mode::FailedClosed),
            (Some(_), _) => judge(planned, planned.policy.rule, None, Mode::FailedOpen),
        };
        // Descriptors with one counter are charged as one, so each says what all of them leave.
        let slot = self.slots.get(placed.place.demand);
        let cost = slot.map_or(planned.cost, |slot| u32::try_from(slot.hits).unwrap_or(u32::MAX));
        Judged { cost, ..judged }
    }
}

/// Asks for the policies of each descriptor too.
///
/// # Errors
/// What a policy cannot be asked, or what is no single step.
fn policies<'a>(
    live: &'a Live,
    of: (RateLimitCall<'_>, &[Part<'_>]),
    asks: &mut Asks,
) -> Result<Policies<'a>, ServiceError> {
    let (call, parts) = of;
    let mut policies = Policies::default();
    // A limit that a descriptor brings stands in the place of the policies, as where there is no directory.
    let asked = call.descriptors.iter().enumerate().filter(|(_, descriptor)| descriptor.limit.is_none());
    for (index, descriptor) in asked {
        let Asked { mut plan, leases } = asked_of(live, (&call, descriptor))?;
        if descriptor.direction == Direction::GiveBack {
            // Where the directory takes the hits back, a policy that cannot is passed over; else that is said, before
            // anything is charged.
            if matches!(parts.get(index), Some(Part::Counted(_))) {
                plan.0.retain(|planned| matches!(planned.policy.rule, Rule::Fixed(_)));
            }
            takes_back(&plan, &leases)?;
            if !plan.0.is_empty() || !leases.0.is_empty() {
                policies.backs.push(Asked { plan, leases });
            }
            continue;
        }
        plan.join(leases)?;
        plan.0.sort_by_key(|planned| planned.policy.order);
        for planned in plan.0 {
            let place = policies.place(&planned, index, asks)?;
            policies.placed.push(Placed { descriptor: index, planned, place });
        }
    }
    let demands: usize = asks.0.iter().map(|(ask, _)| ask.demands.len()).sum();
    if asks.0.len() > 1 || demands > MAX_COUNTED {
        let why = format!(
            "beside policies a request is one step: at most {MAX_COUNTED} counters, and each for one end, to be counted, \
             looked at or given back"
        );
        return Err(ServiceError::invalid("descriptors", why));
    }
    Ok(policies)
}

impl Policies<'_> {
    /// Asks for one policy. A lease stands once, however many descriptors name it.
    fn place(&self, planned: &Planned<'_>, index: usize, asks: &mut Asks) -> Result<Place, ServiceError> {
        let same = |placed: &&Placed<'_>| planned.lease.is_some() && placed.planned.key == planned.key;
        if let Some(placed) = self.placed.iter().find(same) {
            if placed.planned.lease == planned.lease && placed.planned.take == planned.take {
                return Ok(placed.place);
            }
            let why = format!("descriptors[{index}]: a second lease of one policy in a request");
            return Err(ServiceError::invalid("descriptors.entries", why));
        }
        let rule = planned.policy.rule;
        let class = if planned.take == Take::Peek { Class::Looks(rule) } else { Class::Passes(rule) };
        let demand = planned.demand(planned.key.clone(), rule);
        Ok(asks.add(demand, class, u64::from(planned.cost)))
    }
}

/// What is asked in this process while the store is away: a replica's share of every limit, and of a policy what it says.
///
/// # Errors
/// An enforced policy says `error`, and none says `deny`.
fn away(mut ask: Ask, placed: &[Placed<'_>], apart: Apart, error: StoreError) -> Result<Ask, ServiceError> {
    let choices: SmallVec<[OnStoreError; 4]> = placed.iter().map(|placed| choice(&placed.planned)).collect();
    let is_denied = choices.contains(&OnStoreError::Deny);
    if !is_denied && choices.contains(&OnStoreError::Error) {
        return Err(error.into());
    }
    for demand in &mut ask.demands {
        demand.rule = share(demand.rule, apart.shares());
        // What is given back is given back whatever becomes of the rest.
        if is_denied && demand.take != Take::Refund {
            demand.take = Take::Peek;
        }
    }
    for (placed, choice) in placed.iter().zip(&choices) {
        // It is neither charged nor asked; its place stays, for the others are known by theirs.
        if let Some(demand) =
            ask.demands.get_mut(placed.place.demand).filter(|_| *choice != OnStoreError::Local)
        {
            (demand.take, demand.weight) = (Take::Peek, Weight::Shadow);
        }
    }
    Ok(ask)
}

/// Lets what policies say stand in the status of their descriptor.
fn fold(status: &mut DescriptorStatus, decision: &Decision) {
    let own = shown(decision);
    let is_tighter = match (status.outcome, own.outcome) {
        (Outcome::Allow, Outcome::Deny) => true,
        (Outcome::Deny, _) => false,
        (Outcome::Allow, Outcome::Allow) => {
            own.limit.is_some() && (status.limit.is_none() || own.remaining < status.remaining)
        }
    };
    if is_tighter {
        *status = own;
    }
}
