//! An HTTP request as Envoy shows it, the same for ext_authz and ext_proc.
//!
//! Promise: whatever a client can write into a request is read or found [`Malformed`], which is a denial; it is never
//! a gRPC status. Must never: know which of Envoy's messages the request came in, beyond its constructors.

use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use std::borrow::Cow;
use std::fmt;

/// Most headers: Envoy itself takes 100 unless it is told otherwise.
pub(super) const MAX_HEADERS: usize = 256;
/// Most bytes of all names and values: Envoy itself takes 60 KiB unless it is told otherwise.
pub(super) const MAX_HEADER_BYTES: usize = 96 * 1024;
/// Most bytes of the path with its query.
pub(super) const MAX_PATH: usize = 16 * 1024;
/// Most bytes of the host, and of the method.
pub(super) const MAX_WORD: usize = 256;

/// One HTTP request.
pub(super) struct Exchange<'a> {
    /// As sent.
    pub(super) method: Cow<'a, str>,
    /// As sent; empty when there is none.
    pub(super) host: Cow<'a, str>,
    /// As sent, with the query; bytes that are not UTF-8 as `%XX`.
    pub(super) path: Cow<'a, str>,
    /// (lower-case name, value), in order, without the pseudo-headers.
    pub(super) headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What a request has that no well-formed one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// No method, one too long, or one with a control character.
    #[error("method")]
    Method,
    /// A host too long, or with a control character.
    #[error("host")]
    Host,
    /// Neither `/…`, nor `*`, nor a URL; too long, or with a control character.
    #[error("path")]
    Path,
    /// Too many, or too many bytes.
    #[error("headers")]
    Headers,
}

impl fmt::Debug for Exchange<'_> {
    /// Without headers and path: each may hold a secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Exchange").field("method", &self.method).finish_non_exhaustive()
    }
}

impl<'a> Exchange<'a> {
    /// The request of ext_authz: its `headers`, or with `encode_raw_headers` its `header_map`.
    ///
    /// # Errors
    /// What a client wrote is beyond its bound.
    pub(super) fn of_request(http: &'a HttpRequest) -> Result<Self, Malformed> {
        let raw = http.header_map.as_ref().map_or(&[][..], |map| &map.headers);
        let mut exchange = match raw {
            [] => Self::of_joined(http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            raw => Self::of_raw(raw),
        };
        let set = |field: &mut Cow<'a, str>, given: &'a [u8]| {
            if !given.is_empty() {
                *field = text(given);
            }
        };
        set(&mut exchange.method, http.method.as_bytes());
        set(&mut exchange.host, &http.host);
        if !http.path.is_empty() {
            exchange.path = escaped(&http.path);
        }
        exchange.checked()
    }

    /// The request of ext_proc: a header map with the pseudo-headers in it.
    ///
    /// # Errors
    /// What a client wrote is beyond its bound.
    pub(super) fn of_headers(map: &'a core::HeaderMap) -> Result<Self, Malformed> {
        Self::of_raw(&map.headers).checked()
    }

    fn empty(headers: usize) -> Self {
        let none = || Cow::Borrowed("");
        Self { method: none(), host: none(), path: none(), headers: Vec::with_capacity(headers) }
    }

    /// Each header once for each time that it came.
    fn of_raw(headers: &'a [core::HeaderValue]) -> Self {
        let mut exchange = Self::empty(headers.len());
        for header in headers {
            let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
            exchange.add(&header.key, value);
        }
        exchange
    }

    /// Each name once: Envoy joined with commas what came more than once.
    fn of_joined(headers: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut exchange = Self::empty(headers.len());
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("cookie") {
                // HTTP/1 cookies of several headers arrive as `a=1,b=2`; each is one of its own.
                split_cookies(value).for_each(|value| exchange.add(name, value.as_bytes()));
            } else {
                exchange.add(name, value.as_bytes());
            }
        }
        exchange
    }

