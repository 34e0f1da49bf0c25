//! What can go wrong, each with what to do about it.

use crate::{
    decision::Decision,
    headers::{CONTENT_LENGTH, CONTENT_TYPE, Fields},
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use std::{error::Error as StdError, sync::Arc};

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// A setting that would be unsafe or without effect. It comes from `build`, never from a request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigurationError {
    /// No origin may read answers: outside development that is never meant.
    #[error(
        "no allowed origins in {0}: give origins, set ALLOWED_ORIGINS=https://app.example.com (commas between \
         several), or switch CORS off when no browser page of another origin uses this API"
    )]
    NoOrigins(&'static str),
    /// An origin that browsers never send, or that lets everybody in.
    #[error("allowed origin {origin:?} in {environment}: {why}")]
    Origin {
        /// As written.
        origin: String,
        /// Where it is not allowed.
        environment: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Neither development, staging nor production.
    #[error("environment {0:?} is none of development, staging, production")]
    Environment(String),
    /// Tokens would cross the network in plain text, or it is no address.
    #[error("target {target:?}: {why}")]
    Target {
        /// As written.
        target: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A range of `trusted_proxies` that is none.
    #[error("trusted_proxies {0:?}: write 10.0.0.0/8 or one address, without bits outside the range")]
    Network(String),
    /// A rule's path.
    #[error("rule {path:?}: {why}")]
    Rule {
        /// As written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A header's name or value that HTTP cannot carry.
    #[error("header {0:?}: not a header that HTTP can carry")]
    Header(String),
    /// A time or a number that cannot be meant.
    #[error("{name} {why}")]
    Number {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A cookie that browsers would drop or treat otherwise than meant.
    #[error("cookie {name:?}: {why}")]
    Cookie {
        /// As written.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why there is no decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Nobody answered in time. Counts for the breaker.
    Away,
    /// The service answered that it cannot decide now. It is there, so the breaker is not concerned.
    Undecided,
    /// The request is beyond what the service takes. A client can bring this about, so it must never let one pass.
    Malformed,
    /// The service does not know the domain or policy that was named.
    NotConfigured,
}

impl Cause {
    /// For logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Undecided => "undecided",
            Self::Malformed => "malformed",
            Self::NotConfigured => "not_configured",
        }
    }
}

/// The service gave no decision; nothing is known about the request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", .cause.as_str())]
pub struct NoDecision {
    /// What it means.
    pub cause: Cause,
    /// For logs: the service's own words, which never hold a token.
    pub detail: String,
}

impl NoDecision {
    pub(crate) fn away(detail: impl Into<String>) -> Self {
        Self { cause: Cause::Away, detail: detail.into() }
    }
}

/// Makes status, content type and body of refusals, in the place of the service's own.
pub(crate) type ErrorBuilder = dyn Fn(&Decision) -> (StatusCode, HeaderValue, Bytes) + Send + Sync;

/// A check, a lease or a token was refused. As a response it is the service's own answer.
#[derive(Clone, thiserror::Error)]
#[error("refused: {} ({})", .decision.reason, .decision.status)]
pub struct Denied {
    /// Status, headers, body, `retry_after` and the statuses of the policies.
    pub decision: Box<Decision>,
    pub(crate) error: Option<Arc<ErrorBuilder>>,
}

impl std::fmt::Debug for Denied {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Denied").field("decision", &self.decision).finish_non_exhaustive()
    }
}

impl Denied {
    /// The refusal as a response, with the headers and the body that the service made for it.
    #[must_use]
    pub fn to_http(&self) -> Response<Bytes> {
        let decision = &self.decision;
        let (status, content_type, body) = match &self.error {
            Some(build) => build(decision),
            None => (decision.status, decision.content_type.clone(), decision.body.clone()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let length = HeaderValue::from(response.body().len());
        let headers = response.headers_mut();
        headers.set_all(&decision.headers);
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(CONTENT_LENGTH, length);
        response
    }
}
