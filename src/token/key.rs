//! One key with the one algorithm that it verifies.
//!
//! Promise: a key that was built is usable: its kind is the algorithm's, its numbers are valid, its length is enough.
//! The algorithm belongs to the key and never comes from a token; that is what ends the confusion of RS256 with HS256
//! (RFC 8725 section 2.1).
//!
//! Must never: show a secret. There is no way to print one.

use super::algorithm::{Algorithm, Family};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use std::fmt;

/// Fewest bits of an RSA modulus (RFC 7518 section 3.3).
const MIN_RSA_BITS: usize = 2048;
/// Most bits: what the library verifies; longer ones only cost time.
const MAX_RSA_BITS: usize = 8192;

/// A key that verifies.
pub(super) struct Key {
    algorithm: Algorithm,
    inner: DecodingKey,
    /// For comparing two versions of a file: equal bytes, equal key.
    digest: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{} key]", self.algorithm)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.digest == other.digest
    }
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("a secret under {need} bytes: it has {have}, and {algorithm} needs at least {need}")]
    ShortSecret { algorithm: Algorithm, have: usize, need: usize },
    #[error("a PEM or SSH key is not a secret: whoever reads the public key could sign tokens")]
    PublicSecret,
    #[error("it holds a private key; checking a signature needs the public one only")]
    Private,
    #[error("it holds a certificate; only its public key is needed")]
    Certificate,
    #[error("it is not one PEM public key")]
    NotPem,
    #[error("it is not a key for {0}")]
    WrongKind(Algorithm),
    #[error("an RSA key of {0} bits; from {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")]
    RsaSize(usize),
    #[error("its numbers are not a valid public key")]
    Invalid,
}

impl KeyError {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::ShortSecret { .. } => "make one with `openssl rand -base64 64`, or set `generate: true`",
            Self::PublicSecret => "name an RS, PS, ES or EdDSA algorithm, or give an HMAC secret",
            Self::Private => "write the public key with `openssl pkey -in KEY -pubout`",
            Self::Certificate => "write its public key with `openssl x509 -in CERT -noout -pubkey`",
            Self::NotPem => "give a file that begins with -----BEGIN PUBLIC KEY-----",
            Self::WrongKind(_) => "give a key of the algorithm's kind, or name the key's algorithm",
            Self::RsaSize(_) => "make one with `openssl genrsa 3072`",
            Self::Invalid => "write the public key again from its private key",
        }
    }
}

impl Key {
    /// A shared secret.
    pub(super) fn secret(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        if contains(bytes, b"-----BEGIN") || bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-") {
            return Err(KeyError::PublicSecret);
        }
        let (have, need) = (bytes.len(), algorithm.min_secret_bytes());
        if have < need {
            return Err(KeyError::ShortSecret { algorithm, have, need });
        }
        Ok(Self::new(algorithm, DecodingKey::from_secret(bytes), bytes))
    }

    /// A PEM public key (SubjectPublicKeyInfo, or PKCS#1 for RSA).
    pub(super) fn pem(algorithm: Algorithm, text: &[u8]) -> Result<Self, KeyError> {
        if contains(text, b"PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if contains(text, b"-----BEGIN CERTIFICATE") {
            return Err(KeyError::Certificate);
        }
        let begins = text.windows(10).filter(|window| window == b"-----BEGIN").count();
        if begins != 1 || !contains(text, b"PUBLIC KEY-----") {
            return Err(KeyError::NotPem);
        }
        let wrong = |_| KeyError::WrongKind(algorithm);
        let inner = match algorithm.family() {
            Family::Hmac => return Err(KeyError::PublicSecret),
            Family::Rsa => DecodingKey::from_rsa_pem(text),
            Family::P256 | Family::P384 => DecodingKey::from_ec_pem(text),
            Family::Ed25519 => DecodingKey::from_ed_pem(text),
        }
        .map_err(wrong)?;
        let bytes = inner.try_get_as_bytes().map_err(wrong)?;
        match algorithm.family() {
            Family::Rsa => {
                let split = DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
                let (n, e) = split(bytes).map_err(|_| KeyError::Invalid)?;
                Self::rsa(algorithm, &n, &e)
            }
            _ => Self::point(algorithm, bytes),
        }
    }

    /// An RSA public key, by its numbers.
    pub(super) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() != Family::Rsa {
            return Err(KeyError::WrongKind(algorithm));
        }
        let (n, e) = (without_zeros(n), without_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |byte| usize_of(byte.leading_zeros()));
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        // An even number, or an exponent of 1 with which a message is its own signature, is nobody's key.
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        if !odd(n) || !odd(e) || e == [1] {
            return Err(KeyError::Invalid);
        }
        let built: PublicEncryptingKey =
            PublicKeyComponents { n, e }.try_into().map_err(|_| KeyError::Invalid)?;
        let der = built.as_der().map_err(|_| KeyError::Invalid)?;
        Ok(Self::new(algorithm, DecodingKey::from_rsa_raw_components(n, e), der.as_ref()))
    }

    /// A point: of an elliptic curve (SEC 1, uncompressed), or of Ed25519 (RFC 8032).
    pub(super) fn point(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        let (curve, length): (&'static dyn VerificationAlgorithm, usize) = match algorithm.family() {
            Family::P256 => (&signature::ECDSA_P256_SHA256_FIXED, 65),
            Family::P384 => (&signature::ECDSA_P384_SHA384_FIXED, 97),
            Family::Ed25519 => (&signature::ED25519, 32),
            Family::Hmac | Family::Rsa => return Err(KeyError::WrongKind(algorithm)),
        };
        if bytes.len() != length {
            return Err(KeyError::WrongKind(algorithm));
        }
        ParsedPublicKey::new(curve, bytes).map_err(|_| KeyError::Invalid)?;
        let inner = match algorithm.family() {
            Family::Ed25519 => DecodingKey::from_ed_der(bytes),
            _ => DecodingKey::from_ec_der(bytes),
        };
        Ok(Self::new(algorithm, inner, bytes))
    }

    fn new(algorithm: Algorithm, inner: DecodingKey, bytes: &[u8]) -> Self {
        Self { algorithm, inner, digest: super::digest(bytes) }
    }

    /// The one algorithm that it verifies.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's of `signed`.
    pub(super) fn verifies(&self, signed: &str, signature: &Vec<u8>) -> bool {
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.library(), &self.inner);
        verifier.is_ok_and(|verifier| verifier.verify(signed.as_bytes(), signature).is_ok())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