    fn add(&mut self, name: &'a str, value: &'a [u8]) {
        match name {
            ":method" => self.method = text(value),
            ":authority" => self.host = text(value),
            ":path" => self.path = escaped(value),
            _ if name.starts_with(':') => {}
            _ => self.headers.push((lower(name), text(value))),
        }
    }

    fn checked(self) -> Result<Self, Malformed> {
        let control = |text: &str| text.bytes().any(|byte| byte.is_ascii_control());
        let long = |text: &str| text.len() > MAX_WORD || control(text);
        let path = &*self.path;
        // A CONNECT that opens a tunnel has no path.
        let form = path.starts_with('/')
            || path == "*"
            || path.contains("://")
            || (path.is_empty() && self.method == "CONNECT");
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.method.is_empty() || long(&self.method) {
            Err(Malformed::Method)
        } else if long(&self.host) {
            Err(Malformed::Host)
        } else if !form || path.len() > MAX_PATH || control(path) {
            Err(Malformed::Path)
        } else if self.headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            Err(Malformed::Headers)
        } else {
            Ok(self)
        }
    }

    /// The headers as the service takes them.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    /// A header's first value, by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value)
    }

    /// Whether a gRPC client asks.
    pub(super) fn is_grpc(&self) -> bool {
        self.header("content-type").is_some_and(|value| value.starts_with("application/grpc"))
    }

    /// Whether a browser only asks what it may ask (CORS): such a request has no effect and no token.
    pub(super) fn is_preflight(&self) -> bool {
        self.method == "OPTIONS"
            && self.header("origin").is_some()
            && self.header("access-control-request-method").is_some()
    }
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value)
}

/// A path in which bytes that are not UTF-8 stand as `%XX`, which is what they mean.
fn escaped(value: &[u8]) -> Cow<'_, str> {
    use std::fmt::Write as _;
    if let Ok(text) = std::str::from_utf8(value) {
        return Cow::Borrowed(text);
    }
    let mut path = String::with_capacity(value.len() + 8);
    for chunk in value.utf8_chunks() {
        path.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    Cow::Owned(path)
}

