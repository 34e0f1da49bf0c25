//! The token that the service found good.

use crate::v1 as pb;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Names of RFC 7519. Times are seconds since 1970; `all` has every claim as in the token's JSON.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `jti`; empty when the token has none.
    pub token_id: String,
    /// `aud`
    pub audience: Vec<String>,
    /// `iat`
    pub issued_at: Option<i64>,
    /// `exp`
    pub expires_at: i64,
    /// Every claim.
    pub all: Map<String, Value>,
    /// What policies count by: the subject, with the issuer where several are configured.
    pub user: String,
    /// What a renewal and a revocation need of it.
    pub(crate) reference: pb::TokenReference,
}

impl Claims {
    pub(crate) fn read(claims: pb::Claims) -> Self {
        let reference = pb::TokenReference {
            issuer: claims.issuer.clone(),
            subject: claims.subject.clone(),
            token_id: claims.token_id.clone(),
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
        };
        let all = claims.all.unwrap_or_default().fields;
        Self {
            // A service older than the field does not say it.
            user: if claims.user.is_empty() { claims.subject.clone() } else { claims.user },
            issuer: claims.issuer,
            subject: claims.subject,
            token_id: claims.token_id,
            audience: claims.audience,
            issued_at: claims.issued_at.map(|at| at.seconds),
            expires_at: claims.expires_at.unwrap_or_default().seconds,
            all: all.into_iter().map(|(name, value)| (name, json(value))).collect(),
            reference,
        }
    }

    /// `user`, and `claim:NAME` for every claim that is a text, a number or a truth value.
    pub(crate) fn entries(&self) -> BTreeMap<String, String> {
        let claim = |(name, value): (&String, &Value)| Some((format!("claim:{name}"), text(value)?));
        let mut entries: BTreeMap<String, String> = self.all.iter().filter_map(claim).collect();
        entries.insert("user".to_owned(), self.user.clone());
        entries
    }
}

/// Nested as deep as the service lets claims nest.
fn json(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => number_value(number),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(object)) => {
            Value::Object(object.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}

/// Protobuf has doubles only; a whole number is shown as one, as it stood in the token.
fn number_value(number: f64) -> Value {
    let whole = format!("{number:.0}").parse::<i64>().ok().filter(|_| number.fract() == 0.0);
    let whole = whole.map(Number::from);
    whole.or_else(|| Number::from_f64(number)).map_or(Value::Null, Value::Number)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
