//! Finding the token of an HTTP request.
//!
//! Promise: where two readers could find different tokens (two `Authorization` headers, two cookies of one name, a list
//! in one header) none is found and the request is malformed. The first place of the configuration that holds
//! anything decides; the others are not looked at.

use crate::engine::issuer::TokenSource;
use std::borrow::Cow;

/// What a request holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Found<'a, 'p> {
    /// A token, not yet checked, and the place where it stood.
    Token(Cow<'a, str>, &'p TokenSource),
    /// None.
    Missing,
    /// Something that is not one token.
    Malformed,
}

impl std::fmt::Debug for Found<'_, '_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_, place) => write!(out, "Token([hidden], {place:?})"),
            Self::Missing => out.write_str("Missing"),
            Self::Malformed => out.write_str("Malformed"),
        }
    }
}

/// What one place holds.
enum Held<'a> {
    Nothing,
    One(Cow<'a, str>),
    Unclear,
}

/// Looks in `places`, in order. `headers` gives the values of a header by its lower-case name, one for each time that
/// it came; `path` is the request's target with its query, as the client sent it.
pub fn find<'a, 'p, I>(places: &'p [TokenSource], headers: impl Fn(&str) -> I, path: &'a str) -> Found<'a, 'p>
where
    I: Iterator<Item = &'a str>,
{
    for place in places {
        let held = match place {
            TokenSource::Authorization => authorization(headers("authorization")),
            TokenSource::Cookie(name) => cookie(headers("cookie"), name),
            TokenSource::Query(name) => query(path, name),
        };
        match held {
            Held::Nothing => {}
            Held::One(token) => return Found::Token(token, place),
            Held::Unclear => return Found::Malformed,
        }
    }
    Found::Missing
}

/// RFC 6750 section 2.1. Another scheme is no token; a `Bearer` that is not followed by exactly one is unclear.
fn authorization<'a>(mut values: impl Iterator<Item = &'a str>) -> Held<'a> {
    let Some(value) = values.next() else { return Held::Nothing };
    if values.next().is_some() {
        return Held::Unclear;
    }
    let value = value.trim_matches([' ', '\t']);
    let (scheme, token) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        // Two headers that a proxy joined into one: the second may be the bearer's.
        return if value.contains(',') && joins_bearer(value) { Held::Unclear } else { Held::Nothing };
    }
    let token = token.trim_start_matches([' ', '\t']);
    if token.is_empty() || token.contains([',', ' ', '\t']) {
        return Held::Unclear;
    }
    Held::One(Cow::Borrowed(token))
}

fn joins_bearer(value: &str) -> bool {
    let scheme = |part: &str| part.split_ascii_whitespace().next().map(str::to_ascii_lowercase);
    value.split(',').any(|part| scheme(part).as_deref() == Some("bearer"))
}

/// RFC 6265 section 5.4; HTTP/2 may split the cookies over several headers (RFC 9113 section 8.2.3). An empty cookie is
/// one that was cleared.
fn cookie<'a>(values: impl Iterator<Item = &'a str>, name: &str) -> Held<'a> {
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    one(pairs.filter(|(key, _)| *key == name).map(|(_, value)| Some(Cow::Borrowed(value))))
}

/// A parameter of the query, percent-decoded, name and value.
fn query<'a>(path: &'a str, name: &str) -> Held<'a> {
    let path = path.split_once('#').map_or(path, |(before, _)| before);
    let Some((_, query)) = path.split_once('?') else { return Held::Nothing };
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    one(pairs.filter(|(key, _)| decoded(key).as_deref() == Some(name)).map(|(_, value)| decoded(value)))
}

fn one<'a>(mut values: impl Iterator<Item = Option<Cow<'a, str>>>) -> Held<'a> {
    match (values.next(), values.next()) {
        (None, _) => Held::Nothing,
        (Some(_), Some(_)) | (Some(None), None) => Held::Unclear,
        (Some(Some(value)), None) if value.is_empty() => Held::Nothing,
        (Some(Some(value)), None) => Held::One(value),
    }
}

