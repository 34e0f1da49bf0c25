//! `ShouldRateLimit`: one request under each of its descriptors.
//!
//! Promise: a domain of the directory is counted and answered as envoyproxy/ratelimit does, its defects left out; a domain
//! of our own policies is asked as `CheckLimit` for each descriptor, all at once, so that they share a call to the store. A
//! domain of both is asked for both, all or nothing in one ask. A request under the directory is one ask, but where a
//! descriptor stands in it twice for different ends.
//!
//! Must never: count under an unlimited or a replaced limit; let an unknown domain refuse anything.

mod asks;
mod both;
mod metadata;
mod native;
mod parts;
mod verdict;

use crate::engine::ask::{Answer, Ask, OnceOver, Reading};
use crate::engine::decision::Outcome;
use crate::engine::http::{Body, Header};
use crate::engine::rate_limit::{OverLimit, RateLimitOptions, RateLimitSet, RateLimits, Unit};
use crate::engine::rule::Rule;
use crate::engine::units::Micros;
use crate::service::{Deadline, Service, ServiceError};
use crate::store::Store;
use asks::{Asks, Slot};
use std::sync::Arc;
use std::time::Duration;

/// A request, within the bounds of the API.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitCall<'a> {
    /// Whose limits.
    pub domain: &'a str,
    /// What the request is.
    pub descriptors: &'a [Descriptor<'a>],
    /// Hits of each descriptor that says none itself; 0 is one hit.
    pub hits_addend: u32,
}

/// What a request is, for one limit.
#[derive(Clone, Debug, Default)]
pub struct Descriptor<'a> {
    /// Keys and values, in order.
    pub entries: Vec<(&'a str, &'a str)>,
    /// Its own hits; 0 is a peek.
    pub hits: Option<u64>,
    /// Whether they are counted or given back.
    pub direction: Direction,
    /// A limit in place of the configured one.
    pub limit: Option<Override>,
}

/// Which way hits go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// They are counted.
    #[default]
    Count,
    /// They are given back; the descriptor is never over then.
    GiveBack,
}

/// A limit that a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// So many a window.
    pub requests: u32,
    /// The unit of the window.
    pub unit: Unit,
    /// So many units make the window; none: one.
    pub multiplier: Option<u32>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimited {
    /// May it pass?
    pub outcome: Outcome,
    /// One a descriptor, in order.
    pub statuses: Vec<DescriptorStatus>,
    /// For the response to the client.
    pub headers: Vec<Header>,
    /// Of a denial by our own policies.
    pub body: Option<Body>,
    /// For the proxy's other filters.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What one descriptor has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorStatus {
    /// Whether its limit has room.
    pub outcome: Outcome,
    /// The limit; none: there is none, or it has no end.
    pub limit: Option<ShownLimit>,
    /// Hits left.
    pub remaining: u32,
    /// Until there is more.
    pub until_reset: Option<Micros>,
}

/// A limit as answers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLimit {
    /// Empty: none.
    pub name: Arc<str>,
    /// So many a window.
    pub requests: u32,
    /// The unit; none: the window is no multiple of one.
    pub unit: Option<Unit>,
    /// So many units make the window; none: one.
    pub multiplier: Option<u32>,
}

/// Why no answer can be given, in the words of envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RateLimitError {
    /// No domain.
    #[error("rate limit domain must not be empty")]
    NoDomain,
    /// No descriptors.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// The directory was wrong from the start.
    #[error("no rate limit configuration loaded")]
    NoConfiguration,
}

impl DescriptorStatus {
    /// Of a descriptor that no limit holds for.
    fn free() -> Self {
        Self { outcome: Outcome::Allow, limit: None, remaining: 0, until_reset: None }
    }

    /// Of a limit without an end.
    fn unlimited() -> Self {
        Self { remaining: u32::MAX, ..Self::free() }
    }
}

impl RateLimitCall<'_> {
    /// The hits of a descriptor.
    fn hits(&self, descriptor: &Descriptor<'_>) -> u64 {
        descriptor.hits.unwrap_or_else(|| u64::from(self.hits_addend.max(1)))
    }
}

/// What is asked in the same step as the limits of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    None,
    /// Policies of our own.
    Policies,
}

/// Where limits come from, and what holds for all of them.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    /// The directory, when it has the domain.
    set: Option<&'a RateLimitSet>,
    /// Whether limits that requests bring are taken: the domain is known.
    takes_overrides: bool,
    company: Company,
    options: &'a RateLimitOptions,
}

/// What one ask saw.
#[derive(Debug)]
struct Seen {
    answer: Answer,
    /// The ask passed.
    outcome: Outcome,
    /// A limit was over before, and nothing was charged.
    stopped: bool,
    slots: Vec<Slot>,
    /// Decided in this process.
    apart: Option<Apart>,
}

