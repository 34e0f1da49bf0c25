//! Signing a token with the secret of an HMAC entry: for trying things out, and for tests.
//!
//! Promise: what it signs is a token that the entry accepts now.

use super::algorithm::{Algorithm, Family};
use super::check_spec;
use super::claims::Claims;
use super::load;
use super::rules;
use crate::engine::issuer::IssuerSpec;
use crate::engine::mistake::Mistake;
use crate::engine::units::{Micros, Moment};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::{Map, Value, json};

/// Claims that the caller cannot set beside.
const OWN: [&str; 4] = ["iss", "sub", "iat", "exp"];

/// Why no token was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The entry has public keys only.
    #[error(
        "the entry `{0}` has public keys, which sign nothing; only an HMAC entry with `file` or `env` signs here"
    )]
    NoSecret(String),
    /// The entry is wrong.
    #[error("{}: {}; {}", .0.field, .0.message, .0.hint)]
    Entry(Mistake),
    /// A claim that is made here.
    #[error("the claim `{0}` is set by its own option")]
    Reserved(String),
    /// The entry asks for a claim that was not given.
    #[error("the entry requires the claim `{0}`: give it as an extra claim")]
    Missing(String),
    /// The entry would refuse the token.
    #[error("the entry would refuse such a token: {0}")]
    Refused(super::Refusal),
    /// A claim, the subject for example, is of a form that no token may have.
    #[error("a claim has a form that is never accepted: identifiers are 1 to 256 bytes of plain text")]
    Form,
    /// No random numbers, or the library refused to sign.
    #[error("the token cannot be signed on this system")]
    System,
}

/// Signs a token of `spec` for `subject`, good from `now` for `lifetime`. `extra` claims come beside, and in place of
/// the ones that the entry suggests (`aud`, its type claim, `jti`).
///
/// # Errors
/// The entry has no secret of its own, or would refuse the token.
pub fn mint(
    spec: &IssuerSpec,
    subject: &str,
    lifetime: Micros,
    now: Moment,
    extra: &Map<String, Value>,
) -> Result<String, MintError> {
    let algorithm = algorithm(spec)?;
    let no_secret = || MintError::NoSecret(spec.name.clone());
    let secret = load::secret(&spec.key, algorithm).map_err(MintError::Entry)?.ok_or_else(no_secret)?;
    let claims = claims(spec, subject, lifetime, now, extra)?;
    check(&claims, spec, now)?;
    let header = json!({"alg": algorithm.name(), "typ": "JWT"});
    let encoded = |value: String| URL_SAFE_NO_PAD.encode(value);
    let signed = format!("{}.{}", encoded(header.to_string()), encoded(Value::Object(claims).to_string()));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm.library(), &EncodingKey::from_secret(&secret));
    let signer = signer.map_err(|_| MintError::System)?;
    let signature = signer.try_sign(signed.as_bytes()).map_err(|_| MintError::System)?;
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    if token.len() > super::MAX_TOKEN_BYTES {
        return Err(MintError::Form);
    }
    Ok(token)
}

fn algorithm(spec: &IssuerSpec) -> Result<Algorithm, MintError> {
    let (algorithms, mistakes) = check_spec::check(spec);
    if let Some(mistake) = mistakes.into_iter().next() {
        return Err(MintError::Entry(mistake));
    }
    match algorithms.as_slice() {
        [only] if only.family() == Family::Hmac => Ok(*only),
        _ => Err(MintError::NoSecret(spec.name.clone())),
    }
}

fn claims(
    spec: &IssuerSpec,
    subject: &str,
    lifetime: Micros,
    now: Moment,
    extra: &Map<String, Value>,
) -> Result<Map<String, Value>, MintError> {
    if let Some(name) = OWN.into_iter().find(|name| extra.contains_key(*name)) {
        return Err(MintError::Reserved(name.to_owned()));
    }
    let issued = now.seconds();
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), spec.issuer.as_str().into());
    claims.insert("sub".to_owned(), subject.into());
    claims.insert("iat".to_owned(), issued.into());
    claims.insert("exp".to_owned(), issued.saturating_add(lifetime.seconds_up()).into());
    claims.insert("jti".to_owned(), random_id()?.into());
    if let Some(kind) = spec.types.first() {
        claims.insert(spec.type_claim.clone(), kind.as_str().into());
    }
    if let Some(audience) = spec.audience.first() {
        claims.insert("aud".to_owned(), audience.as_str().into());
    }
    claims.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(claims)
}

fn check(claims: &Map<String, Value>, spec: &IssuerSpec, now: Moment) -> Result<(), MintError> {
    if let Some(name) = spec.require.iter().find(|name| claims.get(*name).is_none_or(Value::is_null)) {
        return Err(MintError::Missing(name.clone()));
    }
    let text = Value::Object(claims.clone()).to_string();
    let read = super::json::object(text.as_bytes()).map_err(|_| MintError::Form)?;
    let read = Claims::read(read).map_err(|_| MintError::Form)?;
    rules::check(&read, None, spec, now).map_err(|reason| MintError::Refused(reason.into()))
}

/// 128 random bits, in hex.
fn random_id() -> Result<String, MintError> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| MintError::System)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
