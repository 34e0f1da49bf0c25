//! The circuit breaker: a service that stalls costs its deadline a few times, not for each request.
//!
//! Promise: after [`FAILURES`] in a row no call waits, but one every [`PAUSE`] that tries. That pause is short and does
//! not grow, because a service that is back must be asked again within two seconds.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

pub(crate) const FAILURES: u32 = 5;
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Of one Shield, so of all its requests.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Set while it is open.
    next_try: Option<Instant>,
}

/// What a result did to the breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    None,
    Opened,
    Closed,
}

impl Breaker {
    /// Whether to call. While it is open that is so once a pause: that call is the try.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.next_try {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                state.next_try = Some(now + PAUSE);
                true
            }
        }
    }

    pub(crate) fn failed(&self, now: Instant) -> Change {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        let was_open = state.next_try.is_some();
        if was_open || state.failures >= FAILURES {
            state.next_try = Some(now + PAUSE);
        }
        if was_open || state.next_try.is_none() { Change::None } else { Change::Opened }
    }

    pub(crate) fn succeeded(&self) -> Change {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = 0;
        if state.next_try.take().is_some() { Change::Closed } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, Change, FAILURES, PAUSE};
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_tries_once_a_pause() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            assert_eq!(breaker.failed(start), Change::None);
        }
        assert_eq!(breaker.succeeded(), Change::None, "one success begins the count anew");
        for _ in 1..FAILURES {
            assert_eq!(breaker.failed(start), Change::None);
            assert!(breaker.admits(start));
        }
        assert_eq!(breaker.failed(start), Change::Opened);
        assert!(!breaker.admits(start + PAUSE - Duration::from_millis(1)));
        assert!(breaker.admits(start + PAUSE), "the try");
        assert!(!breaker.admits(start + PAUSE), "only one");
        assert_eq!(breaker.failed(start + PAUSE), Change::None);
        assert!(!breaker.admits(start + PAUSE + PAUSE / 2));
        assert!(breaker.admits(start + PAUSE * 2), "the pause does not grow");
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert!(breaker.admits(start + PAUSE * 2));
    }
}
