//! `SettleCost`: reservations, and what they really cost.
//!
//! A check that asks for it gets a ticket: which counters were charged how much, when, and by whom. It goes to the caller
//! and comes back, so nothing is kept for a reservation anywhere; the store remembers settlements alone.
//!
//! Promise: of a decision that was allowed the ticket names just what was charged; a settlement goes to where that was
//! counted, the store or this very process.
//!
//! Must never: let two tickets of one charge be settled. A repeated check has the same ticket, whatever the order of its
//! policies; one with another span is another request.
//!
//! A ticket is not signed: replicas share no secret. Who may call this service is trusted not to make one up, as with the
//! facts of its requests; a made-up one gives back what others were charged.

use crate::engine::ask::{Answer, Demand, MAX_DEMANDS, Take};
use crate::engine::decision::Outcome;
use crate::engine::key::Key;
use crate::engine::leases::Leases;
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

/// Most bytes of a ticket. Where the keys of what was charged are longer there is no reservation.
pub const MAX_TICKET: usize = 32 * 1024;
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

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    key: String,
    cost: u32,
    /// Of a bucket; see [`Adjustment::emission`].
    emission: u64,
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

    /// The request id for the store. A reservation is another request than a charge, or one of another span: of two that
    /// were one the later ticket could be settled when the earlier one's settlement is forgotten.
    pub(super) fn request_id(&self) -> Option<Box<str>> {
        match self.settle_within {
            _ if self.request_id.is_empty() => None,
            None => Some(self.request_id.into()),
            Some(Micros(within)) => Some(format!("{} {within}", self.request_id).into()),
        }
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
        let counter = |(demand, _): (&Demand, _)| Counter {
            key: demand.key.as_str().to_owned(),
            cost: demand.cost,
            emission: if let Rule::Bucket(bucket) = demand.rule { bucket.emission } else { 0 },
        };
        let mut counters: Vec<Counter> = charged.map(counter).collect();
        counters.sort_unstable();
        self.charge = Some((by, answer.now, counters));
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
        let ticket = serde_json::to_vec(&ticket).ok().filter(|ticket| ticket.len() <= MAX_TICKET)?;
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
            && ticket.is_in_order();
        if is_one { Ok(ticket) } else { Err(wrong()) }
    }

    /// Whether the counters stand in their order, each once: else it is not as it was given.
    fn is_in_order(&self) -> bool {
        self.counters.is_sorted_by(|one, other| one.key < other.key)
    }

    /// The name of its settlement: no other reservation has it, for a request is charged once at a moment.
    fn name(&self) -> Box<str> {
        let Self { request_id, charged_at, settle_until, counters, .. } = self;
        format!("{request_id} {charged_at} {settle_until} {counters:?}").into()
    }
}

/// A counter of a ticket with the policy that it is of, when there still is one that counts so.
struct Found<'a> {
    settlement: PolicySettlement,
    key: Key,
    emission: u64,
    /// None: it keeps what was charged.
    policy: Option<&'a Policy>,
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
        let adjustments: SmallVec<[Adjustment; 2]> = found.iter().map(|found| found.adjust(shares)).collect();
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
        for (i, (found, rule)) in found.iter_mut().zip(&rules).enumerate() {
            found.fill(&settled, i, *rule);
        }
        Ok(report(found, settled.state != SettlementState::TooLate))
    }
}

impl Found<'_> {
    /// What is asked of the store, or of one of so many that count apart. A counter whose policy is gone is asked about too,
    /// so that what is remembered has a place for each of the ticket.
    fn adjust(&self, shares: Option<u64>) -> Adjustment {
        let share = |rule: Rule| shares.map_or(rule, |shares| rule.share(shares));
        let gone = Rule::Leases(Leases { limit: 1, ttl: Micros::SECOND });
        Adjustment {
            key: self.key.clone(),
            rule: self.policy.map_or(gone, |policy| share(policy.rule)),
            emission: self.emission,
            reserved: self.settlement.reserved,
            cost: if self.policy.is_some() {
                self.settlement.movement.cost
            } else {
                self.settlement.reserved
            },
        }
    }

    /// Fills in what the store says of one counter.
    fn fill(&mut self, settled: &Settled, i: usize, rule: Rule) {
        let (Some(movement), Some(reading)) = (settled.movements.get(i), settled.readings.get(i)) else {
            return;
        };
        let (now, settlement) = (settled.now, &mut self.settlement);
        settlement.movement = *movement;
        if self.policy.is_none() {
            return;
        }
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
        let policy = policy.filter(|policy| key.is_of(&policy.rule)).map(|policy| &**policy);
        all.push(Found { settlement, key, emission: counter.emission, policy });
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

/// What is told.
fn report(found: Vec<Found<'_>>, is_in_time: bool) -> SettledCost {
    let delays = found.iter().filter(|found| found.policy.is_some_and(|policy| !policy.shadow));
    let delay = delays.filter_map(|found| found.settlement.delay).max();
    let policies = found.into_iter().map(|found| found.settlement).collect();
    SettledCost { is_in_time, policies, delay }
}
