//! Hostile tokens: text that is no token, tokens that are rightly signed and say anything, and key sets.
//!
//! Input: the first byte chooses. 0: a token. 1: a header's line and a payload, which are signed with the right key.
//! 2: a key set. Every input is also looked through as the places of a request where a token may stand.

#![no_main]

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use quotad::engine::issuer::{IssuerSpec, KeySource, Secret, TokenSource};
use quotad::engine::units::{Micros, Moment};
use quotad::token::extract::{Found, find};
use quotad::token::{Keys, MAX_TOKEN_BYTES, Verifier};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, process};

const SECRET: &[u8] = b"fuzz-secret-of-more-than-thirty-two-bytes";
const ISSUER: &str = "fuzz";
/// 2026-01-01, in seconds.
const NOW: u64 = 1_767_225_600;
const LEEWAY: u64 = 30;
const REFUSED: [&str; 7] = ["jku", "jwk", "x5u", "x5c", "crit", "zip", "b64"];

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let value = Secret(SECRET.to_vec());
    let mut spec = IssuerSpec::named("fuzz", ISSUER, KeySource::Env { name: "SECRET".to_owned(), value });
    spec.leeway = Micros::from_seconds(LEEWAY);
    Verifier::build(vec![spec], Keys::CheckOnly).expect("the entry is right")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    places(&text);
    match kind % 3 {
        0 => check(&text),
        1 => {
            let (header, payload) = text.split_once('\n').unwrap_or((&text, "{}"));
            check(&signed(header, payload));
        }
        _ => key_set(bytes),
    }
});

fn check(token: &str) {
    let now = Moment(NOW * 1_000_000);
    let Ok(good) = VERIFIER.check(token, &[], now) else { return };
    // What was accepted is judged once more, by other means.
    assert!(token.len() <= MAX_TOKEN_BYTES, "too long");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("not three parts") };
    assert_eq!(mac(&format!("{header}.{payload}")), signature, "the signature is not ours");
    let (header, payload) = (json(header), json(payload));
    assert_eq!(header["alg"], "HS256");
    assert!(REFUSED.iter().all(|name| header.get(name).is_none()), "a member brings its own rules");
    assert_eq!(payload["iss"], ISSUER);
    let seconds = |claim: &str| payload[claim].as_f64();
    let (now_seconds, leeway) = (NOW as f64, LEEWAY as f64);
    assert!(seconds("exp").expect("exp is a number") + leeway >= now_seconds, "over");
    assert!(seconds("nbf").is_none_or(|from| from <= now_seconds + leeway), "not begun");
    assert!(seconds("iat").is_none_or(|at| at <= now_seconds + leeway), "issued in the future");
    assert_eq!(Value::Object(good.claims.all.clone()), payload, "other claims than were signed");

    assert_eq!(VERIFIER.check(token, &[], now).as_ref(), Ok(&good), "the second answer is another");
    assert!(
        VERIFIER.check(token, &["other".to_owned()], now).is_err(),
        "good for an issuer that is not its own"
    );
    assert!(VERIFIER.check(token, &[], Moment(good.ends.0 + 1)).is_err(), "good after its end");
    assert!(!format!("{good:?}").contains(token), "the token is shown");
}

fn signed(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = mac(&signed);
    format!("{signed}.{signature}")
}

fn mac(signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
}

fn json(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("canonical base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A set as it may come from an issuer's server; it is read from a file of this process.
fn key_set(bytes: &[u8]) {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| env::temp_dir().join(format!("quotad-fuzz-{}.jwks", process::id())));
    fs::write(&*PATH, bytes).expect("the folder for temporary files takes a file");
    let mut spec = IssuerSpec::named("set", "set", KeySource::JwksFile(PATH.clone()));
    spec.algorithms = ["RS256", "PS256", "ES256", "EdDSA"].map(str::to_owned).into();
    match Verifier::build(vec![spec], Keys::CheckOnly) {
        Ok(verifier) => assert!(verifier.check("e30.e30.AAAA", &[], Moment(NOW)).is_err()),
        Err(mistakes) => assert!(mistakes.iter().all(|(_, mistake)| !mistake.message.is_empty())),
    }
}

fn places(text: &str) {
    let places =
        [TokenSource::Authorization, TokenSource::Cookie("t".to_owned()), TokenSource::Query("t".to_owned())];
    let headers = |_: &str| text.split('\n');
    for place in &places {
        if let Found::Token(token, _) = find(std::slice::from_ref(place), headers, text)
            && *place == TokenSource::Authorization
        {
            assert!(!token.is_empty() && !token.contains([' ', ',']), "more than a token was found");
        }
    }
}
