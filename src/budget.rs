//! What one connection, and all of them together, may hold in memory for their callers.
//!
//! Promise: three things are counted where they are held: bytes of messages that come or wait for their answers,
//! checks under way, and bytes of answers that the peer has not read. A connection that holds its share waits until
//! half of it is gone; when all of them together hold too much, each has a small share of its own left. Who waits
//! here holds up its own connection and no other.
//!
//! The worst case of one connection, which docs/architecture.md states: 3 MiB of messages (which take up to ten times
//! as much decoded, for as long as their answers are made), 1,024 checks of about 8 KiB each, 1 MiB of answers, 1 MiB that
//! HTTP/2 has received and nobody has read yet, and 10 to 30 KiB for each of its 1,024 streams. A test holds it below
//! 64 MiB; 30 to 50 MiB were seen. All connections together hold at most 256 MiB of messages, 32,768 checks and 128 MiB of
//! answers beyond 128 KiB, 64 checks and 64 KiB of each one's own.
//!
//! Must never: count per stream, since a client opens as many streams as it likes; wait while something is held that only
//! this wait can give back.

use http::Extensions;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The bounds of one thing that is counted.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Of one connection; it may be passed by the one that came last.
    connection: usize,
    /// Of one connection, at which those that wait look again.
    low: usize,
    /// Of one connection, however much the others hold; counted nowhere else.
    own: usize,
    /// Of all connections together, beyond their own.
    process: usize,
}

/// Bytes of messages. Two of the largest fit, and a third is let begin; half a thousand small ones are nobody's but the
/// connection's own.
const MESSAGES: Bounds = Bounds { connection: 2 * MIB, low: MIB, own: 128 * KIB, process: 256 * MIB };
/// Checks under way: as many as one message may hold, so that a batch goes to the store in one piece.
const CHECKS: Bounds = Bounds { connection: 1_024, low: 512, own: 64, process: 32 * 1_024 };
/// Bytes of answers that wait to be sent: far more than a line of 100 ms and 50 Mbit/s has under way.
const ANSWERS: Bounds = Bounds { connection: MIB, low: UNREAD / 2, own: 64 * KIB, process: 128 * MIB };
/// Bytes of answers from which on no message is begun. Below [`ANSWERS`], so that what was begun has room to be answered.
const UNREAD: usize = 256 * KIB;

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;

/// What all connections hold beyond their own shares.
#[derive(Debug, Default)]
struct Process {
    messages: AtomicUsize,
    checks: AtomicUsize,
    answers: AtomicUsize,
}

static PROCESS: Process =
    Process { messages: AtomicUsize::new(0), checks: AtomicUsize::new(0), answers: AtomicUsize::new(0) };

/// What one connection holds.
#[derive(Debug)]
pub struct Account {
    /// Bytes of messages that come, or whose answers are not sent.
    pub messages: Gate,
    /// Checks under way.
    pub checks: Gate,
    /// Bytes of answers that wait to be sent.
    pub answers: Gate,
    /// Bytes of answers that were ever sent; wraps around.
    sent: AtomicU64,
    /// Streams that hold leases.
    pub leases: AtomicUsize,
    /// Streams of checks.
    pub check_streams: AtomicUsize,
    ending: Arc<Notify>,
}

impl Default for Account {
    fn default() -> Self {
        Self::within(&PROCESS)
    }
}

impl Account {
    fn within(process: &'static Process) -> Self {
        Self {
            messages: Gate::new(MESSAGES, &process.messages),
            checks: Gate::new(CHECKS, &process.checks),
            answers: Gate::new(ANSWERS, &process.answers),
            sent: AtomicU64::new(0),
            leases: AtomicUsize::new(0),
            check_streams: AtomicUsize::new(0),
            ending: Arc::default(),
        }
    }

    /// Whether a stream lives that should end by itself: one that holds leases, or one of checks that was answered since
    /// `last`, which is brought up to now.
    pub fn is_needed(&self, last: &mut u64) -> bool {
        let before = std::mem::replace(last, self.sent.load(Ordering::Relaxed));
        self.leases.load(Ordering::Relaxed) > 0
            || (self.check_streams.load(Ordering::Relaxed) > 0 && before != *last)
    }

    /// Tells the streams of the connection that its longest life is over.
    pub fn end_streams(&self) {
        self.ending.notify_waiters();
    }

