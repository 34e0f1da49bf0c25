//! Refusals for tonic servers.

use crate::{answers::whole_seconds, error::Denied};
use http::StatusCode;
use std::time::Duration;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

/// How long a client of gRPC waits before it tries again, in milliseconds; below 0: never.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

impl From<Denied> for Status {
    /// RESOURCE_EXHAUSTED for a limit, with `RetryInfo` and `grpc-retry-pushback-ms`, so that clients neither come back
    /// too early nor retry what cannot pass. UNAVAILABLE for an outage, UNAUTHENTICATED and PERMISSION_DENIED for
    /// tokens and origins.
    fn from(denied: Denied) -> Self {
        let decision = denied.decision;
        let (code, message) = match decision.status {
            StatusCode::TOO_MANY_REQUESTS => (Code::ResourceExhausted, "Too many requests."),
            StatusCode::UNAUTHORIZED => (Code::Unauthenticated, "The token is missing or not valid."),
            StatusCode::FORBIDDEN => (Code::PermissionDenied, "Not allowed."),
            StatusCode::SERVICE_UNAVAILABLE => (Code::Unavailable, "The request cannot be judged now."),
            StatusCode::INTERNAL_SERVER_ERROR => (Code::Internal, "Something went wrong."),
            _ => (Code::InvalidArgument, "The request is not well formed."),
        };
        let mut status = match decision.retry_after {
            Some(wait) => {
                Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(wait)))
            }
            None => Status::new(code, message),
        };
        let metadata = status.metadata_mut();
        match decision.retry_after {
            Some(wait) => {
                metadata.insert(PUSHBACK, MetadataValue::from(milliseconds(wait)));
                metadata.insert("retry-after", MetadataValue::from(whole_seconds(wait)));
            }
            // An outage may be over at once; for a limit, waiting cannot help.
            None if code == Code::Unavailable => {}
            None => {
                metadata.insert(PUSHBACK, MetadataValue::from(-1_i64));
            }
        }
        status
    }
}

/// Rounded up.
fn milliseconds(wait: Duration) -> i64 {
    let up = wait.saturating_add(Duration::from_nanos(999_999));
    i64::try_from(up.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Code, Status};
    use crate::{Decision, Denied};
    use http::StatusCode;
    use std::time::Duration;
    use tonic_types::StatusExt as _;

    fn pushback(status: &Status) -> Option<&str> {
        status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap())
    }

    fn status(status: StatusCode, retry_after: Option<Duration>) -> Status {
        let decision = Decision { allowed: false, status, retry_after, ..Decision::passed("exact") };
        Status::from(Denied { decision: Box::new(decision), error: None })
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        let status = status(StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_micros(1_500_001)));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(pushback(&status), Some("1501"));
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry, Some(Duration::from_micros(1_500_001)));
    }

    #[test]
    fn what_cannot_pass_is_not_to_be_retried() {
        let status = status(StatusCode::TOO_MANY_REQUESTS, None);
        assert_eq!(pushback(&status), Some("-1"));
        assert!(status.get_details_retry_info().is_none());
    }

    #[test]
    fn tokens_and_outages_have_codes_of_their_own() {
        for (http, code) in [
            (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
            (StatusCode::FORBIDDEN, Code::PermissionDenied),
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        ] {
            assert_eq!(status(http, None).code(), code);
        }
        assert_eq!(pushback(&status(StatusCode::SERVICE_UNAVAILABLE, None)), None);
    }
}
