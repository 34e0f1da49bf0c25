//! CORS by environment, and the Origin of WebSocket handshakes, which CORS does not cover.
//!
//! Promise: outside development an origin is allowed only by being in the list, letter by letter; there is no pattern,
//! no reflection, no `null`. A list that cannot be meant so is an error while the application is put together.
//!
//! Not tower-http's `CorsLayer`: it takes every OPTIONS for a preflight, answers 200, and tells a foreign origin which
//! methods there are. The contract of the adapters wants 204, real OPTIONS requests let through, and silence.

use crate::{error::ConfigurationError, headers::Fields};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

const EXPOSED: &str = "RateLimit, RateLimit-Policy, Retry-After";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str =
    "Accept, Accept-Language, Authorization, Content-Type, X-CSRF-Token, X-Request-ID";
const MAX_AGE_SECONDS: &str = "600";

/// Where the application runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Environment {
    /// Every origin reads, without credentials; cookies without `Secure`.
    Development,
    /// As production.
    Staging,
    /// Also when nothing is said: who forgets it must not be open for it.
    #[default]
    Production,
}

impl Environment {
    pub(crate) fn read(text: &str) -> Result<Self, ConfigurationError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "production" => Ok(Self::Production),
            "staging" => Ok(Self::Staging),
            "development" => Ok(Self::Development),
            _ => Err(ConfigurationError::Environment(text.to_owned())),
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// Whether allowed origins may send cookies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Credentials {
    Allowed,
    Refused,
}

/// Who may read answers and open sockets from a browser.
#[derive(Clone, Debug)]
pub(crate) enum Cors {
    /// No page of another origin uses this API.
    Off,
    /// Development.
    Anyone,
    List {
        origins: Vec<HeaderValue>,
        credentials: Credentials,
    },
}

impl Cors {
    pub(crate) fn new(
        environment: Environment,
        origins: &[String],
        credentials: Credentials,
    ) -> Result<Self, ConfigurationError> {
        if environment == Environment::Development {
            return Ok(Self::Anyone);
        }
        let environment = environment.as_str();
        if origins.is_empty() {
            return Err(ConfigurationError::NoOrigins(environment));
        }
        let read = |origin: &String| match fault(origin) {
            None => HeaderValue::from_str(origin)
                .map_err(|_| ConfigurationError::Header(format!("origin {origin:?}"))),
            Some(why) => Err(ConfigurationError::Origin { origin: origin.clone(), environment, why }),
        };
        Ok(Self::List { origins: origins.iter().map(read).collect::<Result<_, _>>()?, credentials })
    }

    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Off => false,
            Self::Anyone => true,
            Self::List { origins, .. } => origins.contains(origin),
        }
    }

    /// A handshake without an Origin comes from no browser, so no page is behind it.
    pub(crate) fn allows_socket(&self, parts: &Parts) -> bool {
        let Some(origin) = parts.headers.get(header::ORIGIN) else { return true };
        if !matches!(self, Self::Off) {
            return self.allows(origin);
        }
        // Only the page's own host.
        let host = crate::facts::host(parts);
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, authority)| !host.is_empty() && authority == host)
    }

    /// The answer's headers. An origin that is not allowed gets none of them, and no error.
    pub(crate) fn preflight(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        self.dress(headers, origin);
        if origin.is_some_and(|origin| self.allows(origin)) {
            headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
            for (name, value) in [
                (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
    }

    /// Ours in the place of any CORS header that the application set itself.
    pub(crate) fn dress(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        let theirs: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in theirs {
            headers.remove(name);
        }
        if matches!(self, Self::Off) {
            return;
        }
        headers.vary_by_origin();
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        let allowed = match self {
            Self::List { credentials, .. } => {
                if *credentials == Credentials::Allowed {
                    let name = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
                    headers.insert(name, HeaderValue::from_static("true"));
                }
                origin.clone()
            }
            Self::Off | Self::Anyone => HeaderValue::from_static("*"),
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// A browser's question, which is no request of the application and counts nowhere.
pub(crate) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn fault(origin: &str) -> Option<&'static str> {
    match origin {
        "*" => return Some("`*` lets every page in; write each origin"),
        "null" => return Some("`null` is the origin of sandboxed frames and files of anybody"),
        _ if origin.ends_with('/') => {
            return Some("browsers send origins without a trailing slash; it would never match");
        }
        _ if origin.starts_with("http://") => {
            return Some("plain http; anybody on the way can be that origin");
        }
        _ => {}
    }
    let authority = origin.strip_prefix("https://").unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let known = is_host && is_port;
    (!known).then_some("not an origin; write https://HOST or https://HOST:PORT in lower case, nothing else")
}

#[cfg(test)]
mod tests {
    use super::{Cors, Credentials, Environment};

    fn list(origins: &[&str]) -> Result<Cors, crate::ConfigurationError> {
        let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors::new(Environment::Production, &origins, Credentials::Allowed)
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_an_error() {
        for origin in [
            "*",
            "null",
            "https://app.example.com/",
            "http://app.example.com",
            "https://APP.example.com",
            "https://",
            "app.example.com",
            "https://app.example.com:port",
            "https://app.example.com/path",
            "https://*.example.com",
            "https://user@example.com",
        ] {
            let error = list(&["https://good.example.com", origin]).expect_err(origin);
            assert!(error.to_string().contains(origin), "{error}");
        }
        assert!(list(&[]).is_err());
        assert!(list(&["https://app.example.com", "https://app.example.com:8443"]).is_ok());
    }

    #[test]
    fn an_environment_that_is_not_said_is_production() {
        assert_eq!(Environment::read(""), Ok(Environment::Production));
        assert_eq!(Environment::read(" Staging "), Ok(Environment::Staging));
        assert!(Environment::read("prod").is_err());
    }
}
