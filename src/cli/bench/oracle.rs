//! Whether a run admitted more than was promised, judged by what its clients saw.
//!
//! Every answer names the policies that were charged and the bound it keeps: the most units that any interval of one
//! window can admit. A client knows when it sent a request and when the answer came; the decision fell somewhere between.
//! So units were certainly admitted within one window when all their requests were sent and answered within it, and
//! the oracle counts only those.
//!
//! Promise: it never accuses falsely. Clocks may differ by a thousandth; answers of several modes may each use up the
//! bound of their mode; a cost that is not known counts as one unit; shadow policies and answers that promise
//! nothing (failed open) are left out.

use crate::cli::words;
use crate::pb::quotad::v1::{Decision, Mode, Outcome, PolicyStatus};
use std::collections::HashMap;
use std::time::Duration;

/// Modes are numbered 0 to 5.
const MODES: usize = 6;
/// A window is taken this fraction shorter: what two clocks may differ by.
const SLACK: u64 = 1_000;
/// Most admissions that one worker remembers (32 bytes each); later ones are not checked, and the verdict says so.
const MAX_ADMISSIONS: usize = 8_000_000;
/// Most policies that are told apart: far above what one request can match.
const MAX_POLICIES: usize = 64;
/// Most findings that a verdict lists.
const MAX_FINDINGS: usize = 10;

/// What the answers said about one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Promise {
    policy: String,
    /// The shortest that was seen: a bound for a longer window also bounds a shorter one.
    window: Duration,
    /// The greatest that was seen in each mode.
    bounds: [u64; MODES],
}

/// Units that a policy admitted, somewhen between two moments (nanoseconds since the start of the bench).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Admission {
    policy: usize,
    key: u32,
    cost: u32,
    sent: u64,
    received: u64,
}

/// One answered request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Which key it was about.
    pub key: u32,
    /// Units that an admission surely took.
    pub cost: u32,
    /// Nanoseconds since the start of the bench.
    pub sent: u64,
    /// The same clock.
    pub received: u64,
}

/// What one worker saw.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    promises: Vec<Promise>,
    admissions: Vec<Admission>,
    unchecked: u64,
}

/// More was admitted than promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy.
    pub policy: String,
    /// The key's number.
    pub key: u32,
    /// Units that were certainly admitted within one window.
    pub admitted: u64,
    /// Units that may be.
    pub bound: u64,
    /// The window.
    pub window: Duration,
    /// When it began, since the start of the bench.
    pub at: Duration,
}

/// How one policy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The policy.
    pub policy: String,
    /// Its window.
    pub window: Duration,
    /// Units that any window may admit.
    pub bound: u64,
    /// Keys with at least one admission.
    pub counters: u64,
    /// The most units that were certainly admitted within one window for one key.
    pub most: u64,
}

/// What the oracle says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// One for each policy that was seen.
    pub policies: Vec<PolicyVerdict>,
    /// How many (policy, key) pairs admitted too much.
    pub over_admissions: u64,
    /// The worst of them.
    pub findings: Vec<Finding>,
    /// Admissions that were not checked: they promised nothing, or there were too many to remember.
    pub unchecked: u64,
}

impl Witness {
    /// Takes note of an answer.
    pub fn see(&mut self, sighting: Sighting, decision: &Decision) {
        let admitted = decision.outcome == i32::from(Outcome::Allow);
        for status in &decision.statuses {
            // Also a denial's bounds count: they may be greater, and then less is an accusation.
            let Some(policy) = self.promise(status) else {
                self.unchecked += u64::from(admitted && !status.shadow && status.window.is_some());
                continue;
            };
            if !admitted || sighting.cost == 0 {
                continue;
            }
            if self.admissions.len() >= MAX_ADMISSIONS {
                self.unchecked += 1;
                continue;
            }
            let Sighting { key, cost, sent, received } = sighting;
            self.admissions.push(Admission { policy, key, cost, sent, received });
        }
    }

    /// The number of the status's policy, with its promise taken into account; none when it promises nothing.
    fn promise(&mut self, status: &PolicyStatus) -> Option<usize> {
        let window = words::duration(status.window)?;
        if status.shadow || status.mode == i32::from(Mode::FailedOpen) {
            return None;
        }
        let mode = usize::try_from(status.mode).ok().filter(|mode| *mode < MODES)?;
        let mut bounds = [0; MODES];
        *bounds.get_mut(mode)? = status.bound?;
        let count = self.promises.len();
        // Few policies: looking is cheaper than hashing.
        match self.promises.iter_mut().enumerate().find(|(_, known)| known.policy == status.policy) {
            Some((number, known)) => {
                known.merge(window, &bounds);
                Some(number)
            }
            None if count < MAX_POLICIES => {
                self.promises.push(Promise { policy: status.policy.clone(), window, bounds });
                Some(count)
            }
            None => None,
        }
    }
}

impl Promise {
    fn merge(&mut self, window: Duration, bounds: &[u64; MODES]) {
        self.window = self.window.min(window);
        for (mine, other) in self.bounds.iter_mut().zip(bounds) {
            *mine = (*mine).max(*other);
        }
    }

