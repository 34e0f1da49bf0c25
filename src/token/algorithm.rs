//! Signature algorithms by their registered names (RFC 7518, RFC 8037, RFC 9864).
//!
//! Promise: a name is either one of these, spelled exactly so, or unknown. `none` is unknown.

use jsonwebtoken::Algorithm as Library;
use std::fmt;

/// A signature algorithm. `EdDSA` and `Ed25519` are one: the only Edwards curve that is accepted is Ed25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA, PKCS#1 v1.5, SHA-256.
    Rs256,
    /// RSA, PKCS#1 v1.5, SHA-384.
    Rs384,
    /// RSA, PKCS#1 v1.5, SHA-512.
    Rs512,
    /// RSA-PSS, SHA-256, a salt of the hash's length.
    Ps256,
    /// RSA-PSS, SHA-384, a salt of the hash's length.
    Ps384,
    /// RSA-PSS, SHA-512, a salt of the hash's length.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// The kind of key that an algorithm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A shared secret.
    Hmac,
    /// An RSA key.
    Rsa,
    /// A key on the curve P-256.
    P256,
    /// A key on the curve P-384.
    P384,
    /// An Ed25519 key.
    Ed25519,
}

impl Algorithm {
    /// The names that a configuration may use, for hints.
    pub const NAMES: &'static str =
        "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA or Ed25519";

    /// The algorithm of a name; case matters (RFC 7515 section 4.1.1).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    /// Its name in messages and in headers that we write.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The kind of key that it takes.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 => Family::P256,
            Self::Es384 => Family::P384,
            Self::EdDsa => Family::Ed25519,
        }
    }

    /// Fewest bytes of an HMAC secret: those of the hash (RFC 7518 section 3.2). 0 for other kinds.
    #[must_use]
    pub fn min_secret_bytes(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }

    pub(super) fn library(self) -> Library {
        match self {
            Self::Hs256 => Library::HS256,
            Self::Hs384 => Library::HS384,
            Self::Hs512 => Library::HS512,
            Self::Rs256 => Library::RS256,
            Self::Rs384 => Library::RS384,
            Self::Rs512 => Library::RS512,
            Self::Ps256 => Library::PS256,
            Self::Ps384 => Library::PS384,
            Self::Ps512 => Library::PS512,
            Self::Es256 => Library::ES256,
            Self::Es384 => Library::ES384,
            Self::EdDsa => Library::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_none_is_not_one() {
        assert_eq!(Algorithm::named("Ed25519"), Algorithm::named("EdDSA"));
        for name in Algorithm::NAMES.replace(" or ", ", ").split(", ") {
            let algorithm = Algorithm::named(name).unwrap();
            assert!(algorithm.name() == name || name == "Ed25519");
        }
        for bad in ["none", "None", "NONE", "nOnE", "hs256", "HS256 ", "", "ES512", "ES256K", "RS1", "Ed448"]
        {
            assert_eq!(Algorithm::named(bad), None, "{bad}");
        }
    }
}