/// Cuts at commas that begin another cookie, `name=`.
fn split_cookies(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let begins_one = |after: &str| {
            let name = after.split(['=', ';', ',']).next().unwrap_or_default();
            !name.trim().is_empty() && after.get(name.len()..).is_some_and(|rest| rest.starts_with('='))
        };
        let cut = text.match_indices(',').find_map(|(at, _)| {
            text.get(at + 1..).filter(|after| begins_one(after)).map(|after| (at, after))
        });
        let Some((at, after)) = cut else { return rest.take() };
        rest = Some(after);
        text.get(..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(headers: &[(&str, &str)]) -> HttpRequest {
        HttpRequest {
            method: "GET".to_owned(),
            path: b"/a?b=c".to_vec(),
            host: b"api.example.com".to_vec(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..HttpRequest::default()
        }
    }

    fn raw(headers: &[(&str, &[u8])]) -> core::HeaderMap {
        let header = |(name, value): &(&str, &[u8])| core::HeaderValue {
            key: (*name).to_owned(),
            raw_value: value.to_vec(),
            ..core::HeaderValue::default()
        };
        core::HeaderMap { headers: headers.iter().map(header).collect() }
    }

    #[test]
    fn both_forms_of_headers_give_the_same_request() {
        let first = joined(&[(":path", "/a?b=c"), ("X-One", "1")]);
        let map = raw(&[
            (":method", b"GET"),
            (":authority", b"api.example.com"),
            (":path", b"/a?b=c"),
            ("x-one", b"1"),
        ]);
        let second = HttpRequest { header_map: Some(map.clone()), ..joined(&[]) };
        for exchange in
            [Exchange::of_request(&first), Exchange::of_request(&second), Exchange::of_headers(&map)]
        {
            let exchange = exchange.unwrap();
            assert_eq!(
                (&*exchange.method, &*exchange.host, &*exchange.path),
                ("GET", "api.example.com", "/a?b=c")
            );
            assert_eq!(exchange.pairs(), [("x-one", "1")]);
        }
    }

    #[test]
    fn headers_that_came_twice_stay_two_in_the_raw_form() {
        let map = raw(&[
            (":method", b"GET"),
            (":path", b"/"),
            ("authorization", b"Bearer a"),
            ("authorization", b"Bearer b"),
        ]);
        let exchange = Exchange::of_headers(&map).unwrap();
        assert_eq!(exchange.pairs(), [("authorization", "Bearer a"), ("authorization", "Bearer b")]);
    }

    #[test]
    fn cookies_that_envoy_joined_are_told_apart() {
        for (value, cookies) in [
            ("a=1,b=2", &["a=1", "b=2"][..]),
            ("a=1; b=2", &["a=1; b=2"]),
            ("a=x,y", &["a=x,y"]),
            ("a=1,b=2; c=3,d=4", &["a=1", "b=2; c=3", "d=4"]),
            ("a=1,,b=2", &["a=1,", "b=2"]),
            ("", &[""]),
        ] {
            let request = joined(&[("cookie", value)]);
            let exchange = Exchange::of_request(&request).unwrap();
            let found: Vec<&str> = exchange.headers.iter().map(|(_, value)| &**value).collect();
            assert_eq!(found, cookies, "{value}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_fail_nothing() {
        let mut request = joined(&[]);
        request.path = b"/a/\xff/b".to_vec();
        assert_eq!(Exchange::of_request(&request).unwrap().path, "/a/%FF/b");
        let map = raw(&[(":method", b"GET"), (":path", b"/"), ("x-name", b"\xe9")]);
        assert_eq!(Exchange::of_headers(&map).unwrap().header("x-name"), Some("\u{fffd}"));
    }

    #[test]
    fn what_is_beyond_a_bound_is_named() {
        let of = |change: fn(&mut HttpRequest)| {
            let mut request = joined(&[]);
            change(&mut request);
            Exchange::of_request(&request).err()
        };
        assert_eq!(of(|_| ()), None);
        assert_eq!(of(|request| request.method = "M".repeat(257)), Some(Malformed::Method));
        assert_eq!(of(|request| request.method.clear()), Some(Malformed::Method));
        assert_eq!(of(|request| request.host = vec![b'h'; 257]), Some(Malformed::Host));
        assert_eq!(of(|request| request.host = b"a\nb".to_vec()), Some(Malformed::Host));
        assert_eq!(of(|request| request.path = vec![b'/'; 16 * 1024 + 1]), Some(Malformed::Path));
        assert_eq!(of(|request| request.path = b"a".to_vec()), Some(Malformed::Path));
        assert_eq!(of(|request| request.path = b"/\0".to_vec()), Some(Malformed::Path));
        assert_eq!(of(|request| request.path.clear()), Some(Malformed::Path));
        assert_eq!(of(|request| request.path = b"*".to_vec()), None);
        let big =
            |request: &mut HttpRequest| drop(request.headers.insert("x".to_owned(), "x".repeat(96 * 1024)));
        assert_eq!(of(big), Some(Malformed::Headers));
        let many: fn(&mut HttpRequest) =
            |request| request.headers.extend((0..257).map(|i| (format!("x{i}"), String::new())));
        assert_eq!(of(many), Some(Malformed::Headers));
    }

    #[test]
    fn kinds_of_requests_are_told_apart() {
        let exchange = |method: &str, headers: &[(&str, &str)]| {
            let request = HttpRequest { method: method.to_owned(), ..joined(headers) };
            let exchange = Exchange::of_request(&request).unwrap();
            (exchange.is_preflight(), exchange.is_grpc())
        };
        let cors = [("origin", "https://a"), ("access-control-request-method", "PUT")];
        assert_eq!(exchange("OPTIONS", &cors), (true, false));
        assert_eq!(exchange("GET", &cors), (false, false));
        assert_eq!(exchange("OPTIONS", &cors[..1]), (false, false));
        assert_eq!(exchange("POST", &[("content-type", "application/grpc+proto")]), (false, true));
        assert_eq!(exchange("POST", &[("content-type", "application/json")]), (false, false));
    }
}
