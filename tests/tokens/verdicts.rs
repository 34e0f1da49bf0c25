//! Hostile tokens are refused, good ones are not.

use crate::hostile;
use crate::pairs::{Pair, encode};
use crate::world::{ALGORITHMS, NOW, SECOND, WORLD, claims, inline, token, with, without};
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use quotad::engine::decision::Reason;
use quotad::engine::issuer::{IssuerSpec, KeySource};
use quotad::engine::units::Micros;
use quotad::token::{Keys, Verifier};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

#[test]
fn refuses_every_hostile_token_for_its_reason() {
    let rows = hostile::all();
    let texts: HashSet<_> = rows.iter().map(|row| &row.token).collect();
    assert!(texts.len() >= 400, "{} different ones", texts.len());
    let wrong: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let said = WORLD.verifier.check(&row.token, &[], NOW).map_err(|refusal| refusal.reason);
            (said.as_ref().err() != Some(&row.reason))
                .then(|| format!("{}: {:?} expected, {:?} said", row.name, row.reason, said.err()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_refusal_no_log_and_no_debug_text_holds_a_piece_of_a_token() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let rows = hostile::all();
    let shown: String = tracing::subscriber::with_default(lines, || {
        tracing::info!("the log is kept");
        let shown = rows.iter().map(|row| {
            let refusal = WORLD.verifier.check(&row.token, &[], NOW).unwrap_err();
            format!("{refusal} {refusal:?} {refusal:#?}\n")
        });
        let shown: String = shown.collect();
        let good = WORLD.verifier.check(&WORLD.good(), &[], NOW).unwrap();
        shown + &format!("{:?} {:?}", good.claims, WORLD.verifier)
    });
    let logged = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(logged.contains("the log is kept"), "{logged}");
    let all = shown + &logged;
    for row in &rows {
        for part in row.token.split('.').filter(|part| part.len() >= 8 && part.is_ascii()) {
            let (begin, end) = (&part[..8], &part[part.len() - 8..]);
            assert!(!all.contains(begin) && !all.contains(end), "{}", row.name);
        }
    }
    assert!(!all.contains("alice") && !all.contains("4f1c"), "{all}");
}

#[test]
fn accepts_good_tokens_of_each_algorithm_by_an_inline_key() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    for algorithm in ALGORITHMS {
        let pair = Pair::generate(algorithm);
        let key = match &pair {
            Pair::Secret(secret) => secret.clone(),
            public => public.pem().into_bytes(),
        };
        std::fs::write(&path, key).unwrap();
        let verifier = Verifier::build(vec![inline("a", algorithm, path.clone())], Keys::Make).unwrap();
        for header in [
            json!({"alg": algorithm}),
            json!({"alg": algorithm, "kid": "ignored", "typ": "at+JWT", "x5t": "a"}),
        ] {
            let text = token(&header.to_string(), &claims("a").to_string(), &pair, algorithm);
            let good = verifier.check(&text, &[], NOW);
            assert!(good.is_ok(), "{algorithm} {header}: {good:?}");
        }
    }
}

#[test]
fn accepts_good_tokens_of_each_algorithm_by_a_key_set() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("set.json");
    let pairs: Vec<_> =
        ALGORITHMS.into_iter().map(|algorithm| (algorithm, Pair::generate(algorithm))).collect();
    let jwk = |(algorithm, pair): &(&str, Pair)| {
        pair.jwk(json!({"kid": algorithm, "alg": algorithm, "use": "sig"}))
    };
    let keys: Vec<_> = pairs.iter().map(jwk).collect();
    std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    let spec = IssuerSpec {
        algorithms: ALGORITHMS.map(str::to_owned).into(),
        ..IssuerSpec::named("a", "a", KeySource::JwksFile(path))
    };
    let verifier = Verifier::build(vec![spec], Keys::Make).unwrap();
    for (algorithm, pair) in &pairs {
        let header = json!({"alg": algorithm, "kid": algorithm}).to_string();
        let good = verifier.check(&token(&header, &claims("a").to_string(), pair, algorithm), &[], NOW);
        assert!(good.is_ok(), "{algorithm}: {good:?}");
    }
}

