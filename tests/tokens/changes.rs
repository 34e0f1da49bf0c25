//! Key files that change while the service runs, revocations, minting, and places of a token.

use crate::pairs::Pair;
use crate::world::{NOW, SECOND, WORLD, claims, inline, token, with, without};
use quotad::engine::decision::Reason;
use quotad::engine::issuer::{IssuerSpec, KeySource, Secret, TokenSource};
use quotad::engine::revocation::{Keep, Target};
use quotad::engine::units::{Micros, Moment};
use quotad::token::extract::{Found, find};
use quotad::token::mint::{MintError, mint};
use quotad::token::{Keys, RevokeError, Verifier};
use serde_json::{Map, Value, json};
use std::fs;

const DAY: Micros = Micros(86_400_000_000);

fn seconds(seconds: u64) -> Micros {
    Micros::from_seconds(seconds)
}

fn said(verifier: &Verifier, token: &str) -> Option<Reason> {
    verifier.check(token, &[], NOW).err().map(|refusal| refusal.reason)
}

#[test]
fn a_changed_key_file_is_taken_and_flushes_what_was_remembered() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("token.key");
    let (old, new) = (Pair::secret(b'a', 32), Pair::secret(b'b', 32));
    fs::write(&path, [b'a'; 32]).unwrap();
    let verifier = Verifier::build(vec![inline("hs", "HS256", path.clone())], Keys::Make).unwrap();
    assert_eq!(verifier.watched_files(), std::slice::from_ref(&path));
    let by = |pair: &Pair| token(r#"{"alg":"HS256"}"#, &claims("hs").to_string(), pair, "HS256");
    assert_eq!((said(&verifier, &by(&old)), said(&verifier, &by(&old))), (None, None));
    let reload = verifier.reload_files();
    assert!(!reload.changed && reload.mistakes.is_empty(), "{reload:?}");

    fs::write(&path, "short").unwrap();
    let reload = verifier.reload_files();
    assert!(!reload.changed);
    assert_eq!((reload.mistakes[0].0, reload.mistakes[0].1.field.as_str()), (0, "key"));
    assert_eq!(said(&verifier, &by(&old)), None, "a bad file changes nothing");
    fs::remove_file(&path).unwrap();
    assert_eq!(verifier.reload_files().mistakes.len(), 1);
    assert_eq!(said(&verifier, &by(&old)), None, "nor does none");

    fs::write(&path, [b'b'; 32]).unwrap();
    let reload = verifier.reload_files();
    assert!(reload.changed && reload.mistakes.is_empty(), "{reload:?}");
    assert_eq!(said(&verifier, &by(&old)), Some(Reason::TokenSignatureInvalid), "not from the cache");
    assert_eq!(said(&verifier, &by(&new)), None);
}

#[test]
fn a_generated_secret_that_goes_missing_is_not_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("token.key");
    let key = KeySource::File { path: path.clone(), generate: true };
    let verifier = Verifier::build(vec![IssuerSpec::named("a", "a", key)], Keys::Make).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(verifier.reload_files().mistakes.len(), 1);
    assert!(!path.exists());
}

#[test]
fn a_changed_set_file_is_taken_and_a_bad_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("set.json");
    let (old, new) = (Pair::generate("EdDSA"), Pair::generate("EdDSA"));
    let write = |keys: Value| fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    write(json!([old.jwk(json!({"kid": "1"}))]));
    let spec = IssuerSpec {
        algorithms: vec!["EdDSA".to_owned()],
        ..IssuerSpec::named("a", "a", KeySource::JwksFile(path.clone()))
    };
    let verifier = Verifier::build(vec![spec], Keys::Make).unwrap();
    let by = |pair: &Pair, id: &str| {
        let header = json!({"alg": "EdDSA", "kid": id}).to_string();
        token(&header, &claims("a").to_string(), pair, "EdDSA")
    };
    assert_eq!(said(&verifier, &by(&old, "1")), None);
    write(json!([]));
    assert_eq!(verifier.reload_files().mistakes.len(), 1);
    assert_eq!(said(&verifier, &by(&old, "1")), None);
    write(json!([old.jwk(json!({"kid": "1"})), new.jwk(json!({"kid": "2"}))]));
    assert!(verifier.reload_files().changed);
    assert_eq!((said(&verifier, &by(&old, "1")), said(&verifier, &by(&new, "2"))), (None, None));
    write(json!([new.jwk(json!({"kid": "2"}))]));
    assert!(verifier.reload_files().changed);
    assert_eq!(said(&verifier, &by(&old, "1")), Some(Reason::TokenKeyUnknown));
    assert_eq!(said(&verifier, &by(&new, "")), Some(Reason::TokenKeyUnknown));
}

