//! What to write into the store so that tokens are refused before they expire.
//!
//! Promise: a revocation is kept at least as long as any token that it is of can be good. A token id is kept until the
//! end that came with it, however far: cut to what the issuer's tokens may live, it would let a token that is refused
//! for its long life come to be good, unrevoked, when little of that life is left. The stores bound how many they keep.
//!
//! What a revocation of a subject cannot reach, nor one of an id that came without an end: a token that does not say when
//! it was issued and whose end is further off than the issuer's tokens may live. It outlives them. `require: [iat]` refuses
//! such tokens, and Q311 of `config check` asks for it.
//!
//! Must never: cut an end that a caller gave.

use super::good::Good;
use super::issuer::Issuer;
use super::text::is_plain;
use super::verifier::Verifier;
use crate::engine::revocation::{Keep, Probe, Revocation, Target};
use crate::engine::units::{Micros, Moment};

/// How long a token id whose end is past is kept: some moments, so that a store has something to keep.
const PAST: Micros = Micros::SECOND;

/// Why a revocation, or a question about one, makes no sense. The text is for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// No entry of the configuration has that issuer.
    #[error("issuer: no token issuer of that name is configured")]
    UnknownIssuer,
    /// Nothing to revoke it by. Never by a hash of its text: an ECDSA signature has a twin that is as good.
    #[error("token: it has no token id (jti); revoke its subject instead")]
    NoTokenId,
    /// Empty, too long, or with characters that no token of ours has.
    #[error("{0}: 1 to 256 bytes without control or bidirectional characters")]
    BadText(&'static str),
}

impl RevokeError {
    /// The field that is wrong.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "issuer",
            Self::NoTokenId => "token",
            Self::BadText(field) => field,
        }
    }
}

impl Verifier {
    /// The revocation of a good token, until its end.
    ///
    /// # Errors
    /// It has no `jti`.
    pub fn revocation_of_token(&self, good: &Good) -> Result<Revocation, RevokeError> {
        let id = good.claims.token_id.clone().ok_or(RevokeError::NoTokenId)?;
        let issuer = good.claims.issuer.clone();
        Ok(Revocation { issuer, target: Target::TokenId(id), keep: Keep::Until(good.ends) })
    }

    /// The revocation of a token id, until `expires_at` plus leeway; without one for as long as a token can be good that
    /// was issued up to now.
    ///
    /// # Errors
    /// An unknown issuer, or an id that no token of ours has.
    pub fn revocation_of_id(
        &self,
        issuer: &str,
        id: &str,
        expires_at: Option<Moment>,
        now: Moment,
    ) -> Result<Revocation, RevokeError> {
        let entry = self.known(issuer)?;
        let target = Target::TokenId(plain("id", id)?);
        let keep = match expires_at.map(|end| end.plus(entry.spec.leeway)) {
            Some(end) if end <= now => Keep::For(PAST),
            Some(end) => Keep::Until(end),
            None => Keep::For(entry.longest()),
        };
        Ok(Revocation { issuer: issuer.into(), target, keep })
    }

    /// The revocation of everything that was issued to a subject up to the store's now, by an issuer whose clock may be
    /// the leeway ahead: what the store is asked about a token makes allowance for that.
    ///
    /// # Errors
    /// An unknown issuer, or a subject that no token of ours has.
    pub fn revocation_of_subject(&self, issuer: &str, subject: &str) -> Result<Revocation, RevokeError> {
        let entry = self.known(issuer)?;
        let target = Target::Subject(plain("subject", subject)?);
        Ok(Revocation { issuer: issuer.into(), target, keep: Keep::For(entry.longest()) })
    }

    /// What to ask the store about a token that is known by its claims only. Empty text is absent.
    ///
    /// # Errors
    /// An unknown issuer, or text that no token of ours has.
    pub fn probe_of_reference(
        &self,
        issuer: &str,
        subject: &str,
        token_id: &str,
        issued_at: Option<Moment>,
    ) -> Result<Probe, RevokeError> {
        let entry = self.known(issuer)?;
        let given = |field, text: &str| (!text.is_empty()).then(|| plain(field, text)).transpose();
        Ok(entry.probe(given("subject", subject)?, given("token_id", token_id)?, issued_at))
    }

    fn known(&self, issuer: &str) -> Result<&Issuer, RevokeError> {
        self.issuer(issuer).ok_or(RevokeError::UnknownIssuer)
    }
}

fn plain(field: &'static str, text: &str) -> Result<Box<str>, RevokeError> {
    if text.is_empty() || !is_plain(text) {
        return Err(RevokeError::BadText(field));
    }
    Ok(text.into())
}