    /// Notes that the peer took some bytes of its answers.
    pub fn note_sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(1), Ordering::Relaxed);
    }

    /// How much the peer has taken so far; none while nothing waits for it.
    #[must_use]
    pub fn unread_after(&self) -> Option<u64> {
        (self.answers.held() > 0).then(|| self.sent.load(Ordering::Relaxed))
    }

    /// Ready when a message of `bytes` may begin to be read: there is room for it, and few answers wait to be read.
    pub fn poll_begin(&self, bytes: usize, wait: &mut Wait, context: &mut Context<'_>) -> Poll<()> {
        match self.answers.poll(|answers| answers.held() < UNREAD && answers.has_room(1), wait, context) {
            Poll::Ready(()) => self.messages.poll_room(bytes, wait, context),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A future that ends with `draining`, or when the longest life of the call's connection is over.
#[must_use]
pub fn ending(extensions: &Extensions, draining: Ending) -> Ending {
    let Some(account) = extensions.get::<Arc<Account>>() else { return draining };
    let ended = Arc::clone(&account.ending).notified_owned();
    Box::pin(async move {
        tokio::select! {
            () = draining => {}
            () = ended => {}
        }
    })
}

/// The signal at which a stream ends.
pub type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A count with a bound, and those who wait for room.
#[derive(Debug)]
pub struct Gate {
    bounds: Bounds,
    held: AtomicUsize,
    process: &'static AtomicUsize,
    is_awaited: AtomicBool,
    room: Arc<Notify>,
}

/// The place of one who waits; dropped, it is given up.
#[derive(Debug, Default)]
pub struct Wait(Option<Pin<Box<OwnedNotified>>>);

impl Gate {
    fn new(bounds: Bounds, process: &'static AtomicUsize) -> Self {
        let (held, is_awaited, room) = (AtomicUsize::new(0), AtomicBool::new(false), Arc::default());
        Self { bounds, held, process, is_awaited, room }
    }

    /// What is held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Counts `size` as held, whether there is room or not.
    pub fn add(&self, size: usize) {
        let before = self.held.fetch_add(size, Ordering::Relaxed);
        let beyond = self.beyond(before.saturating_add(size)) - self.beyond(before);
        if beyond > 0 {
            self.process.fetch_add(beyond, Ordering::Relaxed);
        }
    }

    /// Counts `size` as gone, which was added before; who waits looks again once half of all is gone.
    pub fn remove(&self, size: usize) {
        let before = self.held.fetch_sub(size, Ordering::Relaxed);
        let now = before.saturating_sub(size);
        let beyond = self.beyond(before) - self.beyond(now);
        if beyond > 0 {
            self.process.fetch_sub(beyond, Ordering::Relaxed);
        }
        // By halves: else each that goes would wake all who wait, for one of them.
        let has_emptied = now <= self.bounds.own / 2 || (now <= self.bounds.low && self.shares());
        if has_emptied && self.is_awaited.swap(false, Ordering::Relaxed) {
            self.room.notify_waiters();
        }
    }

    /// Ready when there is room for `size`; nothing is counted yet.
    pub fn poll_room(&self, size: usize, wait: &mut Wait, context: &mut Context<'_>) -> Poll<()> {
        self.poll(|gate| gate.has_room(size), wait, context)
    }

    fn poll(&self, is_open: impl Fn(&Self) -> bool, wait: &mut Wait, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if is_open(self) {
                wait.0 = None;
                return Poll::Ready(());
            }
            let place = wait.0.get_or_insert_with(|| Box::pin(Arc::clone(&self.room).notified_owned()));
            self.is_awaited.store(true, Ordering::Relaxed);
            if place.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            wait.0 = None;
        }
    }

    /// Whether `size` more may be held.
    fn has_room(&self, size: usize) -> bool {
        let (held, Bounds { connection, own, process, .. }) = (self.held(), self.bounds);
        let then = held.saturating_add(size);
        let together = self.process.load(Ordering::Relaxed);
        then <= own
            || (held < connection
                && together.saturating_add(self.beyond(then) - self.beyond(held)) <= process)
    }

    /// Whether the process has room beyond what is each connection's own.
    fn shares(&self) -> bool {
        self.process.load(Ordering::Relaxed) < self.bounds.process
    }

    fn beyond(&self, held: usize) -> usize {
        held.saturating_sub(self.bounds.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    const CONNECTIONS: usize = 1_024;

    /// Whether a connection would be let do it now.
    fn is_let(poll: impl FnOnce(&mut Wait, &mut Context<'_>) -> Poll<()>) -> bool {
        poll(&mut Wait::default(), &mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// What many connections hold that take `piece` after `piece`, in turns, for as long as they are let.
    fn fill(gates: &[&Gate], piece: usize, asks: usize) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for gate in gates {
                if is_let(|wait, context| gate.poll_room(asks, wait, context)) {
                    gate.add(piece);
                    goes_on = true;
                }
            }
        }
    }

    /// A flood of this size is too heavy for a small machine, so that the counts themselves are held to their bounds:
    /// each of a thousand connections takes what it is let, and what they hold together is summed.
    #[test]
    fn connections_within_their_bounds_hold_no_more_together_than_the_process_may() {
        type Thing = fn(&Account) -> &Gate;
        // What is asked for: all of a message, one check, and of answers that there is any room.
        let things: [(Thing, usize, usize); 3] = [
            (|account| &account.messages, 64 * KIB, 64 * KIB),
            (|account| &account.checks, 1, 1),
            (|account| &account.answers, 32 * KIB, 1),
        ];
        let process: &'static Process = Box::leak(Box::default());
        let accounts: Vec<Account> = (0..CONNECTIONS).map(|_| Account::within(process)).collect();
        let stated = [256 * MIB, 32_768, 128 * MIB];
        for ((thing, piece, asks), stated) in things.into_iter().zip(stated) {
            let gates: Vec<&Gate> = accounts.iter().map(thing).collect();
            let own = gates[0].bounds.own;
            let beyond = || gates.iter().map(|gate| gate.held().saturating_sub(own)).sum::<usize>();
            fill(&gates, piece, asks);
            // An answer is as long as it is: the one that came last passes the bound.
            let last = piece - asks;
            assert!((stated - piece..=stated + last).contains(&beyond()), "{} of {stated}", beyond());
            assert!(gates.iter().all(|gate| gate.held() >= own && gate.held() < gate.bounds.connection));
            // One more connection has its own share still, and not a piece beyond.
            let more = Account::within(process);
            fill(&[thing(&more)], piece, asks);
            assert!((own..=own + last).contains(&thing(&more).held()), "{}", thing(&more).held());
            thing(&more).remove(thing(&more).held());
            // What one gives back another may have.
            let held = gates[0].held();
            gates[0].remove(held);
            fill(&gates[1..2], piece, asks);
            assert!(gates[1].held() > gates[2].held(), "{} {}", gates[1].held(), gates[2].held());
            gates.iter().for_each(|gate| gate.remove(gate.held()));
        }
        let left = [&process.messages, &process.checks, &process.answers];
        assert!(left.iter().all(|count| count.load(Ordering::Relaxed) == 0), "{process:?}");
    }
}