#[test]
fn a_token_is_revoked_until_its_end() {
    let verifier = &WORLD.verifier;
    let good = verifier.check(&WORLD.good(), &[], NOW).unwrap();
    let revocation = verifier.revocation_of_token(&good).unwrap();
    assert_eq!((&*revocation.issuer, revocation.target), ("hs", Target::TokenId("4f1c".into())));
    assert_eq!(revocation.keep, Keep::Until(Moment((SECOND + 630) * 1_000_000)));
    let nameless = token(r#"{"alg":"RS256"}"#, &claims_without_id("rs"), &WORLD.rsa, "RS256");
    let good = verifier.check(&nameless, &[], NOW).unwrap();
    let error = verifier.revocation_of_token(&good).unwrap_err();
    assert_eq!((error, error.field()), (RevokeError::NoTokenId, "token"));
    assert!(error.to_string().contains("revoke its subject"));
}

fn claims_without_id(issuer: &str) -> String {
    let mut claims = claims(issuer);
    claims.as_object_mut().unwrap().remove("jti");
    claims.to_string()
}

#[test]
fn a_token_id_is_kept_until_the_end_that_came_with_it_and_without_one_as_long_as_a_token_can_live() {
    let keep = |end: Option<u64>| {
        let end = end.map(|second| Moment(second * 1_000_000));
        WORLD.verifier.revocation_of_id("hs", "4f1c", end, NOW).unwrap().keep
    };
    assert_eq!(keep(None), Keep::For(Micros(8 * DAY.0 + seconds(60).0)));
    assert_eq!(keep(Some(SECOND + 60)), Keep::Until(Moment((SECOND + 90) * 1_000_000)));
    assert_eq!(keep(Some(SECOND + 8 * 86_400)), Keep::Until(Moment((SECOND + 8 * 86_400 + 30) * 1_000_000)));
    let last = 253_402_300_799;
    assert_eq!(keep(Some(last)), Keep::Until(Moment((last + 30) * 1_000_000)), "the end of the year 9999");
    assert_eq!(keep(Some(u64::MAX / 1_000_000)), Keep::Until(Moment(u64::MAX)));
    assert_eq!(keep(Some(SECOND - 29)), Keep::Until(Moment((SECOND + 1) * 1_000_000)), "leeway is left");
    assert_eq!(keep(Some(SECOND - 30)), Keep::For(seconds(1)), "nothing is left");
    assert_eq!(keep(Some(0)), Keep::For(seconds(1)));
}

#[test]
fn a_subject_is_revoked_for_the_longest_life() {
    let revocation = WORLD.verifier.revocation_of_subject("picky", "alice").unwrap();
    assert_eq!(revocation.target, Target::Subject("alice".into()));
    assert_eq!(revocation.keep, Keep::For(seconds(3660)));
}

#[test]
fn what_cannot_be_revoked_names_its_field() {
    let verifier = &WORLD.verifier;
    let long = "x".repeat(257);
    for issuer in ["", "HS", "evil"] {
        assert_eq!(verifier.revocation_of_id(issuer, "1", None, NOW), Err(RevokeError::UnknownIssuer));
        assert_eq!(verifier.revocation_of_subject(issuer, "a"), Err(RevokeError::UnknownIssuer));
        assert_eq!(verifier.probe_of_reference(issuer, "a", "1", None), Err(RevokeError::UnknownIssuer));
        assert_eq!(verifier.leeway(issuer), None);
    }
    assert!(RevokeError::UnknownIssuer.to_string().starts_with("issuer"));
    for bad in ["", "a\n", "a\u{202e}", &long] {
        assert_eq!(
            verifier.revocation_of_id("hs", bad, None, NOW),
            Err(RevokeError::BadText("id")),
            "{bad:?}"
        );
        assert_eq!(
            verifier.revocation_of_subject("hs", bad),
            Err(RevokeError::BadText("subject")),
            "{bad:?}"
        );
    }
    assert_eq!(verifier.probe_of_reference("hs", "a\0", "", None), Err(RevokeError::BadText("subject")));
    assert_eq!(verifier.probe_of_reference("hs", "", "a\0", None), Err(RevokeError::BadText("token_id")));
}

#[test]
fn a_reference_asks_what_the_token_would_ask() {
    let verifier = &WORLD.verifier;
    let good = verifier.check(&WORLD.good(), &[], NOW).unwrap();
    let issued = good.claims.issued_at;
    assert_eq!(verifier.probe_of_reference("hs", "alice", "4f1c", issued).unwrap(), good.probe);
    let bare = verifier.probe_of_reference("hs", "", "", None).unwrap();
    assert_eq!((bare.subject, bare.token_id, bare.issued_at, bare.foreign_key), (None, None, None, None));
    assert_eq!(verifier.leeway("hs"), Some(seconds(30)));
}

fn minting(algorithm: &str) -> IssuerSpec {
    let key = KeySource::Env { name: "KEY".to_owned(), value: Secret(vec![b'k'; 64]) };
    IssuerSpec {
        algorithms: vec![algorithm.to_owned()],
        require: ["sub", "jti", "exp"].map(str::to_owned).into(),
        types: vec!["access".to_owned(), "other".to_owned()],
        audience: vec!["api".to_owned(), "web".to_owned()],
        ..IssuerSpec::named("app", "example-app", key)
    }
}

#[test]
fn a_minted_token_is_good_and_says_what_the_entry_asks_for() {
    for algorithm in ["HS256", "HS384", "HS512"] {
        let spec = minting(algorithm);
        let extra: Map<String, Value> = [("role".to_owned(), json!("editor"))].into_iter().collect();
        let text = mint(&spec, "alice", seconds(3600), NOW, &extra).unwrap();
        let again = mint(&spec, "alice", seconds(3600), NOW, &extra).unwrap();
        let verifier = Verifier::build(vec![spec], Keys::CheckOnly).unwrap();
        let good = verifier.check(&text, &["example-app".to_owned()], NOW).unwrap();
        assert_eq!(good.claims.subject.as_deref(), Some("alice"));
        assert_eq!(good.claims.audience, ["api"]);
        assert_eq!(
            (&good.claims.all["type"], &good.claims.all["role"]),
            (&json!("access"), &json!("editor"))
        );
        assert_eq!((good.claims.issued_at, good.claims.expires_at.seconds()), (Some(NOW), SECOND + 3600));
        let id = good.claims.token_id.as_deref().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let other = verifier.check(&again, &[], NOW).unwrap();
        assert_ne!(other.claims.token_id, good.claims.token_id);
    }
}

#[test]
fn minting_makes_the_secret_that_the_server_will_use() {
    let home = tempfile::tempdir().unwrap();
    let key = KeySource::File { path: home.path().join("data/token.key"), generate: true };
    let spec = IssuerSpec { key, ..minting("HS256") };
    let text = mint(&spec, "alice", seconds(60), NOW, &Map::new()).unwrap();
    let verifier = Verifier::build(vec![spec], Keys::Make).unwrap();
    assert_eq!(said(&verifier, &text), None);
}

#[test]
fn nothing_is_minted_that_would_be_refused() {
    let none = Map::new();
    let spec = minting("HS256");
    let refused = |error: MintError| match error {
        MintError::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    };
    let too_long = mint(&spec, "alice", Micros(8 * DAY.0 + 1), NOW, &none).unwrap_err();
    assert_eq!(refused(too_long), Reason::TokenLifetimeTooLong);
    assert_eq!(mint(&spec, "", seconds(60), NOW, &none), Err(MintError::Form));
    assert_eq!(mint(&spec, "a\n", seconds(60), NOW, &none), Err(MintError::Form));
    let extra = |name: &str, value: Value| [(name.to_owned(), value)].into_iter().collect::<Map<_, _>>();
    for name in ["iss", "sub", "iat", "exp"] {
        let taken = mint(&spec, "alice", seconds(60), NOW, &extra(name, json!(1)));
        assert_eq!(taken, Err(MintError::Reserved(name.to_owned())));
    }
    let other_type = mint(&spec, "alice", seconds(60), NOW, &extra("type", json!("refresh"))).unwrap_err();
    assert_eq!(refused(other_type), Reason::TokenTypeInvalid);
    let large = mint(&spec, "alice", seconds(60), NOW, &extra("x", json!("x".repeat(8192))));
    assert_eq!(large, Err(MintError::Form));
    let asks = IssuerSpec { require: vec!["tenant".to_owned()], ..minting("HS256") };
    assert_eq!(mint(&asks, "a", seconds(60), NOW, &none), Err(MintError::Missing("tenant".to_owned())));
    let public = KeySource::Env { name: "KEY".to_owned(), value: Secret(WORLD.rsa.pem().into_bytes()) };
    let asymmetric = IssuerSpec { algorithms: vec!["RS256".to_owned()], key: public, ..minting("HS256") };
    let error = mint(&asymmetric, "a", seconds(60), NOW, &none).unwrap_err();
    assert!(error.to_string().contains("public keys"), "{error}");
    let short = IssuerSpec {
        key: KeySource::Env { name: "KEY".to_owned(), value: Secret(b"hunter2".to_vec()) },
        ..minting("HS256")
    };
    let error = mint(&short, "a", seconds(60), NOW, &none).unwrap_err();
    assert!(error.to_string().contains("a secret under 32 bytes"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn a_token_is_good_only_where_its_issuer_wants_it() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("key"), [b'k'; 32]).unwrap();
    let entry = |name: &str, from: Vec<TokenSource>| IssuerSpec {
        from,
        ..inline(name, "HS256", home.path().join("key"))
    };
    let query = TokenSource::Query("token".to_owned());
    let specs = vec![
        entry("api", vec![TokenSource::Authorization]),
        entry("ws", vec![query.clone(), TokenSource::Authorization]),
    ];
    let verifier = Verifier::build(specs, Keys::Make).unwrap();
    assert_eq!(verifier.places(&[]), [TokenSource::Authorization, query.clone()]);
    assert_eq!(verifier.places(&["ws".to_owned()]), [query.clone(), TokenSource::Authorization]);
    assert_eq!(verifier.places(&["other".to_owned()]), []);
    let by = |issuer: &str| {
        token(r#"{"alg":"HS256"}"#, &claims(issuer).to_string(), &Pair::secret(b'k', 32), "HS256")
    };
    let places = verifier.places(&[]);
    for (issuer, refusal) in [("api", Some(Reason::TokenMissing)), ("ws", None)] {
        let path = format!("/ws?token={}", by(issuer));
        let Found::Token(text, place) = find(&places, |_| std::iter::empty(), &path) else {
            panic!("{path}")
        };
        let said = verifier.check_found(&text, place, &[], NOW).err().map(|no| no.reason);
        assert_eq!(said, refusal, "{issuer}");
    }
}

#[test]
fn one_verifier_serves_many_threads_while_keys_change() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("token.key");
    fs::write(&path, [b'a'; 32]).unwrap();
    let verifier = Verifier::build(vec![inline("hs", "HS256", path.clone())], Keys::Make).unwrap();
    let by = |byte: u8, n: u64| {
        let mut claims = with("n", n);
        claims["iss"] = json!("hs");
        token(r#"{"alg":"HS256"}"#, &claims.to_string(), &Pair::secret(byte, 32), "HS256")
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (verifier, by) = (&verifier, &by);
            scope.spawn(move || {
                for n in 0..500 {
                    let byte = if n % 2 == 0 { b'a' } else { b'b' };
                    let reason = said(verifier, &by(byte, thread * 8 + n % 8));
                    assert!(matches!(reason, None | Some(Reason::TokenSignatureInvalid)), "{reason:?}");
                }
            });
        }
        for round in 0..20 {
            let draft = home.path().join("draft");
            fs::write(&draft, [if round % 2 == 0 { b'b' } else { b'a' }; 32]).unwrap();
            fs::rename(&draft, &path).unwrap();
            assert!(verifier.reload_files().changed);
        }
    });
    for n in 0..40 {
        assert_eq!(
            said(&verifier, &by(b'b', n)),
            Some(Reason::TokenSignatureInvalid),
            "no verdict of an older key"
        );
        assert_eq!(said(&verifier, &by(b'a', n)), None);
    }
    assert_eq!(said(&WORLD.verifier, &WORLD.hs(&without("iat"))), None);
}
