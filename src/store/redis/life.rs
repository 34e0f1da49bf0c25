//! How long a key lives after a charge.
//!
//! A key must outlive what it says; how much longer is a matter of cost. Setting an expiry is half the price of a
//! write, so a counter gets half as long again and then needs no new expiry until that half is used up.

use crate::engine::units::{CLOCK_JUMP, Micros};

/// What a key lives beyond its need, so that the server's coarser clock never ends it early, and what a charge made as of
/// a moment that the clock went back from (see [`CLOCK_JUMP`]) needs beyond a charge made now.
const MARGIN: Micros = Micros(CLOCK_JUMP.0.saturating_mul(2));

/// The expiry of a key, in microseconds but for [`Life::px`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// What must be left after a charge.
    pub(super) need: u64,
    /// What the key gets when less is left.
    pub(super) keep: u64,
}

impl Life {
    /// Of a counter, whose expiry is renewed now and then.
    pub(super) fn renewed(memory: Micros, hold: Micros) -> Self {
        let need = memory.0.saturating_add(MARGIN.0 / 2);
        let keep = memory.0.saturating_add(memory.0 / 2).saturating_add(MARGIN.0).saturating_add(hold.0);
        // In whole milliseconds, so that `keep` and `px` say the same.
        Self { need, keep: keep.div_ceil(1_000).saturating_mul(1_000) }
    }

    /// Of a key whose expiry is set at every write.
    pub(super) fn fixed(memory: Micros, hold: Micros) -> Self {
        let keep = memory.0.saturating_add(MARGIN.0).saturating_add(hold.0);
        Self { need: 0, keep: keep.div_ceil(1_000).saturating_mul(1_000) }
    }

    /// Milliseconds for `PX`.
    pub(super) fn px(&self) -> u64 {
        self.keep / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_always_outlives_its_memory_and_its_expiry_is_not_renewed_at_once() {
        for memory in [1_u64, 1_000, 60_000_000, 366 * 86_400 * 1_000_000] {
            let life = Life::renewed(Micros(memory), Micros(0));
            assert!(life.need > memory && life.keep >= life.need + MARGIN.0 / 2);
            assert_eq!(life.px() * 1_000, life.keep);
            assert!(Life::fixed(Micros(memory), Micros(0)).px() * 1_000 > memory);
        }
    }
}
