//! `SettleCost`: reservations, and what they really cost.
//!
//! A check that asks for it gets a ticket: which counters were charged how much, when, and by whom. It goes to the caller
//! and comes back, so nothing is kept for a reservation anywhere; the store remembers settlements alone.
//!
//! Promise: of a decision that was allowed the ticket names just what was charged; a settlement goes to where that was
//! counted, the store or this very process.
//!
//! Must never: trust a ticket for more than its caller may do anyway, which is to charge any counter of any domain.

use crate::engine::ask::{Answer, Demand, MAX_DEMANDS, Take};
use crate::engine::decision::Outcome;
use crate::engine::key::Key;
use crate::engine::policy::Policy;
use crate::engine::policy_set::{Kind, PolicySet};
use crate::engine::rule::Rule;
use crate::engine::settlement::{
    Adjustment, MAX_SETTLE_WITHIN, Movement, Settled, Settlement, SettlementState,
};
use crate::engine::units::{Micros, Moment};
use crate::service::{Answered, Deadline, Service, ServiceError};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::Duration;

/// Most bytes of a ticket: sixteen keys of the longest partitions fit.
pub const MAX_TICKET: usize = 16 * 1024;
/// Of the form below.
const VERSION: u8 = 1;

/// A reservation as its caller gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Opaque to callers.
    pub ticket: Vec<u8>,
    /// How long it can be settled.
    pub settle_within: Micros,
}

/// What a caller settles, within the bounds of the API.
#[derive(Clone, Copy, Debug)]
pub struct SettleCall<'a> {
    /// As it came.
    pub ticket: &'a [u8],
    /// For every policy.
    pub cost: Option<u32>,
    /// By policy, above `cost`.
    pub policy_costs: &'a HashMap<String, u32>,
}

/// The answer to a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledCost {
    /// Whether it holds.
    pub is_in_time: bool,
    /// One a counter, in the order of the ticket.
    pub policies: Vec<PolicySettlement>,
    /// The longest delay of the enforced policies.
    pub delay: Option<Micros>,
}

/// What became of one policy's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettlement {
    /// Its name.
    pub policy: String,
    /// What was charged at first.
    pub reserved: u32,
    /// What was moved.
    pub movement: Movement,
    /// Units left.
    pub remaining: u64,
    /// Units in use beyond the limit.
    pub beyond_limit: u64,
    /// Until one unit fits.
    pub delay: Option<Micros>,
}

/// A ticket, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    v: u8,
    request_id: String,
    /// Microseconds of the clock of whoever counted.
    charged_at: u64,
    settle_until: u64,
    /// Empty: the store.
    process: String,
    counters: Vec<Counter>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    key: String,
    cost: u32,
}

/// Who counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CountedBy {
    Store,
    /// This process, while the store is away.
    Process(String),
}

/// A request's own name, and what is noted of its charge when it is to be settled.
#[derive(Debug, Default)]
pub(super) struct Receipt<'a> {
    request_id: &'a str,
    settle_within: Option<Micros>,
    charge: Option<(CountedBy, Moment, Vec<Counter>)>,
}

impl<'a> Receipt<'a> {
    /// Of a request; without a span nothing is noted.
    pub(super) fn new(request_id: &'a str, settle_within: Option<Micros>) -> Self {
        Self { request_id, settle_within, charge: None }
    }

    /// The request id for the store.
    pub(super) fn request_id(&self) -> Option<Box<str>> {
        (!self.request_id.is_empty()).then(|| self.request_id.into())
    }

    /// The demands, when their charge is to be noted.
    pub(super) fn kept(&self, demands: &[Demand]) -> Option<SmallVec<[Demand; 2]>> {
        self.settle_within.map(|_| demands.iter().cloned().collect())
    }

