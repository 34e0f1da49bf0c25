//! `sliding_window`: never more than the limit in any interval of one window, at any phase.
//!
//! The state is a log of (moment, cost), oldest first. A slot is a moment divided by the grain:
//!
//! - limit ≤ 64: the grain is one microsecond, so the log is exact. An entry counts while it is younger
//!   than the window.
//! - above that: the grain is a sixtieth of the window (rounded up) and the oldest of the 61 slots that
//!   an interval can touch is counted whole, so quota returns at most one grain late, never early.
//!
//! Proof of the bound: an interval (t−W, t] lies inside the slots that were summed at its last admission,
//! and that sum with the admitted cost was at most the limit.
//!
//! A charge is stored as the last microsecond of its slot, so that a log written under one limit is never
//! counted as younger than it is, or longer gone, under another: editing a limit keeps the counters.
//!
//! Rejected: the popular two-counter estimate. In the worst case it admits 1.97 times the limit and it can
//! refuse a caller whose true count is zero.
//!
//! # A clock that goes back
//!
//! The caller reads `now` where nobody else can charge the log meanwhile, so an entry from the future means that the clock
//! went back. Let it stand at `now` and the newest entry in a slot that begins at T > now:
//!
//! - T − now ≤ [`CLOCK_JUMP`]: no time has passed. The reading is that of T, a charge is made as of T, nothing is rewritten.
//!   The log's own time never goes back, so the bound's proof holds as it stands, also when the clock returns. The wait is
//!   at most a window and T − now.
//! - beyond: the clock jumped. Entries from the future count as made now, and the first ask that may write makes them so
//!   ([`Window::mend`]), whether it is let in or not. They were made before this moment, whatever the clock said, and count
//!   for a whole window from it: nothing is handed out twice. Nobody waits longer than a window from then on.
//!
//! Why a denial may do the latter: the reading is a function of the log and of `now`. If the log stayed as it is while
//! everybody is refused, a caller who comes a window after the jump would see just what one sees who comes after a jump to
//! that very moment, and who must be refused. So without a trace of the jump the wait would be as long as the jump. A peek
//! leaves none. A denial within [`CLOCK_JUMP`] never rewrites anything.
//!
//! The same step runs in `store/redis/take.lua`.

use super::ask::Reading;
use super::units::{CLOCK_JUMP, Micros, Moment};

/// Limits up to this keep an exact log.
pub const EXACT_LOG_LIMIT: u64 = 64;

/// Sub-buckets of a window above [`EXACT_LOG_LIMIT`].
pub const SUB_BUCKETS: u64 = 60;

/// The numbers of one sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Most units in any interval of `window`.
    pub limit: u64,
    /// The interval.
    pub window: Micros,
    /// Microseconds a slot.
    pub grain: u64,
    /// An entry counts while `entry slot > current slot − span`.
    pub span: u64,
}

/// Units charged in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The last microsecond of the slot.
    pub at: Moment,
    /// Units.
    pub cost: u64,
}

impl Window {
    /// A window of `limit` units; both are at least 1 (checked where policies are built).
    #[must_use]
    pub fn new(limit: u64, window: Micros) -> Self {
        if limit <= EXACT_LOG_LIMIT {
            return Self { limit, window, grain: 1, span: window.0 };
        }
        Self { limit, window, grain: window.0.div_ceil(SUB_BUCKETS).max(1), span: SUB_BUCKETS + 1 }
    }

    /// What a demand of `cost` sees. Nothing is changed.
    #[must_use]
    pub fn read(&self, log: &[Charge], now: Moment, cost: u64) -> Reading {
        let current = self.current(log, now);
        let (mut used, mut newest) = (0_u64, None);
        for charge in log {
            let slot = self.slot(charge.at).min(current);
            if self.counts(slot, current) {
                used = used.saturating_add(charge.cost);
                newest = newest.max(Some(slot));
            }
        }
        Reading {
            fits: used.saturating_add(cost) <= self.limit,
            level: used,
            retry_at: self.retry_at(log, current, used, cost),
            reset_at: newest.map_or(now, |newest| self.freed_at(newest)),
        }
    }

    /// Adds `cost` to the log and drops what no longer counts.
    pub fn charge(&self, log: &mut Vec<Charge>, now: Moment, cost: u64) {
        self.charge_within(log, now, cost, usize::MAX);
    }

    /// The same in a log of at most `most` entries. Where it has no place the newest entry becomes one of now: its units count
    /// longer than they would, never shorter, so the bound holds and some quota comes back late.
    pub fn charge_within(&self, log: &mut Vec<Charge>, now: Moment, cost: u64, most: usize) {
        self.mend(log, now);
        let current = self.current(log, now);
        log.retain(|charge| self.counts(self.slot(charge.at), current));
        let is_full = log.len() >= most;
        match log.last_mut() {
            Some(last) if self.slot(last.at) == current => last.cost = last.cost.saturating_add(cost),
            Some(last) if is_full => {
                *last = Charge { at: self.end_of(current), cost: last.cost.saturating_add(cost) };
            }
            _ => log.push(Charge { at: self.end_of(current), cost }),
        }
    }