#[test]
fn both_names_of_ed25519_are_one() {
    for name in ["EdDSA", "Ed25519"] {
        let header = json!({"alg": name}).to_string();
        let text = token(&header, &claims("ed").to_string(), &WORLD.ed, "EdDSA");
        assert!(WORLD.verifier.check(&text, &[], NOW).is_ok(), "{name}");
    }
}

#[test]
fn accepts_what_lies_within_the_bounds() {
    let deep: serde_json::Value = (0..15).fold(json!(1), |inner, _| json!([inner]));
    let mut fraction = with("exp", 1_790_000_600.25);
    fraction["iat"] = json!(1_789_999_999.75);
    let mut ending = without("iat");
    ending["exp"] = json!(SECOND - 29);
    for (name, claims) in [
        ("16 deep", with("x", deep)),
        ("in leeway", ending),
        ("not before, in leeway", with("nbf", SECOND + 30)),
        ("issued in leeway", with("iat", SECOND + 30)),
        ("the longest life", with("exp", SECOND + 8 * 86_400)),
        ("no iat", without("iat")),
        ("fractions", fraction),
        ("a subject of 256 bytes", with("sub", "x".repeat(256))),
        ("a subject in another script", with("sub", "\u{639}\u{644}\u{64a}")),
        ("any audience", with("aud", json!(["x", "y"]))),
        ("no audience in the list", with("aud", json!([]))),
        ("null in a claim of the application's", with("x", json!(null))),
        ("nearly 8 KiB", with("x", "x".repeat(5_800))),
    ] {
        let good = WORLD.verifier.check(&WORLD.hs(&claims), &[], NOW);
        assert!(good.is_ok(), "{name}: {good:?}");
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt", "APPLICATION/JWT"] {
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        assert!(WORLD.verifier.check(&WORLD.hs_header(&header), &[], NOW).is_ok(), "{typ}");
    }
}

#[test]
fn a_good_token_gives_its_claims_and_what_to_ask_the_store() {
    let mut all = with("aud", json!(["api", "web"]));
    all["nbf"] = json!(SECOND - 5);
    all["role"] = json!({"name": "editor"});
    let good = WORLD.verifier.check(&WORLD.hs(&all), &["hs".to_owned()], NOW).unwrap();
    let claims = &good.claims;
    assert_eq!(
        (&*claims.issuer, claims.subject.as_deref(), claims.token_id.as_deref()),
        ("hs", Some("alice"), Some("4f1c"))
    );
    assert_eq!(claims.audience, ["api", "web"]);
    assert_eq!((claims.expires_at.seconds(), claims.issued_at.unwrap().seconds()), (SECOND + 600, SECOND));
    assert_eq!(claims.not_before.unwrap().seconds(), SECOND - 5);
    assert_eq!(serde_json::Value::Object(claims.all.clone()), all);
    assert_eq!(good.probe.issued_at, Some(SECOND - 30), "the issuer's clock may be the leeway ahead");
    assert_eq!(good.probe.foreign_key.as_deref(), Some("blacklisted_access_token:4f1c"));
    assert_eq!((&*good.probe.issuer, good.probe.subject.as_deref()), ("hs", Some("alice")));
    assert_eq!(good.ends.seconds(), SECOND + 630);
    assert_eq!(
        (good.leeway, good.max_lifetime),
        (Micros::from_seconds(30), Micros::from_seconds(8 * 86_400))
    );
}

