//! How many quotad share one Redis.
//!
//! Promise: the last known number while Redis is away, and never fewer than configured: local enforcement divides by it. A
//! word of a replica that died holds for [`WORD`], so the number falls that late; it is never forgotten while Redis is
//! away. Until the first word, without a configured number, it is unknown, and nobody is told a bound on what all admit.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// 0: not known yet. A lone number that orders nothing else, so relaxed access is enough.
    count: AtomicU64,
    /// Replicas that there are at least, by the configuration; 0: it does not say.
    least: u64,
}

impl Default for Replicas {
    fn default() -> Self {
        Self::at_least(None)
    }
}

impl Replicas {
    /// Of a process that is one of so many at least.
    #[must_use]
    pub fn at_least(least: Option<NonZeroU64>) -> Self {
        let mut bytes = [0; 16];
        // Without randomness an id of its own cannot be had; two replicas that share one are counted as one.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        let id = format!("{:032x}", u128::from_be_bytes(bytes));
        let least = least.map_or(0, NonZeroU64::get);
        Self(Arc::new(Known { id: id.into(), count: AtomicU64::new(0), least }))
    }

    /// This process's name among the replicas.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// The last known number, or the configured one if that is more; none while there is neither.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        Some(self.0.count.load(Ordering::Relaxed).max(self.0.least)).filter(|count| *count > 0)
    }

    /// Zero is taken for 1: this replica lives, and shares are divided by the number.
    pub(super) fn set(&self, count: u64) {
        self.0.count.store(count.max(1), Ordering::Relaxed);
    }
}
