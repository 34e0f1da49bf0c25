//! The HTTP face of a decision: status, headers and body, ready to send.
//!
//! Sources: draft-ietf-httpapi-ratelimit-headers (`RateLimit`, `RateLimit-Policy`, as RFC 9651 lists), RFC 6585
//! (429), RFC 9110 (`Retry-After`), RFC 6750 (`WWW-Authenticate`), RFC 9457 (problem details).
//!
//! Promise: `Retry-After` is never before the moment at which a lone caller succeeds, nor before `t`. A value never
//! carries a control character. Numbers that were not read are left out, not guessed.

use super::decision::{Decision, Mode, Outcome, PolicyStatus, Reason};
use super::rule::Algorithm;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::Write as _;

const TEMPORARY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
const UNAVAILABLE: &str = "The limit cannot be checked now. Please try again later.";

/// Which body a denial carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorBody {
    /// `{"status":"error","code":…,"message":…,"details":[…]}`.
    #[default]
    Uniform,
    /// RFC 9457.
    Problem,
}

/// A family of headers that describe limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitHeaders {
    /// `RateLimit` and `RateLimit-Policy`.
    Ietf,
    /// `RateLimit-Limit`, `-Remaining`, `-Reset`.
    Legacy,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    X,
}

/// One response header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its value, without control characters.
    pub value: String,
}

impl Header {
    /// A header; control characters in the value become spaces, so that no value can start another header.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let mut value = value.into();
        if value.chars().any(char::is_control) {
            value = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        Self { name: name.into(), value }
    }
}

/// A response body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// What the configuration says about responses.
#[derive(Clone, Debug)]
pub struct HttpFace {
    /// The body of denials.
    pub error_body: ErrorBody,
    /// Which header families to send.
    pub limit_headers: Vec<LimitHeaders>,
    /// Set on every answer of `Authorize`.
    pub security_headers: Vec<(String, String)>,
}

impl Default for HttpFace {
    fn default() -> Self {
        Self {
            error_body: ErrorBody::Uniform,
            limit_headers: vec![LimitHeaders::Ietf],
            security_headers: default_security_headers(),
        }
    }
}

/// A decision as an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// 200, 400, 401, 403, 429 or 503.
    pub status: u16,
    /// To be set on the response, replacing those of the same name.
    pub headers: Vec<Header>,
    /// Of a denial.
    pub body: Option<Body>,
}

/// Why a request is refused without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a request that a careful server would take.
    Malformed,
    /// The proxy in front names what is not configured here.
    NotConfigured,
    /// No answer in time, from a policy that leaves the choice to the caller.
    Unavailable,
}