    /// Notes what an answer charged of the demands that were kept.
    pub(super) fn note(&mut self, demands: Option<&[Demand]>, answer: &Answer, by: CountedBy) {
        let Some(demands) = demands else { return };
        let outcome = answer.outcome(demands);
        let charged = demands.iter().zip(&answer.readings).filter(|(demand, reading)| {
            let is_counter = !matches!(demand.rule, Rule::Leases(_)) && demand.takes() == Take::Charge;
            is_counter && demand.take.is_charged(demand.weight, reading, outcome)
        });
        let counter =
            |(demand, _): (&Demand, _)| Counter { key: demand.key.as_str().to_owned(), cost: demand.cost };
        self.charge = Some((by, answer.now, charged.map(counter).collect()));
    }

    /// The reservation of a request that was allowed; none where nothing was charged.
    pub(super) fn reservation(self) -> Option<Box<Reservation>> {
        let settle_within = self.settle_within?;
        let (by, at, counters) = self.charge.filter(|(_, _, counters)| !counters.is_empty())?;
        let process = match by {
            CountedBy::Store => String::new(),
            CountedBy::Process(process) => process,
        };
        let ticket = Ticket {
            v: VERSION,
            request_id: self.request_id.to_owned(),
            charged_at: at.0,
            settle_until: at.plus(settle_within).0,
            process,
            counters,
        };
        let ticket = serde_json::to_vec(&ticket).ok()?;
        Some(Box::new(Reservation { ticket, settle_within }))
    }
}

impl Answered {
    /// With what settles it, where it was allowed.
    pub(super) fn with(self, receipt: Receipt<'_>) -> Self {
        match self.decision.outcome {
            Outcome::Allow => Self { reservation: receipt.reservation(), ..self },
            Outcome::Deny => self,
        }
    }
}

impl Ticket {
    fn read(bytes: &[u8]) -> Result<Self, ServiceError> {
        let wrong = || {
            ServiceError::invalid("ticket", "not that of a reservation; send it back as the decision had it")
        };
        let ticket: Self = serde_json::from_slice(bytes).map_err(|_| wrong())?;
        let span = Moment(ticket.settle_until).since(Moment(ticket.charged_at));
        let is_one = ticket.v == VERSION
            && (1..=MAX_DEMANDS).contains(&ticket.counters.len())
            && span > Micros(0)
            && span <= MAX_SETTLE_WITHIN
            && !ticket.names_a_key_twice();
        if is_one { Ok(ticket) } else { Err(wrong()) }
    }

    fn names_a_key_twice(&self) -> bool {
        let mut keys: Vec<&str> = self.counters.iter().map(|counter| &*counter.key).collect();
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair.first() == pair.last())
    }

    /// The name of its settlement: no other reservation has it, for a request id is charged once at a moment.
    fn name(&self) -> Box<str> {
        format!("{} {} {:?}", self.request_id, self.charged_at, self.counters).into()
    }
}

/// A counter of a ticket with the policy that it is of, when there still is one that counts so.
struct Found<'a> {
    settlement: PolicySettlement,
    counted: Option<(&'a Policy, Key)>,
}

impl<S: Store> Service<S> {
    /// Settles a reservation.
    ///
    /// # Errors
    /// A ticket that is none, no cost, a policy that is not of the reservation; a deadline that passed; the store is away,
    /// or the process that counted is another one; no room to remember it.
    pub async fn settle(
        &self,
        call: SettleCall<'_>,
        deadline: Deadline,
    ) -> Result<SettledCost, ServiceError> {
        let live = self.live.load();
        let ticket = Ticket::read(call.ticket)?;
        let mut found = found(&live.policies, &ticket, call)?;
        let by_store = ticket.process.is_empty();
        if !by_store && ticket.process != self.local.instance() {
            let why = "it was counted by another process while the store was away".to_owned();
            return Err(StoreError::Unreachable(why).into());
        }
        let shares = if by_store { None } else { Some(self.store.replicas().unwrap_or(1)) };
        let rule = |policy: &Policy| shares.map_or(policy.rule, |shares| policy.rule.share(shares));
        let adjust = |found: &Found<'_>| {
            let (policy, key) = found.counted.as_ref()?;
            let (reserved, cost) = (found.settlement.reserved, found.settlement.movement.cost);
            Some(Adjustment { key: key.clone(), rule: rule(policy), reserved, cost })
        };
        let adjustments: SmallVec<[Adjustment; 2]> = found.iter().filter_map(adjust).collect();
        if adjustments.is_empty() {
            return Ok(report(found, true));
        }
        let rules: SmallVec<[Rule; 2]> = adjustments.iter().map(|one| one.rule).collect();
        let settlement = Settlement {
            name: ticket.name(),
            at: Moment(ticket.charged_at),
            until: Moment(ticket.settle_until),
            adjustments,
        };
        let settled = if by_store {
            self.store.settle(settlement, deadline.left()?).await
        } else {
            self.local.settle(settlement, Duration::MAX).await
        };
        let settled = match settled {
            Err(StoreError::Timeout(_)) if deadline.left().is_err() => return Err(ServiceError::InDoubt),
            settled => settled.inspect_err(|error| self.note(error))?,
        };
        if settled.state == SettlementState::NoRoom {
            return Err(ServiceError::NoRoom);
        }
        let counted = found.iter_mut().filter(|found| found.counted.is_some());
        for (i, (found, rule)) in counted.zip(&rules).enumerate() {
            found.fill(&settled, i, *rule);
        }
        Ok(report(found, settled.state != SettlementState::TooLate))
    }
}

