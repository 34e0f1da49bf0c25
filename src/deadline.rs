//! `grpc-timeout`: how long the caller waits, as the gRPC protocol writes it. Every front end reads it here.
//!
//! Promise: the time counts from the headers of the request, however long its message takes to come after them.

use crate::clock;
use crate::service::Deadline;
use std::time::{Duration, Instant};
use tonic::{Request, Status};

const HEADER: &str = "grpc-timeout";

/// Notes the deadline of a call whose headers are here now, for [`of`]; none where the caller sets none, or writes one that
/// is no timeout.
pub fn note<T>(request: &mut http::Request<T>) -> Option<Instant> {
    let timeout = request.headers().get(HEADER)?.to_str().ok().and_then(parse)?;
    let deadline = clock::monotonic().checked_add(timeout);
    request.extensions_mut().insert(Noted(deadline));
    deadline
}

#[derive(Clone, Copy, Debug)]
struct Noted(Option<Instant>);

/// The deadline of a call, counted from its headers.
///
/// # Errors
/// INVALID_ARGUMENT for a header that is no timeout.
pub fn of<T>(request: &Request<T>) -> Result<Deadline, Status> {
    let Some(value) = request.metadata().get(HEADER) else { return Ok(Deadline(None)) };
    if let Some(Noted(deadline)) = request.extensions().get() {
        return Ok(Deadline(*deadline));
    }
    // Without a connection of ours, as in tests, the call begins here.
    let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
        Status::invalid_argument("grpc-timeout: write at most 8 digits and one of H M S m u n")
    })?;
    Ok(Deadline(clock::monotonic().checked_add(timeout)))
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_refuses_the_rest() {
        assert_eq!(parse("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(parse("1n"), Some(Duration::from_nanos(1)));
        for bad in ["", "m", "5", "123456789S", "-1S", "1.5S", "1x", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
