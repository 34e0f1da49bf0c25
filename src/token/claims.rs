//! The registered claims of a payload (RFC 7519 section 4.1), typed.
//!
//! A claim that is there and is not what its name promises makes the token malformed; `null` is there. Identifiers
//! are short plain text, because they become keys of revocations and counters. Times are finite and within the years
//! 1970 to 9999.

use super::text::is_plain;
use crate::engine::units::{Micros, Moment};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// What a good token says.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// The value of the entry `user`: the subject, and with several issuers the issuer before it.
    pub user: Option<Box<str>>,
    /// `aud`: one or several; empty when it is absent.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires_at: Moment,
    /// `nbf`.
    pub not_before: Option<Moment>,
    /// `iat`.
    pub issued_at: Option<Moment>,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// Every claim, the ones above included.
    pub all: Map<String, Value>,
}

impl fmt::Debug for Claims {
    /// Without their values: a payload is most of a token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Claims").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a payload gives no claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadClaims {
    /// A registered claim is not what its name promises.
    Malformed,
    /// There is no `exp`.
    NoExpiry,
}

/// The `iss` of a payload, to find the key by; not to be trusted yet.
pub(super) fn issuer(all: &Map<String, Value>) -> Result<Option<&str>, BadClaims> {
    text(all, "iss")
}

impl Claims {
    /// Reads the claims of a payload that is rightly signed.
    pub(super) fn read(all: Map<String, Value>) -> Result<Self, BadClaims> {
        let audience = audience(&all)?;
        let (expires_at, not_before, issued_at) =
            (date(&all, "exp")?, date(&all, "nbf")?, date(&all, "iat")?);
        let subject: Option<Box<str>> = text(&all, "sub")?.map(Into::into);
        Ok(Self {
            issuer: text(&all, "iss")?.unwrap_or_default().into(),
            user: subject.clone(),
            subject,
            token_id: text(&all, "jti")?.map(Into::into),
            audience,
            expires_at: expires_at.ok_or(BadClaims::NoExpiry)?,
            not_before,
            issued_at,
            all,
        })
    }
}

/// An empty identifier identifies nobody: everyone without a name would share one counter and one revocation.
fn text<'a>(all: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, BadClaims> {
    match all.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && is_plain(text) => Ok(Some(text)),
        Some(_) => Err(BadClaims::Malformed),
    }
}

fn audience(all: &Map<String, Value>) -> Result<Vec<String>, BadClaims> {
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or(BadClaims::Malformed);
    match all.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::Array(several)) => several.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

/// A `NumericDate`: seconds, whole or with a fraction.
fn date(all: &Map<String, Value>, name: &str) -> Result<Option<Moment>, BadClaims> {
    let number = match all.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(BadClaims::Malformed),
    };
    let since = match (number.as_u64(), number.as_f64()) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).map_err(|_| BadClaims::Malformed)?,
        (None, None) => return Err(BadClaims::Malformed),
    };
    if since.as_secs() > LAST_SECOND {
        return Err(BadClaims::Malformed);
    }
    Ok(Some(Moment(Micros::from(since).0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Claims, BadClaims> {
        let Value::Object(all) = value else { panic!("an object") };
        Claims::read(all)
    }

    #[test]
    fn reads_dates_with_a_fraction_and_both_forms_of_audience() {
        let claims =
            read(json!({"iss": "a", "exp": 1_700_000_000.5, "iat": 1.7e9, "nbf": 0, "aud": ["x", "y"]}))
                .unwrap();
        assert_eq!(claims.expires_at, Moment(1_700_000_000_500_000));
        assert_eq!(claims.issued_at, Some(Moment(1_700_000_000_000_000)));
        assert_eq!(claims.not_before, Some(Moment(0)));
        assert_eq!(claims.audience, ["x", "y"]);
        assert_eq!(read(json!({"exp": 1, "aud": "x"})).unwrap().audience, ["x"]);
        assert_eq!(
            read(json!({"exp": LAST_SECOND})).unwrap().expires_at,
            Moment(253_402_300_799_000_000),
            "the last second of 9999 is one"
        );
    }

    #[test]
    fn refuses_what_is_not_what_its_name_promises() {
        for bad in [
            json!(null),
            json!("1700000000"),
            json!(true),
            json!([1]),
            json!({}),
            json!(-1),
            json!(-0.5),
            json!(253_402_300_800_u64),
            json!(9_223_372_036_854_775_808_u64),
            json!(1e20),
            json!(1e300),
        ] {
            for name in ["exp", "nbf", "iat"] {
                let mut payload = json!({"exp": 1});
                payload[name] = bad.clone();
                assert_eq!(read(payload), Err(BadClaims::Malformed), "{name} {bad}");
            }
        }
        for bad in
            [json!(null), json!(7), json!(["a"]), json!({}), json!(""), json!("a\u{0}"), json!("a\u{202e}")]
        {
            for name in ["iss", "sub", "jti"] {
                assert_eq!(read(json!({"exp": 1, name: bad})), Err(BadClaims::Malformed), "{name} {bad}");
            }
        }
        for bad in [json!(null), json!(7), json!(["a", 1]), json!({"a": 1}), json!([null])] {
            assert_eq!(read(json!({"exp": 1, "aud": bad})), Err(BadClaims::Malformed), "{bad}");
        }
        assert_eq!(read(json!({})), Err(BadClaims::NoExpiry));
    }

    #[test]
    fn debug_shows_no_claim() {
        let shown = format!("{:?}", read(json!({"iss": "a", "exp": 1, "sub": "alice"})).unwrap());
        assert!(!shown.contains("alice"), "{shown}");
    }
}
