//! The keys of one issuer: one inline key, or a JWK set (RFC 7517).
//!
//! Promise: a token chooses among the keys by its `kid` and by nothing else, and each key has one algorithm. What a
//! set holds beside usable keys is ignored, as RFC 7517 section 5 asks; a set that could be read in two ways is
//! refused.

use super::algorithm::{Algorithm, Family};
use super::json;
use super::key::{Key, KeyError};
use super::text::is_plain;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Most bytes of a set.
pub(super) const MAX_SET_BYTES: usize = 256 * 1024;
/// Most usable keys of a set: issuers publish two or three.
const MAX_KEYS: usize = 64;

/// The keys of an issuer.
#[derive(Debug, PartialEq)]
pub(super) enum KeySet {
    /// One key; a `kid` in a token is accepted and ignored.
    Inline(Key),
    /// Keys by name. The name is absent only when there is one key.
    Named(Vec<(Option<String>, Key)>),
}

/// Where a set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Secrets may stand in it.
    File,
    /// A secret that the whole net can fetch is none.
    Url,
}

/// Why a set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    #[error("it is not a JWK set: one JSON object with an array `keys`, no member twice")]
    NotSet,
    #[error("two keys have one `kid`")]
    SameName,
    #[error("a key has no `kid`, and there are {0} usable keys")]
    NoName(usize),
    #[error("a key without `alg` fits {0} and {1}, which are both in `algorithms`")]
    Ambiguous(Algorithm, Algorithm),
    #[error("more than {MAX_KEYS} usable keys")]
    TooMany,
    #[error("no key in it can be used for these algorithms{0}")]
    Nothing(Skipped),
}

impl SetError {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NotSet => "write {\"keys\": [...]} as in RFC 7517",
            Self::SameName | Self::NoName(_) => "give every key a `kid` of its own",
            Self::Ambiguous(..) => "write `alg` into the key, or list one algorithm of its kind",
            Self::TooMany => "remove the keys that are no longer used",
            Self::Nothing(_) => "list the algorithm of the keys in `algorithms`",
        }
    }
}

/// The first reason why a key was left out, for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped(Option<KeyError>);

impl std::fmt::Display for Skipped {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |why| write!(out, "; one was left out: {why}"))
    }
}

impl KeySet {
    /// Reads a JWK set for an issuer that uses `allowed`.
    pub(super) fn read(bytes: &[u8], allowed: &[Algorithm], origin: Origin) -> Result<Self, SetError> {
        let set = json::object(bytes).map_err(|_| SetError::NotSet)?;
        let Some(Value::Array(entries)) = set.get("keys") else { return Err(SetError::NotSet) };
        let mut keys: Vec<(Option<String>, Key)> = Vec::new();
        let mut skipped = Skipped::default();
        for entry in entries {
            let Value::Object(entry) = entry else { return Err(SetError::NotSet) };
            let Some((name, algorithm)) = wanted(entry, allowed, origin)? else { continue };
            match key(entry, algorithm) {
                Ok(key) => keys.push((name, key)),
                Err(why) => skipped.0 = skipped.0.or(Some(why)),
            }
            if keys.len() > MAX_KEYS {
                return Err(SetError::TooMany);
            }
        }
        if keys.is_empty() {
            return Err(SetError::Nothing(skipped));
        }
        if keys.len() > 1 && keys.iter().any(|(name, _)| name.is_none()) {
            return Err(SetError::NoName(keys.len()));
        }
        let twice = |index: usize| keys.iter().skip(index + 1).any(|(name, _)| *name == keys[index].0);
        if (0..keys.len()).any(twice) {
            return Err(SetError::SameName);
        }
        Ok(Self::Named(keys))
    }

    /// The key of a token with this `kid`.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (self, id) {
            (Self::Inline(key), _) => Some(key),
            (Self::Named(keys), Some(id)) => {
                keys.iter().find(|(name, _)| name.as_deref() == Some(id)).map(|(_, key)| key)
            }
            (Self::Named(keys), None) => match keys.as_slice() {
                [(_, only)] => Some(only),
                _ => None,
            },
        }
    }
}

/// The name and the algorithm of an entry that is meant for checking signatures of this issuer.
fn wanted(
    entry: &Map<String, Value>,
    allowed: &[Algorithm],
    origin: Origin,
) -> Result<Option<(Option<String>, Algorithm)>, SetError> {
    let text = |name: &str| entry.get(name).map(|value| value.as_str().unwrap_or_default());
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|several| several.iter().any(|operation| operation == "verify"))
    };
    let Some(family) = family(entry) else { return Ok(None) };
    let other_use = text("use").is_some_and(|purpose| purpose != "sig");
    let other_operations = entry.get("key_ops").is_some_and(|operations| !verifies(operations));
    let public_secret = family == Family::Hmac && origin == Origin::Url;
    let bad_name = text("kid").is_some_and(|id| id.is_empty() || !is_plain(id));
    if other_use || other_operations || public_secret || bad_name {
        return Ok(None);
    }
    let name = text("kid").map(str::to_owned);
    let mut fitting = allowed.iter().copied().filter(|algorithm| algorithm.family() == family);
    if let Some(named) = text("alg") {
        let algorithm = Algorithm::named(named);
        return Ok(fitting.find(|fits| Some(*fits) == algorithm).map(|algorithm| (name, algorithm)));
    }
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(Some((name, only))),
        (Some(one), Some(other)) => Err(SetError::Ambiguous(one, other)),
        (None, _) => Ok(None),
    }
}

fn family(entry: &Map<String, Value>) -> Option<Family> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    match (text("kty")?, text("crv")) {
        ("RSA", _) => Some(Family::Rsa),
        ("EC", Some("P-256")) => Some(Family::P256),
        ("EC", Some("P-384")) => Some(Family::P384),
        ("OKP", Some("Ed25519")) => Some(Family::Ed25519),
        ("oct", _) => Some(Family::Hmac),
        _ => None,
    }
}

fn key(entry: &Map<String, Value>, algorithm: Algorithm) -> Result<Key, KeyError> {
    let number = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str).ok_or(KeyError::Invalid)?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Invalid)
    };
    match algorithm.family() {
        Family::Hmac => Key::secret(algorithm, &number("k")?),
        Family::Rsa => Key::rsa(algorithm, &number("n")?, &number("e")?),
        Family::Ed25519 => Key::point(algorithm, &number("x")?),
        Family::P256 | Family::P384 => {
            // RFC 7518 section 6.2.1.2: both coordinates have the curve's full length.
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != y.len() {
                return Err(KeyError::Invalid);
            }
            Key::point(algorithm, &[&[4], x.as_slice(), y.as_slice()].concat())
        }
    }
}
