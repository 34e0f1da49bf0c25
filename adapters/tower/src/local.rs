//! Limits in this process, while the service is away, by the crate governor.
//!
//! They hold a process at a time: with four processes and 10 a minute forty may pass; `replicas` divides for that.
//! governor counts by GCRA, so units come back one by one, and up to twice the limit fits into a window after a pause.

use crate::address;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use http::request::Parts;
use std::{
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Most keys that are counted apart; beyond it new ones share one counter, so a flood of keys neither takes the memory
/// nor passes free.
const MAX_KEYS: usize = 100_000;
/// Keys that hold nothing any more are dropped each time that many were counted.
const SWEEP_EVERY: u32 = 10_000;
const OVERFLOW: &str = "(overflow)";

type KeyFn = dyn Fn(&Parts) -> String + Send + Sync;

/// `Local::new(10, Duration::from_secs(60))`: for each client address, or for what `by` makes of the request.
#[derive(Clone)]
pub struct Local {
    limit: NonZeroU32,
    window: Duration,
    replicas: NonZeroU32,
    key: Option<Arc<KeyFn>>,
    state: Arc<State>,
}

struct State {
    limiter: DefaultKeyedRateLimiter<String>,
    since_sweep: AtomicU32,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counted {
    Passed,
    Refused {
        retry_after: Option<Duration>,
    },
    /// There is no address to count by: it must not share a counter by accident.
    NoKey,
}

impl fmt::Debug for Local {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Local")
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// `limit` units in `window`. A limit of 0 is 1, a window of 0 a nanosecond.
    #[must_use]
    pub fn new(limit: u32, window: Duration) -> Self {
        let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
        Self::made(limit, window, NonZeroU32::MIN, None)
    }

    /// How many processes there are: each counts to its share, 1 at least.
    #[must_use]
    pub fn replicas(self, replicas: u32) -> Self {
        let replicas = NonZeroU32::new(replicas).unwrap_or(NonZeroU32::MIN);
        Self::made(self.limit, self.window, replicas, self.key)
    }

    /// Counts by what this makes of the request.
    #[must_use]
    pub fn by(self, key: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        Self::made(self.limit, self.window, self.replicas, Some(Arc::new(key)))
    }

    fn made(limit: NonZeroU32, window: Duration, replicas: NonZeroU32, key: Option<Arc<KeyFn>>) -> Self {
        let share = NonZeroU32::new(limit.get() / replicas.get()).unwrap_or(NonZeroU32::MIN);
        let each = (window / share.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(share)).allow_burst(share);
        let state = State { limiter: RateLimiter::keyed(quota), since_sweep: AtomicU32::new(0) };
        Self { limit, window, replicas, key, state: Arc::new(state) }
    }

    /// Counts when it fits. A cost of 0 takes nothing.
    pub(crate) fn hit(&self, parts: &Parts, client: Option<IpAddr>, cost: u32) -> Counted {
        let key = match &self.key {
            Some(key) => Some(key(parts)),
            None => client.map(|address| address::partition(address).to_string()),
        };
        let Some(key) = key else { return Counted::NoKey };
        let Some(units) = NonZeroU32::new(cost) else { return Counted::Passed };
        let key = self.bounded(key);
        match self.state.limiter.check_key_n(&key, units) {
            Ok(Ok(())) => Counted::Passed,
            Ok(Err(until)) => {
                let wait = until.wait_time_from(governor::clock::DefaultClock::default().now());
                Counted::Refused { retry_after: Some(wait) }
            }
            Err(_) => Counted::Refused { retry_after: None },
        }
    }

    fn bounded(&self, key: String) -> String {
        let limiter = &self.state.limiter;
        if self.state.since_sweep.fetch_add(1, Ordering::Relaxed) >= SWEEP_EVERY {
            self.state.since_sweep.store(0, Ordering::Relaxed);
            limiter.retain_recent();
        }
        if limiter.len() < MAX_KEYS { key } else { OVERFLOW.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counted, Local, MAX_KEYS};
    use std::time::Duration;

    fn parts() -> http::request::Parts {
        http::Request::new(()).into_parts().0
    }

    #[test]
    fn counts_an_address_and_its_cost() {
        let local = Local::new(4, Duration::from_secs(3600)).replicas(2);
        let ann = Some("2001:db8::1".parse().unwrap());
        assert_eq!(local.hit(&parts(), ann, 2), Counted::Passed);
        let neighbour = Some("2001:db8::2".parse().unwrap());
        let Counted::Refused { retry_after: Some(wait) } = local.hit(&parts(), neighbour, 1) else {
            panic!("one /64 is one subscriber, and its share is 2")
        };
        assert!(wait > Duration::from_secs(1000), "{wait:?}");
        assert_eq!(local.hit(&parts(), Some("203.0.113.1".parse().unwrap()), 1), Counted::Passed);
        assert_eq!(local.hit(&parts(), ann, 9), Counted::Refused { retry_after: None }, "it never fits");
        assert_eq!(local.hit(&parts(), None, 1), Counted::NoKey);
    }

    #[test]
    fn a_flood_of_keys_shares_a_counter() {
        let local = Local::new(1, Duration::from_secs(3600)).by(|parts| parts.uri.path().to_owned());
        let hit = |number: usize| {
            let mut parts = parts();
            parts.uri = format!("/{number}").parse().unwrap();
            local.hit(&parts, None, 1)
        };
        for number in 0..MAX_KEYS + 2 {
            let expected = number <= MAX_KEYS;
            assert_eq!(hit(number) == Counted::Passed, expected, "{number}");
        }
    }
}
