//! Key pairs made for one run, and signing with them: by `aws-lc-rs`, not by the library that the product verifies
//! with.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaSignatureEncoding};
use aws_lc_rs::{hmac, signature::RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key pair, or a secret.
pub(crate) enum Pair {
    /// A secret.
    Secret(Vec<u8>),
    /// RSA of 2048 bits.
    Rsa(Box<RsaKeyPair>),
    /// On P-256.
    P256(EcdsaKeyPair),
    /// On P-384.
    P384(EcdsaKeyPair),
    /// Ed25519.
    Ed(Ed25519KeyPair),
}

impl Pair {
    /// A secret of so many bytes, all of them `byte`.
    pub(crate) fn secret(byte: u8, length: usize) -> Self {
        Self::Secret(vec![byte; length])
    }

    /// A new key pair of the kind that an algorithm takes.
    pub(crate) fn generate(algorithm: &str) -> Self {
        match algorithm {
            "HS256" | "HS384" | "HS512" => {
                let mut secret = vec![0; 64];
                aws_lc_rs::rand::fill(&mut secret).unwrap();
                Self::Secret(URL_SAFE_NO_PAD.encode(secret).into_bytes())
            }
            "ES256" => {
                Self::P256(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "ES384" => {
                Self::P384(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            "EdDSA" | "Ed25519" => Self::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
        }
    }

    /// Signs `message`; `algorithm` chooses hash and padding.
    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => {
                let hash = match algorithm {
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            Self::Rsa(_) => self.sign_rsa(rsa_encoding(algorithm), message),
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Signs with an RSA key in a way of the caller's.
    pub(crate) fn sign_rsa(&self, encoding: &'static RsaSignatureEncoding, message: &[u8]) -> Vec<u8> {
        let Self::Rsa(pair) = self else { panic!("not an RSA key") };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// The public key in PEM.
    pub(crate) fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Secret(_) => panic!("a secret has no public key"),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap(),
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The public key, or the secret, as a JWK with these members beside.
    pub(crate) fn jwk(&self, members: Value) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Secret(secret) => json!({"kty": "oct", "k": text(secret)}),
            Self::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)})
            }
            Self::P256(pair) | Self::P384(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if point.len() == 64 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())}),
        };
        for (name, value) in members.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }
}

fn rsa_encoding(algorithm: &str) -> &'static RsaSignatureEncoding {
    match algorithm {
        "RS256" => &signature::RSA_PKCS1_SHA256,
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => panic!("{algorithm} is not an RSA algorithm"),
    }
}

/// Base64url without padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Standard base64.
pub(crate) fn standard(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}
