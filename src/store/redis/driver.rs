//! Who sends: takes batches off the line, has a few calls under way, keeps the connection alive.
//!
//! Promise: an ask that finds nothing under way is sent at once; one that comes while a call is under way shares the
//! next. More calls go out before the first is answered only when they are full. A call that is not answered in
//! time keeps its place until Redis has caught up, so that a server that hangs is not fed with charges that
//! nobody waits for.
//!
//! Must never: end while a store is in use; the application runs it as a task of its own.

use crate::clock;
use crate::store::StoreError;
use crate::store::redis::Shared;
use crate::store::redis::line::{MAX_ASKS, Waiting};
use crate::store::redis::plan::Plan;
use crate::store::redis::reply;
use fred::interfaces::{ClientLike, EventInterface};
use fred::prelude::{Client, Error};
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// Most calls under way. Measured with 512 asks in flight on one machine: one and two are alike, four lose a quarter
/// of the throughput. The second hides the time on the wire of a Redis further away.
const MAX_CALLS: usize = 2;
/// Pause before a client that stopped for good is started again: no busy loop over an error that lasts, and
/// soon enough after it was mended.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

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
        let client = self.shared.connection.client().clone();
        let mut reconnected = Some(client.reconnect_rx());
        let mut connection = pin!(stay_connected(client));
        let mut calls = FuturesUnordered::new();
        let mut checks = FuturesUnordered::new();
        let mut beat = Beat::new(self.shared.timeout);
        while !self.shared.closed.load(Ordering::Acquire) {
            while self.may_send(calls.len()) {
                let batch = self.shared.line.next();
                if batch.is_empty() {
                    break;
                }
                calls.push(call(&self.shared, batch));
                beat.begin();
            }
            tokio::select! {
                Some(()) = calls.next() => {}
                () = self.shared.line.arrival() => {}
                () = &mut connection => {}
                () = next_reconnect(&mut reconnected) => {
                    if checks.is_empty() {
                        checks.push(check(&self.shared));
                    }
                }
                Some(()) = checks.next() => {}
                () = beat.end() => {}
            }
        }
    }

    /// A second call goes out only for a whole batch. Sent half full it would take the asks that the next call
    /// could share, and Redis would run more scripts for the same work.
    fn may_send(&self, under_way: usize) -> bool {
        under_way == 0 || (under_way < MAX_CALLS && self.shared.line.len() >= MAX_ASKS)
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

/// A client stops for good on some errors of configuration; what was wrong may have been mended since.
/// It never ends: the driver's loop would poll it again.
async fn stay_connected(client: Client) {
    loop {
        let mut task = ClientTask(client.connect());
        // Whatever it ended with, the answer is the same.
        let _ = (&mut task.0).await;
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// The client's own task; it ends with the driver. A bare handle would leave it running when dropped.
struct ClientTask(JoinHandle<Result<(), Error>>);

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The next time that a connection stands. Missed events count as one: one look at the server is enough. After
/// the last event it waits for ever, for an end that is always ready would spin the driver's loop.
async fn next_reconnect<T: Clone>(events: &mut Option<broadcast::Receiver<T>>) {
    if let Some(receiver) = events {
        match receiver.recv().await {
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => *events = None,
        }
    }
    pending().await
}

/// The event comes a moment before calls can be sent, so this waits for the connection. If it fails there will
/// be another event, and the old findings stand until then.
async fn check(shared: &Shared) {
    if shared.connection.client().wait_for_connect().await.is_ok() {
        shared.check().await;
    }
}

/// One call: sends a batch, hands out its answers. After a timeout the answers go out at once, but the call
/// lasts until Redis has replied to it or the connection is given up: that is what keeps its place.
async fn call(shared: &Shared, batch: Vec<Waiting>) {
    let plan = Plan::new(batch.iter().map(|waiting| &waiting.ask), shared.hold);
    let args = plan.args.iter().map(|arg| Value::Bytes(arg.clone().into())).collect();
    let script = if plan.is_single { &shared.scripts.one } else { &shared.scripts.take };
    let result = shared.connection.run(script, plan.keys.clone(), args).await;
    let late = matches!(result, Err(StoreError::Timeout(_)));
    hand_out(&plan, batch, result);
    if late {
        shared.connection.settle().await;
    }
}

/// Each ask is answered once. An error of the call is the error of every ask in it, for none has an answer of
/// its own.
fn hand_out(plan: &Plan, batch: Vec<Waiting>, result: Result<bytes::Bytes, StoreError>) {
    match result {
        Ok(bytes) => {
            let outcomes = reply::read(plan, |at| batch.get(at).map(|waiting| &waiting.ask), &bytes);
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
