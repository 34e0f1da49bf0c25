//! Response headers: replaced, never doubled.
//!
//! Promise: a name that the service or the adapter sets stands once, whatever the application sent; list headers of
//! several decisions (RateLimit, RateLimit-Policy) are one list.

use crate::decision::Decision;
pub(crate) use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SERVER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The service's defaults, for answers that it was not asked about: preflights, skipped paths, outages.
pub(crate) const SECURITY: [(&str, &str); 5] = [
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

const LISTS: [&str; 2] = ["ratelimit", "ratelimit-policy"];

/// A change to a header: a value replaces, `None` takes it away.
pub(crate) type Edit = (HeaderName, Option<HeaderValue>);

pub(crate) trait Fields {
    /// Each in the place of all of the same name.
    fn set_all<'a>(&mut self, new: impl IntoIterator<Item = &'a (HeaderName, HeaderValue)>);
    fn edit<'a>(&mut self, edits: impl IntoIterator<Item = &'a Edit>);
    /// With Origin in Vary, beside what the application put there, as one header.
    fn vary_by_origin(&mut self);
}

impl Fields for HeaderMap {
    fn set_all<'a>(&mut self, new: impl IntoIterator<Item = &'a (HeaderName, HeaderValue)>) {
        for (name, value) in new {
            self.insert(name, value.clone());
        }
    }

    fn edit<'a>(&mut self, edits: impl IntoIterator<Item = &'a Edit>) {
        for (name, value) in edits {
            match value {
                Some(value) => self.insert(name, value.clone()),
                None => self.remove(name),
            };
        }
    }

    fn vary_by_origin(&mut self) {
        let values: Vec<String> = self.get_all(VARY).iter().map(latin1).collect();
        let mut fields: Vec<&str> = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|f| !f.is_empty())
            .collect();
        if !fields.iter().any(|field| *field == "*" || field.eq_ignore_ascii_case("origin")) {
            fields.push("Origin");
        }
        let value = HeaderValue::from_str(&fields.join(", "));
        self.insert(VARY, value.unwrap_or(HeaderValue::from_static("Origin")));
    }
}

/// A header's bytes as text: HTTP says Latin-1, so nothing is lost and nothing fails.
pub(crate) fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// The headers of every decision that was taken for one request; a later one replaces, lists grow. Of the checks that
/// the application asked for only the lists: the rest of their headers goes with a refusal.
pub(crate) fn combined(authorized: Option<&Decision>, checks: &[Decision]) -> Vec<(HeaderName, HeaderValue)> {
    let mut told = HeaderMap::new();
    let lists =
        checks.iter().flat_map(|check| &check.headers).filter(|(name, _)| LISTS.contains(&name.as_str()));
    for (name, value) in authorized.iter().flat_map(|decision| &decision.headers).chain(lists) {
        let before = told.get(name).filter(|_| LISTS.contains(&name.as_str()));
        let both = before.and_then(|before| {
            let both = [before.as_bytes(), b", ", value.as_bytes()].concat();
            HeaderValue::from_bytes(&both).ok()
        });
        told.insert(name, both.unwrap_or_else(|| value.clone()));
    }
    told.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
