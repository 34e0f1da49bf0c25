//! Every mistake of an entry is found, before anything is served or written.

use crate::pairs::Pair;
use crate::world::inline;
use quotad::engine::issuer::{IssuerSpec, KeySource, Secret, TokenSource};
use quotad::engine::mistake::Mistake;
use quotad::engine::units::Micros;
use quotad::token::{Keys, Verifier};
use serde_json::{Value, json};
use std::path::Path;

/// A public key of 1024 bits.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDRTC8ELcAp1Kdm1ZcxSeZDL8xn
YZY7/HR3a7EBQCfzq8P0ZFcKSk9shfsOlsjPxbqdsrGNgKwWITtZYpPJvDnQw1C5
iBwUmBczFJfUI8Z1XkLlbhoDMvO6thIyWTkcX3TyU6Zng+A/Pm7QOCZ2hCkHfE0c
oAScOEHL0u+drid8cwIDAQAB
-----END PUBLIC KEY-----
";

fn mistakes(specs: Vec<IssuerSpec>) -> Vec<(usize, Mistake)> {
    Verifier::build(specs, Keys::CheckOnly).err().unwrap_or_default()
}

/// The one mistake of an entry.
fn mistake(spec: IssuerSpec) -> Mistake {
    let found = mistakes(vec![spec.clone()]);
    assert_eq!(found.len(), 1, "{spec:?}: {found:?}");
    found.into_iter().next().unwrap().1
}

fn secret(bytes: &[u8]) -> KeySource {
    KeySource::Env { name: "TOKEN_KEY".to_owned(), value: Secret(bytes.to_vec()) }
}

fn good() -> IssuerSpec {
    IssuerSpec::named("app", "example-app", secret(&[b'k'; 64]))
}

fn with_algorithms(names: &[&str], key: KeySource) -> IssuerSpec {
    IssuerSpec {
        algorithms: names.iter().map(|name| (*name).to_owned()).collect(),
        ..IssuerSpec::named("a", "a", key)
    }
}

#[test]
fn a_good_entry_has_none() {
    assert_eq!(mistakes(vec![good()]), []);
    assert_eq!(mistakes(vec![]), []);
    let several = vec![good(), IssuerSpec { issuer: "other".to_owned(), ..good() }];
    assert_eq!(mistakes(several), []);
    assert_eq!(mistakes(vec![with_algorithms(&["HS256", "HS256"], secret(&[b'k'; 64]))]), [], "said twice");
}