/// The security headers of every answer, unless the configuration changes them.
#[must_use]
pub fn default_security_headers() -> Vec<(String, String)> {
    [
        ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl HttpFace {
    /// Renders a decision.
    #[must_use]
    pub fn render(&self, decision: &Decision, policy_fields: &[&str]) -> Rendered {
        let status = http_status(decision.outcome, decision.reason);
        let mut headers = Vec::with_capacity(5);
        self.limit_headers(decision, policy_fields, &mut headers);
        if decision.outcome == Outcome::Allow {
            return Rendered { status, headers, body: None };
        }
        if let Some(seconds) = retry_after_seconds(decision) {
            headers.push(Header::new("Retry-After", seconds.to_string()));
        }
        headers.push(Header::new("Cache-Control", "no-store"));
        if status == 401 {
            headers.push(Header::new("WWW-Authenticate", challenge(decision.reason)));
        }
        Rendered { status, headers, body: Some(self.body(decision, status)) }
    }

    /// Renders a refusal without a decision, with the security headers.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal) -> Rendered {
        let (status, code, message) = match refusal {
            Refusal::Malformed => (400, "REQUEST_MALFORMED", "The request is not well formed."),
            Refusal::NotConfigured => (503, "NOT_CONFIGURED", "The request cannot be judged now."),
            Refusal::Unavailable => (503, "RATE_LIMIT_UNAVAILABLE", UNAVAILABLE),
        };
        let body = match self.error_body {
            ErrorBody::Uniform => uniform(code, message, Vec::new()),
            ErrorBody::Problem if status == 503 => problem(TEMPORARY, code, message, status),
            ErrorBody::Problem => problem("about:blank", code, message, status),
        };
        let mut headers = Vec::with_capacity(2 + self.security_headers.len());
        if refusal == Refusal::Unavailable {
            headers.push(Header::new("Retry-After", "1"));
        }
        headers.push(Header::new("Cache-Control", "no-store"));
        self.secure(&mut headers);
        let content_type = self.error_body.content_type();
        Rendered {
            status,
            headers,
            body: Some(Body { content_type, content: body.to_string().into_bytes() }),
        }
    }

    /// Adds the security headers that are not there yet.
    pub fn secure(&self, headers: &mut Vec<Header>) {
        for (name, value) in &self.security_headers {
            if !headers.iter().any(|set| set.name.eq_ignore_ascii_case(name)) {
                headers.push(Header::new(name.clone(), value.clone()));
            }
        }
    }

    fn limit_headers(&self, decision: &Decision, fields: &[&str], headers: &mut Vec<Header>) {
        let known = |status: &&PolicyStatus| !status.shadow && status.mode < Mode::FailedOpen;
        if !decision.statuses.iter().any(|status| known(&status)) {
            return;
        }
        for family in &self.limit_headers {
            match family {
                LimitHeaders::Ietf => {
                    let (mut policies, mut limits) = (String::with_capacity(64), String::with_capacity(64));
                    for (status, field) in
                        decision.statuses.iter().zip(fields).filter(|(status, _)| known(status))
                    {
                        if !policies.is_empty() {
                            policies.push_str(", ");
                            limits.push_str(", ");
                        }
                        policies.push_str(field);
                        push_limit(&mut limits, status);
                    }
                    headers.push(Header::new("RateLimit-Policy", policies));
                    headers.push(Header::new("RateLimit", limits));
                }
                LimitHeaders::Legacy => {
                    legacy(decision, ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"], headers)
                }
                LimitHeaders::X => legacy(
                    decision,
                    ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"],
                    headers,
                ),
            }
        }
    }

    fn body(&self, decision: &Decision, status: u16) -> Body {
        let (code, message) = code_and_message(decision);
        let violated = || decision.statuses.iter().filter(|status| status.violated && !status.shadow);
        let value = match self.error_body {
            ErrorBody::Uniform => uniform(code, message, violated().map(detail).collect()),
            ErrorBody::Problem => {
                let mut body = problem(problem_type(decision.reason), code, message, status);
                if let (Value::Object(body), true) = (&mut body, violated().next().is_some()) {
                    let names = violated().map(|status| Value::from(&*status.policy)).collect();
                    body.insert("violated-policies".to_owned(), Value::Array(names));
                }
                body
            }
        };
        Body { content_type: self.error_body.content_type(), content: value.to_string().into_bytes() }
    }
}

impl ErrorBody {
    fn content_type(self) -> &'static str {
        match self {
            Self::Uniform => "application/json",
            Self::Problem => "application/problem+json",
        }
    }
}

fn uniform(code: &str, message: &str, details: Vec<Value>) -> Value {
    json!({"status": "error", "code": code, "message": message, "details": details})
}

fn problem(kind: &str, code: &str, message: &str, status: u16) -> Value {
    json!({"type": kind, "title": message, "status": status, "code": code})
}

/// 200, 400, 401, 403, 429 or 503.
#[must_use]
pub fn http_status(outcome: Outcome, reason: Reason) -> u16 {
    match (outcome, reason) {
        (Outcome::Allow, _) => 200,
        (_, Reason::LimitExceeded | Reason::CostExceedsLimit | Reason::ConnectionLimitExceeded) => 429,
        (_, Reason::PartitionMissing | Reason::OriginNotAllowed) => 403,
        (_, Reason::PathAmbiguous) => 400,
        (_, Reason::StoreUnavailable) => 503,
        _ => 401,
    }
}

fn retry_after_seconds(decision: &Decision) -> Option<u64> {
    match decision.reason {
        Reason::StoreUnavailable => Some(1),
        _ => decision.retry_after.map(|wait| wait.seconds_up().max(1)),
    }
}

/// `"login";r=0;t=41`: a violated policy says when the cost fits, any other when its quota is whole.
fn push_limit(text: &mut String, status: &PolicyStatus) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\"{}\";r={}", status.policy, status.remaining);
    if status.algorithm != Algorithm::Concurrency || status.violated {
        let until = status.retry_after.unwrap_or(status.reset_after).seconds_up();
        let _ = write!(text, ";t={until}");
    }
}

