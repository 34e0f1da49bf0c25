//! What has to stand before the first connection is accepted.
//!
//! Promise: the process serves when every thread can decide exactly (both of its connections to the store stand, the
//! scripts are there, and it is known how many replicas share it) and the key sets from URLs are there; or when the grace
//! is over, and never later. Who asks before is neither refused nor answered: the ports are bound, and nothing is accepted.
//!
//! Must never: wait again. What goes away later is `on_store_error`'s, and the last good key set's.

use crate::shutdown::Stop;
use std::time::Duration;
use tokio::sync::mpsc;

/// The parts that are waited for.
#[derive(Debug)]
pub(super) struct Standing {
    told: mpsc::UnboundedReceiver<()>,
    part: Part,
}

/// One of the parts; it stands when it says so.
#[derive(Clone, Debug)]
pub(super) struct Part(mpsc::UnboundedSender<()>);

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Every part stands.
    Whole,
    /// The grace was over before.
    Late,
    /// The process is to stop.
    Stopped,
}

impl Part {
    /// Says that it stands; once.
    pub(super) fn stands(self) {
        // Nobody waits any more when the grace is over.
        let _ = self.0.send(());
    }
}

impl Standing {
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { told, part: Part(tell) }
    }

    /// For each part, a clone.
    pub(super) fn part(&self) -> Part {
        self.part.clone()
    }

    /// Waits for so many parts, at most for the grace, or until the process is to stop.
    pub(super) async fn wait(mut self, parts: usize, grace: Duration, stop: &Stop) -> Waited {
        let all = async {
            for _ in 0..parts {
                // A sender is held here, so there is always a next word to wait for.
                self.told.recv().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.draining() => Waited::Stopped,
            () = all => Waited::Whole,
            () = tokio::time::sleep(grace) => Waited::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_whole_when_the_last_part_stands_and_late_when_the_grace_is_over() {
        let grace = Duration::from_millis(30);
        let stop = Stop::default();
        let standing = Standing::new();
        (0..3).for_each(|_| standing.part().stands());
        assert_eq!(standing.wait(3, Duration::MAX, &stop).await, Waited::Whole);
        let standing = Standing::new();
        (0..2).for_each(|_| standing.part().stands());
        let begin = crate::clock::monotonic();
        assert_eq!(standing.wait(3, grace, &stop).await, Waited::Late);
        assert!(begin.elapsed() >= grace);
        assert_eq!(Standing::new().wait(1, Duration::ZERO, &stop).await, Waited::Late, "no wait at all");
        stop.drain();
        assert_eq!(Standing::new().wait(1, grace, &stop).await, Waited::Stopped);
    }
}
