//! Short words for rules, requests and answers.
//!
//! A rule: `key=value>key 20/minute name=n replaces=m shadow quota shared meta={"a":1}`, or `unlimited`; without a limit
//! it is a level for others. A request: `key=value>key=value hits=3 limit=5/minute*2 back`, descriptors joined by ` | `,
//! and ` all=3` at the end for the request's own hits.

use quotad::engine::rate_limit::{Builder, Counting, Limit, Quota, RateLimitSet, Spot, Unit};
use quotad::engine::rule::Algorithm;
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit as Shown;
use quotad::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use quotad::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use std::fmt::Write as _;

/// The limits of these rules in one domain.
pub(crate) fn rules(domain: &str, lines: &[&str]) -> RateLimitSet {
    let mut builder = Builder::default();
    builder.domain(domain);
    for line in lines {
        let mut words = line.split(' ');
        let shared = line.contains(" shared");
        let spots: Vec<Spot> = words.next().unwrap().split('>').map(|entry| spot(entry, shared)).collect();
        let (last, before) = spots.split_last().unwrap();
        builder.add(domain, before, last, limit(words)).unwrap();
    }
    builder.build()
}

fn spot(entry: &str, shared: bool) -> Spot {
    let (key, value) = entry.split_once('=').map_or((entry, None), |(key, value)| (key, Some(value)));
    Spot { key: key.into(), value: value.map(Into::into), shared: shared && entry.contains('*') }
}

fn limit<'a>(words: impl Iterator<Item = &'a str>) -> Option<Limit> {
    let mut limit = Limit {
        name: "".into(),
        replaces: Vec::new(),
        quota: Quota::Unlimited,
        shadow: false,
        quota_mode: false,
        metadata: None,
        counting: Counting::Everything,
    };
    let mut found = false;
    for word in words {
        found = true;
        match word.split_once('=').unwrap_or((word, "")) {
            ("name", name) => limit.name = name.into(),
            ("replaces", name) => limit.replaces.push(name.into()),
            ("meta", json) => limit.metadata = Some(serde_json::from_str(json).unwrap()),
            ("shadow", _) => limit.shadow = true,
            ("quota", _) => limit.quota_mode = true,
            ("sliding", _) => limit.counting = Counting::Passed(Algorithm::SlidingWindow),
            ("bucket", _) => limit.counting = Counting::Passed(Algorithm::TokenBucket),
            ("calendar", _) => limit.counting = Counting::Passed(Algorithm::FixedWindow),
            ("unlimited" | "shared", _) => {}
            (amount, _) => {
                let (count, unit) = amount.split_once('/').unwrap();
                limit.quota = Quota::Of(count.parse().unwrap(), unit_of(unit));
            }
        }
    }
    found.then_some(limit)
}

fn unit_of(word: &str) -> Unit {
    match word {
        "second" => Unit::Second,
        "minute" => Unit::Minute,
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        "month" => Unit::Month,
        "year" => Unit::Year,
        other => panic!("{other} is no unit"),
    }
}

/// A request in words as a message.
pub(crate) fn request(domain: &str, words: &str) -> RateLimitRequest {
    let (words, all) = words.split_once(" all=").unwrap_or((words, "0"));
    let descriptors = words.split(" | ").filter(|one| !one.is_empty()).map(descriptor).collect();
    RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: all.parse().unwrap() }
}

fn descriptor(words: &str) -> RateLimitDescriptor {
    let mut words = words.split(' ');
    let entries = words.next().unwrap().split('>').filter(|entry| *entry != "-").map(|entry| {
        let (key, value) = entry.split_once('=').unwrap();
        Entry { key: key.to_owned(), value: value.to_owned() }
    });
    let mut made = RateLimitDescriptor { entries: entries.collect(), ..Default::default() };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("hits", hits) => made.hits_addend = Some(hits.parse().unwrap()),
            ("limit", limit) => made.limit = Some(brought(limit)),
            ("back", _) => made.is_negative_hits = true,
            other => panic!("{other:?} says nothing"),
        }
    }
    made
}

fn brought(limit: &str) -> RateLimitOverride {
    let (count, unit) = limit.split_once('/').unwrap();
    let (unit, units) = unit.split_once('*').map_or((unit, None), |(unit, units)| (unit, Some(units)));
    RateLimitOverride {
        requests_per_unit: count.parse().unwrap(),
        unit: unit.parse().unwrap_or_else(|_| match unit {
            "second" => 1,
            "minute" => 2,
            "hour" => 3,
            "day" => 4,
            "month" => 5,
            "year" => 6,
            other => panic!("{other} is no unit"),
        }),
        unit_multiplier: units.map(|units| units.parse().unwrap()),
    }
}

/// An answer in words: all of it, so that a field too many is seen.
pub(crate) fn answer(domain: &str, answer: &RateLimitResponse) -> String {
    let mut text = code(answer.overall_code());
    for (index, status) in answer.statuses.iter().enumerate() {
        text.push_str(if index == 0 { ": " } else { " | " });
        text.push_str(&shown(status));
    }
    for header in &answer.response_headers_to_add {
        write!(text, " [{}: {}]", header.key, header.value).unwrap();
    }
    if let Some(metadata) = &answer.dynamic_metadata {
        write!(text, " {}", json(metadata).to_string().replace(domain, "D")).unwrap();
    }
    assert!(answer.request_headers_to_add.is_empty() && answer.quota.is_none());
    if !answer.raw_body.is_empty() {
        write!(text, " {}", String::from_utf8(answer.raw_body.clone()).unwrap()).unwrap();
    }
    text
}

fn code(code: Code) -> String {
    match code {
        Code::Unknown => "UNKNOWN",
        Code::Ok => "OK",
        Code::OverLimit => "OVER_LIMIT",
    }
    .to_owned()
}

fn shown(status: &DescriptorStatus) -> String {
    let mut text = code(status.code());
    match &status.current_limit {
        None => text.push_str(" -"),
        Some(limit) => {
            if !limit.name.is_empty() {
                write!(text, " {}", limit.name).unwrap();
            }
            write!(
                text,
                " {}/{}",
                limit.requests_per_unit,
                Shown::try_from(limit.unit).unwrap().as_str_name()
            )
            .unwrap();
            if let Some(units) = limit.unit_multiplier {
                write!(text, "*{units}").unwrap();
            }
        }
    }
    if status.current_limit.is_some() || status.limit_remaining > 0 {
        write!(text, " r={}", status.limit_remaining).unwrap();
    }
    if let Some(span) = &status.duration_until_reset {
        write!(text, " t={}", span.seconds).unwrap();
        if span.nanos > 0 {
            write!(text, "+{}", span.nanos).unwrap();
        }
    }
    assert!(status.quota.is_none());
    text
}

fn json(value: &prost_types::Struct) -> serde_json::Value {
    value.fields.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}

fn one(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match value.kind.as_ref().unwrap() {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::BoolValue(value) => (*value).into(),
        Kind::NumberValue(value) => (*value).into(),
        Kind::StringValue(value) => value.as_str().into(),
        Kind::ListValue(list) => list.values.iter().map(one).collect(),
        Kind::StructValue(value) => json(value),
    }
}
