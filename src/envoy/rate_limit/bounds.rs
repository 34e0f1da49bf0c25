//! The bounds of a rate limit request. Beyond one: INVALID_ARGUMENT that names the field and says what to send.

use crate::engine::ask::MAX_COUNTED;
use crate::engine::rate_limit::Unit;
use crate::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use crate::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::service::{Descriptor, Direction, Override};
use tonic::Status;

/// Most entries of a descriptor: no file nests descriptors deeper, and the message itself is bounded.
const MAX_ENTRIES: usize = 256;
/// Most bytes of a domain.
const MAX_DOMAIN: usize = 256;
/// Most bytes of an entry's key or value: a path or a header fits.
const MAX_TEXT: usize = 4_096;

fn invalid(field: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}

/// The descriptors of a request, within their bounds.
///
/// # Errors
/// The first field beyond its bound.
pub(super) fn descriptors(request: &RateLimitRequest) -> Result<Vec<Descriptor<'_>>, Status> {
    if request.domain.len() > MAX_DOMAIN {
        let bytes = request.domain.len();
        return Err(invalid("domain", format_args!("{bytes} bytes, at most {MAX_DOMAIN}")));
    }
    let count = request.descriptors.len();
    if count > MAX_COUNTED {
        return Err(invalid("descriptors", format_args!("{count}, at most {MAX_COUNTED}")));
    }
    request.descriptors.iter().enumerate().map(|(index, one)| descriptor(index, one)).collect()
}

fn descriptor(index: usize, from: &RateLimitDescriptor) -> Result<Descriptor<'_>, Status> {
    let field = |name: &str| format!("descriptors[{index}].{name}");
    let count = from.entries.len();
    if count > MAX_ENTRIES {
        return Err(invalid(&field("entries"), format_args!("{count}, at most {MAX_ENTRIES}")));
    }
    if let Some(at) = from.entries.iter().position(|one| one.key.len().max(one.value.len()) > MAX_TEXT) {
        let why = format_args!("a key or a value of more than {MAX_TEXT} bytes");
        return Err(invalid(&field(&format!("entries[{at}]")), why));
    }
    let limit = from.limit.as_ref().map(|limit| brought(limit, &field)).transpose()?;
    Ok(Descriptor {
        entries: from.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
        hits: from.hits_addend,
        direction: if from.is_negative_hits { Direction::GiveBack } else { Direction::Count },
        limit,
    })
}

fn brought(limit: &RateLimitOverride, field: &impl Fn(&str) -> String) -> Result<Override, Status> {
    let unit = match limit.unit {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        // Not in Envoy's enum of overrides, but in that of answers; envoyproxy/ratelimit takes it.
        7 => Unit::Week,
        other => {
            let why = format_args!("{other} is not a unit; send SECOND, MINUTE, HOUR, DAY, MONTH or YEAR");
            return Err(invalid(&field("limit.unit"), why));
        }
    };
    if limit.unit_multiplier == Some(0) {
        return Err(invalid(&field("limit.unit_multiplier"), "0 units make no window; send 1 or more"));
    }
    Ok(Override { requests: limit.requests_per_unit, unit, multiplier: limit.unit_multiplier })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

    fn request(descriptor: RateLimitDescriptor) -> RateLimitRequest {
        RateLimitRequest { domain: "d".into(), descriptors: vec![descriptor], hits_addend: 0 }
    }

    fn refused(request: &RateLimitRequest) -> String {
        let status = descriptors(request).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    fn with_unit(unit: i32) -> RateLimitRequest {
        let limit = RateLimitOverride { requests_per_unit: 1, unit, unit_multiplier: None };
        request(RateLimitDescriptor { limit: Some(limit), ..Default::default() })
    }

    #[test]
    fn a_unit_that_is_none_is_refused_and_named() {
        for unit in [0, 8, 99, -1] {
            assert!(refused(&with_unit(unit)).starts_with("descriptors[0].limit.unit: "), "{unit}");
        }
        let seven = with_unit(7);
        assert_eq!(descriptors(&seven).unwrap()[0].limit.unwrap().unit, Unit::Week);
    }

    #[test]
    fn everything_has_a_bound() {
        let entry = |value: &str| Entry { key: "k".into(), value: value.into() };
        let many = RateLimitDescriptor { entries: vec![entry(""); 257], ..Default::default() };
        assert!(refused(&request(many)).starts_with("descriptors[0].entries: "));
        let deep = request(RateLimitDescriptor { entries: vec![entry(""); 256], ..Default::default() });
        assert_eq!(descriptors(&deep).unwrap()[0].entries.len(), 256, "as deep as files may nest");
        let long = RateLimitDescriptor { entries: vec![entry(&"x".repeat(4_097))], ..Default::default() };
        assert!(refused(&request(long)).starts_with("descriptors[0].entries[0]: "));
        let descriptors = vec![RateLimitDescriptor::default(); 129];
        assert!(
            refused(&RateLimitRequest { descriptors, ..Default::default() }).starts_with("descriptors: ")
        );
        let domain = "d".repeat(257);
        assert!(refused(&RateLimitRequest { domain, ..Default::default() }).starts_with("domain: "));
    }
}
