//! What the service decided, as a RateLimitResponse. A drop-in's answer has no field that the original leaves empty.

use crate::engine::decision::Outcome;
use crate::engine::http::Header;
use crate::engine::rate_limit::Unit;
use crate::pb::envoy::config::core::v3::HeaderValue;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::service::{DescriptorStatus, RateLimited, ShownLimit};
use crate::well_known::{duration, object};
use pb::rate_limit_response::rate_limit::Unit as Named;
use pb::rate_limit_response::{Code, RateLimit};

/// The answer.
pub(super) fn of(limited: RateLimited) -> pb::RateLimitResponse {
    let mut headers: Vec<HeaderValue> = limited.headers.into_iter().map(header).collect();
    let raw_body = limited.body.map_or_else(Vec::new, |body| {
        headers.push(header(Header::new("Content-Type", body.content_type)));
        body.content
    });
    pb::RateLimitResponse {
        overall_code: code(limited.outcome).into(),
        statuses: limited.statuses.into_iter().map(status).collect(),
        response_headers_to_add: headers,
        raw_body,
        dynamic_metadata: limited.metadata.as_ref().map(object),
        ..pb::RateLimitResponse::default()
    }
}

fn code(outcome: Outcome) -> Code {
    match outcome {
        Outcome::Allow => Code::Ok,
        Outcome::Deny => Code::OverLimit,
    }
}

fn status(status: DescriptorStatus) -> pb::rate_limit_response::DescriptorStatus {
    pb::rate_limit_response::DescriptorStatus {
        code: code(status.outcome).into(),
        current_limit: status.limit.map(limit),
        limit_remaining: status.remaining,
        duration_until_reset: status.until_reset.map(duration),
        quota: None,
    }
}

fn limit(limit: ShownLimit) -> RateLimit {
    let unit = limit.unit.map_or(Named::Unknown, |unit| match unit {
        Unit::Second => Named::Second,
        Unit::Minute => Named::Minute,
        Unit::Hour => Named::Hour,
        Unit::Day => Named::Day,
        Unit::Week => Named::Week,
        Unit::Month => Named::Month,
        Unit::Year => Named::Year,
    });
    RateLimit {
        name: limit.name.to_string(),
        requests_per_unit: limit.requests,
        unit: unit.into(),
        unit_multiplier: limit.multiplier,
    }
}

/// Envoy takes `value` and leaves `raw_value` alone.
fn header(header: Header) -> HeaderValue {
    HeaderValue { key: header.name.into_owned(), value: header.value, ..HeaderValue::default() }
}
