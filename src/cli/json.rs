//! A decision as one JSON object. The names stay; durations are seconds as decimal numbers; what is absent is null.
//!
//! ```json
//! {"outcome":"deny","reason":"limit_exceeded","mode":"exact","retry_after":41.2,"http_status":429,
//!  "statuses":[{"policy":"auth-per-ip","algorithm":"sliding_window","limit":10,"window":60.0,"remaining":0,
//!               "reset_after":59.9,"violated":true,"shadow":false,"mode":"exact","bound":10}],
//!  "headers":[{"name":"Retry-After","value":"42"}],
//!  "body":{"content_type":"application/json","content":"{…}"}}
//! ```
//!
//! Trouble is `{"error":{"code":"NOT_FOUND","message":"…"}}`, with the name of the gRPC code, or `CLIENT` when no
//! answer came from a quotad at all.

use super::{span, words};
use crate::pb::quotad::v1;
use serde::Serialize;

#[derive(Serialize)]
struct Decision<'a> {
    outcome: String,
    reason: String,
    mode: String,
    retry_after: Option<f64>,
    http_status: u32,
    statuses: Vec<Status<'a>>,
    headers: Vec<Header<'a>>,
    body: Option<Body<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    policy: &'a str,
    algorithm: String,
    limit: u64,
    window: Option<f64>,
    remaining: u64,
    reset_after: Option<f64>,
    violated: bool,
    shadow: bool,
    mode: String,
    bound: Option<u64>,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    content_type: &'a str,
    content: std::borrow::Cow<'a, str>,
}

/// One line for a decision.
#[must_use]
pub fn decision(decision: &v1::Decision) -> String {
    let shown = Decision {
        outcome: words::outcome(decision.outcome),
        reason: words::reason(decision.reason),
        mode: words::mode(decision.mode),
        retry_after: seconds(decision.retry_after),
        http_status: decision.http_status,
        statuses: decision.statuses.iter().map(status).collect(),
        headers: decision
            .headers
            .iter()
            .map(|header| Header { name: &header.name, value: &header.value })
            .collect(),
        body: decision.body.as_ref().map(|body| Body {
            content_type: &body.content_type,
            content: String::from_utf8_lossy(&body.content),
        }),
    };
    line(&shown)
}

/// One line for trouble.
#[must_use]
pub fn error(code: &str, message: &str) -> String {
    line(&serde_json::json!({"error": {"code": code, "message": message}}))
}

/// Plain data always serializes; were it not so, an empty line is what a reader would see.
pub(super) fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

fn status(status: &v1::PolicyStatus) -> Status<'_> {
    Status {
        policy: &status.policy,
        algorithm: words::algorithm(status.algorithm),
        limit: status.limit,
        window: seconds(status.window),
        remaining: status.remaining,
        reset_after: seconds(status.reset_after),
        violated: status.violated,
        shadow: status.shadow,
        mode: words::mode(status.mode),
        bound: status.bound,
    }
}

fn seconds(value: Option<prost_types::Duration>) -> Option<f64> {
    words::duration(value).map(span::seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::samples;

    #[test]
    fn a_denial_is_one_object_with_stable_names() {
        assert_eq!(
            decision(&samples::denied()),
            concat!(
                r#"{"outcome":"deny","reason":"limit_exceeded","mode":"exact","retry_after":41.2,"http_status":429,"#,
                r#""statuses":[{"policy":"auth-per-ip","algorithm":"sliding_window","limit":10,"window":60.0,"#,
                r#""remaining":0,"reset_after":59.999993,"violated":true,"shadow":false,"mode":"exact","bound":10}],"#,
                r#""headers":[{"name":"RateLimit-Policy","value":"\"auth-per-ip\";q=10;w=60"},"#,
                r#"{"name":"Retry-After","value":"42"}],"#,
                r#""body":{"content_type":"application/json","content":"{\"status\":\"error\"}"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_absent_is_null() {
        assert_eq!(
            decision(&samples::unlimited()),
            concat!(
                r#"{"outcome":"allow","reason":"no_policy","mode":"exact","retry_after":null,"http_status":200,"#,
                r#""statuses":[],"headers":[],"body":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_shadow_answer_says_so() {
        let text = decision(&samples::shadowed());
        assert!(text.contains(r#""violated":true,"shadow":true,"#), "{text}");
        assert!(text.starts_with(r#"{"outcome":"allow""#), "{text}");
    }

    #[test]
    fn trouble_is_an_object_too() {
        assert_eq!(
            error("NOT_FOUND", "policies: `x`"),
            "{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"policies: `x`\"}}\n"
        );
    }
}