#[test]
fn a_remembered_token_is_still_judged_by_the_time_and_by_who_is_asked_for() {
    let mut claims = with("nbf", SECOND);
    claims["exp"] = json!(SECOND + 600);
    let text = WORLD.hs(&claims);
    let at = |seconds: u64| quotad::engine::units::Moment(seconds * 1_000_000);
    let check = |allowed: &[String], seconds| {
        WORLD.verifier.check(&text, allowed, at(seconds)).map_err(|no| no.reason)
    };
    let first = check(&[], SECOND).unwrap();
    let again = check(&["other".to_owned(), "hs".to_owned()], SECOND + 1).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "remembered");
    assert_eq!(check(&["rs".to_owned()], SECOND), Err(Reason::TokenIssuerInvalid));
    assert_eq!(check(&[], SECOND - 31), Err(Reason::TokenNotYetValid), "the clock was set back");
    assert!(check(&[], SECOND + 629).is_ok());
    assert_eq!(check(&[], SECOND + 630), Err(Reason::TokenExpired));
    assert_eq!(check(&[], SECOND + 630), Err(Reason::TokenExpired), "and after it was forgotten");
}

#[test]
fn only_issuers_that_are_asked_for() {
    let text = WORLD.hs(&with("x", 1));
    let asked = |issuer: &str| {
        WORLD.verifier.check(&text, &[issuer.to_owned()], NOW).map(|_| ()).map_err(|no| no.reason)
    };
    assert_eq!(asked("rs"), Err(Reason::TokenIssuerInvalid));
    assert_eq!(asked("hs"), Ok(()));
}

/// Every character of a token replaced by every kind of other character: none of them is good.
#[test]
fn no_token_survives_a_changed_character() {
    for (issuer, algorithm, pair) in
        [("hs", "HS256", &WORLD.secret), ("es", "ES256", &WORLD.p256), ("ed", "EdDSA", &WORLD.ed)]
    {
        let text =
            token(&json!({"alg": algorithm}).to_string(), &claims(issuer).to_string(), pair, algorithm);
        assert!(WORLD.verifier.check(&text, &[], NOW).is_ok());
        for index in 0..text.len() {
            for other in ["A", "Q", "_", "9", ".", "=", ""] {
                let mut changed = text.clone();
                changed.replace_range(index..=index, other);
                if changed != text {
                    let said = WORLD.verifier.check(&changed, &[], NOW);
                    assert!(said.is_err(), "{algorithm}: {other:?} at {index}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_panics_or_is_good(text in "\\PC{0,200}", header in "\\PC{0,80}", payload in "\\PC{0,80}") {
        prop_assert!(WORLD.verifier.check(&text, &[], NOW).is_err());
        let signed = token(&header, &payload, &WORLD.secret, "HS256");
        prop_assert!(WORLD.verifier.check(&signed, &[], NOW).is_err());
    }

    #[test]
    fn only_a_number_of_seconds_in_range_is_a_date(exp in prop_oneof![prop::num::f64::ANY, 1.79e9..1.7907e9]) {
        let text = WORLD.hs_text(&format!(r#"{{"iss":"hs","sub":"a","jti":"b","exp":{exp}}}"#));
        let good = WORLD.verifier.check(&text, &[], NOW).is_ok();
        let (now, end) = (1_790_000_000.0, 1_790_000_000.0 + 691_200.0);
        prop_assert_eq!(good, exp > now - 30.0 && exp <= end, "{}", exp);
    }
}

#[test]
fn a_payload_that_only_claims_to_be_good_is_told_nothing_about_its_claims() {
    let mut expired = with("exp", 1);
    expired["sub"] = json!(null);
    let forged = token(r#"{"alg":"HS256"}"#, &expired.to_string(), &WORLD.other_secret, "HS256");
    assert_eq!(WORLD.verifier.check(&forged, &[], NOW).unwrap_err().reason, Reason::TokenSignatureInvalid);
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"HS256"}"#), encode(expired.to_string()));
    assert_eq!(WORLD.verifier.check(&unsigned, &[], NOW).unwrap_err().reason, Reason::TokenSignatureInvalid);
}