impl Found<'_> {
    /// Fills in what the store says of one counter.
    fn fill(&mut self, settled: &Settled, i: usize, rule: Rule) {
        let (Some(movement), Some(reading)) = (settled.movements.get(i), settled.readings.get(i)) else {
            return;
        };
        let (now, settlement) = (settled.now, &mut self.settlement);
        settlement.movement = *movement;
        settlement.remaining = rule.left(reading, now, 0).remaining;
        settlement.beyond_limit = match rule {
            Rule::Bucket(bucket) => bucket.debt(reading.level, now),
            _ => reading.level.saturating_sub(rule.limit()),
        };
        settlement.delay = Some(reading.retry_at.since(now)).filter(|delay| !reading.fits && delay.0 > 0);
    }
}

/// The counters of a ticket with their policies and costs.
fn found<'a>(
    set: &'a PolicySet,
    ticket: &Ticket,
    call: SettleCall<'_>,
) -> Result<Vec<Found<'a>>, ServiceError> {
    if call.cost.is_none() && call.policy_costs.is_empty() {
        return Err(ServiceError::invalid("cost", "missing; send what it really cost, 0 gives all back"));
    }
    let mut all = Vec::with_capacity(ticket.counters.len());
    for counter in &ticket.counters {
        let key = Key::restored(&counter.key)
            .ok_or_else(|| ServiceError::invalid("ticket", "it names what is no counter"))?;
        let name = key.policy();
        let cost = call.policy_costs.get(name).copied().or(call.cost).unwrap_or(counter.cost);
        let settlement = PolicySettlement {
            policy: name.to_owned(),
            reserved: counter.cost,
            movement: Movement { cost, ..Movement::default() },
            ..PolicySettlement::default()
        };
        let policy = set.named(key.domain(), Kind::Limit, name).ok();
        let counted = policy.filter(|policy| key.is_of(&policy.rule)).map(|policy| (&**policy, key));
        all.push(Found { settlement, counted });
    }
    let is_there = |name: &String| all.iter().any(|found| found.settlement.policy == *name);
    match call.policy_costs.keys().find(|name| !is_there(name)) {
        Some(name) => {
            let why = format!("`{}` is not a policy of this reservation", name.escape_debug());
            Err(ServiceError::invalid("policy_costs", why))
        }
        None => Ok(all),
    }
}

/// What is told. A policy that is gone, or counts otherwise now, keeps what was charged.
fn report(found: Vec<Found<'_>>, is_in_time: bool) -> SettledCost {
    let delays =
        found.iter().filter(|found| found.counted.as_ref().is_some_and(|(policy, _)| !policy.shadow));
    let delay = delays.filter_map(|found| found.settlement.delay).max();
    let policies = found.into_iter().map(|found| match found.counted {
        Some(_) => found.settlement,
        None => {
            let movement = Movement { cost: found.settlement.reserved, ..Movement::default() };
            PolicySettlement { movement, ..found.settlement }
        }
    });
    SettledCost { is_in_time, policies: policies.collect(), delay }
}
