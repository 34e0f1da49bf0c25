//! The bounds of every request. Beyond one: INVALID_ARGUMENT that names the field and says what to send.

use crate::engine::address::parse_ip;
use crate::engine::leases::{MAX_LEASE_ID_BYTES, is_lease_id};
use crate::engine::settlement::MAX_SETTLE_WITHIN;
use crate::engine::units::{Micros, Moment};
use crate::pb::quotad::v1 as pb;
use crate::service::MAX_TICKET;
use std::collections::HashMap;
use tonic::Status;

/// Most entries of a descriptor.
pub const MAX_ENTRIES: usize = 32;
/// Most bytes of an entry's key or value, a subject, an issuer, a token id.
pub const MAX_TEXT: usize = 256;
/// Most policies that a request names.
pub const MAX_POLICIES: usize = 16;
/// Most bytes of a request id.
pub const MAX_REQUEST_ID: usize = 64;
/// Most bytes of a token.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Most connections of one renewal.
pub const MAX_RENEWALS: usize = 4_096;
/// Most checks of one message of a stream.
pub const MAX_CHECKS: usize = 1_024;
/// Most headers of an HTTP request.
pub const MAX_HEADERS: usize = 256;
/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

fn invalid(field: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}

/// Checks a check.
///
/// # Errors
/// The first field beyond its bound.
pub fn check_request(request: &pb::CheckLimitRequest) -> Result<(), Status> {
    text("domain", &request.domain)?;
    check_policies("policies", &request.policies)?;
    check_entries("entries", &request.entries)?;
    request_id(&request.request_id)
}

/// Checks a descriptor. An `ip` must be an address.
///
/// # Errors
/// INVALID_ARGUMENT that names `field` and the entry.
pub fn check_entries(field: &str, entries: &HashMap<String, String>) -> Result<(), Status> {
    if entries.len() > MAX_ENTRIES {
        return Err(invalid(field, format_args!("{} entries, at most {MAX_ENTRIES}", entries.len())));
    }
    for (key, value) in entries {
        if key.is_empty() {
            return Err(invalid(field, "an entry without a key"));
        }
        if key.len() > MAX_TEXT || value.len() > MAX_TEXT {
            let key: String = key.chars().take(32).collect();
            return Err(invalid(
                field,
                format_args!("`{}` is longer than {MAX_TEXT} bytes (key or value)", key.escape_debug()),
            ));
        }
        if key.bytes().chain(value.bytes()).any(|byte| byte.is_ascii_control()) {
            return Err(invalid(field, format_args!("`{}` has a control character", key.escape_debug())));
        }
    }
    match entries.get("ip").filter(|ip| !ip.is_empty()) {
        Some(ip) if parse_ip(ip).is_none() => {
            Err(invalid(&format!("{field}.ip"), "not an IP address; send 203.0.113.7 or 2001:db8::1"))
        }
        _ => Ok(()),
    }
}

fn check_policies(field: &str, policies: &[String]) -> Result<(), Status> {
    if policies.len() > MAX_POLICIES {
        return Err(invalid(field, format_args!("{} policies, at most {MAX_POLICIES}", policies.len())));
    }
    policies.iter().try_for_each(|policy| required(field, policy))
}

fn request_id(id: &str) -> Result<(), Status> {
    if id.len() > MAX_REQUEST_ID {
        return Err(invalid("request_id", format_args!("{} bytes, at most {MAX_REQUEST_ID}", id.len())));
    }
    text("request_id", id)
}