/// The policy that binds most, of those whose numbers were read.
#[must_use]
pub fn tightest(decision: &Decision) -> Option<&PolicyStatus> {
    let known = decision.statuses.iter().filter(|status| !status.shadow && status.mode < Mode::FailedOpen);
    known.min_by_key(|status| tightness(status))
}

/// The smaller, the more a policy binds: violated ones first, then those with the longest wait, then the least left.
#[must_use]
pub fn tightness(status: &PolicyStatus) -> impl Ord + use<> {
    (!status.violated, Reverse(status.retry_after), status.remaining)
}

/// The three headers of the one policy that binds most.
fn legacy(decision: &Decision, names: [&'static str; 3], headers: &mut Vec<Header>) {
    let Some(tightest) = tightest(decision) else { return };
    let until = tightest.retry_after.unwrap_or(tightest.reset_after).seconds_up();
    for (name, value) in names.into_iter().zip([tightest.limit, tightest.remaining, until]) {
        headers.push(Header::new(name, value.to_string()));
    }
}

/// RFC 6750: no error code when no token came; a fixed text else, never a piece of the token.
fn challenge(reason: Reason) -> &'static str {
    match reason {
        Reason::TokenMissing => "Bearer",
        _ => "Bearer error=\"invalid_token\", error_description=\"the token is not valid\"",
    }
}

fn code_and_message(decision: &Decision) -> (&'static str, &'static str) {
    match decision.reason {
        Reason::LimitExceeded => ("RATE_LIMIT_EXCEEDED", "Too many requests. Please try again later."),
        Reason::CostExceedsLimit => {
            ("RATE_LIMIT_EXCEEDED", "The request costs more than its limit allows at once.")
        }
        Reason::ConnectionLimitExceeded => {
            ("RATE_LIMIT_EXCEEDED", "Too many open connections. Please close one or try again later.")
        }
        Reason::PartitionMissing => {
            ("PARTITION_MISSING", "The request lacks a fact that its limit is counted by.")
        }
        Reason::OriginNotAllowed => ("ORIGIN_NOT_ALLOWED", "Connections from this origin are not allowed."),
        Reason::PathAmbiguous => ("REQUEST_MALFORMED", "The request is not well formed."),
        // Without a status no policy was consulted: it was the token that could not be checked.
        Reason::StoreUnavailable if decision.statuses.is_empty() => {
            ("TOKEN_CHECK_UNAVAILABLE", "The token cannot be checked now. Please try again later.")
        }
        Reason::StoreUnavailable => ("RATE_LIMIT_UNAVAILABLE", UNAVAILABLE),
        Reason::TokenMissing => ("TOKEN_MISSING", "A token is required."),
        _ => ("TOKEN_INVALID", "The token is not valid."),
    }
}

fn problem_type(reason: Reason) -> &'static str {
    match reason {
        Reason::LimitExceeded | Reason::CostExceedsLimit | Reason::ConnectionLimitExceeded => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        }
        Reason::StoreUnavailable => TEMPORARY,
        _ => "about:blank",
    }
}

