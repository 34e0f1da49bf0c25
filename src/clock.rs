//! The only place that reads the system's clocks. Everything else is given the time.

use crate::engine::units::{Micros, Moment};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Moment(Micros::from(since).0)
}

/// The monotonic clock now, for deadlines.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn monotonic() -> Instant {
    Instant::now()
}