    /// Gives back up to `units` of what was charged at `at`, and says how many.
    ///
    /// From the newest entry that is not later than the charge, and where that has too few (the log had no place, or the clock
    /// went back) from those before it: they leave the window sooner, so the log never counts less than was used. Only after
    /// a clock that jumped back between the charge and its settlement may that be another's charge, made later.
    pub fn give_back(&self, log: &mut Vec<Charge>, now: Moment, at: Moment, units: u64) -> u64 {
        self.mend(log, now);
        let (current, slot) = (self.current(log, now), self.slot(at));
        let mut left = units;
        for charge in log.iter_mut().rev() {
            let own = self.slot(charge.at);
            if own <= slot && self.counts(own, current) {
                let taken = left.min(charge.cost);
                charge.cost -= taken;
                left -= taken;
            }
        }
        if left < units {
            log.retain(|charge| charge.cost > 0 && self.counts(self.slot(charge.at), current));
        }
        units - left
    }

    /// After a clock that jumped back: entries from the future become entries of now. False when it did not jump, and then
    /// nothing is changed.
    pub fn mend(&self, log: &mut [Charge], now: Moment) -> bool {
        let current = self.current(log, now);
        let jumped = log.last().is_some_and(|newest| self.slot(newest.at) > current);
        if jumped {
            for charge in log.iter_mut().filter(|charge| self.slot(charge.at) > current) {
                charge.at = self.end_of(current);
            }
        }
        jumped
    }

    /// When the newest entry of a log stops counting; the epoch for an empty one.
    #[must_use]
    pub fn ends(&self, log: &[Charge]) -> Moment {
        log.last().map_or(Moment(0), |newest| self.freed_at(self.slot(newest.at)))
    }

    /// When all of a charge made now is free again.
    #[must_use]
    pub fn reset_after_charge(&self, now: Moment) -> Moment {
        self.freed_at(self.slot(now))
    }

    /// The slot that `now` stands in, or that of the newest entry when the clock is behind it and did not jump.
    fn current(&self, log: &[Charge], now: Moment) -> u64 {
        let newest = log.last().map_or(0, |newest| self.slot(newest.at));
        let begins = Moment(newest.saturating_mul(self.grain));
        if begins > now && begins.since(now) <= CLOCK_JUMP { newest } else { self.slot(now) }
    }

    fn slot(&self, at: Moment) -> u64 {
        at.0 / self.grain
    }

    fn end_of(&self, slot: u64) -> Moment {
        Moment(slot.saturating_add(1).saturating_mul(self.grain).saturating_sub(1))
    }

    fn counts(&self, slot: u64, current: u64) -> bool {
        slot.saturating_add(self.span) > current
    }

    fn freed_at(&self, slot: u64) -> Moment {
        Moment(slot.saturating_add(self.span).saturating_mul(self.grain))
    }

