//! Answers that the adapter must give without the service: byte for byte what the service would have sent.

use crate::decision::Decision;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::time::Duration;

const TEMPORARY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
#[cfg_attr(not(feature = "local"), allow(dead_code, reason = "only limits in this process refuse by it"))]
const QUOTA: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The form of those bodies; as `http.error_body` of the service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ErrorBody {
    /// `{"status":"error","code":…,"message":…,"details":[]}`
    #[default]
    Uniform,
    /// RFC 9457, `application/problem+json`.
    Problem,
}

// Members in the service's order.
#[derive(Serialize)]
struct Uniform<'a> {
    status: &'a str,
    code: &'a str,
    message: &'a str,
    details: [(); 0],
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
}

/// One refusal as it is written here.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    kind: &'static str,
    retry_after: Option<Duration>,
}

impl Refusal {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, kind: "about:blank", retry_after: None }
    }
}

impl ErrorBody {
    pub(crate) fn unavailable(self) -> Decision {
        self.refuse(Refusal {
            kind: TEMPORARY,
            retry_after: Some(Duration::from_secs(1)),
            ..Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "RATE_LIMIT_UNAVAILABLE",
                "The limit cannot be checked now. Please try again later.",
            )
        })
    }

    pub(crate) fn token_unavailable(self) -> Decision {
        self.refuse(Refusal {
            kind: TEMPORARY,
            retry_after: Some(Duration::from_secs(1)),
            ..Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "TOKEN_CHECK_UNAVAILABLE",
                "The token cannot be checked now. Please try again later.",
            )
        })
    }

    pub(crate) fn token_missing(self) -> Decision {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "TOKEN_MISSING", "A token is required.");
        self.challenge(refusal, HeaderValue::from_static("Bearer"))
    }

    pub(crate) fn token_invalid(self) -> Decision {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "TOKEN_INVALID", "The token is not valid.");
        let challenge = r#"Bearer error="invalid_token", error_description="the token is not valid""#;
        self.challenge(refusal, HeaderValue::from_static(challenge))
    }

    pub(crate) fn not_configured(self) -> Decision {
        self.refuse(Refusal {
            kind: TEMPORARY,
            ..Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "NOT_CONFIGURED",
                "The request cannot be judged now.",
            )
        })
    }

    pub(crate) fn malformed(self) -> Decision {
        self.refuse(Refusal::new(
            StatusCode::BAD_REQUEST,
            "REQUEST_MALFORMED",
            "The request is not well formed.",
        ))
    }

    pub(crate) fn too_large(self) -> Decision {
        self.refuse(Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "REQUEST_HEADERS_TOO_LARGE",
            "The request's headers are too large.",
        ))
    }

    pub(crate) fn origin(self) -> Decision {
        self.refuse(Refusal::new(
            StatusCode::FORBIDDEN,
            "ORIGIN_NOT_ALLOWED",
            "Connections from this origin are not allowed.",
        ))
    }

    #[cfg(feature = "local")]
    pub(crate) fn limited_here(self, retry_after: Option<Duration>) -> Decision {
        let message = "Too many requests. Please try again later.";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", message);
        let mut decision = self.refuse(Refusal { kind: QUOTA, retry_after, ..refusal });
        decision.mode = "local".into();
        decision
    }

    pub(crate) fn internal(self) -> Decision {
        self.refuse(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_SERVER_ERROR",
            "Something went wrong. Please try again later.",
        ))
    }

    fn challenge(self, refusal: Refusal, challenge: HeaderValue) -> Decision {
        let mut decision = self.refuse(refusal);
        decision.headers.push((header::WWW_AUTHENTICATE, challenge));
        decision
    }

    fn refuse(self, refusal: Refusal) -> Decision {
        let Refusal { status, code, message, kind, retry_after } = refusal;
        let (content_type, body) = match self {
            Self::Uniform => (
                "application/json",
                serde_json::to_vec(&Uniform { status: "error", code, message, details: [] }),
            ),
            Self::Problem => {
                let problem = Problem { r#type: kind, title: message, status: status.as_u16(), code };
                ("application/problem+json", serde_json::to_vec(&problem))
            }
        };
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(3);
        if let Some(wait) = retry_after {
            headers.push((header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        }
        headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        Decision {
            allowed: false,
            reason: code.to_ascii_lowercase().into(),
            mode: "failed_closed".into(),
            status,
            headers,
            content_type: HeaderValue::from_static(content_type),
            // Four texts and a number: nothing in them can fail.
            body: Bytes::from(body.unwrap_or_default()),
            retry_after,
            ..Decision::passed("failed_closed")
        }
    }
}

/// Rounded up, at least 1: who waits that long comes late enough.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
