//! Whether decisions can be sent now, and why not.

use crate::store::StoreError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Written by the driver, read by every decision.
#[derive(Debug)]
pub(super) struct Away {
    is_up: AtomicBool,
    /// Why it was not the last time.
    why: Mutex<String>,
    /// Told when a connection stands.
    stands: Notify,
}

impl Away {
    /// Before the first connection.
    pub(super) fn new() -> Self {
        Self {
            is_up: AtomicBool::new(false),
            why: Mutex::new("not connected yet".to_owned()),
            stands: Notify::new(),
        }
    }

    /// Whether decisions can be sent, as far as is known: a connection that broke silently still counts as up.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// A connection stands.
    pub(super) fn came_back(&self) {
        self.is_up.store(true, Ordering::Release);
        self.stands.notify_waiters();
    }

    /// Waits until a connection stands.
    pub(super) async fn is_back(&self) {
        loop {
            // Made before the look: what is told after it is not missed.
            let stands = self.stands.notified();
            if self.is_up() {
                return;
            }
            stands.await;
        }
    }

    /// There is none, for this reason.
    pub(super) fn went(&self, why: &std::io::Error) {
        *self.why.lock() = format!("not connected: {why}");
        self.is_up.store(false, Ordering::Release);
    }

    /// What a decision is told that cannot be sent.
    pub(super) fn error(&self) -> StoreError {
        StoreError::Unreachable(self.why.lock().clone())
    }
}
