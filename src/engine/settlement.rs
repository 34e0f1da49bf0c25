//! Charges that are settled afterwards to what they really cost.
//!
//! A check charges what its caller expects, the reservation; a settlement moves that to the true cost once it is known. What was
//! too much is given back to the counter that it was charged to, as far as it still counts there; what was too little is
//! charged as of the settlement, without a question, and delays what comes next.
//!
//! Promise: a reservation that covers its cost never makes a policy admit more than its limit (`window.rs`, `bucket.rs` and
//! `fixed.rs` say why); a settlement changes something once, whoever repeats it, and nothing after its time. A reservation
//! that is never settled stays charged.
//!
//! Must never: give back what counts no more, or what may be another's.

use super::ask::Reading;
use super::key::Key;
use super::rule::Rule;
use super::units::{CLOCK_JUMP, Micros, Moment};
use smallvec::SmallVec;

/// The longest that a reservation may wait for its settlement: what is remembered of settlements is bounded by it.
pub const MAX_SETTLE_WITHIN: Micros = Micros(3_600_000_000);

/// When a charge was made, and how much it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// By the store's clock.
    pub at: Moment,
    /// Units.
    pub cost: u64,
    /// Microseconds that a bucket charged for each of them then.
    pub emission: u64,
}

/// One counter to be moved from what was reserved to what it cost.
#[derive(Clone, Debug)]
pub struct Adjustment {
    /// Whose counter.
    pub key: Key,
    /// How it is counted now. [`Rule::Leases`]: it is not, its policy is gone or counts otherwise; nothing is moved.
    pub rule: Rule,
    /// Microseconds that a unit was charged in a bucket; of other rules it is of no matter.
    pub emission: u64,
    /// Units that were charged.
    pub reserved: u32,
    /// Units that should have been.
    pub cost: u32,
}

/// One atomic settlement.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The reservation's own name, of these counters and no others: the first settlement under it holds.
    pub name: Box<str>,
    /// When it was charged, by the store's clock.
    pub at: Moment,
    /// Later nothing is changed.
    pub until: Moment,
    /// One a counter of the reservation, in one order whoever asks: what is remembered has their order. At most
    /// [`super::ask::MAX_DEMANDS`], and at least one.
    pub adjustments: SmallVec<[Adjustment; 2]>,
}

impl Settlement {
    /// Until when it is remembered: beyond its time by what a clock may go back.
    #[must_use]
    pub fn remembered_until(&self) -> Moment {
        self.until.plus(Micros(2 * CLOCK_JUMP.0))
    }

    /// Whether it can be settled at `now`: its time is not over, and it was not charged in the future.
    #[must_use]
    pub fn is_in_time(&self, now: Moment) -> bool {
        self.until > now && self.at.since(now) <= CLOCK_JUMP
    }
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementState {
    /// Settled now.
    Settled,
    /// Settled before; nothing was changed now.
    Repeated,
    /// Its time was over; nothing was changed.
    TooLate,
    /// There is no room to remember it, so nothing was changed.
    NoRoom,
}

/// What was moved on one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// What it was settled to.
    pub cost: u32,
    /// Units given back.
    pub returned: u32,
    /// Units charged beyond the reservation.
    pub charged: u32,
}

/// The answer of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The store's clock, read once.
    pub now: Moment,
    /// What became of it.
    pub state: SettlementState,
    /// One an adjustment, in order: of the settlement that holds; none moved when none does.
    pub movements: SmallVec<[Movement; 2]>,
    /// What a demand of one unit sees on each counter afterwards.
    pub readings: SmallVec<[Reading; 2]>,
}

impl Adjustment {
    /// The charge.
    #[must_use]
    pub fn charged(&self, at: Moment) -> Charged {
        Charged { at, cost: u64::from(self.reserved), emission: self.emission }
    }

    /// Units to be given back.
    #[must_use]
    pub fn excess(&self) -> u32 {
        self.reserved.saturating_sub(self.cost)
    }

    /// Units to be charged.
    #[must_use]
    pub fn shortfall(&self) -> u32 {
        self.cost.saturating_sub(self.reserved)
    }

    /// What is reported where nothing was moved.
    #[must_use]
    pub fn unmoved(&self) -> Movement {
        Movement { cost: self.reserved, ..Movement::default() }
    }

    /// What is reported when so many were given back.
    #[must_use]
    pub fn moved(&self, returned: u64) -> Movement {
        let returned = u32::try_from(returned).unwrap_or(u32::MAX);
        Movement { cost: self.cost, returned, charged: self.shortfall() }
    }
}
