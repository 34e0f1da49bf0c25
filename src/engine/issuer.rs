//! An entry of `tokens` in the configuration, as plain data: which tokens are good.

use super::units::Micros;
use std::fmt;
use std::path::PathBuf;

/// What happens to a token check whose revocation state cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRevocationError {
    /// Deny: a token that is refused wrongly is seen at once, one accepted wrongly never.
    #[default]
    Deny,
    /// Allow, by explicit choice.
    Allow,
}

/// Bytes that never show in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a secret or a PEM public key; made when it is absent and `generate` is set.
    File {
        /// Absolute, or relative to the working directory.
        path: PathBuf,
        /// Make a secret when the file is absent (HMAC only).
        generate: bool,
    },
    /// The value of an environment variable, read by the configuration.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// A file with a JWK set.
    JwksFile(PathBuf),
    /// A JWK set over https.
    JwksUrl(String),
}

/// Where a token is taken from when the caller names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`.
    Authorization,
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSpec {
    /// Its name in messages.
    pub name: String,
    /// The `iss` claim.
    pub issuer: String,
    /// RFC 7518 and RFC 9864 names: HS256 … EdDSA, Ed25519.
    pub algorithms: Vec<String>,
    /// Its keys.
    pub key: KeySource,
    /// Claims that must be there; `exp` always must.
    pub require: Vec<String>,
    /// Allowed values of `type_claim`; none: any.
    pub types: Vec<String>,
    /// The claim that `types` looks at.
    pub type_claim: String,
    /// Allowed `aud`; none: not asked for.
    pub audience: Vec<String>,
    /// Clock difference that is forgiven; at most 60 s.
    pub leeway: Micros,
    /// Longest `exp − iat`.
    pub max_lifetime: Micros,
    /// Where a token is taken from, in order.
    pub from: Vec<TokenSource>,
    /// The application's own revocation key in Redis, with `{jti}`.
    pub revoked_key: Option<String>,
    /// How long a "not revoked" may be remembered.
    pub revocation_cache: Micros,
    /// Without a store.
    pub on_store_error: OnRevocationError,
}

impl IssuerSpec {
    /// The defaults of every key.
    #[must_use]
    pub fn named(name: impl Into<String>, issuer: impl Into<String>, key: KeySource) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            algorithms: vec!["HS256".to_owned()],
            key,
            require: ["sub", "exp"].map(str::to_owned).into(),
            types: Vec::new(),
            type_claim: "type".to_owned(),
            audience: Vec::new(),
            leeway: Micros::from_seconds(30),
            max_lifetime: Micros::from_seconds(8 * 86_400),
            from: vec![TokenSource::Authorization],
            revoked_key: None,
            revocation_cache: Micros(0),
            on_store_error: OnRevocationError::Deny,
        }
    }
}

/// What the entry `user` begins with where there are several issuers; the subject follows. Escaped in the issuer, the first
/// `~` is where it ends.
#[must_use]
pub fn user_prefix(issuer: &str) -> String {
    format!("{}~", issuer.replace('%', "%25").replace('~', "%7E"))
}
