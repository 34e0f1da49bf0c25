//! Who sends: takes batches off the line, has a few calls under way, keeps the connections alive.
//!
//! Promise: an ask that finds nothing under way is sent at once; one that comes while a call is under way shares the
//! next. More calls go out before the first is answered only when they are full. A call that is not answered in
//! time keeps its place until Redis has caught up, so that a server that hangs is not fed with charges that
//! nobody waits for; one that answers nothing for a second loses its connection.
//!
//! Must never: end while a store is in use; the application runs it as a task of its own. Send a batch twice, but for a
//! script that Redis did not know and so did not run.

use crate::clock;
use crate::store::StoreError;
use crate::store::redis::Shared;
use crate::store::redis::client::{is_unknown_script, refusal};
use crate::store::redis::line::{MAX_ASKS, Waiting};
use crate::store::redis::options::{RECONNECT_MS, UNRESPONSIVE};
use crate::store::redis::pipe::{By, Pipe};
use crate::store::redis::plan::Plan;
use crate::store::redis::reply;
use crate::store::redis::resp::Reply;
use crate::store::redis::script::Script;
use crate::store::redis::upkeep::keep_client;
use fred::interfaces::ClientLike;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Most calls under way. Measured with 512 asks in flight on one machine: one and two are alike, four lose a quarter
/// of the throughput. The second hides the time on the wire of a Redis further away.
const MAX_CALLS: usize = 2;
/// The task of a [`super::RedisStore`]: run it on the runtime that uses the store.
#[derive(Debug)]
#[must_use = "nothing is sent unless it runs"]
pub struct RedisDriver {
    shared: Arc<Shared>,
}

impl RedisDriver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until every clone of the store is gone. All calls live inside this one future: none outlives it,
    /// and none needs a task of its own. Dropped early, those under way learn that the outcome is unknown,
    /// those in line that nothing was sent, when their patience ends.
    pub async fn run(self) {
        // One future of its own in a set, so that it is looked at when it has something to do and not with every call.
        let mut others: FuturesUnordered<_> = std::iter::once(keep_client(&self.shared)).collect();
        tokio::select! {
            () = decide(&self.shared) => {}
            Some(()) = others.next() => {}
        }
    }
}