#[test]
fn names_the_field_that_is_wrong() {
    let text = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    for (field, spec) in [
        ("issuer", IssuerSpec { issuer: String::new(), ..good() }),
        ("issuer", IssuerSpec { issuer: "a\nb".to_owned(), ..good() }),
        ("issuer", IssuerSpec { issuer: "x".repeat(257), ..good() }),
        ("algorithms", IssuerSpec { algorithms: vec![], ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["none"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["hs256"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["HS256", "RS257"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["HS256", "RS256"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["HS256", "HS512"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["RS256", "PS256"]), ..good() }),
        ("algorithms", IssuerSpec { algorithms: text(&["ES256", "ES384"]), ..good() }),
        ("leeway", IssuerSpec { leeway: Micros(60_000_001), ..good() }),
        ("max_lifetime", IssuerSpec { max_lifetime: Micros(0), ..good() }),
        ("max_lifetime", IssuerSpec { max_lifetime: Micros(u64::MAX), ..good() }),
        ("revoked_key", IssuerSpec { revoked_key: Some("revoked".to_owned()), ..good() }),
        ("revoked_key", IssuerSpec { revoked_key: Some(String::new()), ..good() }),
        ("revoked_key", IssuerSpec { revoked_key: Some("r:{jti}:{sub}".to_owned()), ..good() }),
        ("require", IssuerSpec { require: text(&["sub", ""]), ..good() }),
        ("audience", IssuerSpec { audience: text(&[""]), ..good() }),
        ("types", IssuerSpec { types: text(&["a\0"]), ..good() }),
        ("type_claim", IssuerSpec { type_claim: String::new(), ..good() }),
        ("from", IssuerSpec { from: vec![TokenSource::Cookie("a b".to_owned())], ..good() }),
        ("from", IssuerSpec { from: vec![TokenSource::Query(String::new())], ..good() }),
    ] {
        let found = mistake(spec);
        assert_eq!(found.field, field, "{found:?}");
        assert!(!found.message.is_empty() && !found.hint.is_empty());
    }
}

#[test]
fn one_issuer_in_two_entries() {
    let found = mistakes(vec![good(), IssuerSpec { name: "again".to_owned(), ..good() }]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1.field.as_str()), (1, "issuer"));
    assert!(found[0].1.message.contains("`app`"), "{found:?}");
}

#[test]
fn finds_the_mistakes_of_all_entries_in_their_order() {
    let bad_key = IssuerSpec { key: secret(b"short"), ..good() };
    let bad_times =
        IssuerSpec { max_lifetime: Micros(0), leeway: Micros(u64::MAX), issuer: "b".to_owned(), ..good() };
    let found = mistakes(vec![bad_key, bad_times]);
    let fields: Vec<_> = found.iter().map(|(index, mistake)| (*index, mistake.field.as_str())).collect();
    assert_eq!(fields, [(0, "key"), (1, "leeway"), (1, "max_lifetime")]);
}

#[test]
fn secrets_are_as_long_as_the_hash_less_one_newline() {
    for (algorithm, need) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let entry = |bytes: &[u8]| mistakes(vec![with_algorithms(&[algorithm], secret(bytes))]);
        assert_eq!(entry(&vec![b'k'; need]), []);
        let mut line = vec![b'k'; need - 1];
        line.push(b'\n');
        let found = entry(&line);
        assert_eq!(found[0].1.field, "key");
        assert!(found[0].1.message.contains(&format!("a secret under {need} bytes")), "{found:?}");
        assert!(found[0].1.message.contains("TOKEN_KEY"), "{found:?}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for pair in ["RS256", "ES256", "EdDSA"].map(Pair::generate) {
        for text in [pair.pem(), pair.pem().replace('\n', ""), format!("\n  {}", pair.pem())] {
            assert_eq!(mistake(with_algorithms(&["HS256"], secret(text.as_bytes()))).field, "key");
        }
    }
    let ssh = format!("ssh-ed25519 {}", "A".repeat(64));
    assert_eq!(mistake(with_algorithms(&["HS256"], secret(ssh.as_bytes()))).field, "key");
}

#[test]
fn a_public_key_is_of_the_algorithm_s_kind() {
    let pairs = ["RS256", "ES256", "ES384", "EdDSA"].map(|name| (name, Pair::generate(name)));
    for (name, pair) in &pairs {
        for (algorithm, _) in &pairs {
            let found = mistakes(vec![with_algorithms(&[algorithm], secret(pair.pem().as_bytes()))]);
            assert_eq!(found.is_empty(), name == algorithm, "{name} as {algorithm}: {found:?}");
        }
    }
}

#[test]
fn unusable_pem() {
    let pem = Pair::generate("RS256").pem();
    let Pair::P256(pair) = Pair::generate("ES256") else { panic!("a P-256 key") };
    let private = pair.to_pkcs8v1().unwrap();
    let body = crate::pairs::standard(private.as_ref());
    for (name, text) in [
        ("nothing", String::new()),
        ("a secret", "k".repeat(64)),
        ("two keys", format!("{pem}{pem}")),
        ("cut off", pem[..200].to_owned()),
        ("cut short", pem.replace("MIIBIjANBgkq", "")),
        ("another label", pem.replace("PUBLIC KEY", "SECRET KEY")),
        ("a certificate", pem.replace("PUBLIC KEY", "CERTIFICATE")),
        ("a private key", format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")),
    ] {
        for algorithm in ["RS256", "ES256"] {
            let found = mistake(with_algorithms(&[algorithm], secret(text.as_bytes())));
            assert_eq!(found.field, "key", "{name}");
            assert!(!found.message.contains(&body[..16]) && !found.hint.contains(&body[..16]), "{name}");
        }
    }
}

#[test]
fn rsa_keys_have_2048_bits() {
    let found = mistake(with_algorithms(&["RS256"], secret(RSA_1024.as_bytes())));
    assert!(found.message.contains("1024 bits"), "{found:?}");
}

#[test]
fn unreadable_files() {
    let home = tempfile::tempdir().unwrap();
    let absent = inline("a", "HS256", home.path().join("absent.key"));
    let found = mistake(absent);
    assert!(found.message.contains("absent.key") && found.hint.contains("generate"), "{found:?}");
    assert_eq!(mistake(inline("a", "HS256", home.path().to_owned())).field, "key", "a folder");
    let set = KeySource::JwksFile(home.path().join("absent.json"));
    assert_eq!(mistake(with_algorithms(&["RS256"], set)).field, "key");
    std::fs::write(home.path().join("large.key"), vec![b'k'; 70_000]).unwrap();
    assert_eq!(mistake(inline("a", "HS256", home.path().join("large.key"))).field, "key");
}

#[test]
fn key_sets_come_over_https_only() {
    let url = |text: &str| KeySource::JwksUrl(text.to_owned());
    assert_eq!(
        mistakes(vec![with_algorithms(&["RS256", "ES256"], url("https://issuer.example/jwks.json"))]),
        []
    );
    for bad in [
        "http://issuer.example/jwks.json",
        "HTTP://issuer.example",
        "ftp://issuer.example/jwks.json",
        "file:///etc/jwks.json",
        "issuer.example/jwks.json",
        "/jwks.json",
        "",
        "https://",
        "https:///jwks.json",
        "https://user:hunter22@issuer.example/jwks.json",
    ] {
        let found = mistake(with_algorithms(&["RS256"], url(bad)));
        assert_eq!(found.field, "key", "{bad}");
        assert!(!format!("{found:?}").contains("hunter22"), "{found:?}");
    }
    let found = mistake(with_algorithms(&["HS256", "HS512"], url("https://issuer.example/jwks.json")));
    assert_eq!(found.field, "algorithms", "no secret from a URL");
}

fn generated(path: &Path, algorithm: &str) -> IssuerSpec {
    with_algorithms(&[algorithm], KeySource::File { path: path.to_owned(), generate: true })
}

#[test]
fn an_absent_secret_is_made_only_when_asked_and_only_when_all_else_is_right() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data/token.key");
    assert!(Verifier::build(vec![generated(&path, "HS256")], Keys::CheckOnly).is_ok());
    assert!(!path.exists(), "a check writes nothing");
    let wrong = IssuerSpec { issuer: "b".to_owned(), key: secret(b"short"), ..good() };
    assert!(Verifier::build(vec![generated(&path, "HS256"), wrong], Keys::Make).is_err());
    assert!(!path.exists(), "no secret for a configuration that is refused");
    assert!(Verifier::build(vec![generated(&path, "HS256")], Keys::Make).is_ok());
    let made = std::fs::read(&path).unwrap();
    assert!(made.len() >= 43);
    assert!(Verifier::build(vec![generated(&path, "HS256")], Keys::Make).is_ok());
    assert_eq!(std::fs::read(&path).unwrap(), made, "made once");
    let found = mistakes(vec![generated(&path, "HS512")]);
    assert_eq!(found[0].1.field, "key", "made for another algorithm, and too short for this one");
    assert_eq!(
        mistake(generated(&home.path().join("b.key"), "RS256")).field,
        "key",
        "no public key is generated"
    );
}

#[test]
fn a_secret_that_cannot_be_made() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file"), "x").unwrap();
    let found = Verifier::build(vec![generated(&home.path().join("file/token.key"), "HS256")], Keys::Make)
        .unwrap_err();
    assert_eq!(found[0].1.field, "key");
}

fn set(keys: Value, algorithms: &[&str]) -> Result<(), Mistake> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("set.json");
    std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    let found = mistakes(vec![with_algorithms(algorithms, KeySource::JwksFile(path))]);
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next().map_or(Ok(()), |(_, mistake)| Err(mistake))
}

#[test]
fn rules_of_a_key_set() {
    let (rsa, ec, ed) = (Pair::generate("RS256"), Pair::generate("ES256"), Pair::generate("EdDSA"));
    let secret = Pair::secret(b'k', 32);
    let good = rsa.jwk(json!({"kid": "r", "alg": "RS256"}));
    let beside = |other: Value| json!([good, other]);
    let ignored = [
        ec.jwk(json!({"kid": "e"})),
        rsa.jwk(json!({"kid": "r", "use": "enc"})),
        rsa.jwk(json!({"use": "enc"})),
        rsa.jwk(json!({"kid": "r", "alg": "RS512"})),
        rsa.jwk(json!({"kid": "r", "alg": "RSA-OAEP"})),
        rsa.jwk(json!({"kid": "o", "key_ops": ["encrypt"]})),
        rsa.jwk(json!({"kid": 7, "alg": "RS256"})),
        rsa.jwk(json!({"kid": "a\n", "alg": "RS256"})),
        rsa.jwk(json!({"kid": "n", "alg": "RS256", "n": "AQAB"})),
        rsa.jwk(json!({"kid": "n", "alg": "RS256", "n": null})),
        rsa.jwk(json!({"kid": "e1", "alg": "RS256", "e": "AQ"})),
        rsa.jwk(json!({"kid": "e2", "alg": "RS256", "e": "Ag"})),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "unheard-of", "kid": "r"}),
        json!({"kid": "r"}),
        json!({}),
    ];
    for other in ignored {
        assert_eq!(set(beside(other.clone()), &["RS256"]), Ok(()), "{other}");
        assert_eq!(set(json!([other]), &["RS256"]).unwrap_err().field, "key", "alone: {other}");
    }
    for (name, keys, algorithms) in [
        ("one kid twice", beside(rsa.jwk(json!({"kid": "r", "alg": "RS256"}))), vec!["RS256"]),
        ("one kid for two kinds", beside(ec.jwk(json!({"kid": "r"}))), vec!["RS256", "ES256"]),
        ("two, one without a kid", beside(rsa.jwk(json!({}))), vec!["RS256"]),
        ("two without a kid", json!([ec.jwk(json!({})), ed.jwk(json!({}))]), vec!["ES256", "EdDSA"]),
        ("no alg, several fit", json!([rsa.jwk(json!({"kid": "r"}))]), vec!["RS256", "PS256"]),
        ("nothing", json!([]), vec!["RS256"]),
        ("no list", json!({}), vec!["RS256"]),
        ("a list of text", json!(["a"]), vec!["RS256"]),
        ("a short secret", json!([Pair::secret(b'k', 31).jwk(json!({"alg": "HS256"}))]), vec!["HS256"]),
        (
            "a point that is on no curve",
            json!([ec.jwk(json!({"y": crate::pairs::encode([7; 32])}))]),
            vec!["ES256"],
        ),
        ("a short coordinate", json!([ec.jwk(json!({"y": crate::pairs::encode([7; 31])}))]), vec!["ES256"]),
        ("65 keys", (0..65).map(|i| ed.jwk(json!({"kid": i.to_string()}))).collect(), vec!["EdDSA"]),
    ] {
        assert_eq!(set(keys, &algorithms).unwrap_err().field, "key", "{name}");
    }
    for (name, keys, algorithms) in [
        ("one without a kid", json!([rsa.jwk(json!({}))]), vec!["RS256"]),
        ("no alg, one fits", json!([good, ec.jwk(json!({"kid": "e"}))]), vec!["RS256", "ES256"]),
        ("a secret in a file", json!([secret.jwk(json!({"kid": "s", "alg": "HS256"}))]), vec!["HS256"]),
        ("Ed25519 by its new name", json!([ed.jwk(json!({"alg": "Ed25519"}))]), vec!["EdDSA"]),
    ] {
        assert_eq!(set(keys, &algorithms), Ok(()), "{name}");
    }
}

#[test]
fn a_set_file_is_one_strict_object() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("set.json");
    let key = Pair::generate("ES256").jwk(json!({"kid": "a"})).to_string();
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        format!(r#"{{"keys":[{key}],"keys":[]}}"#),
        format!(r#"{{"keys":[{}]}}"#, key.replacen('{', r#"{"kid":"b","#, 1)),
        format!(r#"{{"keys":[{key}]}}x"#),
        format!(r#"{{"keys":[{key}],"x":"{}"}}"#, "x".repeat(256 * 1024)),
    ] {
        std::fs::write(&path, &text).unwrap();
        let spec = with_algorithms(&["ES256"], KeySource::JwksFile(path.clone()));
        assert_eq!(mistake(spec).field, "key", "{}", &text[..text.len().min(80)]);
    }
}
