//! From descriptors to what each is counted under.

use super::asks::{Asks, Class, Place};
use super::{Company, Descriptor, Direction, Override, RateLimitCall, ShownLimit, Source};
use crate::engine::ask::{Demand, Take, Weight};
use crate::engine::bucket::Bucket;
use crate::engine::fixed::Fixed;
use crate::engine::key::{Key, escape};
use crate::engine::rate_limit::{Counting, Found, OverLimit, Quota, Unit};
use crate::engine::rule::{Algorithm, Rule};
use crate::engine::units::Micros;
use crate::engine::window::Window;
use crate::service::ServiceError;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// Longest window that units and a multiplier may make: 366 days.
const MAX_WINDOW: u64 = 366 * 86_400;

/// What one descriptor is counted under.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// Nothing.
    Free,
    /// A limit without an end.
    Unlimited,
    /// A limit.
    Counted(Counted<'a>),
}

/// A descriptor with its limit.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    pub(super) shown: ShownLimit,
    pub(super) rule: Rule,
    pub(super) class: Class,
    pub(super) hits: u64,
    pub(super) kind: Kind,
    pub(super) metadata: Option<&'a Map<String, Value>>,
    pub(super) place: Place,
}

/// What it means for a request that a limit is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is over too.
    Plain,
    /// Nothing.
    Shadow,
    /// It is over if all quotas are.
    Quota,
    /// Nothing; and beside other quotas it is one that passed.
    ShadowQuota,
}

impl Kind {
    /// Whether it is one of the quotas that must all be over.
    pub(super) fn is_quota(self) -> bool {
        matches!(self, Self::Quota | Self::ShadowQuota)
    }

    /// Whether its descriptor is never over.
    pub(super) fn is_shadow(self) -> bool {
        matches!(self, Self::Shadow | Self::ShadowQuota)
    }

    /// What it is where every limit is a quota.
    fn as_quota(self) -> Self {
        if self.is_shadow() { Self::ShadowQuota } else { Self::Quota }
    }
}

/// A limit as found, not yet counted.
struct Meant<'a> {
    shown: ShownLimit,
    unit: Unit,
    kind: Kind,
    counting: Counting,
    counted: Vec<(&'a str, &'a str)>,
    metadata: Option<&'a Map<String, Value>>,
}

/// What each descriptor is counted under; what is to be asked goes into `asks`.
///
/// # Errors
/// A window or a direction that cannot be.
pub(super) fn parts<'a>(
    source: Source<'a>,
    call: RateLimitCall<'a>,
    asks: &mut Asks,
) -> Result<Vec<Part<'a>>, ServiceError> {
    let found: Vec<Option<Found<'a>>> = call
        .descriptors
        .iter()
        .map(|descriptor| {
            let set = source.set.filter(|_| descriptor.limit.is_none())?;
            set.find(call.domain, &descriptor.entries)
        })
        .collect();
    let replaced: HashSet<Arc<str>> =
        found.iter().flatten().flat_map(|found| found.limit.replaces.iter().cloned()).collect();
    let mut domain = String::new();
    escape(&mut domain, call.domain);
    let mut parts = Vec::with_capacity(found.len());
    for (index, (descriptor, found)) in call.descriptors.iter().zip(found).enumerate() {
        let meant = match (descriptor.limit, found) {
            (Some(limit), _) if source.takes_overrides => brought(descriptor, limit),
            (_, Some(found)) => match found.limit.quota {
                Quota::Unlimited => {
                    parts.push(Part::Unlimited);
                    continue;
                }
                Quota::Of(..) if !found.limit.name.is_empty() && replaced.contains(&found.limit.name) => {
                    parts.push(Part::Free);
                    continue;
                }
                Quota::Of(requests, unit) => configured(found, (requests, unit)),
            },
            _ => {
                parts.push(Part::Free);
                continue;
            }
        };
        let hits = call.hits(descriptor);
        let counted = meant.counted(source, &domain, (descriptor, hits), asks);
        parts.push(Part::Counted(counted.map_err(|error| error.of(index))?));
    }
    Ok(parts)
}

/// A limit that the request brings: nothing of the configured one holds, but its counter is the same.
fn brought<'a>(descriptor: &Descriptor<'a>, limit: Override) -> Meant<'a> {
    let Override { requests, unit, multiplier } = limit;
    Meant {
        shown: ShownLimit { name: Arc::default(), requests, unit: Some(unit), multiplier },
        unit,
        kind: Kind::Plain,
        counting: Counting::Everything,
        counted: descriptor.entries.clone(),
        metadata: None,
    }
}