/// Checks a text that may be empty: its length, and no control characters.
///
/// # Errors
/// INVALID_ARGUMENT that names `field`.
pub fn text(field: &str, value: &str) -> Result<(), Status> {
    if value.len() > MAX_TEXT {
        return Err(invalid(field, format_args!("{} bytes, at most {MAX_TEXT}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "a control character"));
    }
    Ok(())
}

/// Checks a text that must be there.
///
/// # Errors
/// INVALID_ARGUMENT that names `field`.
pub fn required(field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(invalid(field, "missing"));
    }
    text(field, value)
}

/// Checks an issuer that must be named.
///
/// # Errors
/// INVALID_ARGUMENT that names `field`.
pub fn check_issuer(field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(invalid(field, "missing; send the token's `iss` claim"));
    }
    text(field, value)
}

/// Checks the size of a token.
///
/// # Errors
/// INVALID_ARGUMENT that names `field`, never with a piece of the token.
pub fn check_token(field: &str, token: &str) -> Result<(), Status> {
    if token.len() > MAX_TOKEN {
        return Err(invalid(field, format_args!("{} bytes, at most {MAX_TOKEN}", token.len())));
    }
    Ok(())
}

/// Checks a lease id.
///
/// # Errors
/// INVALID_ARGUMENT that names `field`.
pub fn lease_id(field: &str, id: &str) -> Result<(), Status> {
    if !is_lease_id(id) {
        return Err(invalid(
            field,
            format_args!(
                "send 128 random bits in hex (at most {MAX_LEASE_ID_BYTES} visible ASCII characters)"
            ),
        ));
    }
    Ok(())
}

/// Checks what a connection names.
///
/// # Errors
/// The first field beyond its bound.
pub fn connection_parts(connection: &pb::Connection) -> Result<(), Status> {
    text("connection.domain", &connection.domain)?;
    text("connection.holder", &connection.holder)?;
    check_policies("connection.policies", &connection.policies)
}

/// Checks the number of renewals.
///
/// # Errors
/// INVALID_ARGUMENT that names `connections`.
pub fn check_renewals(connections: &[pb::Connection]) -> Result<(), Status> {
    if connections.len() > MAX_RENEWALS {
        return Err(invalid("connections", format_args!("{}, at most {MAX_RENEWALS}", connections.len())));
    }
    Ok(())
}

/// Checks an HTTP request.
///
/// # Errors
/// The first field that is missing or beyond its bound.
pub fn check_authorize(request: &pb::AuthorizeRequest) -> Result<&pb::HttpRequest, Status> {
    text("domain", &request.domain)?;
    check_policies("policies", &request.policies)?;
    check_entries("entries", &request.entries)?;
    request_id(&request.request_id)?;
    if let Some(offer) = &request.connection {
        lease_id("connection.lease_id", &offer.lease_id)?;
        text("connection.holder", &offer.holder)?;
    }
    let http = request.http.as_ref().ok_or_else(|| invalid("http", "missing"))?;
    required("http.method", &http.method)?;
    text("http.host", &http.host)?;
    text("http.scheme", &http.scheme)?;
    text("http.peer_address", &http.peer_address)?;
    if http.headers.len() > MAX_HEADERS {
        return Err(invalid("http.headers", format_args!("{}, at most {MAX_HEADERS}", http.headers.len())));
    }
    http.headers.iter().try_for_each(|header| required("http.headers.name", &header.name))?;
    Ok(http)
}

/// The span in which a charge is to be settled, of a request with this id and cost.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub fn settle_within(
    span: Option<&prost_types::Duration>,
    request_id: &str,
    cost: Option<u32>,
) -> Result<Option<Micros>, Status> {
    let Some(span) = span else { return Ok(None) };
    let within = std::time::Duration::try_from(*span).map_or(Micros(0), Micros::from);
    if !(Micros::from_millis(1)..=MAX_SETTLE_WITHIN).contains(&within) {
        return Err(invalid("settle_within", "send a millisecond at least and an hour at most"));
    }
    if request_id.is_empty() {
        return Err(invalid("request_id", "missing; what is to be settled needs an id of its own"));
    }
    if cost == Some(0) {
        return Err(invalid("settle_within", "a peek charges nothing that could be settled"));
    }
    Ok(Some(within))
}

/// Checks a settlement.
///
/// # Errors
/// The first field that is missing or beyond its bound.
pub fn check_settlement(request: &pb::SettleCostRequest) -> Result<(), Status> {
    let bytes = request.ticket.len();
    if bytes == 0 {
        return Err(invalid("ticket", "missing; send that of the decision's reservation"));
    }
    if bytes > MAX_TICKET {
        return Err(invalid("ticket", format_args!("{bytes} bytes, at most {MAX_TICKET}")));
    }
    if request.policy_costs.len() > MAX_POLICIES {
        let count = request.policy_costs.len();
        return Err(invalid("policy_costs", format_args!("{count}, at most {MAX_POLICIES}")));
    }
    request.policy_costs.keys().try_for_each(|policy| required("policy_costs", policy))
}

/// A timestamp as a moment.
///
/// # Errors
/// INVALID_ARGUMENT that names `field` for one outside the years 1970 to 9999, or with odd nanoseconds.
pub fn moment(field: &str, at: Option<&prost_types::Timestamp>) -> Result<Option<Moment>, Status> {
    let Some(at) = at else { return Ok(None) };
    let wrong = || invalid(field, "not a time within the years 1970 to 9999");
    if at.seconds > LAST_SECOND || !(0..1_000_000_000).contains(&at.nanos) {
        return Err(wrong());
    }
    let seconds = u64::try_from(at.seconds).map_err(|_| wrong())?;
    let micros = u64::try_from(at.nanos / 1_000).map_err(|_| wrong())?;
    Ok(Some(Moment(Micros::from_seconds(seconds).0.saturating_add(micros))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn message(result: Result<(), Status>) -> String {
        result.unwrap_err().message().to_owned()
    }

    #[test]
    fn every_bound_names_its_field() {
        let many: HashMap<_, _> = (0..33).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(message(check_entries("entries", &many)).starts_with("entries: 33"));
        let long = entries(&[("user", &"x".repeat(257))]);
        assert!(message(check_entries("entries", &long)).contains("user"));
        assert!(message(check_entries("entries", &entries(&[("ip", "nonsense")]))).starts_with("entries.ip"));
        assert!(message(check_entries("entries", &entries(&[("a", "b\nc")]))).contains("control"));
        assert!(message(check_entries("entries", &entries(&[("", "b")]))).contains("key"));
        assert!(message(request_id(&"r".repeat(65))).starts_with("request_id"));
        assert!(message(lease_id("connection.lease_id", "a b")).starts_with("connection.lease_id"));
        assert!(message(check_policies("policies", &vec!["p".to_owned(); 17])).starts_with("policies"));
        assert!(check_entries("entries", &entries(&[("ip", "::ffff:1.2.3.4"), ("user", "x")])).is_ok());
    }

    #[test]
    fn absurd_times_are_refused() {
        let at = |seconds, nanos| moment("t", Some(&prost_types::Timestamp { seconds, nanos }));
        assert!(at(-1, 0).is_err());
        assert!(at(i64::MAX, 0).is_err());
        assert!(at(1, -1).is_err());
        assert_eq!(at(2, 5_000).unwrap(), Some(Moment(2_000_005)));
    }
}
