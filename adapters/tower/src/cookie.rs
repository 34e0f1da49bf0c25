//! Cookies for refresh tokens and sessions, and logging out.
//!
//! Promise: a cookie is HttpOnly, SameSite=Strict and Secure, and it is deleted by the attributes that it was set with;
//! browsers keep what is deleted by others.

use crate::{
    Denied, Environment, NoDecision,
    error::ConfigurationError,
    headers::latin1,
    limits::Limits,
    v1::revoke_token_request::{Subject, Target, TokenId},
};
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// Browsers drop more.
const MAX_BYTES: usize = 4_096;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a browser sends a cookie along.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SameSite {
    /// From the own site's pages only.
    #[default]
    Strict,
    /// Also on a navigation from another site, such as back from a log-in by OAuth.
    Lax,
}

/// `SessionCookie::new("refresh_token")` is `__Host-refresh_token` for the whole host.
///
/// With a `path` other than `/` the prefix is `__Secure-`: `__Host-` wants `Path=/`. Neither has a Domain, so no other
/// host of the site gets it. In development it has no prefix and is not Secure, so that http works.
///
/// ```
/// # use quotad_tower::SessionCookie;
/// # use http::HeaderMap;
/// let refresh = SessionCookie::new("refresh_token")?.path("/auth")?;
/// let mut headers = HeaderMap::new();
/// refresh.set(&mut headers, "opaque")?;
/// assert_eq!(
///     headers["set-cookie"],
///     "__Secure-refresh_token=opaque; Max-Age=604800; Path=/auth; HttpOnly; Secure; SameSite=Strict"
/// );
/// # Ok::<(), quotad_tower::ConfigurationError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: String,
    max_age: Duration,
    path: String,
    same_site: SameSite,
    environment: Environment,
}

impl SessionCookie {
    /// For the whole host, for a week, in production.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError::Cookie`] for a name that browsers do not take, or that has a prefix already.
    pub fn new(name: impl Into<String>) -> Result<Self, ConfigurationError> {
        let name = name.into();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
        let lower = name.to_ascii_lowercase();
        let prefixed = ["__host-", "__secure-", "__http-"].iter().any(|prefix| lower.starts_with(prefix));
        if name.is_empty() || !name.bytes().all(is_token) || prefixed {
            return Err(fault(&name, "a name of letters, digits, - and _, without a prefix"));
        }
        Ok(Self {
            name,
            max_age: WEEK,
            path: "/".to_owned(),
            same_site: SameSite::Strict,
            environment: Environment::Production,
        })
    }

    /// How long it lives. Default: a week.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = time;
        self
    }

    /// Where it is sent.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError::Cookie`] for what is no path.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, ConfigurationError> {
        self.path = path.into();
        let is_path = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(is_path) {
            return Err(fault(&self.name, "its path does not begin with /, or has a `;`"));
        }
        Ok(self)
    }

    /// Strict cookies do not come along on the first navigation from another site.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Outside development the cookie is Secure, always.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// As the browser sends it, so the name to read it by.
    #[must_use]
    pub fn full_name(&self) -> String {
        let prefix = match (self.is_secure(), self.path.as_str()) {
            (false, _) => "",
            (true, "/") => "__Host-",
            (true, _) => "__Secure-",
        };
        format!("{prefix}{}", self.name)
    }

    /// Adds the header to a response's.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError::Cookie`] for a value that a cookie cannot hold.
    pub fn set(&self, headers: &mut HeaderMap, value: &str) -> Result<(), ConfigurationError> {
        let is_value = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if !value.bytes().all(is_value) {
            return Err(fault(&self.name, "the value has letters that a cookie cannot hold; encode it"));
        }
        if self.full_name().len() + value.len() > MAX_BYTES {
            return Err(fault(&self.name, "browsers drop more than 4096 bytes"));
        }
        self.append(headers, value, self.max_age)
    }

    /// Deletes it in the browser.
    ///
    /// # Errors
    ///
    /// None that a cookie which could be set would have.
    pub fn delete(&self, headers: &mut HeaderMap) -> Result<(), ConfigurationError> {
        self.append(headers, "", Duration::ZERO)
    }

    /// The value of a request. It is not checked: hand it to who made it.
    #[must_use]
    pub fn read(&self, headers: &HeaderMap) -> Option<String> {
        let name = self.full_name();
        let cookies: Vec<String> = headers.get_all(header::COOKIE).iter().map(latin1).collect();
        let pairs = cookies.iter().flat_map(|cookie| cookie.split(';'));
        let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
        named.find(|(one, _)| *one == name).map(|(_, value)| value.to_owned())
    }

    fn append(&self, headers: &mut HeaderMap, value: &str, age: Duration) -> Result<(), ConfigurationError> {
        let site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
        };
        let secure = if self.is_secure() { "; Secure" } else { "" };
        let (name, age, path) = (self.full_name(), age.as_secs(), &self.path);
        let text = format!("{name}={value}; Max-Age={age}; Path={path}; HttpOnly{secure}; SameSite={site}");
        let value = HeaderValue::from_str(&text).map_err(|_| fault(&self.name, "not a header"))?;
        headers.append(header::SET_COOKIE, value);
        Ok(())
    }

    fn is_secure(&self) -> bool {
        self.environment != Environment::Development
    }
}