/// Keeps the decisions' connection up and in use, until the store is gone.
async fn decide(shared: &Shared) {
    let mut pause = Pause::default();
    loop {
        let opened = tokio::select! {
            opened = pause.then_open(shared) => opened,
            () = refuse(shared) => return,
        };
        let ended = match opened {
            Ok(pipe) => {
                pause = Pause::after_success();
                shared.away.came_back();
                match Sending::new(shared, pipe).run().await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tracing::debug!(error = %ended, "no connection to the store");
        shared.away.went(&ended);
    }
}

/// Answers those in line while there is no connection; ends with the store.
async fn refuse(shared: &Shared) {
    while !shared.closed.load(Ordering::Acquire) {
        for waiting in
            std::iter::repeat_with(|| shared.line.next()).take_while(|batch| !batch.is_empty()).flatten()
        {
            waiting.answer(Err(shared.away.error()));
        }
        shared.line.arrival().await;
    }
}

/// What passes between attempts to connect: doubling, so that a Redis that comes back is not met by all replicas at full
/// speed.
#[derive(Default)]
struct Pause {
    next: Duration,
}

impl Pause {
    fn after_success() -> Self {
        Self { next: Duration::from_millis(RECONNECT_MS.0.into()) }
    }

    /// After the client, so that a store that decides can revoke and renew as well.
    async fn then_open(&mut self, shared: &Shared) -> io::Result<Pipe> {
        let (least, most) = RECONNECT_MS;
        tokio::time::sleep(self.next).await;
        self.next =
            (self.next * 2).clamp(Duration::from_millis(least.into()), Duration::from_millis(most.into()));
        shared.connection.client().wait_for_connect().await.map_err(io::Error::other)?;
        Pipe::open(shared.connection.config()).await
    }
}

/// A batch that was sent.
struct Call {
    plan: Plan,
    batch: Vec<Waiting>,
    by: By,
    since: Instant,
}

/// A connection in use.
struct Sending<'s> {
    shared: &'s Shared,
    pipe: Pipe,
    /// In the order in which they were sent, which is that of the replies.
    calls: VecDeque<Call>,
}

impl<'s> Sending<'s> {
    fn new(shared: &'s Shared, pipe: Pipe) -> Self {
        Self { shared, pipe, calls: VecDeque::with_capacity(MAX_CALLS) }
    }

    /// Sends and hands out, until the store is gone.
    ///
    /// # Errors
    /// The connection ended. Those under way have learned that the outcome is unknown.
    async fn run(mut self) -> io::Result<()> {
        let ended = self.go_on().await;
        for call in self.calls.drain(..) {
            hand_out(call, Err(StoreError::Timeout(self.shared.timeout)));
        }
        ended
    }

    async fn go_on(&mut self) -> io::Result<()> {
        let mut beat = Beat::new(self.shared.timeout);
        while !self.shared.closed.load(Ordering::Acquire) {
            while self.may_send() {
                let batch = self.shared.line.next();
                if batch.is_empty() {
                    break;
                }
                let plan = Plan::new(batch.iter().map(|waiting| &waiting.ask), self.shared.hold);
                self.send(Call { plan, batch, by: By::Name, since: clock::monotonic() });
                beat.begin();
            }
            tokio::select! {
                // Nobody starves: the line is looked at in every round, and replies come one at a time.
                biased;
                reply = self.pipe.reply() => self.answer(reply?)?,
                () = self.shared.line.arrival() => {}
                () = beat.end() => self.look_after(&mut beat)?,
            }
        }
        Ok(())
    }

    /// A second call goes out only for a whole batch. Sent half full it would take the asks that the next call
    /// could share, and Redis would run more scripts for the same work.
    fn may_send(&self) -> bool {
        let under_way = self.calls.len();
        under_way == 0 || (under_way < MAX_CALLS && self.shared.line.len() >= MAX_ASKS)
    }

    fn send(&mut self, call: Call) {
        self.pipe.call(self.script(&call.plan), call.by, &call.plan);
        self.calls.push_back(call);
    }

    fn script(&self, plan: &Plan) -> &'s Script {
        if plan.is_single { &self.shared.scripts.one } else { &self.shared.scripts.take }
    }

    fn answer(&mut self, reply: Reply) -> io::Result<()> {
        let call = self.calls.pop_front().ok_or_else(|| io::Error::other("a reply to nothing"))?;
        match reply {
            Reply::Bulk(bytes) => hand_out(call, Ok(bytes)),
            // Redis lost the script (restart, SCRIPT FLUSH): it did not run. EVAL brings it along, so that no second
            // flush can come between loading and running.
            Reply::Error(words) if call.by == By::Name && is_unknown_script(&words) => {
                self.send(Call { by: By::Text, ..call });
            }
            Reply::Error(words) => hand_out(call, Err(refusal(&words))),
            Reply::Done => hand_out(call, Err(reply::nonsense())),
        }
        Ok(())
    }

    /// Gives up a connection whose oldest call has no reply for too long.
    fn look_after(&self, beat: &mut Beat) -> io::Result<()> {
        let Some(oldest) = self.calls.front() else { return Ok(()) };
        if clock::monotonic().saturating_duration_since(oldest.since) >= UNRESPONSIVE.max(self.shared.timeout)
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply"));
        }
        beat.begin();
        Ok(())
    }
}

/// A timer that runs while calls are made, so that the timers of the asks, which are longer, are never the next to end.
/// One that is makes tokio wake its own thread by a system call; this way that happens once a beat, not once an ask.
struct Beat {
    sleep: Pin<Box<Sleep>>,
    span: Duration,
    runs: bool,
}

impl Beat {
    fn new(timeout: Duration) -> Self {
        let span = timeout / 2;
        Self { sleep: Box::pin(tokio::time::sleep(span)), span, runs: true }
    }

    /// Sets it going, unless it goes.
    fn begin(&mut self) {
        if !self.runs {
            self.sleep.as_mut().reset((clock::monotonic() + self.span).into());
            self.runs = true;
        }
    }

    /// Waits for its end; for ever when it does not go.
    async fn end(&mut self) {
        if !self.runs {
            pending::<()>().await;
        }
        self.sleep.as_mut().await;
        self.runs = false;
    }
}

/// Each ask is answered once. An error of the call is the error of every ask in it, for none has an answer of
/// its own.
fn hand_out(call: Call, result: Result<bytes::Bytes, StoreError>) {
    let Call { plan, batch, .. } = call;
    match result {
        Ok(bytes) => {
            let outcomes = reply::read(&plan, |at| batch.get(at).map(|waiting| &waiting.ask), &bytes);
            let mut waiting: Vec<Option<Waiting>> = batch.into_iter().map(Some).collect();
            for (at, outcome) in outcomes {
                if let Some(waiting) = waiting.get_mut(at).and_then(Option::take) {
                    waiting.answer(outcome);
                }
            }
        }
        Err(error) => {
            for waiting in batch {
                waiting.answer(Err(error.clone()));
            }
        }
    }
}
