//! The two answers about a token.

use super::claims::Claims;
use crate::engine::decision::Reason;
use crate::engine::issuer::OnRevocationError;
use crate::engine::revocation::Probe;
use crate::engine::units::{Micros, Moment};

/// A token that is good, unless it was revoked.
#[derive(Clone, Debug, PartialEq)]
pub struct Good {
    /// What it says.
    pub claims: Claims,
    /// What to ask the store about it.
    pub probe: Probe,
    /// How long a "not revoked" may be remembered.
    pub revocation_cache: Micros,
    /// When the store cannot say whether it was revoked.
    pub on_store_error: OnRevocationError,
    /// Its end: `exp` plus leeway.
    pub ends: Moment,
    /// The longest life of this issuer's tokens.
    pub max_lifetime: Micros,
    /// The clock difference that is forgiven to this issuer.
    pub leeway: Micros,
}

/// A token that is not good, and why; nothing of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is refused: {}", text(self.reason))]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::TokenMalformed => "its form is never accepted",
        Reason::TokenIssuerInvalid => "its issuer is not one of those asked for",
        Reason::TokenAlgorithmNotAllowed => "its algorithm is not one of the issuer's or of the key",
        Reason::TokenKeyUnknown => "no key of its issuer has its key id",
        Reason::TokenSignatureInvalid => "its signature does not fit the key",
        Reason::TokenExpired => "it has expired",
        Reason::TokenNotYetValid => "it is not valid yet",
        Reason::TokenAudienceInvalid => "it is for another audience",
        Reason::TokenTypeInvalid => "it is of another type",
        Reason::TokenClaimMissing => "it lacks a required claim",
        Reason::TokenLifetimeTooLong => "it lives longer than its issuer's tokens may",
        Reason::TokenMissing => "it did not come from a place that its issuer's tokens come from",
        _ => "it is not good",
    }
}

#[cfg(test)]
impl Good {
    /// A token for tests that look at none of it.
    pub(super) fn of_nobody() -> std::sync::Arc<Self> {
        let Ok(claims) = Claims::read([("exp".to_owned(), 1.into())].into_iter().collect()) else {
            panic!("an expiry is enough")
        };
        std::sync::Arc::new(Self {
            claims,
            probe: Probe {
                issuer: "".into(),
                token_id: None,
                subject: None,
                issued_at: None,
                foreign_key: None,
            },
            revocation_cache: Micros(0),
            on_store_error: OnRevocationError::Deny,
            ends: Moment(1_000_000),
            max_lifetime: Micros(1),
            leeway: Micros(0),
        })
    }
}