    /// Each mode counts for itself, so a run that saw several may admit the bound of each.
    fn bound(&self) -> u64 {
        self.bounds.iter().fold(0, |sum, bound| sum.saturating_add(*bound))
    }
}

/// Puts together what all workers saw, and judges it.
#[must_use]
pub fn judge(witnesses: Vec<Witness>) -> Verdict {
    let mut promises: Vec<Promise> = Vec::new();
    let mut by_counter: HashMap<(usize, u32), Vec<Admission>> = HashMap::new();
    let mut verdict = Verdict::default();
    for witness in witnesses {
        verdict.unchecked += witness.unchecked;
        let numbers: Vec<usize> =
            witness.promises.into_iter().map(|seen| merge(&mut promises, seen)).collect();
        for admission in witness.admissions {
            let Some(policy) = numbers.get(admission.policy) else { continue };
            by_counter.entry((*policy, admission.key)).or_default().push(admission);
        }
    }
    let start = |promise: &Promise| PolicyVerdict {
        policy: promise.policy.clone(),
        window: promise.window,
        bound: promise.bound(),
        counters: 0,
        most: 0,
    };
    verdict.policies = promises.iter().map(start).collect();
    for ((policy, key), admissions) in by_counter {
        let Some(seen) = verdict.policies.get_mut(policy) else { continue };
        let (most, at) = most_in_one_window(&admissions, seen.window);
        seen.counters += 1;
        seen.most = seen.most.max(most);
        if most > seen.bound {
            verdict.over_admissions += 1;
            verdict.findings.push(Finding {
                policy: seen.policy.clone(),
                key,
                admitted: most,
                bound: seen.bound,
                window: seen.window,
                at: Duration::from_nanos(at),
            });
        }
    }
    verdict.findings.sort_by_key(|finding| {
        (
            std::cmp::Reverse(finding.admitted.saturating_sub(finding.bound)),
            finding.policy.clone(),
            finding.key,
        )
    });
    verdict.findings.truncate(MAX_FINDINGS);
    verdict
}

fn merge(promises: &mut Vec<Promise>, seen: Promise) -> usize {
    match promises.iter_mut().enumerate().find(|(_, known)| known.policy == seen.policy) {
        Some((number, known)) => {
            known.merge(seen.window, &seen.bounds);
            number
        }
        None => {
            promises.push(seen);
            promises.len() - 1
        }
    }
}

