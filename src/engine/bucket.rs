//! `token_bucket`, as the generic cell rate algorithm (GCRA, ITU-T I.371): in any interval of length s at
//! most `burst + s · limit / window` units.
//!
//! The state is one integer, the theoretical arrival time (TAT): the moment at which the bucket is full
//! again. A unit moves it by `emission` microseconds, rounded up so that the promise holds in integers. [`Arrival`] adds
//! how many bursts it is in debt for, which only a settlement can bring about.
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
//!   The wait is at most the time of one burst. A debt is forgiven then.
//!
//! # Settling
//!
//! More than was reserved moves the TAT on, whatever the burst. Of what was reserved too much, only what has not come back by
//! itself since is given back. The units of a reservation of c units made at t have surely not come back before t + c ·
//! emission, and all of them may have by then: the bucket may have been empty of other charges, filled up, and forgotten
//! them. So d units too many give back min(d · emission, t + c · emission − now).
//!
//! Proof that this never admits more: compare the TAT with the one that would be had the reservation been what it cost, c − d.
//! At t the two differ by d · emission, and the difference shrinks only while the second bucket is full. It is not full
//! before t + (c − d) · emission, whatever else is charged or given back, so at now the difference is at least
//! d · emission − (now − t − (c − d) · emission). With other reservations settled before, the same holds of the paths in
//! which they are what they cost. A caller that is alone gets back exactly what it is owed; beside others, a settlement that
//! comes late gives back less.
//!
//! The same steps run in `store/redis/take.lua` and `settle.lua`.

use super::ask::Reading;
use super::settlement::Charged;
use super::units::{CLOCK_JUMP, Micros, Moment};

/// Most bursts that a bucket goes into debt for; a settlement beyond that is charged so far.
pub const MAX_DEBT: u64 = 2_047;
/// Bits of an arrival time: microseconds until the year 2255.
const TIME_BITS: u32 = 53;

/// The state of a bucket in one integer, so that a key costs no more for what few ever need: the arrival time below, the
/// debt in the 11 bits above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival(u64);

impl Arrival {
    /// An arrival time in microseconds; what was admitted leaves no debt.
    #[must_use]
    pub fn at(time: u64) -> Self {
        Self(time.min((1 << TIME_BITS) - 1))
    }

    /// The same with a debt of so many bursts, rounded up: it tells an arrival time beyond a burst from one that a clock left
    /// behind that jumped back.
    #[must_use]
    pub fn in_debt(time: u64, bursts: u64) -> Self {
        Self(Self::at(time).0 | (bursts.min(MAX_DEBT) << TIME_BITS))
    }

    /// The arrival time in microseconds.
    #[must_use]
    pub fn time(self) -> u64 {
        self.0 & ((1 << TIME_BITS) - 1)
    }