/// A decision of this process alone, without the store.
#[derive(Clone, Copy, Debug)]
struct Apart {
    /// How many do so, as far as anybody knows.
    replicas: Option<u64>,
}

impl Apart {
    /// Into how many shares a limit is cut.
    fn shares(self) -> u64 {
        self.replicas.unwrap_or(1)
    }
}

impl<S: Store> Service<S> {
    /// Counts a request under each of its descriptors.
    ///
    /// # Errors
    /// No domain, no descriptors, no configuration; a limit or a direction that cannot be; a deadline that passed.
    pub async fn rate_limit(
        &self,
        call: RateLimitCall<'_>,
        deadline: Deadline,
    ) -> Result<RateLimited, ServiceError> {
        if call.domain.is_empty() {
            return Err(RateLimitError::NoDomain.into());
        }
        if call.descriptors.is_empty() {
            return Err(RateLimitError::NoDescriptors.into());
        }
        let live = self.live.load();
        let set = match &live.rate_limits {
            RateLimits::Set(set) => Some(&**set).filter(|set| set.has(call.domain)),
            RateLimits::Off | RateLimits::Refused => None,
        };
        if set.is_none() && live.policies.has(call.domain) {
            return self.limit_natively(&live, call, deadline).await;
        }
        if matches!(live.rate_limits, RateLimits::Refused) {
            return Err(RateLimitError::NoConfiguration.into());
        }
        let options = &live.rate_limit_options;
        let source = Source { set, takes_overrides: set.is_some(), company: Company::None, options };
        if live.policies.has(call.domain) {
            let source = Source { company: Company::Policies, ..source };
            return self.limit_by_both(&live, source, call, deadline).await;
        }
        let (parts, statuses) = self.count(source, call, deadline).await?;
        let outcome = verdict::overall(&parts, &statuses, options);
        let headers = verdict::trio(&parts, &statuses, options);
        let metadata = options.metadata.then(|| metadata::of(&call, &parts, &statuses));
        Ok(RateLimited { outcome, statuses, headers, body: None, metadata })
    }

    /// Counts every descriptor, and says what each has come to.
    async fn count<'a>(
        &self,
        source: Source<'a>,
        call: RateLimitCall<'a>,
        deadline: Deadline,
    ) -> Result<(Vec<parts::Part<'a>>, Vec<DescriptorStatus>), ServiceError> {
        let mut asks = Asks::default();
        let parts = parts::parts(source, call, &mut asks)?;
        let mut seen = Vec::with_capacity(asks.0.len());
        for (mut ask, slots) in asks.0 {
            if source.options.over_limit == OverLimit::NothingOnceOver && ask.demands.len() > 1 {
                ask.once_over = OnceOver::Stops;
            }
            seen.push(self.see(ask, slots, deadline).await?);
        }
        let statuses = parts.iter().map(|part| verdict::status(part, &seen)).collect();
        Ok((parts, statuses))
    }

    /// Asks the store, or this process while the store is away: limits of the directory are `local` then.
    async fn see(&self, ask: Ask, slots: Vec<Slot>, deadline: Deadline) -> Result<Seen, ServiceError> {
        let (kept, once_over) = (S::MAY_BE_AWAY.then(|| ask.clone()), ask.once_over);
        let (answer, apart) = match self.store.take(ask, deadline.left()?).await {
            Ok(answer) => (answer, None),
            Err(error) => {
                self.note(&error);
                let (mut ask, apart) = (kept.unwrap_or_default(), Apart { replicas: self.store.replicas() });
                for demand in &mut ask.demands {
                    demand.rule = share(demand.rule, apart.shares());
                }
                (self.local.take(ask, Duration::MAX).await?, Some(apart))
            }
        };
        Ok(Seen::of(answer, slots, apart).once_over(once_over))
    }
}

impl Seen {
    fn of(answer: Answer, slots: Vec<Slot>, apart: Option<Apart>) -> Self {
        let passed = answer.readings.iter().zip(&slots).all(|(reading, slot)| slot.passes(reading));
        let outcome = if passed { Outcome::Allow } else { Outcome::Deny };
        Self { answer, outcome, stopped: false, slots, apart }
    }

    /// The same of an ask that a limit which was over before may have stopped.
    fn once_over(mut self, once_over: OnceOver) -> Self {
        let shares = self.apart.map(Apart::shares);
        let mut each = self.answer.readings.iter().zip(&self.slots);
        let stopped = each.any(|(reading, slot)| slot.was_over(reading, shares));
        self.stopped = once_over == OnceOver::Stops && stopped;
        self
    }

    /// Whether a demand was charged.
    fn charged(&self, slot: &Slot, reading: &Reading) -> bool {
        !self.stopped && slot.is_charged(reading, self.outcome)
    }
}

/// A replica's share of a rule. A ban stays one.
fn share(rule: Rule, replicas: u64) -> Rule {
    if rule.limit() == 0 { rule } else { rule.share(replicas) }
}
