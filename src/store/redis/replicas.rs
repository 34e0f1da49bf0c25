//! How many quotad share one Redis.
//!
//! Promise: at least 1, and the last known number while Redis is away: local enforcement divides by it.

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
    /// A lone number that orders nothing else, so relaxed access is enough.
    count: AtomicU64,
}

impl Default for Replicas {
    fn default() -> Self {
        let mut bytes = [0; 16];
        // Without randomness an id of its own cannot be had; two replicas that share one are counted as one.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        let id = format!("{:032x}", u128::from_be_bytes(bytes));
        Self(Arc::new(Known { id: id.into(), count: AtomicU64::new(1) }))
    }
}

impl Replicas {
    /// This process's name among the replicas.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// The last known number; at least 1.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Zero is taken for 1: this replica lives, and shares are divided by the number.
    pub(super) fn set(&self, count: u64) {
        self.0.count.store(count.max(1), Ordering::Relaxed);
    }
}
