//! `fixed_window`: at most the limit in each calendar window, and so up to twice the limit around an edge.
//!
//! Windows are aligned to the Unix epoch (`floor(now / window)`), as envoyproxy/ratelimit aligns them: weeks
//! start on Thursday, a month is 30 days. The state is the window's start and the units in it.
//!
//! [`Take::Count`] goes on above the limit, up to [`MAX_COUNT`]; [`Take::Refund`] goes down to nothing.
//!
//! # A clock that goes back
//!
//! The caller reads `now` where nobody else can charge meanwhile, so a count of a later window means that the clock went
//! back over an edge. Brought back to the current window it would begin anew at that edge, and the later window would give
//! its limit twice. So:
//!
//! - when that window begins within a window (or [`CLOCK_JUMP`], if that is longer): no time has passed. The count stands,
//!   is charged as it stands, and ends with its own window. Each calendar window gives its limit once. The wait ends with
//!   that window: it is longer than a window by no more than the clock went back.
//! - beyond: the clock jumped. The count is the current window's, and the first ask that may write makes it so, whether it
//!   is let in or not (`window.rs` says why it must). What was charged is not free before the next edge, and the wait ends
//!   there. A jump makes one edge more, and around that the limit of one window more.
//!
//! The same step runs in `store/redis/take.lua`.

use super::ask::{Reading, Take};
use super::units::{CLOCK_JUMP, Micros, Moment};

/// The highest count: above it a double, which is what Redis computes with, loses units.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The numbers of one fixed window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Most units a window.
    pub limit: u64,
    /// Its length.
    pub window: Micros,
}

/// Units counted in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The window's first moment.
    pub start: Moment,
    /// Units.
    pub units: u64,
}

impl Fixed {
    /// What a demand of `cost` sees.
    #[must_use]
    pub fn read(&self, count: Count, now: Moment, cost: u64) -> Reading {
        let current = self.current(count, now);
        let used = current.units;
        let fits = used.saturating_add(cost) <= self.limit;
        let edge = self.ends(current);
        Reading {
            fits,
            level: used,
            retry_at: if fits || cost > self.limit { Moment(0) } else { edge },
            reset_at: if used == 0 { now } else { edge },
        }
    }

    /// What a demand of `cost` sees that takes as `take` says: a refund always fits.
    #[must_use]
    pub fn read_for(&self, take: Take, count: Count, now: Moment, cost: u64) -> Reading {
        match take {
            Take::Refund => Reading { fits: true, retry_at: Moment(0), ..self.read(count, now, 0) },
            _ => self.read(count, now, cost),
        }
    }

    /// The count after charging `cost`.
    #[must_use]
    pub fn charged(&self, count: Count, now: Moment, cost: u64) -> Count {
        let current = self.current(count, now);
        Count { start: current.start, units: current.units.saturating_add(cost).min(MAX_COUNT) }
    }

    /// The count after `cost` was given back; where nothing counts now, nothing changes.
    #[must_use]
    pub fn refunded(&self, count: Count, now: Moment, cost: u64) -> Count {
        match self.current(count, now) {
            Count { units: 0, .. } => self.mended(count, now),
            current => Count { start: current.start, units: current.units.saturating_sub(cost) },
        }
    }

    /// The count after up to `units` of what was charged at `at` were given back, and how many: none when that window is over.
    #[must_use]
    pub fn given_back(&self, count: Count, now: Moment, at: Moment, units: u64) -> (Count, u64) {
        let current = self.current(count, now);
        let units = units.min(current.units);
        if units == 0 || current.start.0 != at.0 - at.0 % self.window.0 {
            return (self.mended(count, now), 0);
        }
        (Count { start: current.start, units: current.units - units }, units)
    }

    /// The count after a demand of `cost` was charged or given back.
    #[must_use]
    pub fn taken(&self, take: Take, count: Count, now: Moment, cost: u64) -> Count {
        match take {
            Take::Refund => self.refunded(count, now, cost),
            _ => self.charged(count, now, cost),
        }
    }