/// Percent-decodes (RFC 3986 section 2.1). A `%` that begins no byte stays one. None: the bytes are not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn found(from: &[&str], sent: Headers, path: &'static str) -> String {
        let place = |text: &&str| match text.split_once(':') {
            Some(("cookie", name)) => TokenSource::Cookie(name.to_owned()),
            Some((_, name)) => TokenSource::Query(name.to_owned()),
            None => TokenSource::Authorization,
        };
        let places: Vec<_> = from.iter().map(place).collect();
        let named = |name: &str| {
            let name = name.to_owned();
            sent.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
        };
        match find(&places, named, path) {
            Found::Token(text, _) => text.into_owned(),
            Found::Missing => "missing".to_owned(),
            Found::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn takes_one_bearer_token_from_one_header() {
        for (value, token) in [
            ("Bearer a.b.c", "a.b.c"),
            ("bearer a.b.c", "a.b.c"),
            ("BEARER  a.b.c ", "a.b.c"),
            ("Bearer\ta.b.c", "a.b.c"),
            ("Basic YTpi", "missing"),
            ("a.b.c", "missing"),
            ("Bearera.b.c", "missing"),
            ("", "missing"),
            ("Digest a=\"1\", b=\"2\"", "missing"),
            ("Bearer", "malformed"),
            ("Bearer ", "malformed"),
            ("Bearer a.b.c, Bearer d.e.f", "malformed"),
            ("Bearer a.b.c,Bearer d.e.f", "malformed"),
            ("Bearer a.b.c,", "malformed"),
            ("Bearer a.b.c d.e.f", "malformed"),
            ("Basic YTpi, Bearer a.b.c", "malformed"),
            ("Basic YTpi,bearer a.b.c", "malformed"),
        ] {
            let sent: Headers = Box::leak(Box::new([("authorization", value)]));
            assert_eq!(found(&["authorization"], sent, "/"), token, "{value:?}");
        }
        assert_eq!(found(&["authorization"], &[], "/"), "missing");
        let twice: Headers = &[("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(found(&["authorization"], twice, "/"), "malformed");
        let mixed: Headers = &[("authorization", "Basic YTpi"), ("authorization", "Bearer a")];
        assert_eq!(found(&["authorization"], mixed, "/"), "malformed");
    }

    #[test]
    fn takes_one_cookie_of_exactly_that_name() {
        let from = ["cookie:session"];
        assert_eq!(found(&from, &[("cookie", "a=1; session=t.o.k; b=2")], "/"), "t.o.k");
        assert_eq!(found(&from, &[("cookie", "a=1"), ("cookie", "session=t.o.k")], "/"), "t.o.k");
        assert_eq!(found(&from, &[("cookie", "session=a=b")], "/"), "a=b");
        assert_eq!(found(&from, &[("cookie", "Session=t; xsession=t; session2=t")], "/"), "missing");
        assert_eq!(found(&from, &[("cookie", "session=; session")], "/"), "missing");
        assert_eq!(found(&from, &[("cookie", "session=t; session=u")], "/"), "malformed");
        assert_eq!(found(&from, &[("cookie", "session=t"), ("cookie", "session=t")], "/"), "malformed");
        assert_eq!(found(&from, &[], "/?session=t"), "missing");
    }

    #[test]
    fn takes_one_query_parameter_and_decodes_it() {
        let from = ["query:token"];
        for (path, token) in [
            ("/ws?token=t.o.k", "t.o.k"),
            ("/ws?a=1&token=t.o.k&b", "t.o.k"),
            ("/ws?%74oken=%74.o.k", "t.o.k"),
            ("/ws?token=a%2", "a%2"),
            ("/ws?token=a%zz", "a%zz"),
            ("/ws?token=a+b", "a+b"),
            ("/ws?token=t?x", "t?x"),
            ("/ws?token=t#token=u", "t"),
            ("/ws#?token=t", "missing"),
            ("/ws?token=", "missing"),
            ("/ws?token", "missing"),
            ("/ws?Token=t", "missing"),
            ("/token=t", "missing"),
            ("/ws?token=%ff", "malformed"),
            ("/ws?token=t&token=t", "malformed"),
            ("/ws?token=t&%74oken=u", "malformed"),
        ] {
            assert_eq!(found(&from, &[], path), token, "{path}");
        }
    }

    #[test]
    fn the_first_place_that_holds_anything_decides() {
        let from = ["authorization", "cookie:c", "query:q"];
        let both: Headers = &[("authorization", "Bearer a"), ("cookie", "c=b")];
        assert_eq!(found(&from, both, "/?q=d"), "a");
        let unclear: Headers = &[("authorization", "Bearer a, Bearer b"), ("cookie", "c=b")];
        assert_eq!(found(&from, unclear, "/"), "malformed");
        let basic: Headers = &[("authorization", "Basic x"), ("cookie", "c=b")];
        assert_eq!(found(&from, basic, "/"), "b");
        assert_eq!(found(&from, &[], "/?q=d"), "d");
        assert_eq!(found(&[], both, "/?q=d"), "missing");
    }

    #[test]
    fn debug_hides_the_token() {
        let place = TokenSource::Query("q".to_owned());
        let shown = format!("{:?}", find(&[place], |_| std::iter::empty(), "/?q=secret.token"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
