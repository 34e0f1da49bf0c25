//! `concurrency`: never more live leases than the limit, and a dead holder's leases return within one TTL.
//!
//! The state is a list of (lease id, end). A lease ends by itself; nothing has to run for that. Taking a lease
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

use super::ask::Reading;
use super::units::{CLOCK_JUMP, Micros, Moment};
use smallvec::SmallVec;

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

/// One held connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Made by the caller: 128 random bits.
    pub id: Box<str>,
    /// When it ends.
    pub ends: Moment,
}

impl Leases {
    /// What taking `id` sees. `level` counts the other live leases.
    #[must_use]
    pub fn read(&self, held: &[Held], now: Moment, id: &str) -> Reading {
        let latest = self.latest(held, now);
        let (mut own, mut last) = (false, 0);
        let mut others: SmallVec<[u64; 8]> = SmallVec::new();
        for lease in held {
            let ends = lease.ends.min(latest);
            if ends <= now {
                continue;
            }
            last = last.max(ends.0);
            if *lease.id == *id {
                own = true;
            } else {
                others.push(ends.0);
            }
        }
        let level = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let fits = own || level < self.limit;
        let free_at = if fits { 0 } else { self.free_at(&mut others, level) };
        Reading { fits, level, retry_at: Moment(free_at), reset_at: Moment(last.max(now.0)) }
    }

    /// When a lease is free if nobody renews: the first end, or a later one when the limit was lowered below what is
    /// held.
    fn free_at(&self, ends: &mut [u64], held: u64) -> u64 {
        ends.sort_unstable();
        let too_many = usize::try_from(held - self.limit).unwrap_or(usize::MAX);
        ends.get(too_many).copied().unwrap_or(0)
    }

    /// Takes or renews `id`, and drops the leases that ended.
    pub fn charge(&self, held: &mut Vec<Held>, now: Moment, id: &str) {
        self.prune(held, now);
        let ends = now.plus(self.ttl);
        match held.iter_mut().find(|lease| *lease.id == *id) {
            Some(lease) => lease.ends = ends,
            None => held.push(Held { id: id.into(), ends }),
        }
    }

    /// Renews `id`; false when it is not held any more, and then nothing is taken.
    pub fn renew(&self, held: &mut Vec<Held>, now: Moment, id: &str) -> bool {
        self.prune(held, now);
        let Some(lease) = held.iter_mut().find(|lease| *lease.id == *id) else { return false };
        lease.ends = now.plus(self.ttl);
        true
    }

    /// Gives `id` back; false when there was nothing to give back.
    pub fn release(&self, held: &mut Vec<Held>, now: Moment, id: &str) -> bool {
        self.prune(held, now);
        let before = held.len();
        held.retain(|lease| *lease.id != *id);
        held.len() < before
    }

    /// After a clock that jumped back: no lease ends later than one TTL from now. Else nothing is changed.
    pub fn mend(&self, held: &mut [Held], now: Moment) {
        let latest = self.latest(held, now);
        for lease in held {
            lease.ends = lease.ends.min(latest);
        }
    }

    fn prune(&self, held: &mut Vec<Held>, now: Moment) {
        self.mend(held, now);
        held.retain(|lease| lease.ends > now);
    }

    /// What no lease ends later than: one TTL from now after a clock that jumped back, else there is no such moment.
    fn latest(&self, held: &[Held], now: Moment) -> Moment {
        let (latest, last) = (now.plus(self.ttl), held.iter().map(|lease| lease.ends).max().unwrap_or(now));
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
        let mut held = Vec::new();
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
        let mut held = Vec::new();
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
        let mut held = Vec::new();
        let now = Moment(1_000_000_000);
        LEASES.charge(&mut held, now, "a");
        assert!(!LEASES.release(&mut held, now, "x"));
        assert!(LEASES.renew(&mut held, Moment(now.0 + 29_999_999), "a"));
        let later = Moment(now.0 + 29_999_999).plus(LEASES.ttl);
        assert!(!LEASES.renew(&mut held, later, "a"));
        assert!(held.is_empty());
    }
}
