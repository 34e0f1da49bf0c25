//! A real quotad, a real Redis, tokens, and clients.

mod client;
mod program;

pub(crate) use client::{Answer, Ask, Handshake, Server, address, eventually, get, post};
pub(crate) use program::{Program, Quotad, Redis};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quotad_tower::{Shield, ShieldBuilder};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub(crate) const ORIGIN: &str = "https://app.example.com";
pub(crate) const SECRET: &str = "a secret of the contract that is long enough";

/// `adapters/contract`.
pub(crate) fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract")
}

/// As production, with time enough for a busy machine.
pub(crate) fn shield(target: &str) -> ShieldBuilder {
    Shield::connect(target).production([ORIGIN]).deadline(Duration::from_secs(10))
}

pub(crate) fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "tokens are of real time")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A token of the contract's issuer.
pub(crate) fn token(subject: &str, claims: &Value) -> String {
    let mut all = json!({
        "iss": "example-app", "sub": subject, "jti": uuid(), "iat": now(), "exp": now() + 3600,
    });
    all.as_object_mut().unwrap().extend(claims.as_object().cloned().unwrap_or_default());
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&all));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

pub(crate) fn bearer(subject: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", token(subject, &json!({}))))
}

/// A name that no other test has used.
pub(crate) fn uuid() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}-{}", std::process::id(), now(), NEXT.fetch_add(1, Ordering::Relaxed))
}
