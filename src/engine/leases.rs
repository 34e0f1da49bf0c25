//! `concurrency`: never more live leases than the limit, and a dead holder's leases return within one TTL.
//!
//! The state is a set of (lease id, end), see [`LeaseSet`]. A lease ends by itself; nothing has to run for that. Taking a lease
//! that is held already renews it, so that an answer that got lost can be asked for again.
//!
//! # A clock that goes back
//!
//! The caller reads `now` where nobody else can take a lease meanwhile. A lease never ends earlier than one TTL after it was
//! taken or renewed, whatever the clock does after that, unless the clock goes forward: nothing is handed out twice. An end
//! further ahead than one TTL cannot have been written at `now`:
//!
//! - by up to [`CLOCK_JUMP`]: it stands. A dead holder's lease returns within a TTL and that.
//! - by more: the clock jumped, or the policy's TTL became shorter. No lease of the key ends later than one TTL from now
//!   then, and the first call that may write makes it so, an acquisition that is refused too: else the ends would move
//!   along with the clock until that stands where it was (`window.rs` has the whole argument).
//!
//! The same step runs in `store/redis/take.lua`.

mod set;

pub use set::LeaseSet;

use super::ask::Reading;
use super::units::{CLOCK_JUMP, Micros, Moment};

/// Most bytes of a lease id: Redis keeps sorted sets compact up to this.
pub const MAX_LEASE_ID_BYTES: usize = 64;

/// Whether a text may be a lease id: visible ASCII characters, at least one and at most [`MAX_LEASE_ID_BYTES`].
#[must_use]
pub fn is_lease_id(text: &str) -> bool {
    (1..=MAX_LEASE_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The numbers of one connection limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// Most leases at once.
    pub limit: u64,
    /// A lease ends after this unless it is renewed.
    pub ttl: Micros,
}

impl Leases {
    /// What taking `id` sees. `level` counts the other live leases.
    #[must_use]
    pub fn read(&self, held: &LeaseSet, now: Moment, id: &str) -> Reading {
        let latest = self.latest(held, now);
        let own = held.end_of(id).is_some_and(|ends| ends > now);
        let live = u64::try_from(held.live(now)).unwrap_or(u64::MAX);
        let level = live.saturating_sub(u64::from(own));
        let fits = own || level < self.limit;
        let retry_at = if fits { Moment(0) } else { self.free_at(held, now, level).min(latest) };
        let last = held.last_end().unwrap_or(now).min(latest);
        Reading { fits, level, retry_at, reset_at: last.max(now) }
    }

    /// The same while there is no memory for a lease more: one that needs a place waits for the next end.
    #[must_use]
    pub fn read_full(&self, held: &LeaseSet, now: Moment, id: &str) -> Reading {
        let reading = self.read(held, now, id);
        let has_place = held.end_of(id).is_some() || held.live(now) < held.len();
        if has_place || !reading.fits {
            return reading;
        }
        let retry_at = self.free_at(held, now, self.limit).min(self.latest(held, now));
        Reading { fits: false, retry_at, ..reading }
    }

    /// When a lease is free if nobody renews: the first end, or a later one when the limit was lowered below what is
    /// held.
    fn free_at(&self, held: &LeaseSet, now: Moment, live: u64) -> Moment {
        let too_many = usize::try_from(live.saturating_sub(self.limit)).unwrap_or(usize::MAX);
        held.nth_end(now, too_many).unwrap_or_default()
    }

    /// Takes or renews `id`, and drops the leases that ended.
    pub fn charge(&self, held: &mut LeaseSet, now: Moment, id: &str) {
        self.prune(held, now);
        held.put(id, now.plus(self.ttl));
    }

    /// Renews `id`; false when it is not held any more, and then nothing is taken.
    pub fn renew(&self, held: &mut LeaseSet, now: Moment, id: &str) -> bool {
        self.prune(held, now);
        if held.end_of(id).is_none() {
            return false;
        }
        held.put(id, now.plus(self.ttl));
        true
    }

    /// Gives `id` back; false when there was nothing to give back.
    pub fn release(&self, held: &mut LeaseSet, now: Moment, id: &str) -> bool {
        self.prune(held, now);
        held.remove(id)
    }

    /// After a clock that jumped back: no lease ends later than one TTL from now. Else nothing is changed.
    pub fn mend(&self, held: &mut LeaseSet, now: Moment) {
        let latest = self.latest(held, now);
        if latest < Moment(u64::MAX) {
            held.cap(latest);
        }
    }

    fn prune(&self, held: &mut LeaseSet, now: Moment) {
        self.mend(held, now);
        held.drop_ended(now);
    }

    /// What no lease ends later than: one TTL from now after a clock that jumped back, else there is no such moment.
    fn latest(&self, held: &LeaseSet, now: Moment) -> Moment {
        let (latest, last) = (now.plus(self.ttl), held.last_end().unwrap_or(now));
        if last.since(latest) > CLOCK_JUMP { latest } else { Moment(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASES: Leases = Leases { limit: 2, ttl: Micros(30_000_000) };

    #[test]
    fn a_lease_id_is_short_and_visible() {
        assert!(is_lease_id("a") && is_lease_id(&"~".repeat(MAX_LEASE_ID_BYTES)));
        for bad in ["", "a b", "a\n", "\u{e9}", &"x".repeat(MAX_LEASE_ID_BYTES + 1)] {
            assert!(!is_lease_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn never_more_than_the_limit_and_a_dead_holder_returns_within_one_ttl() {
        let mut held = LeaseSet::default();
        let now = Moment(1_000_000_000);
        LEASES.charge(&mut held, now, "a");
        LEASES.charge(&mut held, now, "b");
        let refused = LEASES.read(&held, now, "c");
        assert!(!refused.fits);
        assert_eq!(refused.retry_at, now.plus(LEASES.ttl));
        assert!(LEASES.read(&held, now, "a").fits, "asking again for a held lease is no second lease");
        assert!(LEASES.read(&held, now.plus(LEASES.ttl), "c").fits);
    }

    #[test]
    fn after_the_limit_was_lowered_enough_leases_must_end() {
        let mut held = LeaseSet::default();
        for (i, id) in ["a", "b", "c"].iter().enumerate() {
            let at = Moment(1_000_000_000 + u64::try_from(i).unwrap());
            Leases { limit: 3, ..LEASES }.charge(&mut held, at, id);
        }
        let one = Leases { limit: 1, ..LEASES };
        let refused = one.read(&held, Moment(1_000_000_010), "d");
        assert_eq!(refused.retry_at, Moment(1_000_000_002).plus(LEASES.ttl));
        assert!(one.read(&held, refused.retry_at, "d").fits);
        assert!(!one.read(&held, Moment(refused.retry_at.0 - 1), "d").fits);
    }

    #[test]
    fn a_lost_lease_is_not_renewed_and_a_strange_id_frees_nothing() {
        let mut held = LeaseSet::default();
        let now = Moment(1_000_000_000);
        LEASES.charge(&mut held, now, "a");
        assert!(!LEASES.release(&mut held, now, "x"));
        assert!(LEASES.renew(&mut held, Moment(now.0 + 29_999_999), "a"));
        let later = Moment(now.0 + 29_999_999).plus(LEASES.ttl);
        assert!(!LEASES.renew(&mut held, later, "a"));
        assert!(held.is_empty());
    }
}
