//! Which tokens are refused before they expire.
//!
//! Two forms, both of one issuer: a token id until the token's own end, and a subject with everything that may have been
//! issued to it up to a moment. The entry that lasts longer holds.

use super::units::Moment;

/// What a revocation is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One token id (`jti`).
    TokenId(Box<str>),
    /// All tokens of a subject (`sub`) issued up to now.
    Subject(Box<str>),
}

/// A revocation to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The `iss` claim.
    pub issuer: Box<str>,
    /// What is revoked.
    pub target: Target,
    /// How long it must be kept.
    pub keep: Keep,
}

/// How long a revocation is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until a moment: the token's `exp` plus leeway, years ahead if need be.
    Until(Moment),
    /// For a span from the store's now: the longest that a token which was issued up to now can be good.
    For(super::units::Micros),
}

/// What is asked about a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// The `iss` claim.
    pub issuer: Box<str>,
    /// The `jti` claim, if any.
    pub token_id: Option<Box<str>>,
    /// The `sub` claim, if any.
    pub subject: Option<Box<str>>,
    /// The earliest that it may have been issued by the store's clock, if it says: the `iat` claim less the issuer's
    /// leeway, in whole seconds, rounded down.
    pub issued_at: Option<u64>,
    /// A key of the application's own in the same Redis; an existing one of any type means revoked.
    pub foreign_key: Option<Box<str>>,
}

/// A subject revocation as stored: everything that may have been issued up to `moment` is refused.
///
/// Compared in whole seconds, because `iat` is in seconds: `floor(iat - leeway) <= floor(moment)`. A token that does not
/// say when it was issued is refused.
#[must_use]
pub fn subject_revokes(moment: Moment, issued_at: Option<u64>) -> bool {
    issued_at.is_none_or(|issued_at| issued_at <= moment.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_the_revocation_is_refused_and_the_next_is_not() {
        let moment = Moment(1_700_000_000_999_999);
        assert!(subject_revokes(moment, Some(1_700_000_000)));
        assert!(!subject_revokes(moment, Some(1_700_000_001)));
        assert!(subject_revokes(moment, None));
    }
}