fn fault(name: &str, why: &'static str) -> ConfigurationError {
    ConfigurationError::Cookie { name: name.to_owned(), why }
}

/// What a log-out ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Logout {
    /// The token of this request. One without an id ends by its subject.
    Token,
    /// Everything issued to its subject so far.
    Everywhere,
}

/// Why somebody is not logged out: an answer that says so would be false.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// There is no checked token: 401, or 503 when nobody could check it.
    #[error(transparent)]
    Denied(Denied),
    /// The service cannot keep the revocation.
    #[error("the revocation was not kept: {0}")]
    NotKept(NoDecision, Denied),
}

impl LogoutError {
    /// The answer for it.
    #[must_use]
    pub fn into_denied(self) -> Denied {
        match self {
            Self::Denied(denied) | Self::NotKept(_, denied) => denied,
        }
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for LogoutError {
    fn into_response(self) -> axum::response::Response {
        self.into_denied().into_response()
    }
}

impl Limits {
    /// Revokes the token of this request, and ends the connections that it holds in this process at once; other
    /// processes learn it at their next renewal. Delete the cookie once this has succeeded.
    ///
    /// # Errors
    ///
    /// [`LogoutError`], which is a response.
    pub async fn logout(&self, what: Logout) -> Result<(), LogoutError> {
        let claims = self.require_claims().map_err(LogoutError::Denied)?;
        let by_subject = what == Logout::Everywhere || claims.token_id.is_empty();
        let issuer = claims.issuer.clone();
        let target = if by_subject {
            Target::Subject(Subject { issuer, subject: claims.subject.clone() })
        } else {
            let expires_at = claims.reference.expires_at;
            Target::TokenId(TokenId { issuer, id: claims.token_id.clone(), expires_at })
        };
        let shield = self.shield();
        if let Err(error) = shield.revoke(target).await {
            let denied = self.denied(shield.0.settings.bodies.token_unavailable());
            return Err(LogoutError::NotKept(error, denied));
        }
        let token_id = if by_subject { "" } else { &claims.token_id };
        shield.0.keeper.end_token(&claims.issuer, &claims.subject, token_id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, SameSite, SessionCookie};
    use http::HeaderMap;
    use std::time::Duration;

    fn cookie() -> SessionCookie {
        SessionCookie::new("refresh_token").unwrap()
    }

    fn set(cookie: &SessionCookie, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        cookie.set(&mut headers, value).ok()?;
        Some(headers["set-cookie"].to_str().unwrap().to_owned())
    }

    #[test]
    fn has_every_attribute_and_the_prefix_that_fits() {
        assert_eq!(
            set(&cookie(), "v").unwrap(),
            "__Host-refresh_token=v; Max-Age=604800; Path=/; HttpOnly; Secure; SameSite=Strict"
        );
        let lax = cookie().path("/auth").unwrap().same_site(SameSite::Lax).max_age(Duration::from_secs(60));
        assert_eq!(
            set(&lax, "v").unwrap(),
            "__Secure-refresh_token=v; Max-Age=60; Path=/auth; HttpOnly; Secure; SameSite=Lax"
        );
        let here = cookie().environment(Environment::Development);
        assert_eq!(
            set(&here, "v").unwrap(),
            "refresh_token=v; Max-Age=604800; Path=/; HttpOnly; SameSite=Strict"
        );
    }

    #[test]
    fn is_deleted_by_the_attributes_that_it_was_set_with() {
        let cookie = cookie().path("/auth").unwrap();
        let mut headers = HeaderMap::new();
        cookie.delete(&mut headers).unwrap();
        let expected = set(&cookie, "").unwrap().replace("Max-Age=604800", "Max-Age=0");
        assert_eq!(headers["set-cookie"], expected);
    }

    #[test]
    fn refuses_what_browsers_would_take_otherwise() {
        for name in ["", "a b", "__Host-x", "__secure-x", "a=b", "a;b"] {
            assert!(SessionCookie::new(name).is_err(), "{name}");
        }
        for path in ["", "auth", "/a;b", "/a b"] {
            assert!(cookie().path(path).is_err(), "{path}");
        }
        for value in ["a b", "a;b", "a,b", "\"a\"", "a\nb", "ü"] {
            assert!(set(&cookie(), value).is_none(), "{value}");
        }
        assert!(set(&cookie(), &"x".repeat(4_096)).is_none());
    }

    #[test]
    fn is_read_by_its_full_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; refresh_token=forged".parse().unwrap());
        headers.append("cookie", "__Host-refresh_token=real=1".parse().unwrap());
        assert_eq!(cookie().read(&headers).as_deref(), Some("real=1"));
    }
}
