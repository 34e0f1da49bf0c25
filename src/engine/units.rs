//! Time as integers: moments and spans in microseconds.
//!
//! Microseconds since 1970 stay below 2^53 until the year 2255, so the same numbers are exact in Redis's
//! Lua, where every number is a double.

use std::time::Duration;

/// A point in time: microseconds since the Unix epoch, by the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

/// The most that a clock goes back without having jumped: within it no time has passed, beyond it what lies in the
/// future is brought back to now.
///
/// A store reads its clock while nobody else can charge (under the locks of the shards concerned; inside of a script), so
/// no thread that was held up shows as a clock that went back, however long. What does show is the clock itself: processors
/// that disagree by microseconds, a failover to a server that is a little behind, a time daemon that steps. Daemons slew
/// what is smaller than 0.1 to 1 s (ntpd 128 ms, systemd-timesyncd 400 ms, chrony's `makestep 1`), and so a second is the
/// least that nothing but a step explains. It is also the most that a small step adds to anybody's wait.
///
/// The scripts have the same constant (`store/redis/script.rs` checks that).
pub const CLOCK_JUMP: Micros = Micros::SECOND;

impl Moment {
    /// The moment `span` later; saturates.
    #[must_use]
    pub fn plus(self, span: Micros) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` until this moment; zero when it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the epoch, rounded down (the `NumericDate` of RFC 7519).
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / Micros::SECOND.0
    }
}

impl Micros {
    /// One second.
    pub const SECOND: Self = Self(1_000_000);

    /// A span of whole milliseconds; saturates.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// A span of whole seconds; saturates.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(Self::SECOND.0))
    }

    /// Whole seconds, rounded up: what `Retry-After` and the `t` parameter carry.
    #[must_use]
    pub fn seconds_up(self) -> u64 {
        self.0.div_ceil(Self::SECOND.0)
    }

    /// Whole seconds when the span is a positive multiple of one: what the `w` parameter can carry.
    #[must_use]
    pub fn whole_seconds(self) -> Option<u64> {
        (self.0 > 0 && self.0.is_multiple_of(Self::SECOND.0)).then_some(self.0 / Self::SECOND.0)
    }

    /// Milliseconds, rounded up: what a Redis expiry carries.
    #[must_use]
    pub fn millis_up(self) -> u64 {
        self.0.div_ceil(1_000)
    }
}

impl From<Micros> for Duration {
    fn from(span: Micros) -> Self {
        Self::from_micros(span.0)
    }
}

impl From<Duration> for Micros {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_up_and_only_whole_ones_are_a_window() {
        assert_eq!(Micros(1).seconds_up(), 1);
        assert_eq!(Micros(1_000_000).seconds_up(), 1);
        assert_eq!(Micros(1_000_001).seconds_up(), 2);
        assert_eq!(Micros(1_500_000).whole_seconds(), None);
        assert_eq!(Micros(0).whole_seconds(), None);
        assert_eq!(Micros::from_seconds(60).whole_seconds(), Some(60));
    }
}
