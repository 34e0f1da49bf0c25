//! Work that no client waits for: leases that are given back, reservations that are settled.
//!
//! Bound: [`AT_ONCE`] calls in flight. Each ends by itself, by its own deadline.

use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

/// Most calls in flight, when many sockets end at once.
const AT_ONCE: usize = 64;

pub(crate) struct Tasks {
    permits: Semaphore,
    working: watch::Sender<usize>,
}

/// Counts down however the task ends.
struct Working(Arc<Tasks>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_modify(|number| *number -= 1);
    }
}

impl Tasks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { permits: Semaphore::new(AT_ONCE), working: watch::Sender::new(0) })
    }

    pub(crate) fn spawn(self: &Arc<Self>, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        self.working.send_modify(|number| *number += 1);
        let working = Working(Arc::clone(self));
        runtime.spawn(async move {
            // The semaphore is never closed.
            let _permit = working.0.permits.acquire().await;
            work.await;
        });
    }

    /// Whether all that was spawned has ended in this time.
    pub(crate) async fn are_done(&self, timeout: Duration) -> bool {
        let mut working = self.working.subscribe();
        tokio::time::timeout(timeout, working.wait_for(|number| *number == 0)).await.is_ok()
    }
}