    /// The count as of `now`: empty when its window is over, moved when the clock jumped back.
    #[must_use]
    pub fn current(&self, count: Count, now: Moment) -> Count {
        let start = Moment(now.0 - now.0 % self.window.0);
        match self.mended(count, now) {
            later if later.start > now => later,
            current if current.start >= start => Count { start, ..current },
            _ => Count { start, units: 0 },
        }
    }

    /// A count that a clock that jumped back left in the future, brought back to the current window; else as it is.
    #[must_use]
    pub fn mended(&self, count: Count, now: Moment) -> Count {
        if count.start.since(now) <= self.window.max(CLOCK_JUMP) {
            return count;
        }
        Count { start: Moment(now.0 - now.0 % self.window.0), ..count }
    }

    /// When the window of a count ends.
    #[must_use]
    pub fn ends(&self, count: Count) -> Moment {
        count.start.plus(self.window)
    }

    /// When the current window ends.
    #[must_use]
    pub fn edge(&self, now: Moment) -> Moment {
        Moment((now.0 / self.window.0).saturating_add(1).saturating_mul(self.window.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_calendar_window_and_returns_at_its_edge() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let now = Moment(119_999_000);
        let mut count = Count::default();
        for _ in 0..3 {
            assert!(fixed.read(count, now, 1).fits);
            count = fixed.charged(count, now, 1);
        }
        let refused = fixed.read(count, now, 1);
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, Moment(120_000_000));
        assert!(fixed.read(count, refused.retry_at, 3).fits);
    }

    #[test]
    fn a_count_goes_on_above_the_limit_and_ends_below_what_a_double_holds() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let now = Moment(600_000_000);
        let over = fixed.taken(Take::Count, Count { start: now, units: 3 }, now, 4);
        assert_eq!(over.units, 7);
        assert!(!fixed.read_for(Take::Count, over, now, 1).fits);
        assert!(fixed.read_for(Take::Refund, over, now, 1).fits);
        let full = Count { start: now, units: MAX_COUNT };
        assert_eq!(fixed.charged(full, now, 4_294_967_295).units, MAX_COUNT);
    }

    #[test]
    fn a_refund_ends_at_nothing() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let now = Moment(600_000_000);
        let count = Count { start: now, units: 3 };
        assert_eq!(fixed.taken(Take::Refund, count, now, 2).units, 1);
        assert_eq!(fixed.taken(Take::Refund, count, now, 9).units, 0);
        assert_eq!(fixed.refunded(count, Moment(660_000_000), 1), count, "that window is over");
    }

    #[test]
    fn a_settlement_gives_back_to_the_window_that_was_charged_alone() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let (at, later) = (Moment(600_000_000), Moment(659_000_000));
        let count = fixed.charged(Count::default(), at, 3);
        assert_eq!(fixed.given_back(count, later, at, 2), (Count { units: 1, ..count }, 2));
        let next = fixed.charged(count, Moment(660_000_000), 1);
        assert_eq!(fixed.given_back(next, Moment(661_000_000), at, 2), (next, 0));
    }

    #[test]
    fn a_clock_that_jumps_back_keeps_the_count() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let count = Count { start: Moment(600_000_000), units: 3 };
        assert!(!fixed.read(count, Moment(60_000_000), 1).fits);
        assert_eq!(fixed.mended(count, Moment(60_000_000)).start, Moment(60_000_000));
    }

    #[test]
    fn a_clock_that_goes_back_over_an_edge_opens_the_later_window_once() {
        let fixed = Fixed { limit: 3, window: Micros::from_seconds(60) };
        let count = Count { start: Moment(600_000_000), units: 3 };
        for now in [540_000_000, 599_999_999, 600_000_000].map(Moment) {
            assert_eq!(fixed.mended(count, now), count);
            let refused = fixed.read(count, now, 1);
            assert_eq!((refused.fits, refused.retry_at), (false, Moment(660_000_000)));
        }
        let tiny = Fixed { limit: 3, window: Micros(5_000) };
        assert_eq!(tiny.mended(count, Moment(count.start.0 - CLOCK_JUMP.0)), count, "no stall is a jump");
    }
}
