//! The words of the API's enumerations as people and scripts read them: `deny`, `limit_exceeded`, `token_bucket`.

use crate::pb::quotad::v1::{Algorithm, Mode, Outcome, Reason};
use std::time::Duration;

/// What a value stands for that this client does not know: it came from a newer server.
const UNKNOWN: &str = "unknown";

/// `allow` or `deny`.
#[must_use]
pub fn outcome(value: i32) -> String {
    word(Outcome::try_from(value).ok().map(|known| known.as_str_name()), "OUTCOME_")
}

/// Such as `limit_exceeded`.
#[must_use]
pub fn reason(value: i32) -> String {
    word(Reason::try_from(value).ok().map(|known| known.as_str_name()), "REASON_")
}

/// Such as `exact`.
#[must_use]
pub fn mode(value: i32) -> String {
    word(Mode::try_from(value).ok().map(|known| known.as_str_name()), "MODE_")
}

/// Such as `sliding_window`.
#[must_use]
pub fn algorithm(value: i32) -> String {
    word(Algorithm::try_from(value).ok().map(|known| known.as_str_name()), "ALGORITHM_")
}

fn word(name: Option<&'static str>, prefix: &str) -> String {
    let name = name.unwrap_or(UNKNOWN);
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// A protobuf duration; none when it is absent, or negative, which no quotad sends.
#[must_use]
pub fn duration(value: Option<prost_types::Duration>) -> Option<Duration> {
    value.and_then(|value| Duration::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_without_the_prefix() {
        assert_eq!(outcome(2), "deny");
        assert_eq!(reason(3), "limit_exceeded");
        assert_eq!(mode(4), "failed_open");
        assert_eq!(algorithm(2), "token_bucket");
        assert_eq!(reason(999), "unknown");
        assert_eq!(outcome(0), "unspecified");
    }
}