/// The most units whose requests were all sent and answered within one window, and when that window began.
///
/// An interval may as well begin when a request is sent. One that took a window or longer fits into none. Of the
/// others, all that were sent before the interval begins were answered before it ends, so two sorted lists and
/// two sums are enough.
fn most_in_one_window(admissions: &[Admission], window: Duration) -> (u64, u64) {
    let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
    let window = window - window / SLACK;
    let fits = |one: &&Admission| one.received.saturating_sub(one.sent) < window;
    let mut sent: Vec<(u64, u64)> =
        admissions.iter().filter(fits).map(|one| (one.sent, u64::from(one.cost))).collect();
    let mut received: Vec<(u64, u64)> =
        admissions.iter().filter(fits).map(|one| (one.received, u64::from(one.cost))).collect();
    sent.sort_unstable();
    received.sort_unstable();
    let (mut answered, mut sent_before, mut most, mut at) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut rest = received.iter().peekable();
    let mut previous = None;
    let mut pending = 0_u64;
    for (start, cost) in sent {
        if previous != Some(start) {
            sent_before = sent_before.saturating_add(pending);
            pending = 0;
            previous = Some(start);
        }
        pending = pending.saturating_add(cost);
        while let Some((_, cost)) = rest.next_if(|(moment, _)| *moment < start.saturating_add(window)) {
            answered = answered.saturating_add(*cost);
        }
        let inside = answered.saturating_sub(sent_before);
        if inside > most {
            (most, at) = (inside, start);
        }
    }
    (most, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::{Micros, Moment};
    use crate::engine::window::Window;
    use crate::pb::quotad::v1::Algorithm;

    const SECOND: u64 = 1_000_000_000;

    fn answer(outcome: Outcome, mode: Mode, bound: u64) -> Decision {
        Decision {
            outcome: outcome.into(),
            mode: mode.into(),
            statuses: vec![PolicyStatus {
                policy: "p".to_owned(),
                algorithm: Algorithm::SlidingWindow.into(),
                limit: bound,
                window: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                mode: mode.into(),
                bound: Some(bound),
                ..PolicyStatus::default()
            }],
            ..Decision::default()
        }
    }

    fn allowed(bound: u64) -> Decision {
        answer(Outcome::Allow, Mode::Exact, bound)
    }

    fn sighting(key: u32, sent: u64, received: u64) -> Sighting {
        Sighting { key, cost: 1, sent, received }
    }

    fn judged(sightings: impl IntoIterator<Item = (Sighting, Decision)>) -> Verdict {
        let mut witness = Witness::default();
        for (sighting, decision) in sightings {
            witness.see(sighting, &decision);
        }
        judge(vec![witness])
    }

    /// A client that asks one exact window for a minute, with answers that take up to a third of a second.
    fn trace(limit: u64, enforced: u64) -> Vec<(Sighting, Decision)> {
        let window = Window::new(enforced, Micros::SECOND);
        let (mut log, mut trace, mut noise) = (Vec::new(), Vec::new(), 12_345_u64);
        for ask in 0..6_000_u64 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (sent, there, back) = (ask * 10_000, (noise >> 40) % 150_000, (noise >> 20) % 150_000);
            // The decision falls between sending and receiving, in microseconds of the server's clock.
            trace.push((sent, sent + there, sent + there + back));
        }
        trace.sort_by_key(|(_, decided, _)| *decided);
        let mut sightings = Vec::new();
        for (sent, decided, received) in trace {
            let now = Moment(1_700_000_000_000_000 + decided);
            let fits = window.read(&log, now, 1).fits;
            if fits {
                window.charge(&mut log, now, 1);
            }
            let outcome = if fits { Outcome::Allow } else { Outcome::Deny };
            sightings
                .push((sighting(3, sent * 1_000, received * 1_000), answer(outcome, Mode::Exact, limit)));
        }
        sightings
    }

    #[test]
    fn does_not_accuse_a_correct_server_whose_answers_overtake_each_other() {
        for limit in [1, 10, 64, 80] {
            let verdict = judged(trace(limit, limit));
            assert_eq!(verdict.over_admissions, 0, "{verdict:?}");
            assert!(verdict.policies[0].most > limit / 2, "it must look closely: {verdict:?}");
            assert_eq!((verdict.policies[0].counters, verdict.unchecked), (1, 0));
        }
    }

    #[test]
    fn catches_a_server_that_admits_half_as_much_again() {
        let verdict = judged(trace(40, 60));
        assert_eq!(verdict.over_admissions, 1, "{verdict:?}");
        let finding = &verdict.findings[0];
        assert_eq!((finding.policy.as_str(), finding.key, finding.bound), ("p", 3, 40));
        assert!(finding.admitted > 40 && finding.admitted <= 60, "{finding:?}");
    }

    #[test]
    fn catches_one_unit_too_many() {
        let asks = (0..11).map(|i| (sighting(0, i, i + 5), allowed(10)));
        assert_eq!(judged(asks).findings[0].admitted, 11);
        let asks = (0..10).map(|i| (sighting(0, i, i + 5), allowed(10)));
        assert_eq!(judged(asks).over_admissions, 0);
    }

    #[test]
    fn counts_only_what_was_certainly_inside_one_window() {
        // The eleventh answer arrives after the window: its decision may have fallen outside.
        let late = sighting(0, 10, SECOND + 20);
        let asks = (0..10).map(|i| sighting(0, i, i + 5)).chain([late]);
        assert_eq!(judged(asks.map(|ask| (ask, allowed(10)))).over_admissions, 0);
        // An answer that took longer than the window says nothing.
        let slow = (0..20).map(|i| (sighting(0, i, 2 * SECOND + i), allowed(10)));
        assert_eq!(judged(slow).policies[0].most, 0);
    }

    #[test]
    fn keys_and_windows_are_apart() {
        let keys = (0..20).map(|i| (sighting(i % 2, 5, 6), allowed(10)));
        assert_eq!(judged(keys).over_admissions, 0);
        let windows = (0..20).map(|i| (sighting(0, i / 10 * SECOND, i / 10 * SECOND + 5), allowed(10)));
        assert_eq!(judged(windows).over_admissions, 0);
    }

    #[test]
    fn another_mode_has_a_bound_of_its_own() {
        let exact = (0..10).map(|i| (sighting(0, i, i + 5), allowed(10)));
        let local = (20..25).map(|i| (sighting(0, i, i + 5), answer(Outcome::Allow, Mode::Local, 5)));
        let verdict = judged(exact.chain(local));
        assert_eq!((verdict.over_admissions, verdict.policies[0].bound), (0, 15));
        let open = (0..30).map(|i| (sighting(0, i, i + 5), answer(Outcome::Allow, Mode::FailedOpen, 0)));
        let verdict = judged(open);
        assert_eq!((verdict.over_admissions, verdict.unchecked), (0, 30));
    }

    #[test]
    fn denials_admit_nothing_and_workers_add_up() {
        let denied = (0..30).map(|i| (sighting(0, i, i + 5), answer(Outcome::Deny, Mode::Exact, 10)));
        assert_eq!(judged(denied).policies[0].counters, 0);
        let mut one = Witness::default();
        (0..6).for_each(|i| one.see(sighting(0, i, i + 5), &allowed(10)));
        let two = one.clone();
        assert_eq!(judge(vec![one.clone(), two.clone()]).findings[0].admitted, 12);
        assert_eq!(judge(vec![one]).over_admissions, 0);
    }

    #[test]
    fn costs_count() {
        let ask = |i| (Sighting { key: 0, cost: 4, sent: i, received: i + 1 }, allowed(10));
        assert_eq!(judged((0..2).map(ask)).over_admissions, 0);
        assert_eq!(judged((0..3).map(ask)).findings[0].admitted, 12);
    }
}
