//! What the service decided, as a RateLimitResponse. A drop-in's answer has no field that the original leaves empty.

use crate::engine::decision::Outcome;
use crate::engine::http::Header;
use crate::engine::rate_limit::Unit;
use crate::engine::units::Micros;
use crate::pb::envoy::config::core::v3::HeaderValue;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::service::{DescriptorStatus, RateLimited, ShownLimit};
use pb::rate_limit_response::rate_limit::Unit as Named;
use pb::rate_limit_response::{Code, RateLimit};
use prost_types::value::Kind;
use prost_types::{Duration, ListValue, Struct, Value};

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

fn duration(span: Micros) -> Duration {
    Duration {
        seconds: i64::try_from(span.0 / Micros::SECOND.0).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.0 % Micros::SECOND.0 * 1_000).unwrap_or(0),
    }
}

fn object(map: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.iter().map(|(name, value)| (name.clone(), json(value))).collect() }
}

/// Metadata nests as deep as the configuration's reader lets it, so this ends soon.
fn json(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(json).collect() })
        }
        serde_json::Value::Object(map) => Kind::StructValue(object(map)),
    };
    Value { kind: Some(kind) }
}
