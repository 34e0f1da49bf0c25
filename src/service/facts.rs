//! The facts of a request: a caller's entries, and what an HTTP request and its token give by themselves.

use crate::engine::address::client_ip;
use crate::engine::glob::Case;
use crate::engine::matcher::Form;
use crate::engine::path;
use crate::engine::policy::Facts;
use crate::service::{HttpCall, Live, ServiceError};
use crate::token::Claims;
use std::borrow::Cow;
use std::collections::HashMap;

/// A caller's entries.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a>(pub &'a HashMap<String, String>);

impl Facts for Entries<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// An HTTP request with its token and the caller's entries, under one reading of its path. What the request says itself
/// comes first: an entry cannot replace it.
#[derive(Clone)]
pub(super) struct HttpFacts<'a> {
    pub(super) call: &'a HttpCall<'a>,
    /// The reading: decoded, and never again.
    pub(super) path: &'a str,
    /// How its route compares it.
    pub(super) case: Case,
    /// Normalised.
    pub(super) host: &'a str,
    pub(super) route: &'a str,
    pub(super) ip: Option<&'a str>,
    pub(super) claims: Option<&'a Claims>,
}

impl Facts for HttpFacts<'_> {
    fn form(&self, name: &str) -> Form {
        if name == "path" { Form::Reading(self.case) } else { Form::AsSent }
    }

    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.own(name).or_else(|| self.call.entries.get(name).map(|value| Cow::Borrowed(value.as_str())))
    }
}

impl HttpFacts<'_> {
    fn own(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "ip" => self.ip.map(Cow::Borrowed),
            "user" => self.claims.and_then(|claims| claims.user.as_deref()).map(Cow::Borrowed),
            "method" => Some(Cow::Borrowed(self.call.method)),
            "host" => Some(Cow::Borrowed(self.host)),
            "path" => Some(Cow::Borrowed(self.path)),
            "route" => Some(Cow::Borrowed(self.route)),
            _ => {
                let (family, name) = name.split_once(':')?;
                match family {
                    "header" => one(self.call.values(name)).map(Cow::Borrowed),
                    "cookie" => one(self.call.cookies(name)).map(Cow::Borrowed),
                    "query" => one(self.call.queries(name)).map(Cow::Owned),
                    "claim" => self.claims.and_then(|claims| claim_text(claims, name)).map(Cow::Owned),
                    _ => None,
                }
            }
        }
    }
}

/// The client's address as the caller found it, or by the trusted proxies; none when the caller gave no peer.
pub(super) fn client_address(live: &Live, call: &HttpCall<'_>) -> Result<Option<String>, ServiceError> {
    if let Some(client) = call.client {
        return Ok(Some(client.to_string()));
    }
    if call.peer_address.is_empty() {
        return Ok(None);
    }
    let peer = crate::engine::address::parse_ip_and_port(call.peer_address).ok_or_else(|| {
        ServiceError::invalid("http.peer_address", "not an address; send the address of the direct peer")
    })?;
    let entries = call.values("x-forwarded-for").flat_map(|value| value.split(','));
    Ok(Some(client_ip(peer, entries, &live.trusted_proxies).to_string()))
}

/// A claim as text: strings as they are, numbers and booleans in JSON's form; nothing else counts.
pub(super) fn claim_text(claims: &Claims, name: &str) -> Option<String> {
    match claims.all.get(name)? {
        serde_json::Value::String(text) => Some(text.clone()),
        value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

impl<'a> HttpCall<'a> {
    /// The values of a header, in order.
    pub(super) fn values(&self, name: &str) -> std::vec::IntoIter<&'a str> {
        let named = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value).collect::<Vec<_>>().into_iter()
    }

    /// A header's first value.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn cookies<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        self.headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case("cookie"))
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    fn queries<'b>(&'b self, name: &'b str) -> impl Iterator<Item = String> + 'b {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let plain = |text: &str| path::decode(&text.replace('+', " "));
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(move |(other, _)| plain(other) == name)
            .map(move |(_, value)| plain(value))
    }
}

/// The one value of a fact. Where several differ there is none: which of them the application takes, nobody here
/// knows, and a client must not choose a counter by sending two.
fn one<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}
