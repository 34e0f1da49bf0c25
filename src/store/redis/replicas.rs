//! How many quotad share one Redis.
//!
//! Promise: the last known number while Redis is away, and never less than the configured one: local enforcement divides
//! by it, and the bound of its answers is made of it. While nobody has said a number there is none, and no bound.
//!
//! The number falls late. When the replicas' words have ended in Redis, because it was away for longer than they hold or
//! lost its data, the first to be back counts itself alone; were that believed, and Redis gone again, each would take the
//! whole limit. A smaller number is believed when nothing greater was heard for as long as a word holds, in which every
//! replica that lives has given its own several times. So one that was stopped is counted for that much longer.
//!
//! Must never: take silence for being alone.

use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a replica's word holds; it should give it three times in this span.
pub(super) const WORD: Duration = Duration::from_secs(15);

/// What the stores of one process know of its replicas. Clones share it.
#[derive(Clone, Debug)]
pub struct Replicas(Arc<Known>);

/// Shared by all stores of the process: a replica is a process, and counts once however often it connects anew.
#[derive(Debug)]
struct Known {
    /// 128 random bits in hexadecimal, new with each process: a host's name is not unique in containers.
    id: Box<str>,
    /// The configured least number; 0: none.
    least: u64,
    /// Held for a look or a change, once a heartbeat and once a decision without the store.
    heard: Mutex<Heard>,
}

/// What the store said.
#[derive(Debug, Default)]
struct Heard {
    /// The number that is believed; 0: none was ever heard.
    count: u64,
    /// Since when only smaller numbers were heard, and the greatest of them.
    smaller: Option<(Instant, u64)>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self::at_least(None)
    }
}

impl Replicas {
    /// Of whom at least so many run, by the configuration.
    #[must_use]
    pub fn at_least(least: Option<NonZeroU64>) -> Self {
        let mut bytes = [0; 16];
        // Without randomness an id of its own cannot be had; two replicas that share one are counted as one.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        let id = format!("{:032x}", u128::from_be_bytes(bytes));
        let least = least.map_or(0, NonZeroU64::get);
        Self(Arc::new(Known { id: id.into(), least, heard: Mutex::default() }))
    }

    /// This process's name among the replicas.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// The last known number or the configured one, whichever is more; none when there is neither.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        Some(self.0.heard.lock().count.max(self.0.least)).filter(|count| *count > 0)
    }

    /// The store's word. Zero is taken for 1: this replica lives, and shares are divided by the number.
    pub(super) fn set(&self, count: u64, now: Instant) {
        let count = count.max(1);
        let mut heard = self.0.heard.lock();
        if count >= heard.count {
            *heard = Heard { count, smaller: None };
            return;
        }
        let (since, greatest) =
            heard.smaller.map_or((now, count), |(since, other)| (since, other.max(count)));
        heard.smaller = Some((since, greatest));
        if now.saturating_duration_since(since) > WORD {
            *heard = Heard { count: greatest, smaller: None };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_rises_at_once_and_falls_when_a_word_has_ended() {
        let (replicas, begun) = (Replicas::default(), crate::clock::monotonic());
        let hear = |count: u64, second: u64| {
            replicas.set(count, begun + Duration::from_secs(second));
            replicas.count().unwrap()
        };
        assert_eq!(replicas.count(), None, "nobody has said");
        assert_eq!([hear(0, 0), hear(3, 2), hear(1, 4), hear(2, 6)], [1, 3, 3, 3]);
        assert_eq!([hear(3, 8), hear(1, 10), hear(2, 20), hear(1, 25)], [3, 3, 3, 3]);
        assert_eq!([hear(1, 26), hear(1, 28)], [2, 2], "the greatest of what was heard meanwhile");
    }

    #[test]
    fn the_configured_number_is_the_least() {
        let replicas = Replicas::at_least(NonZeroU64::new(3));
        assert_eq!(replicas.count(), Some(3));
        replicas.set(1, crate::clock::monotonic());
        assert_eq!(replicas.count(), Some(3));
        replicas.set(5, crate::clock::monotonic());
        assert_eq!(replicas.count(), Some(5));
    }
}
