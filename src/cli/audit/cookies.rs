//! The flags of the cookies that an application sets.

use super::row::Row;
use super::site::{Answer, Site};
use http::header::SET_COOKIE;

/// Most cookies that are told of.
const MAX_COOKIES: usize = 50;
const CHECK: &str = "cookie";

/// A `Set-Cookie` header.
struct Cookie<'a> {
    name: &'a str,
    /// After the value, without spaces around.
    attributes: Vec<&'a str>,
}

/// A row for each cookie.
pub(super) fn rows(answers: &[Answer], site: &Site) -> Vec<Row> {
    let headers = answers.iter().flat_map(|answer| answer.headers.get_all(SET_COOKIE));
    let mut texts: Vec<&str> = Vec::new();
    for text in headers.filter_map(|value| value.to_str().ok()) {
        let is_new = |name| texts.iter().all(|other| Cookie::parse(other).name != name);
        if is_new(Cookie::parse(text).name) {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return vec![Row::skipped(CHECK, "no answer set one")];
    }
    texts.iter().take(MAX_COOKIES).map(|text| row(&Cookie::parse(text), site)).collect()
}

fn row(cookie: &Cookie<'_>, site: &Site) -> Row {
    let name = cookie.name;
    if let Some(broken) = cookie.broken_prefix() {
        let message = format!("{name}: {broken}, so browsers drop it");
        return Row::fail(CHECK, message, "Set it with Secure; `__Host-` wants Path=/ and no Domain too.");
    }
    if site.is_https() && !cookie.has("secure") {
        let message = format!("{name}: not Secure, so it goes over plain http too");
        return Row::fail(CHECK, message, "Set it with Secure, best under a name that begins with __Host-.");
    }
    let same_site = cookie.value("samesite").unwrap_or_default();
    let mut weak = Vec::new();
    if !cookie.has("httponly") {
        weak.push("not HttpOnly: scripts read it");
    }
    if !["strict", "lax"].iter().any(|one| same_site.eq_ignore_ascii_case(one)) {
        weak.push("neither SameSite=Strict nor Lax: other sites send it along");
    }
    match weak.is_empty() {
        true => Row::ok(CHECK, format!("{name}: its flags are set")),
        false => Row::warn(
            CHECK,
            format!("{name}: {}", weak.join("; ")),
            "Set HttpOnly and SameSite=Strict on what a session hangs on.",
        ),
    }
}

impl<'a> Cookie<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let pair = parts.next().unwrap_or_default();
        let name = pair.split_once('=').map_or("", |(name, _)| name.trim());
        Self { name, attributes: parts.collect() }
    }

    /// An attribute's value; empty for one without.
    fn value(&self, name: &str) -> Option<&str> {
        let pairs = self.attributes.iter().map(|text| text.split_once('=').unwrap_or((*text, "")));
        let named = pairs.filter(|(one, _)| one.trim().eq_ignore_ascii_case(name));
        // The last one counts (RFC 6265, section 5.3).
        named.map(|(_, value)| value.trim()).next_back()
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// What a prefix promises and the attributes do not keep (RFC 6265bis, section 4.1.3).
    fn broken_prefix(&self) -> Option<&'static str> {
        let begins = |prefix: &str| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let for_host = begins("__Host-");
        if !for_host && !begins("__Secure-") {
            None
        } else if !self.has("secure") {
            Some("its prefix wants Secure")
        } else if for_host && self.value("path") != Some("/") {
            Some("__Host- wants Path=/")
        } else if for_host && self.has("domain") {
            Some("__Host- wants no Domain")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Grade;
    use super::*;
    use http::{HeaderMap, StatusCode};
    use std::time::Duration;

    fn graded(url: &str, cookies: &[&str]) -> Vec<(Grade, String)> {
        let site = Site::new(&url.parse().unwrap(), Duration::from_secs(1)).unwrap();
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(SET_COOKIE, cookie.parse().unwrap());
        }
        let answer = Answer { status: StatusCode::OK, headers, body: bytes::Bytes::new() };
        rows(&[answer.clone(), answer], &site).into_iter().map(|row| (row.grade, row.message)).collect()
    }

    #[test]
    fn every_flag_is_looked_at() {
        for (cookie, grade, words) in [
            ("__Host-a=b; Path=/; HttpOnly; Secure; SameSite=Strict", Grade::Ok, "its flags are set"),
            ("__Secure-a=b; Path=/auth; httponly; secure; samesite=lax", Grade::Ok, "its flags are set"),
            ("a=b; HttpOnly; SameSite=Strict", Grade::Fail, "not Secure"),
            ("a=b; Secure; SameSite=Strict", Grade::Warn, "not HttpOnly"),
            ("a=b; Secure; HttpOnly", Grade::Warn, "neither"),
            ("a=b; Secure; HttpOnly; SameSite=None", Grade::Warn, "neither"),
            ("__Host-a=b; Path=/auth; Secure", Grade::Fail, "Path=/"),
            ("__Host-a=b; Path=/; Domain=example.com; Secure", Grade::Fail, "no Domain"),
            ("__host-a=b; Path=/", Grade::Fail, "wants Secure"),
        ] {
            let rows = graded("https://app.example", &[cookie]);
            // Twice set, once told of.
            assert_eq!(rows.len(), 1, "{cookie}");
            let (found, message) = rows.first().unwrap();
            assert_eq!(*found, grade, "{cookie}");
            assert!(message.contains(words), "{cookie}: {message}");
            assert!(!message.contains("=b"), "a value is shown: {message}");
        }
    }

    #[test]
    fn over_plain_http_secure_is_not_asked_for() {
        let rows = graded("http://app.example", &["a=b; HttpOnly; SameSite=Lax"]);
        assert_eq!(rows, [(Grade::Ok, "a: its flags are set".to_owned())]);
        assert_eq!(graded("http://app.example", &[]).first().unwrap().0, Grade::Skipped);
    }
}
