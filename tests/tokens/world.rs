//! A verifier with an issuer for each kind of key, and the keys to sign for them.

use crate::pairs::{Pair, encode};
use quotad::engine::issuer::{IssuerSpec, KeySource};
use quotad::engine::units::{Micros, Moment};
use quotad::token::{Keys, Verifier};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;

/// The second at which these tests happen.
pub(crate) const SECOND: u64 = 1_790_000_000;
/// The same.
pub(crate) const NOW: Moment = Moment(SECOND * 1_000_000);

/// Every algorithm by its name.
pub(crate) const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA", "Ed25519",
];

/// Keys, files and a verifier over them.
pub(crate) struct World {
    /// The secret of `hs`.
    pub(crate) secret: Pair,
    /// The key of `rs` and of `rs1` in the set.
    pub(crate) rsa: Pair,
    /// The key of `ps1` in the set.
    pub(crate) pss: Pair,
    /// The key of `es` and of `es1` in the set.
    pub(crate) p256: Pair,
    /// The key of `es384`.
    pub(crate) p384: Pair,
    /// The key of `ed` and of `ed1` in the set.
    pub(crate) ed: Pair,
    /// A key of nobody.
    pub(crate) stranger: Pair,
    /// A secret of nobody.
    pub(crate) other_secret: Pair,
    /// All issuers below.
    pub(crate) verifier: Verifier,
    _home: tempfile::TempDir,
}

/// One for the whole run: RSA keys take their time.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (secret, other_secret) = (Pair::generate("HS256"), Pair::generate("HS256"));
        let (rsa, pss, stranger) =
            (Pair::generate("RS256"), Pair::generate("PS256"), Pair::generate("RS256"));
        let (p256, p384, ed) = (Pair::generate("ES256"), Pair::generate("ES384"), Pair::generate("EdDSA"));
        let file = |name: &str, bytes: &[u8]| {
            let path = home.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let Pair::Secret(bytes) = &secret else { panic!("a secret") };
        let hs = file("hs.key", bytes);
        let rs = file("rs.pem", rsa.pem().as_bytes());
        let es = file("es.pem", p256.pem().as_bytes());
        let es384 = file("es384.pem", p384.pem().as_bytes());
        let eddsa = file("ed.pem", ed.pem().as_bytes());
        let set = json!({"keys": [
            rsa.jwk(json!({"kid": "rs1", "alg": "RS256", "use": "sig"})),
            pss.jwk(json!({"kid": "ps1", "alg": "PS256"})),
            p256.jwk(json!({"kid": "es1"})),
            ed.jwk(json!({"kid": "ed1", "alg": "EdDSA", "key_ops": ["verify"]})),
            stranger.jwk(json!({"kid": "enc1", "alg": "RS256", "use": "enc"})),
            stranger.jwk(json!({"kid": "foreign1", "alg": "RS512"})),
            stranger.jwk(json!({"kid": "ops1", "alg": "RS256", "key_ops": ["wrapKey"]})),
            {"kty": "EC", "crv": "secp256k1", "kid": "k1", "x": "AA", "y": "AA"},
            {"kty": "unheard-of", "kid": "u1"},
        ]});
        let set = file("set.json", set.to_string().as_bytes());
        let specs = vec![
            IssuerSpec {
                require: ["sub", "jti", "exp"].map(str::to_owned).into(),
                revoked_key: Some("blacklisted_access_token:{jti}".to_owned()),
                ..inline("hs", "HS256", hs.clone())
            },
            inline("rs", "RS256", rs),
            inline("es", "ES256", es),
            inline("es384", "ES384", es384),
            inline("ed", "EdDSA", eddsa),
            IssuerSpec {
                algorithms: ["RS256", "PS256", "ES256", "EdDSA"].map(str::to_owned).into(),
                ..IssuerSpec::named("set", "set", KeySource::JwksFile(set))
            },
            IssuerSpec {
                audience: vec!["api".to_owned(), "web".to_owned()],
                types: vec!["access".to_owned()],
                max_lifetime: Micros::from_seconds(3600),
                require: ["sub", "tenant"].map(str::to_owned).into(),
                ..inline("picky", "HS256", hs)
            },
        ];
        let verifier = Verifier::build(specs, Keys::Make).unwrap();
        Self { secret, rsa, pss, p256, p384, ed, stranger, other_secret, verifier, _home: home }
    }

    /// A good token of `hs`.
    pub(crate) fn good(&self) -> String {
        self.hs(&claims("hs"))
    }

    /// A token with these claims, signed by the secret.
    pub(crate) fn hs(&self, claims: &Value) -> String {
        self.hs_text(&claims.to_string())
    }

    /// A token with this payload, signed by the secret.
    pub(crate) fn hs_text(&self, payload: &str) -> String {
        token(r#"{"alg":"HS256"}"#, payload, &self.secret, "HS256")
    }

    /// A token with this header and good claims of `hs`, signed by the secret.
    pub(crate) fn hs_header(&self, header: &str) -> String {
        token(header, &claims("hs").to_string(), &self.secret, "HS256")
    }
}

/// An entry with one key of its own.
pub(crate) fn inline(name: &str, algorithm: &str, path: PathBuf) -> IssuerSpec {
    let key = KeySource::File { path, generate: false };
    IssuerSpec { algorithms: vec![algorithm.to_owned()], ..IssuerSpec::named(name, name, key) }
}

/// Good claims of an issuer.
pub(crate) fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "alice", "jti": "4f1c", "iat": SECOND, "exp": SECOND + 600})
}

/// `claims("hs")` with one claim set.
pub(crate) fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims("hs");
    claims[name] = value.into();
    claims
}

/// `claims("hs")` without one claim.
pub(crate) fn without(name: &str) -> Value {
    let mut claims = claims("hs");
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A signed token; header and payload are taken as they are.
pub(crate) fn token(header: &str, payload: &str, pair: &Pair, algorithm: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = pair.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}
