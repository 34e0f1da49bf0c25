//! From what was read to statuses, the overall outcome and the header trio.

use super::asks::Class;
use super::parts::{Counted, Kind, Part};
use super::{DescriptorStatus, Seen, share};
use crate::engine::ask::Reading;
use crate::engine::decision::Outcome;
use crate::engine::http::Header;
use crate::engine::rate_limit::RateLimitOptions;
use crate::engine::rule::Rule;
use crate::engine::units::{Micros, Moment};

/// What a descriptor has come to.
pub(super) fn status(part: &Part<'_>, seen: &[Seen]) -> DescriptorStatus {
    match part {
        Part::Free => DescriptorStatus::free(),
        Part::Unlimited => DescriptorStatus::unlimited(),
        Part::Counted(counted) => {
            let seen = seen.get(counted.place.ask);
            let reading = seen.and_then(|seen| seen.answer.readings.get(counted.place.demand));
            match (seen, reading) {
                (Some(seen), Some(reading)) => counted.status(seen, reading),
                _ => DescriptorStatus::free(),
            }
        }
    }
}

/// What is left, and until when.
struct Left {
    over: bool,
    remaining: u64,
    until_reset: Micros,
}

impl Counted<'_> {
    fn status(&self, seen: &Seen, reading: &Reading) -> DescriptorStatus {
        let rule = seen.apart.map_or(self.rule, |apart| share(self.rule, apart.shares()));
        let left = match self.class {
            Class::Counts | Class::CountsAs(..) => self.counted(seen, reading, rule),
            Class::GivesBack => self.given_back(seen, reading, rule),
            Class::Passes(_) | Class::Looks(_) => self.passed(seen, reading, rule),
        };
        let over = left.over && !self.kind.is_shadow();
        DescriptorStatus {
            outcome: if over { Outcome::Deny } else { Outcome::Allow },
            limit: Some(self.shown.clone()),
            remaining: u32::try_from(left.remaining).unwrap_or(u32::MAX),
            until_reset: Some(left.until_reset),
        }
    }

    fn counted(&self, seen: &Seen, reading: &Reading, rule: Rule) -> Left {
        let slot = seen.slots.get(self.place.demand);
        let charged = slot.is_some_and(|slot| seen.charged(slot, reading));
        let before = reading.level.saturating_add(if charged { self.place.before } else { 0 });
        let hits = if seen.stopped { 0 } else { self.hits };
        let over = before.saturating_add(hits) > rule.limit();
        let after = before.saturating_add(if charged { self.hits } else { 0 });
        let remaining = if over { 0 } else { rule.limit().saturating_sub(after) };
        Left { over, remaining, until_reset: edge(rule, seen.answer.now) }
    }

    fn given_back(&self, seen: &Seen, reading: &Reading, rule: Rule) -> Left {
        let after = reading.level.saturating_sub(self.place.before).saturating_sub(self.hits);
        let remaining = rule.limit().saturating_sub(after);
        Left { over: false, remaining, until_reset: edge(rule, seen.answer.now) }
    }

    fn passed(&self, seen: &Seen, reading: &Reading, rule: Rule) -> Left {
        let now = seen.answer.now;
        let slot = seen.slots.get(self.place.demand);
        let charged = slot.filter(|slot| seen.charged(slot, reading)).map_or(0, |slot| slot.hits);
        let left = rule.left(reading, now, charged);
        if reading.fits {
            return Left { over: false, remaining: left.remaining, until_reset: left.reset_after };
        }
        // What is left does not help this request; the time is when it will fit, if it ever does.
        let until_reset = if reading.retry_at > now { reading.retry_at.since(now) } else { left.reset_after };
        Left { over: true, remaining: 0, until_reset }
    }
}

/// Whole seconds until the window ends.
fn edge(rule: Rule, now: Moment) -> Micros {
    let seconds = rule.window().map_or(1, |window| window.seconds_up().max(1));
    Micros::from_seconds(seconds - now.seconds() % seconds)
}

/// Whether the request may pass: not when a plain limit is over, nor when there are quotas and all are over.
pub(super) fn overall(
    parts: &[Part<'_>],
    statuses: &[DescriptorStatus],
    options: &RateLimitOptions,
) -> Outcome {
    let (mut plain_over, mut quotas, mut quotas_over) = (false, 0_usize, 0_usize);
    for (part, status) in parts.iter().zip(statuses) {
        let over = status.outcome == Outcome::Deny;
        let is_quota = match part {
            Part::Unlimited => false,
            Part::Free => options.quota,
            Part::Counted(counted) => counted.kind.is_quota(),
        };
        quotas += usize::from(is_quota);
        quotas_over += usize::from(is_quota && over);
        plain_over |= over && !is_quota;
    }
    let over = plain_over || (quotas > 0 && quotas == quotas_over);
    if over && !options.shadow { Outcome::Deny } else { Outcome::Allow }
}

/// The header trio: of the last plain limit that is over, else of the first that has the least left.
pub(super) fn trio(
    parts: &[Part<'_>],
    statuses: &[DescriptorStatus],
    options: &RateLimitOptions,
) -> Vec<Header> {
    let Some(names) = &options.headers else { return Vec::new() };
    let (mut tightest, mut least) = (None, u32::MAX);
    for (part, status) in parts.iter().zip(statuses) {
        let Part::Counted(counted) = part else { continue };
        let decides = counted.kind == Kind::Plain && status.outcome == Outcome::Deny;
        if decides || status.remaining < least || tightest.is_none() {
            (tightest, least) = (Some((counted, status)), status.remaining);
        }
    }
    let Some((counted, status)) = tightest else { return Vec::new() };
    let reset = status.until_reset.unwrap_or_default().seconds_up();
    vec![
        Header::new(names.limit.to_string(), counted.shown.requests.to_string()),
        Header::new(names.remaining.to_string(), status.remaining.to_string()),
        Header::new(names.reset.to_string(), reset.to_string()),
    ]
}
