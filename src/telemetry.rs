//! What operators see: logs, as text or JSON, on standard error.
//!
//! Must never: show a token, a secret or a raw key. Labels are configured names, never a caller's data.

use crate::engine::units::Moment;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Lets one of many like events through a second, so that a failing store does not flood the log.
#[derive(Debug, Default)]
pub struct Seldom(AtomicU64);

impl Seldom {
    /// Whether this event, at `now`, is the first of its second.
    #[must_use]
    pub fn due(&self, now: Moment) -> bool {
        let second = now.seconds();
        self.0.swap(second, Ordering::Relaxed) != second
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogShape {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("log filter `{0}`: write a level such as info, or target=level with commas")]
    Filter(String),
    /// Logging was started already.
    #[error("logging was started already")]
    Started,
}

/// Starts logging.
///
/// # Errors
/// The filter does not parse, or logging was started already.
pub fn start(filter: &str, shape: LogShape) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter).map_err(|_| LogError::Filter(filter.to_owned()))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let started = match shape {
        LogShape::Text => builder.with_target(false).try_init(),
        LogShape::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LogError::Started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_second_is_due() {
        let seldom = Seldom::default();
        assert!(seldom.due(Moment(5_000_000)));
        assert!(!seldom.due(Moment(5_999_999)));
        assert!(seldom.due(Moment(6_000_000)));
    }
}
