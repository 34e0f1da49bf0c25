//! A decision as the application sees it: the service's answer, copied, never computed anew.

use crate::v1 as pb;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::{borrow::Cow, time::Duration};

/// What one policy said.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyStatus {
    /// Its name in the service's configuration.
    pub policy: String,
    /// Units a window allows, or leases that may be held at once.
    pub limit: u64,
    /// Units or leases left.
    pub remaining: u64,
    /// `None` for connection policies.
    pub window: Option<Duration>,
    /// Until the whole quota is there again.
    pub reset_after: Duration,
    /// This policy refused the request.
    pub violated: bool,
    /// Counted, but never denies.
    pub shadow: bool,
    /// As [`Decision::mode`], of this policy.
    pub mode: Cow<'static, str>,
    /// Counts leases, not units.
    pub is_concurrency: bool,
}

/// The whole answer. `status`, `headers`, `body` are ready to send.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Such as `limit_exceeded`; what the adapter said by itself has the code of its body.
    pub reason: Cow<'static, str>,
    /// How exact it is: `exact`, `leased`, `local`, `failed_open`, `failed_closed`.
    pub mode: Cow<'static, str>,
    /// 200, or what to send.
    pub status: StatusCode,
    /// To be set on the response, allowed or denied.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of `body`.
    pub content_type: HeaderValue,
    /// Denied: what to send.
    pub body: Bytes,
    /// Denied: a lone caller that waits this long succeeds. `None`: waiting cannot help.
    pub retry_after: Option<Duration>,
    /// One for each policy that was consulted.
    pub statuses: Vec<PolicyStatus>,
    /// What settles the cost; see [`crate::Ask::settle_within`].
    pub(crate) ticket: Option<Bytes>,
    /// Whether `headers` hold the service's security headers, as those of `Authorize` do.
    pub(crate) is_secured: bool,
}

/// Which call gave a decision: `Authorize` sends the security headers along.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Authorize,
    Check,
}

impl Decision {
    /// The service's answer. An outcome that this version does not know is a denial.
    pub(crate) fn read(answer: pb::Decision, origin: Origin) -> Self {
        let body = answer.body.unwrap_or_default();
        let header = |header: pb::Header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(&header.value).ok()?))
        };
        Self {
            allowed: answer.outcome == i32::from(pb::Outcome::Allow),
            reason: name(pb::Reason::try_from(answer.reason).ok().map(|known| known.as_str_name())),
            mode: name(pb::Mode::try_from(answer.mode).ok().map(|known| known.as_str_name())),
            status: u16::try_from(answer.http_status)
                .ok()
                .and_then(|status| StatusCode::from_u16(status).ok())
                .unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            headers: answer.headers.into_iter().filter_map(header).collect(),
            content_type: HeaderValue::try_from(body.content_type)
                .unwrap_or(HeaderValue::from_static("application/octet-stream")),
            body: body.content.into(),
            retry_after: answer.retry_after.map(duration),
            statuses: answer.statuses.into_iter().map(PolicyStatus::read).collect(),
            ticket: answer.reservation.map(|reservation| reservation.ticket.into()),
            is_secured: origin == Origin::Authorize,
        }
    }

    /// Of a request that nobody decided about.
    pub(crate) fn passed(mode: &'static str) -> Self {
        Self {
            allowed: true,
            reason: "unavailable".into(),
            mode: mode.into(),
            status: StatusCode::OK,
            headers: Vec::new(),
            content_type: HeaderValue::from_static(""),
            body: Bytes::new(),
            retry_after: None,
            statuses: Vec::new(),
            ticket: None,
            is_secured: false,
        }
    }
}

impl PolicyStatus {
    fn read(status: pb::PolicyStatus) -> Self {
        let is_concurrency = status.algorithm == i32::from(pb::Algorithm::Concurrency);
        Self {
            limit: status.limit,
            remaining: status.remaining,
            window: status.window.map(duration),
            reset_after: status.reset_after.map(duration).unwrap_or_default(),
            violated: status.violated,
            shadow: status.shadow,
            mode: name(pb::Mode::try_from(status.mode).ok().map(|known| known.as_str_name())),
            is_concurrency,
            policy: status.policy,
        }
    }
}

/// `limit_exceeded` for REASON_LIMIT_EXCEEDED; `unknown` for one that came later than this version.
fn name(enum_name: Option<&'static str>) -> Cow<'static, str> {
    let known = enum_name.and_then(|name| name.split_once('_')).map(|(_, name)| name.to_ascii_lowercase());
    known.map_or(Cow::Borrowed("unknown"), Cow::Owned)
}

/// Below zero there is nothing to wait for.
pub(crate) fn duration(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