    /// Bursts beyond the first.
    #[must_use]
    pub fn debt(self) -> u64 {
        self.0 >> TIME_BITS
    }
}

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

    /// What a demand of `cost` sees. `level` is the mended arrival time.
    #[must_use]
    pub fn read(&self, stored: Arrival, now: Moment, cost: u64) -> Reading {
        self.read_mended(self.mended(stored, now).time(), now, cost)
    }

    /// The same of an arrival time that was mended.
    #[must_use]
    pub fn read_mended(&self, tat: u64, now: Moment, cost: u64) -> Reading {
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

    /// The state after charging `cost`, which fits.
    #[must_use]
    pub fn charged(&self, stored: Arrival, now: Moment, cost: u64) -> Arrival {
        Arrival::at(self.moved_on(stored, now, cost))
    }

    /// An arrival time that a clock that jumped back left too far ahead, brought back to an empty bucket; else as it is.
    #[must_use]
    pub fn mended(&self, stored: Arrival, now: Moment) -> Arrival {
        let most = self.tolerance().saturating_mul(stored.debt() + 1);
        let jumped = stored.time().saturating_sub(now.0.saturating_add(most)) > CLOCK_JUMP.0;
        if jumped { Arrival::at(now.0.saturating_add(self.tolerance())) } else { stored }
    }

    /// The state after `units` more, whatever the burst: a debt where it goes beyond.
    #[must_use]
    pub fn owed(&self, stored: Arrival, now: Moment, units: u64) -> Arrival {
        let most = self.tolerance().saturating_mul(MAX_DEBT);
        self.indebted(self.moved_on(stored, now, units).min(now.0.saturating_add(most)), now)
    }

    /// The state after as many of `units` were given back as have not come back by themselves, of `cost` that were charged
    /// at `at`; and how many whole ones those are.
    #[must_use]
    pub fn given_back(&self, stored: Arrival, now: Moment, charge: Charged, units: u64) -> (Arrival, u64) {
        let mended = self.mended(stored, now);
        // After an edit of the limit no more is given back than was charged, and no more than it is worth now.
        let emission = charge.emission.clamp(1, self.emission);
        let alone = charge.at.0.saturating_add(charge.cost.saturating_mul(emission));
        let left = alone.min(mended.time()).saturating_sub(now.0);
        let back = units.saturating_mul(emission).min(left);
        let arrival = if back == 0 { mended } else { self.indebted(mended.time() - back, now) };
        (arrival, back / emission)
    }

    fn moved_on(&self, stored: Arrival, now: Moment, units: u64) -> u64 {
        self.mended(stored, now).time().max(now.0).saturating_add(units.saturating_mul(self.emission))
    }

    fn indebted(&self, time: u64, now: Moment) -> Arrival {
        let beyond = time.saturating_sub(now.0.saturating_add(self.tolerance()));
        Arrival::in_debt(time, beyond.div_ceil(self.tolerance()))
    }

    /// Units in use beyond the burst at `now`, for the arrival time `tat`.
    #[must_use]
    pub fn debt(&self, tat: u64, now: Moment) -> u64 {
        tat.saturating_sub(now.0.saturating_add(self.tolerance())).div_ceil(self.emission)
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
        let mut tat = Arrival::default();
        let now = Moment(50_000_000);
        for _ in 0..7 {
            assert!(bucket.read(tat, now, 1).fits);
            tat = bucket.charged(tat, now, 1);
        }
        let refused = bucket.read(tat, now, 1);
        assert!(!refused.fits);
        assert!(!bucket.read(tat, Moment(refused.retry_at.0 - 1), 1).fits);
        assert!(bucket.read(tat, refused.retry_at, 1).fits);
        assert_eq!(bucket.remaining(tat.time(), now), 0);
    }

    #[test]
    fn never_more_than_burst_plus_rate_in_any_interval() {
        let bucket = Bucket::new(10, Micros(1_000), 5);
        let (mut tat, mut admitted) = (Arrival::default(), Vec::new());
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
        let reading = bucket.read(Arrival::default(), Moment(9), 11);
        assert!(!reading.fits);
        assert_eq!(reading.retry_at, Moment(0));
    }

    #[test]
    fn a_clock_that_jumps_back_costs_one_burst_at_most() {
        let bucket = Bucket::new(10, Micros::SECOND, 10);
        let now = Moment(1_000_000_000);
        let refused = bucket.read(Arrival::at(9_000_000_000), now, 1);
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, Moment(now.0 + bucket.emission));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_changes_nothing() {
        let bucket = Bucket::new(10, Micros::SECOND, 10);
        let at = Moment(1_000_000_000);
        let tat = bucket.charged(Arrival::default(), at, 10);
        let back = Moment(at.0 - CLOCK_JUMP.0);
        assert_eq!(bucket.mended(tat, back), tat);
        assert_eq!(bucket.read(tat, back, 1), bucket.read(tat, at, 1), "no time has passed");
        assert!(bucket.mended(tat, Moment(back.0 - 1)).time() < tat.time());
    }

    const FULL: Bucket = Bucket { limit: 100, window: Micros(60_000_000), burst: 100, emission: 600_000 };
    const NOW: Moment = Moment(1_000_000_000);

    #[test]
    fn what_was_too_much_comes_back_and_what_came_back_by_itself_does_not_twice() {
        let stored = FULL.charged(Arrival::default(), NOW, 50);
        let charge = Charged { at: NOW, cost: 50, emission: FULL.emission };
        let (back, units) = FULL.given_back(stored, NOW, charge, 40);
        assert_eq!((FULL.remaining(back.time(), NOW), units), (90, 40));
        // After 20 s a third of the limit has come back: of 50 units 16.7 are left to be given back.
        let later = Moment(NOW.0 + 20_000_000);
        let (back, units) = FULL.given_back(stored, later, charge, 40);
        assert_eq!((FULL.remaining(back.time(), later), units), (100, 16));
        let (back, units) = FULL.given_back(stored, Moment(NOW.0 + 30_000_000), charge, 40);
        assert_eq!((back, units), (stored, 0));
    }

    #[test]
    fn after_an_edit_of_the_limit_no_more_comes_back_than_was_charged() {
        let quick = Bucket::new(100, Micros(60_000_000), 100);
        let slow = Bucket::new(25, Micros(60_000_000), 100);
        let stored = quick.charged(quick.charged(Arrival::default(), NOW, 20), NOW, 80);
        let charge = Charged { at: NOW, cost: 20, emission: quick.emission };
        let (back, _) = slow.given_back(stored, NOW, charge, 20);
        assert_eq!(stored.time() - back.time(), 20 * quick.emission);
        let charge = Charged { emission: slow.emission, ..charge };
        let (back, _) = quick.given_back(stored, NOW, charge, 20);
        assert_eq!(stored.time() - back.time(), 20 * quick.emission);
        assert_eq!(quick.given_back(stored, NOW, Charged { emission: 0, ..charge }, 20).1, 20);
    }

    #[test]
    fn a_settlement_that_comes_after_the_bucket_was_full_gives_no_burst_twice() {
        let stored = FULL.charged(Arrival::default(), NOW, 10);
        let later = Moment(NOW.0 + 10_000_000);
        let other = FULL.charged(stored, later, 100);
        let (back, units) =
            FULL.given_back(other, later, Charged { at: NOW, cost: 10, emission: FULL.emission }, 10);
        assert_eq!((back, units), (other, 0));
    }

    #[test]
    fn a_debt_delays_the_next_by_all_of_it_and_is_no_jump_of_the_clock() {
        let stored = FULL.owed(FULL.charged(Arrival::default(), NOW, 10), NOW, 490);
        assert_eq!((stored.time() - NOW.0, stored.debt()), (500 * 600_000, 4));
        let refused = FULL.read(stored, NOW, 1);
        assert_eq!(refused.retry_at, Moment(NOW.0 + 401 * 600_000));
        assert!(FULL.read(stored, refused.retry_at, 1).fits);
        assert_eq!(FULL.charged(stored, refused.retry_at, 1).debt(), 0);
        let back = Moment(NOW.0 - CLOCK_JUMP.0);
        assert_eq!(FULL.mended(stored, back), stored);
        let jumped = Moment(NOW.0 - CLOCK_JUMP.0 - 1);
        assert_eq!(FULL.mended(stored, jumped), Arrival::at(jumped.0 + FULL.tolerance()));
        let absurd = FULL.owed(stored, NOW, u64::from(u32::MAX));
        assert_eq!(absurd.time(), NOW.0 + MAX_DEBT * FULL.tolerance());
        assert_eq!(FULL.mended(absurd, NOW), absurd);
    }
}
