//! Bytes of an embedded store, by policy, and who may take more of them.
//!
//! A policy may add to what it holds while that is less than [`SHARE`] times what is free. This is the dynamic threshold of
//! Choudhury and Hahne (Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998): it needs no list of policies,
//! no part that lies idle for those who never come, and no parameter per policy.
//!
//! Promise:
//!
//! - What is counted stays below the cap. Nobody adds when nothing is free, and the cap has a margin for what the
//!   decisions under way add between their look and their entry.
//! - A flood under one policy stops while a quarter of the rest is free: of `C` bytes of which others hold `R`, it ends at
//!   3/4 (C − R). So another policy is not moved to its overflow counter by it while that holds less than 3/7 of `C`.
//!   Floods under several policies at once leave a quarter of a quarter, and so on.
//! - An overflow counter is one entry a policy. Only its leases may become more, while eight times their bytes are free.
//! - A byte is counted by what the allocator was asked for, at its worst: a table is counted as if it were a quarter full.
//!
//! Policies are told apart by 16 bits of a keyed hash. Two whose bits meet share one part, and no counter.
//!
//! Must never: lock, or allocate after it is made.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A policy has room while it holds less than this times what is free.
const SHARE: usize = 3;
/// An overflow counter's leases may grow while this times their bytes is free.
const SHARED: usize = 8;
/// The part of the cap that is kept for what decisions under way add, and for the tables of an empty store.
const MARGIN: usize = 16;

/// The bytes that are held.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Most bytes, the margin taken off.
    most: usize,
    used: AtomicUsize,
    parts: Box<[AtomicUsize]>,
}

impl Ledger {
    /// Of a store that holds at most so many bytes.
    pub(super) fn new(max_memory: usize) -> Self {
        let parts = (0..=u16::MAX).map(|_| AtomicUsize::new(0)).collect();
        Self { most: max_memory - max_memory / MARGIN, used: AtomicUsize::new(0), parts }
    }

    /// Whether a policy may hold more than it does.
    pub(super) fn has_room(&self, policy: u16) -> bool {
        let held = self.part(policy).map_or(0, |part| part.load(Ordering::Relaxed));
        held < self.free().saturating_mul(SHARE)
    }

    /// Whether the state that new keys of a policy without room share may become larger: it takes a ninth of what is left.
    pub(super) fn has_spare(&self, bytes: usize) -> bool {
        bytes.saturating_mul(SHARED) < self.free()
    }

    /// Bytes that nobody holds.
    pub(super) fn free(&self) -> usize {
        self.most.saturating_sub(self.used())
    }

    /// Bytes that are held.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A policy holds other things than before, which took so many bytes.
    pub(super) fn change(&self, policy: u16, before: usize, after: usize) {
        if before == after {
            return;
        }
        // Additions that wrap are exact for any order of them, which a comparison between would not be.
        let by = after.wrapping_sub(before);
        self.used.fetch_add(by, Ordering::Relaxed);
        if let Some(part) = self.part(policy) {
            part.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn part(&self, policy: u16) -> Option<&AtomicUsize> {
        self.parts.get(usize::from(policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 16 << 20;

    /// Fills a policy's part with pieces of a kilobyte.
    fn flood(ledger: &Ledger, policy: u16) -> usize {
        let mut taken = 0;
        while ledger.has_room(policy) {
            ledger.change(policy, 0, 1_024);
            taken += 1_024;
        }
        taken
    }

    #[test]
    fn a_flood_leaves_a_quarter_and_another_policy_its_room() {
        let ledger = Ledger::new(CAP);
        // A little less than three sevenths is held before the flood.
        ledger.change(2, 0, ledger.most * 42 / 100);
        flood(&ledger, 1);
        assert!(!ledger.has_room(1) && ledger.has_room(2) && ledger.has_room(3));
        assert!(ledger.free() > ledger.most / 8);
    }

    #[test]
    fn whoever_floods_the_cap_holds_and_what_is_given_back_is_room_again() {
        let ledger = Ledger::new(CAP);
        let taken: Vec<usize> = (0..100).map(|policy| flood(&ledger, policy)).collect();
        assert!(ledger.used() < CAP && ledger.used() == taken.iter().sum::<usize>());
        assert!(!ledger.has_room(0));
        for (policy, bytes) in (0..100).zip(taken) {
            ledger.change(policy, bytes, 0);
        }
        assert_eq!(ledger.used(), 0);
        assert!(ledger.has_room(0));
    }
}
