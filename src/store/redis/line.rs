//! Asks that wait for the next call.
//!
//! Promise: in the order of arrival; bounded; an ask that nobody waits for any more, or whose time is over, is never
//! sent. An ask that gives up learns whether it was sent.
//!
//! Must never: hold its lock while anything is awaited.

use crate::clock;
use crate::engine::ask::{Answer, Ask};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Most asks that wait. Each waits a few milliseconds at most; more than this is more than Redis does in that time.
const CAPACITY: usize = 4_096;
/// Most asks of one call: beyond it, the gain of sharing is spent and the others' wait grows.
pub(super) const MAX_ASKS: usize = 255;
/// Most demands of one call: bounds how long a script holds Redis.
const MAX_DEMANDS: usize = 512;

/// An ask in the line, or taken off it and under way.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Rises along the line, so that one who leaves is found by halving.
    ticket: u64,
    /// When its caller stops waiting, by the monotonic clock: a wall clock that jumps must not drop asks.
    until: Instant,
    /// What the next plan is made of.
    pub(super) ask: Ask,
    /// Closed when the caller left; dropped unanswered, it tells the caller that the outcome is unknown.
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

impl Waiting {
    /// Answers it; whoever asked may have left.
    pub(super) fn answer(self, answer: Result<Answer, StoreError>) {
        let _ = self.answer.send(answer);
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.answer.is_closed() || self.until <= now
    }
}

/// Those who wait. Ticket and place are given under one lock, so the line is always in ticket order.
#[derive(Debug, Default)]
struct Queue {
    /// First come, first sent; at most `CAPACITY`.
    waiting: VecDeque<Waiting>,
    /// Never used twice: 64 bits outlast any process.
    next_ticket: u64,
}

/// The line in front of the connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// A plain lock: it is held for a few moves of memory, or for one batch by the driver.
    queue: Mutex<Queue>,
    /// Wakes the driver. It remembers one wake-up, so an ask that comes between the driver's look and its wait
    /// is not missed.
    arrived: Notify,
}

impl Line {
    /// Waits in line for an answer, at most `patience`. Dropping the future gives up the place: an ask that was
    /// not sent is passed over.
    ///
    /// The bound holds whatever the driver does, so a driver that never runs delays nobody longer.
    ///
    /// # Errors
    /// Overloaded: the line is full. Unreachable: it left the line unsent. Timeout: it was sent and may have been
    /// applied. Else what became of the call that it went with.
    pub(super) async fn wait(&self, ask: Ask, patience: Duration) -> Result<Answer, StoreError> {
        let until = clock::monotonic() + patience;
        let (ticket, answer) = self.join(ask, until)?;
        match tokio::time::timeout_at(until.into(), answer).await {
            Ok(Ok(answer)) => answer,
            // The driver is gone; what it had sent may have been applied.
            Ok(Err(_)) => Err(StoreError::Timeout(patience)),
            Err(_) if self.leave(ticket) => Err(not_sent()),
            Err(_) => Err(StoreError::Timeout(patience)),
        }
    }

    /// Waits until somebody may be in line; it may wake for nobody, when an earlier look took the ask already.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Wakes the driver without an ask: the last store is gone, and the driver shall notice.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// How many wait, those included whose callers dropped their future.
    pub(super) fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// The next batch: those in front who still wait, within `MAX_ASKS` and `MAX_DEMANDS`; empty when nobody
    /// does. The first ask goes whatever its size, or it would block the line for good.
    pub(super) fn next(&self) -> Vec<Waiting> {
        let now = clock::monotonic();
        let mut batch = Vec::new();
        let mut demands = 0;
        let mut queue = self.queue.lock();
        while let Some(first) = queue.waiting.front() {
            let more = demands + first.ask.demands.len();
            if batch.len() == MAX_ASKS || (more > MAX_DEMANDS && !batch.is_empty()) {
                break;
            }
            let Some(first) = queue.waiting.pop_front() else { break };
            if first.answer.is_closed() {
                continue;
            }
            if first.until <= now {
                first.answer(Err(not_sent()));
                continue;
            }
            demands = more;
            batch.push(first);
        }
        batch
    }

    /// Takes a place at the end. A full line refuses at once: more waiting would only make more answers late.
    fn join(
        &self,
        ask: Ask,
        until: Instant,
    ) -> Result<(u64, oneshot::Receiver<Result<Answer, StoreError>>), StoreError> {
        let (answer, receiver) = oneshot::channel();
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= CAPACITY {
            return Err(StoreError::Overloaded);
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Waiting { ticket, until, ask, answer });
        drop(queue);
        self.arrived.notify_one();
        Ok((ticket, receiver))
    }

    /// Leaves the line; false when the ask was sent already. Both sides take it off under the lock, so an ask
    /// that is reported unsent was never sent.
    fn leave(&self, ticket: u64) -> bool {
        let mut queue = self.queue.lock();
        match queue.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket) {
            Ok(at) => queue.waiting.remove(at).is_some(),
            Err(_) => false,
        }
    }
}

/// Nothing was applied: whoever asked may decide by other means without charging twice.
pub(super) fn not_sent() -> StoreError {
    StoreError::Unreachable("not sent: the calls before it took too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const SOON: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_secs(60);

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn an_ask_whose_caller_left_is_not_sent() {
        let line = Line::default();
        {
            let mut leaver = pin!(line.wait(Ask::default(), LATE));
            assert!(poll(leaver.as_mut()).is_pending());
        }
        let mut stayer = pin!(line.wait(Ask::default(), LATE));
        assert!(poll(stayer.as_mut()).is_pending());
        let mut batch = line.next();
        assert_eq!(batch.len(), 1);
        batch.pop().unwrap().answer(Ok(Answer::default()));
        assert_eq!(poll(stayer.as_mut()), Poll::Ready(Ok(Answer::default())));
    }

    #[tokio::test]
    async fn who_gives_up_in_line_learns_that_nothing_was_sent_and_who_gives_up_later_does_not() {
        let line = Line::default();
        assert!(matches!(line.wait(Ask::default(), SOON).await, Err(StoreError::Unreachable(_))));
        assert_eq!(line.len(), 0);
        let mut sent = pin!(line.wait(Ask::default(), SOON));
        assert!(poll(sent.as_mut()).is_pending());
        let batch = line.next();
        assert_eq!(batch.len(), 1);
        assert_eq!(sent.await, Err(StoreError::Timeout(SOON)));
    }

    #[tokio::test]
    async fn an_ask_whose_time_is_over_is_answered_and_not_sent() {
        let line = Line::default();
        let mut late = pin!(line.wait(Ask::default(), Duration::ZERO));
        let _ = line.join(Ask::default(), clock::monotonic()).map(|(_, receiver)| drop(receiver));
        assert!(matches!(poll(late.as_mut()), Poll::Pending | Poll::Ready(Err(StoreError::Unreachable(_)))));
        assert!(line.next().is_empty());
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_so_is_a_batch() {
        let line = Line::default();
        let until = clock::monotonic() + LATE;
        let mut receivers = Vec::new();
        for _ in 0..CAPACITY {
            receivers.push(line.join(Ask::default(), until).unwrap());
        }
        assert_eq!(line.wait(Ask::default(), LATE).await, Err(StoreError::Overloaded));
        assert_eq!(line.next().len(), MAX_ASKS);
        assert_eq!(line.len(), CAPACITY - MAX_ASKS);
    }
}
