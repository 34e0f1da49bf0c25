//! A policy's algorithm with its numbers, and what a reading of it means in remaining units and durations.

use super::ask::Reading;
use super::bucket::{Arrival, Bucket};
use super::fixed::Fixed;
use super::leases::Leases;
use super::units::{Micros, Moment};
use super::window::Window;

/// Which promise a policy makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Never more than the limit in any interval of one window.
    #[default]
    SlidingWindow,
    /// At most a burst plus the rate.
    TokenBucket,
    /// At most the limit in a calendar window.
    FixedWindow,
    /// At most the limit of live leases.
    Concurrency,
}

/// An algorithm with its numbers: all that a store needs to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// See [`Window`].
    Window(Window),
    /// See [`Bucket`].
    Bucket(Bucket),
    /// See [`Fixed`].
    Fixed(Fixed),
    /// See [`Leases`].
    Leases(Leases),
}

/// What is left after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Units, or leases.
    pub remaining: u64,
    /// Until the whole quota is there again.
    pub reset_after: Micros,
}

impl Rule {
    /// The algorithm without its numbers.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Window(_) => Algorithm::SlidingWindow,
            Self::Bucket(_) => Algorithm::TokenBucket,
            Self::Fixed(_) => Algorithm::FixedWindow,
            Self::Leases(_) => Algorithm::Concurrency,
        }
    }

    /// Units a window allows, or leases at once.
    #[must_use]
    pub fn limit(&self) -> u64 {
        match self {
            Self::Window(window) => window.limit,
            Self::Bucket(bucket) => bucket.limit,
            Self::Fixed(fixed) => fixed.limit,
            Self::Leases(leases) => leases.limit,
        }
    }

    /// The window; none for leases.
    #[must_use]
    pub fn window(&self) -> Option<Micros> {
        match self {
            Self::Window(window) => Some(window.window),
            Self::Bucket(bucket) => Some(bucket.window),
            Self::Fixed(fixed) => Some(fixed.window),
            Self::Leases(_) => None,
        }
    }

    /// The largest cost that can ever pass.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match self {
            Self::Bucket(bucket) => bucket.burst,
            other => other.limit(),
        }
    }

    /// Most units that any interval of one window can admit.
    #[must_use]
    pub fn bound(&self) -> u64 {
        match self {
            Self::Window(window) => window.limit,
            Self::Bucket(bucket) => bucket.burst.saturating_add(bucket.window.0 / bucket.emission),
            Self::Fixed(fixed) => fixed.limit.saturating_mul(2),
            Self::Leases(leases) => leases.limit,
        }
    }

    /// The longest that a charge made now can matter: what an expiry must outlive.
    #[must_use]
    pub fn memory(&self) -> Micros {
        match self {
            Self::Window(window) => Micros(window.span.saturating_mul(window.grain)),
            Self::Bucket(bucket) => Micros(bucket.tolerance()),
            Self::Fixed(fixed) => fixed.window,
            Self::Leases(leases) => leases.ttl,
        }
    }

    /// The same rule for one of `replicas` that enforce it apart: its share of the limit, at least 1.
    #[must_use]
    pub fn share(&self, replicas: u64) -> Self {
        let part = |whole: u64| (whole / replicas.max(1)).max(1);
        match *self {
            Self::Window(window) => Self::Window(Window::new(part(window.limit), window.window)),
            Self::Bucket(bucket) => {
                Self::Bucket(Bucket::new(part(bucket.limit), bucket.window, part(bucket.burst)))
            }
            Self::Fixed(fixed) => Self::Fixed(Fixed { limit: part(fixed.limit), ..fixed }),
            Self::Leases(leases) => Self::Leases(Leases { limit: part(leases.limit), ..leases }),
        }
    }

    /// What a reading leaves, after `charged` units were taken (0: nothing was).
    #[must_use]
    pub fn left(&self, reading: &Reading, now: Moment, charged: u64) -> Left {
        let untouched = Left {
            remaining: self.limit().saturating_sub(reading.level),
            reset_after: reading.reset_at.since(now),
        };
        match self {
            Self::Bucket(bucket) => {
                let level = Arrival::at(reading.level);
                let tat =
                    if charged > 0 { bucket.charged(level, now, charged).time() } else { reading.level };
                Left { remaining: bucket.remaining(tat, now), reset_after: Moment(tat).since(now) }
            }
            _ if charged == 0 => untouched,
            Self::Window(window) => Left {
                remaining: untouched.remaining.saturating_sub(charged),
                reset_after: window.reset_after_charge(now).max(reading.reset_at).since(now),
            },
            Self::Fixed(fixed) => Left {
                remaining: untouched.remaining.saturating_sub(charged),
                reset_after: fixed.edge(now).max(reading.reset_at).since(now),
            },
            Self::Leases(leases) => {
                Left { remaining: untouched.remaining.saturating_sub(charged), reset_after: leases.ttl }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_says_what_a_second_reading_would() {
        let now = Moment(1_700_000_000_000_000);
        let bucket = Bucket::new(30, Micros::from_seconds(60), 30);
        let reading = bucket.read(Arrival::default(), now, 5);
        let left = Rule::Bucket(bucket).left(&reading, now, 5);
        assert_eq!(left, Left { remaining: 25, reset_after: Micros::from_seconds(10) });
        let again = bucket.read(bucket.charged(Arrival::default(), now, 5), now, 0);
        assert_eq!(Rule::Bucket(bucket).left(&again, now, 0), left);
    }

    #[test]
    fn a_share_is_never_zero() {
        let rule = Rule::Window(Window::new(3, Micros::SECOND));
        assert_eq!(rule.share(8).limit(), 1);
        assert_eq!(rule.share(0).limit(), 3);
    }
}
