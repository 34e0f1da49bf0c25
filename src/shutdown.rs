//! The end of the process: signals, and tasks with a name that say what their end means.
//!
//! Promise: every task has a name; one that must not end and does ends the process; every stop has a deadline.
//! This is the only place that spawns.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Connections finish what is in flight; no new ones are accepted.
    Draining,
}

/// Tells every part of the process that it is to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    phase: Arc<watch::Sender<Phase>>,
    failed: Arc<AtomicBool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Running)), failed: Arc::default() }
    }
}

impl Stop {
    /// Begins the drain; again it does nothing.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Begins the drain because a part of the process failed.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.drain();
    }

    /// Whether a part of the process failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits for the drain to begin.
    pub async fn draining(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }
}

/// Spawns a task on this thread's set that may end whenever it is done, such as a connection.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn spawn_local(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

/// Spawns a task that lasts as long as its thread: when it ends unasked, by a panic too, the process stops. During the
/// drain it goes on, because what is in flight may need it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn spawn_lasting(name: &'static str, stop: &Stop, task: impl Future<Output = ()> + 'static) {
    let lasting = Lasting { name, stop: stop.clone() };
    tokio::task::spawn_local(async move {
        let _until_the_end = lasting;
        task.await;
    });
}

/// Notices the end of a lasting task, however it ends.
struct Lasting {
    name: &'static str,
    stop: Stop,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if !self.stop.is_draining() {
            tracing::error!(task = self.name, "a task that must not end has ended; stopping");
            self.stop.fail();
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The handlers cannot be installed.
pub async fn asked_to_stop() -> std::io::Result<&'static str> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}

/// SIGHUP, again and again.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Listens for it.
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
