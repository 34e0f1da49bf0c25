//! What Envoy's later filters and its access log learn from an answer: `dynamic_metadata`, which Envoy keeps under
//! `envoy.filters.http.ext_authz`, on denials too.

use crate::engine::decision::Mode;
use crate::engine::http::tightest;
use crate::envoy::lease;
use crate::pb::quotad::v1 as words;
use crate::service::Authorized;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// The metadata of an answer. A key without a value is left out.
pub(super) fn of(authorized: &Authorized) -> Struct {
    let decision = &authorized.answered.decision;
    let claims = authorized.good.as_deref().map(|good| &good.claims);
    let binding = tightest(decision);
    let texts = [
        ("subject", claims.and_then(|claims| claims.subject.as_deref()).map(str::to_owned)),
        ("user", claims.and_then(|claims| claims.user.as_deref()).map(str::to_owned)),
        ("issuer", claims.map(|claims| claims.issuer.to_string())),
        ("route", Some(authorized.route.clone())),
        ("policy", binding.map(|status| status.policy.to_string())),
        ("reason", Some(word(words::Reason::from(decision.reason).as_str_name(), "REASON_"))),
        ("mode", Some(word(mode(decision.mode), "MODE_"))),
        ("lease_id", authorized.lease.as_ref().map(|lease| lease.lease_id.clone())),
    ];
    let filled = |(key, text): (&str, Option<String>)| {
        let text = text.filter(|text| !text.is_empty())?;
        Some((key.to_owned(), Kind::StringValue(text)))
    };
    // No limit is greater than what 32 bits hold.
    let remaining = binding.map(|status| u32::try_from(status.remaining).unwrap_or(u32::MAX));
    let numbers = remaining.map(|remaining| ("remaining".to_owned(), Kind::NumberValue(remaining.into())));
    // Under no policy nothing is held.
    let held = authorized.lease.as_ref().filter(|lease| !lease.terms.policies.is_empty());
    let held = held.map(|held| (lease::KEY.to_owned(), Kind::StructValue(lease::to_struct(held))));
    let fields = texts.into_iter().filter_map(filled).chain(numbers).chain(held);
    Struct { fields: fields.map(|(key, kind)| (key, Value { kind: Some(kind) })).collect() }
}

fn mode(mode: Mode) -> &'static str {
    words::Mode::from(mode).as_str_name()
}

/// `REASON_LIMIT_EXCEEDED` as `limit_exceeded`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