fn configured<'a>(found: Found<'a>, quota: (u32, Unit)) -> Meant<'a> {
    let (limit, (requests, unit)) = (found.limit, quota);
    let kind = match (limit.shadow, limit.quota_mode) {
        (true, true) => Kind::ShadowQuota,
        (true, false) => Kind::Shadow,
        (false, true) => Kind::Quota,
        (false, false) => Kind::Plain,
    };
    Meant {
        shown: ShownLimit { name: Arc::clone(&limit.name), requests, unit: Some(unit), multiplier: None },
        unit,
        kind,
        counting: limit.counting,
        counted: found.counted,
        metadata: limit.metadata.as_ref(),
    }
}

/// What is wrong with a descriptor.
enum Wrong {
    Multiplier,
    Direction,
}

impl Wrong {
    fn of(&self, index: usize) -> ServiceError {
        match self {
            Self::Multiplier => ServiceError::invalid(
                "limit.unit_multiplier",
                format!("descriptors[{index}]: a window is at least one unit and at most 366 days"),
            ),
            Self::Direction => ServiceError::invalid(
                "is_negative_hits",
                format!("descriptors[{index}]: its limit counts by an algorithm that takes nothing back"),
            ),
        }
    }
}

impl<'a> Meant<'a> {
    /// Asks for it.
    fn counted(
        self,
        source: Source<'_>,
        domain: &str,
        of: (&Descriptor<'_>, u64),
        asks: &mut Asks,
    ) -> Result<Counted<'a>, Wrong> {
        let (descriptor, hits) = of;
        let units = u64::from(self.shown.multiplier.unwrap_or(1));
        let seconds = self.unit.seconds().saturating_mul(units);
        if seconds == 0 || seconds > MAX_WINDOW {
            return Err(Wrong::Multiplier);
        }
        let rule = rule(self.counting, u64::from(self.shown.requests), Micros::from_seconds(seconds));
        let give_back = descriptor.direction == Direction::GiveBack;
        let passes = self.counting != Counting::Everything;
        if give_back && !matches!(rule, Rule::Fixed(_)) {
            return Err(Wrong::Direction);
        }
        let weight = self.weight(source);
        let counts = match source.company {
            Company::None => Class::Counts,
            Company::Policies => Class::CountsAs(rule, weight),
        };
        let (class, take) = match (give_back, passes, hits) {
            (true, _, _) => (Class::GivesBack, Take::Refund),
            (false, false, 0) => (counts, Take::Peek),
            (false, false, _) => (counts, Take::Count),
            (false, true, 0) => (Class::Looks(rule), Take::Peek),
            (false, true, _) => (Class::Passes(rule), Take::Charge),
        };
        // A look at what charges only what passes asks whether one hit would pass.
        let cost = if matches!(class, Class::Looks(_)) { 1 } else { u32::try_from(hits).unwrap_or(u32::MAX) };
        // A name that no policy can have, so that no policy shares the counter.
        let name = format!("*{seconds}");
        let key = Key::new(domain, &name, self.counted.iter().copied(), &rule);
        let demand = Demand { key, rule, cost, take, weight, lease: None };
        let place = asks.add(demand, class, hits);
        let kind = if source.options.quota { self.kind.as_quota() } else { self.kind };
        Ok(Counted { shown: self.shown, rule, class, hits, kind, metadata: self.metadata, place })
    }

    /// Whether it keeps the others from being counted when it is over. Of limits that charge only what passes, only a
    /// plain one refuses the others; of those that count everything, each does when the options say so, and none else.
    /// In a domain that policies have too, every plain one refuses, so that nothing is charged of a request that is over.
    fn weight(&self, source: Source<'_>) -> Weight {
        let options = source.options;
        let refuses = self.kind == Kind::Plain && !options.shadow;
        let enforced = match self.counting {
            Counting::Everything if source.company == Company::Policies => refuses,
            Counting::Passed(_) => self.kind == Kind::Plain && !options.quota && !options.shadow,
            Counting::Everything => options.over_limit != OverLimit::Everything,
        };
        if enforced { Weight::Enforced } else { Weight::Shadow }
    }
}

/// The rule of so many a window.
fn rule(counting: Counting, limit: u64, window: Micros) -> Rule {
    match counting {
        Counting::Everything | Counting::Passed(Algorithm::FixedWindow) => {
            Rule::Fixed(Fixed { limit, window })
        }
        Counting::Passed(Algorithm::TokenBucket) => Rule::Bucket(Bucket::new(limit, window, limit)),
        Counting::Passed(Algorithm::SlidingWindow | Algorithm::Concurrency) => {
            Rule::Window(Window::new(limit, window))
        }
    }
}