    /// The first moment at which enough of the log has expired; zero when it fits now or never can.
    fn retry_at(&self, log: &[Charge], current: u64, used: u64, cost: u64) -> Moment {
        let mut missing = used.saturating_add(cost).saturating_sub(self.limit);
        if cost > self.limit || missing == 0 {
            return Moment(0);
        }
        for charge in log {
            let slot = self.slot(charge.at).min(current);
            if self.counts(slot, current) {
                missing = missing.saturating_sub(charge.cost);
                if missing == 0 {
                    return self.freed_at(slot);
                }
            }
        }
        Moment(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = Micros(60_000_000);

    fn admit(window: &Window, log: &mut Vec<Charge>, now: u64, cost: u64) -> Reading {
        let reading = window.read(log, Moment(now), cost);
        if reading.fits {
            window.charge(log, Moment(now), cost);
        }
        reading
    }

    #[test]
    fn denies_the_eleventh_within_any_minute_and_frees_it_to_the_microsecond() {
        let window = Window::new(10, MINUTE);
        let mut log = Vec::new();
        for i in 0..10 {
            assert!(admit(&window, &mut log, 1_000_000_000 + i, 1).fits);
        }
        let refused = admit(&window, &mut log, 1_000_000_010, 1);
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, Moment(1_060_000_000));
        assert!(!window.read(&log, Moment(1_059_999_999), 1).fits);
        assert!(window.read(&log, Moment(1_060_000_000), 1).fits);
    }

    #[test]
    fn sub_buckets_never_admit_more_than_the_limit_at_any_phase() {
        let window = Window::new(100, Micros(6_000));
        let mut log = Vec::new();
        let mut admitted: Vec<u64> = Vec::new();
        for now in (1_000_000..1_040_000).step_by(7) {
            if admit(&window, &mut log, now, 1).fits {
                admitted.push(now);
            }
            let recent = admitted.iter().rev().take_while(|&&at| at + 6_000 > now).count();
            assert!(recent <= 100, "{recent} units in one window at {now}");
        }
        assert!(admitted.len() > 500, "quota must come back: {}", admitted.len());
    }

    #[test]
    fn waiting_exactly_retry_after_succeeds_in_sub_buckets_too() {
        let window = Window::new(1_000, MINUTE);
        let mut log = Vec::new();
        assert!(admit(&window, &mut log, 70_000_123, 600).fits);
        assert!(admit(&window, &mut log, 90_000_456, 400).fits);
        let refused = admit(&window, &mut log, 90_000_457, 601);
        assert!(!refused.fits);
        assert!(!window.read(&log, Moment(refused.retry_at.0 - 1), 601).fits);
        assert!(window.read(&log, refused.retry_at, 601).fits);
    }

    #[test]
    fn a_clock_that_jumps_back_hands_nothing_out_twice_and_waits_one_window_at_most() {
        let window = Window::new(10, MINUTE);
        let mut log = Vec::new();
        assert!(admit(&window, &mut log, 10_000_000_000, 10).fits);
        let back = Moment(1_000_000_000);
        let refused = window.read(&log, back, 1);
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, back.plus(MINUTE));
        assert!(window.mend(&mut log, back));
        assert!(window.read(&log, back.plus(MINUTE), 10).fits);
    }

    #[test]
    fn a_clock_that_goes_back_a_little_changes_nothing() {
        for window in [Window::new(10, MINUTE), Window::new(100, MINUTE)] {
            let (mut log, at) = (Vec::new(), Moment(10_000_000_000));
            assert!(admit(&window, &mut log, at.0, window.limit - 1).fits);
            let (before, back) = (log.clone(), Moment(at.0 - CLOCK_JUMP.0));
            assert!(!window.mend(&mut log, back));
            assert_eq!(log, before);
            assert_eq!(window.read(&log, back, 2), window.read(&log, at, 2), "no time has passed");
            assert!(admit(&window, &mut log, back.0, 1).fits);
            let refused = window.read(&log, back, 1);
            assert_eq!(refused.retry_at, window.read(&log, at, 1).retry_at);
            assert!(
                !window.read(&log, back.plus(MINUTE), window.limit).fits,
                "as of when the clock stood further on"
            );
            assert!(window.read(&log, window.ends(&log), window.limit).fits);
        }
    }

    #[test]
    fn a_cost_above_the_limit_has_no_retry() {
        let window = Window::new(10, MINUTE);
        let reading = window.read(&[], Moment(5), 11);
        assert!(!reading.fits);
        assert_eq!(reading.retry_at, Moment(0));
    }

    #[test]
    fn what_is_given_back_leaves_the_entry_that_it_was_charged_in() {
        for window in [Window::new(10, MINUTE), Window::new(100, MINUTE)] {
            let mut log = Vec::new();
            for (at, cost) in [(100, 3), (110, 5), (120, 2)] {
                window.charge(&mut log, Moment(at * 1_000_000), cost);
            }
            let now = Moment(121_000_000);
            assert_eq!(window.give_back(&mut log, now, Moment(110_000_000), 4), 4);
            assert_eq!(log.iter().map(|charge| charge.cost).collect::<Vec<_>>(), [3, 1, 2]);
            assert_eq!(window.give_back(&mut log, now, Moment(110_000_000), 1), 1);
            assert_eq!(log.len(), 2, "an entry of nothing is none");
            assert_eq!(
                window.give_back(&mut log, now, Moment(99_000_000), 5),
                0,
                "what is later is another's"
            );
            let over = Moment(182_000_000);
            assert_eq!(window.give_back(&mut log, over, Moment(110_000_000), 1), 0);
        }
    }

    #[test]
    fn what_became_one_with_a_later_entry_is_given_back_from_earlier_ones_or_not_at_all() {
        let window = Window::new(10, MINUTE);
        let mut log = Vec::new();
        window.charge_within(&mut log, Moment(100_000_000), 4, 1);
        window.charge_within(&mut log, Moment(101_000_000), 2, 1);
        assert_eq!((log.len(), log[0].cost), (1, 6));
        assert_eq!(window.give_back(&mut log, Moment(102_000_000), Moment(100_000_000), 3), 0);
        assert_eq!(window.give_back(&mut log, Moment(102_000_000), Moment(101_000_000), 2), 2);
    }
}
