//! The course of one run, shared by its threads: the clock, the phases, who may still send, how far it is.

use super::plan::{Load, Plan, Until};
use crate::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shorter waits than this are spun, for tokio's timer has a grain of a millisecond.
const SPIN: Duration = Duration::from_micros(1_500);

/// A counter alone on its cache line, so that the threads of the bench do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// The course of one run. Moments are nanoseconds since its start.
#[derive(Debug)]
pub struct Course {
    started: Instant,
    measured_from: u64,
    ends: Option<u64>,
    /// Measured requests that may still be sent.
    budget: Option<AtomicU64>,
    stopped: AtomicBool,
    done: Vec<Padded>,
}

impl Course {
    /// A course that starts now.
    #[must_use]
    pub fn start(plan: &Plan) -> Self {
        let measured_from = nanos(plan.warmup);
        let (ends, budget) = match plan.until {
            Until::Elapsed(span) => (Some(measured_from.saturating_add(nanos(span))), None),
            Until::Requests(requests) => (None, Some(AtomicU64::new(requests))),
        };
        Self {
            started: clock::monotonic(),
            measured_from,
            ends,
            budget,
            stopped: AtomicBool::new(false),
            done: (0..plan.threads).map(|_| Padded::default()).collect(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> u64 {
        nanos(clock::monotonic() - self.started)
    }

    /// Whether what was due then is measured: not in the warm-up.
    #[must_use]
    pub fn measures(&self, due: u64) -> bool {
        due >= self.measured_from
    }

    /// When measuring begins, and when it ends if that is a matter of time.
    #[must_use]
    pub fn bounds(&self) -> (Instant, Option<Instant>) {
        let at = |moment| self.started + Duration::from_nanos(moment);
        (at(self.measured_from), self.ends.map(at))
    }

    /// How many of `wanted` requests may be sent at `now`; zero ends the lane.
    #[must_use]
    pub fn grant(&self, now: u64, wanted: u32) -> u32 {
        if self.is_over(now) {
            return 0;
        }
        match &self.budget {
            Some(budget) if self.measures(now) => {
                let take = |left: u64| Some(left.saturating_sub(u64::from(wanted)));
                let left = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
                u32::try_from(left.min(u64::from(wanted))).unwrap_or(wanted)
            }
            _ => wanted,
        }
    }

    /// Whether nothing is sent any more at that moment.
    #[must_use]
    pub fn is_over(&self, moment: u64) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.ends.is_some_and(|ends| moment >= ends)
    }

    /// Lets nobody send any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Counts answered requests of a thread.
    pub fn count(&self, thread: u32, requests: u64) {
        if let Some(done) = usize::try_from(thread).ok().and_then(|thread| self.done.get(thread)) {
            done.0.fetch_add(requests, Ordering::Relaxed);
        }
    }

    /// Answered requests of all threads, warm-up included.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.iter().map(|done| done.0.load(Ordering::Relaxed)).sum()
    }
}

/// When the requests of one thread are due in an open loop.
#[derive(Debug)]
pub struct Pacer {
    /// Nanoseconds between two requests of this thread, as a fraction: so many per so many requests.
    interval: (u128, u128),
    /// Requests sent.
    sent: u64,
}

impl Pacer {
    /// The pacer of a thread with `share` of all connections; none in a closed loop.
    #[must_use]
    pub fn of(plan: &Plan, share: u32) -> Option<Self> {
        let Load::Open { rate } = plan.load else { return None };
        let per_second = u128::from(rate.max(1)) * u128::from(share.max(1));
        let nanos = 1_000_000_000 * u128::from(plan.connections.max(1));
        Some(Self { interval: (nanos, per_second), sent: 0 })
    }

    /// When the next `requests` are due.
    pub fn due(&mut self, requests: u32) -> u64 {
        let (nanos, per) = self.interval;
        let due = u64::try_from(u128::from(self.sent) * nanos / per).unwrap_or(u64::MAX);
        self.sent = self.sent.saturating_add(u64::from(requests));
        due
    }
}

/// Waits until a moment of the course. The last stretch is spun, in turns with everything else on the thread.
pub async fn wait_until(course: &Course, due: u64) {
    loop {
        let left = Duration::from_nanos(due.saturating_sub(course.now()));
        if left.is_zero() {
            return;
        }
        match left.checked_sub(SPIN) {
            Some(sleep) if sleep >= Duration::from_millis(1) => tokio::time::sleep(sleep).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Saturates after five centuries.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn a_budget_is_spent_exactly_and_only_after_the_warm_up() {
        let plan = Plan { until: Until::Requests(10), ..plan("127.0.0.1:1".parse().unwrap()) };
        let course = Course::start(&plan);
        assert_eq!(course.grant(0, 100), 100);
        let after = nanos(plan.warmup);
        assert_eq!((course.grant(after, 4), course.grant(after, 4), course.grant(after, 4)), (4, 4, 2));
        assert_eq!(course.grant(after, 1), 0);
    }

    #[test]
    fn nothing_is_sent_after_the_end_or_a_stop() {
        let course = Course::start(&plan("127.0.0.1:1".parse().unwrap()));
        let end = nanos(Duration::from_millis(220));
        assert_eq!((course.grant(end - 1, 1), course.grant(end, 1)), (1, 0));
        course.stop();
        assert_eq!(course.grant(0, 1), 0);
    }

    #[test]
    fn the_pacers_of_all_threads_keep_the_rate_together() {
        let plan = Plan {
            load: Load::Open { rate: 3_000 },
            connections: 3,
            threads: 2,
            ..plan("h:1".parse().unwrap())
        };
        let due_after = |share: u32, requests: u32| {
            let mut pacer = Pacer::of(&plan, share).unwrap();
            (0..=requests).map(|_| pacer.due(1)).last().unwrap()
        };
        // Two thirds of 3000 a second, and one third.
        assert_eq!(due_after(2, 2_000), 1_000_000_000);
        assert_eq!(due_after(1, 1_000), 1_000_000_000);
    }

    #[test]
    fn threads_count_for_themselves_and_add_up() {
        let plan = Plan { threads: 2, ..plan("h:1".parse().unwrap()) };
        let course = Course::start(&plan);
        course.count(0, 3);
        course.count(1, 4);
        course.count(2, 100);
        assert_eq!(course.done(), 7);
    }
}