fn detail(status: &PolicyStatus) -> Value {
    let mut detail = Map::new();
    detail.insert("policy".to_owned(), Value::from(&*status.policy));
    detail.insert("limit".to_owned(), Value::from(status.limit));
    if let Some(window) = status.window {
        let seconds = window
            .whole_seconds()
            .map_or_else(|| Value::from(std::time::Duration::from(window).as_secs_f64()), Value::from);
        detail.insert("window_seconds".to_owned(), seconds);
    }
    if let Some(wait) = status.retry_after {
        detail.insert("retry_after_seconds".to_owned(), Value::from(wait.seconds_up().max(1)));
    }
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::Micros;

    fn denied() -> Decision {
        let status = PolicyStatus {
            policy: "login".into(),
            algorithm: Algorithm::SlidingWindow,
            limit: 10,
            window: Some(Micros::from_seconds(60)),
            remaining: 0,
            reset_after: Micros(59_000_001),
            retry_after: Some(Micros(40_000_001)),
            violated: true,
            shadow: false,
            mode: Mode::Exact,
            bound: Some(10),
        };
        Decision {
            outcome: Outcome::Deny,
            reason: Reason::LimitExceeded,
            mode: Mode::Exact,
            retry_after: Some(Micros(40_000_001)),
            statuses: vec![status],
        }
    }

    fn header<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
        rendered.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    #[test]
    fn a_denial_is_ready_to_send() {
        let rendered = HttpFace::default().render(&denied(), &["\"login\";q=10;w=60"]);
        assert_eq!(rendered.status, 429);
        assert_eq!(header(&rendered, "RateLimit-Policy"), Some("\"login\";q=10;w=60"));
        assert_eq!(header(&rendered, "RateLimit"), Some("\"login\";r=0;t=41"));
        assert_eq!(header(&rendered, "Retry-After"), Some("41"));
        assert_eq!(header(&rendered, "Cache-Control"), Some("no-store"));
        let body: Value = serde_json::from_slice(&rendered.body.unwrap().content).unwrap();
        assert_eq!(body["code"], "RATE_LIMIT_EXCEEDED");
        assert_eq!(
            body["details"][0],
            json!({"policy": "login", "limit": 10, "window_seconds": 60, "retry_after_seconds": 41})
        );
    }

    #[test]
    fn the_problem_body_names_the_violated_policies() {
        let face = HttpFace { error_body: ErrorBody::Problem, ..HttpFace::default() };
        let body = face.render(&denied(), &["x"]).body.unwrap();
        assert_eq!(body.content_type, "application/problem+json");
        let body: Value = serde_json::from_slice(&body.content).unwrap();
        assert_eq!(body["violated-policies"], json!(["login"]));
        assert_eq!(body["status"], 429);
    }

    #[test]
    fn a_refusal_without_a_decision_looks_like_a_denial() {
        for error_body in [ErrorBody::Uniform, ErrorBody::Problem] {
            let face = HttpFace { error_body, ..HttpFace::default() };
            for (refusal, status, code) in [
                (Refusal::Malformed, 400, "REQUEST_MALFORMED"),
                (Refusal::NotConfigured, 503, "NOT_CONFIGURED"),
                (Refusal::Unavailable, 503, "RATE_LIMIT_UNAVAILABLE"),
            ] {
                let rendered = face.refuse(refusal);
                assert_eq!(rendered.status, status);
                let names = |name: &str| rendered.headers.iter().filter(|header| header.name == name).count();
                assert_eq!((names("X-Content-Type-Options"), names("Cache-Control")), (1, 1));
                assert_eq!(names("Retry-After"), usize::from(refusal == Refusal::Unavailable));
                let body: Value = serde_json::from_slice(&rendered.body.unwrap().content).unwrap();
                assert_eq!(body["code"], code);
            }
        }
    }

    #[test]
    fn legacy_families_describe_the_same_limit() {
        let face =
            HttpFace { limit_headers: vec![LimitHeaders::Legacy, LimitHeaders::X], ..HttpFace::default() };
        let rendered = face.render(&denied(), &["x"]);
        assert_eq!(header(&rendered, "RateLimit-Reset"), Some("41"));
        assert_eq!(header(&rendered, "X-RateLimit-Limit"), Some("10"));
        assert_eq!(header(&rendered, "RateLimit"), None);
    }

    #[test]
    fn no_header_is_guessed_when_nothing_was_read() {
        let mut decision = denied();
        decision.reason = Reason::StoreUnavailable;
        decision.mode = Mode::FailedClosed;
        decision.statuses[0].mode = Mode::FailedClosed;
        let rendered = HttpFace::default().render(&decision, &["x"]);
        assert_eq!(rendered.status, 503);
        assert_eq!(header(&rendered, "RateLimit"), None);
        assert_eq!(header(&rendered, "Retry-After"), Some("1"));
    }

    #[test]
    fn a_value_cannot_start_another_header() {
        assert_eq!(Header::new("X-User", "a\r\nSet-Cookie: b").value, "a  Set-Cookie: b");
    }
}
