//! `token_bucket`, as the generic cell rate algorithm (GCRA, ITU-T I.371): in any interval of length s at
//! most `burst + s · limit / window` units.
//!
//! The state is one integer, the theoretical arrival time (TAT): the moment at which the bucket is full
//! again. A unit moves it by `emission` microseconds, rounded up so that the promise holds in integers.
//!
//! # A clock that goes back
//!
//! The caller reads `now` where nobody else can charge meanwhile. The TAT is moved forward from the later of itself and
//! `now`, so it never goes back with the clock, and nothing is handed out twice: a clock that goes back makes the bucket
//! emptier than it is. A TAT further ahead than a whole burst cannot have been charged at `now`:
//!
//! - by up to [`CLOCK_JUMP`]: it stands. The wait is at most the time of one burst and that.
//! - by more: the clock jumped, or the policy's burst became smaller. The bucket counts as empty since now, which is the
//!   least that it can hold under its policy, and the first ask that may write makes it so, whether it is let in or not:
//!   an empty bucket whose beginning moves along with the clock would never fill (`window.rs` has the whole argument).
//!   The wait is at most the time of one burst.
//!
//! The same step runs in `store/redis/take.lua`.

use super::ask::Reading;
use super::units::{CLOCK_JUMP, Micros, Moment};

/// The numbers of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Units a window refills.
    pub limit: u64,
    /// The window of `limit`.
    pub window: Micros,
    /// Most units at once.
    pub burst: u64,
    /// Microseconds one unit takes to come back: `window / limit`, rounded up.
    pub emission: u64,
}

impl Bucket {
    /// A bucket; all three are at least 1 and `burst · window / limit` fits (checked where policies are built).
    #[must_use]
    pub fn new(limit: u64, window: Micros, burst: u64) -> Self {
        Self { limit, window, burst, emission: window.0.div_ceil(limit.max(1)).max(1) }
    }

    /// Microseconds that an empty bucket takes to fill.
    #[must_use]
    pub fn tolerance(&self) -> u64 {
        self.burst.saturating_mul(self.emission)
    }

    /// What a demand of `cost` sees of the arrival time `tat`. `level` is the mended arrival time.
    #[must_use]
    pub fn read(&self, tat: u64, now: Moment, cost: u64) -> Reading {
        let tat = self.mended(tat, now);
        let filled_until = now.0.saturating_add(self.tolerance());
        let wanted = tat.max(now.0).saturating_add(cost.saturating_mul(self.emission));
        let fits = wanted <= filled_until;
        let never = cost > self.burst;
        Reading {
            fits,
            level: tat,
            retry_at: Moment(if fits || never { 0 } else { wanted - self.tolerance() }),
            reset_at: Moment(tat.max(now.0)),
        }
    }

    /// The arrival time after charging `cost`.
    #[must_use]
    pub fn charged(&self, tat: u64, now: Moment, cost: u64) -> u64 {
        self.mended(tat, now).max(now.0).saturating_add(cost.saturating_mul(self.emission))
    }

    /// An arrival time that a clock that jumped back left too far ahead, brought back to an empty bucket; else as it is.
    #[must_use]
    pub fn mended(&self, tat: u64, now: Moment) -> u64 {
        let empty = now.0.saturating_add(self.tolerance());
        if tat.saturating_sub(empty) > CLOCK_JUMP.0 { empty } else { tat }
    }

    /// Units left at `now` for the arrival time `tat`.
    #[must_use]
    pub fn remaining(&self, tat: u64, now: Moment) -> u64 {
        self.tolerance().saturating_sub(tat.saturating_sub(now.0)) / self.emission
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_a_unit_returns_each_emission() {
        let bucket = Bucket::new(7, Micros::SECOND, 7);
        let mut tat = 0;
        let now = Moment(50_000_000);
        for _ in 0..7 {
            assert!(bucket.read(tat, now, 1).fits);
            tat = bucket.charged(tat, now, 1);
        }
        let refused = bucket.read(tat, now, 1);
        assert!(!refused.fits);
        assert!(!bucket.read(tat, Moment(refused.retry_at.0 - 1), 1).fits);
        assert!(bucket.read(tat, refused.retry_at, 1).fits);
        assert_eq!(bucket.remaining(tat, now), 0);
    }

    #[test]
    fn never_more_than_burst_plus_rate_in_any_interval() {
        let bucket = Bucket::new(10, Micros(1_000), 5);
        let (mut tat, mut admitted) = (0, Vec::new());
        for now in (1_000_000..1_020_000).step_by(13) {
            if bucket.read(tat, Moment(now), 1).fits {
                tat = bucket.charged(tat, Moment(now), 1);
                admitted.push(now);
            }
        }
        for (i, from) in admitted.iter().enumerate() {
            for (j, to) in admitted.iter().enumerate().skip(i) {
                let units = j - i + 1;
                let bound = 5 + usize::try_from((to - from) * 10 / 1_000).unwrap();
                assert!(units <= bound, "{units} > {bound}");
            }
        }
    }

    #[test]
    fn a_cost_above_the_burst_never_passes_and_has_no_retry() {
        let bucket = Bucket::new(100, Micros::SECOND, 10);
        let reading = bucket.read(0, Moment(9), 11);
        assert!(!reading.fits);
        assert_eq!(reading.retry_at, Moment(0));
    }

    #[test]
    fn a_clock_that_jumps_back_costs_one_burst_at_most() {
        let bucket = Bucket::new(10, Micros::SECOND, 10);
        let now = Moment(1_000_000_000);
        let refused = bucket.read(9_000_000_000, now, 1);
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, Moment(now.0 + bucket.emission));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_changes_nothing() {
        let bucket = Bucket::new(10, Micros::SECOND, 10);
        let at = Moment(1_000_000_000);
        let tat = bucket.charged(0, at, 10);
        let back = Moment(at.0 - CLOCK_JUMP.0);
        assert_eq!(bucket.mended(tat, back), tat);
        assert_eq!(bucket.read(tat, back, 1), bucket.read(tat, at, 1), "no time has passed");
        assert!(bucket.mended(tat, Moment(back.0 - 1)) < tat);
    }
}
