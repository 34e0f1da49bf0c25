//! A request as the service wants it. Nothing is left out that a policy could look at, and nothing is interpreted.

use crate::{
    address,
    headers::latin1,
    notice::{Notice, Notices},
    v1 as pb,
};
use http::{HeaderMap, Method, Uri, header, request::Parts};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

const MAX_HEADERS: usize = 256;
/// The service takes 64 KiB a request. More than this is answered 431 here, so that size can buy no unchecked pass.
const MAX_HEADER_BYTES: usize = 48 * 1024;
const MAX_ENTRIES: usize = 32;
const MAX_ENTRY_BYTES: usize = 256;

/// The address of the direct peer, where a server other than axum's says it: insert it into a request's extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerAddress(pub IpAddr);

pub(crate) fn fits(parts: &Parts) -> bool {
    let size: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 16).sum();
    parts.headers.len() <= MAX_HEADERS && size + target(parts).len() <= MAX_HEADER_BYTES
}

/// A handshake: of HTTP/1.1 by `Upgrade`, of HTTP/2 by an extended CONNECT.
pub(crate) fn is_socket(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).map(latin1).unwrap_or_default();
    parts.method == Method::CONNECT
        || upgrade.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The path with its query, as the client sent it, also where a router has taken a prefix away since.
fn target(parts: &Parts) -> String {
    let uri = original(parts);
    uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

fn original(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = parts.extensions.get() {
        return uri;
    }
    &parts.uri
}

/// What is kept of a request while it is answered.
pub(crate) fn head(parts: &Parts) -> Parts {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = parts.method.clone();
    head.uri = original(parts).clone();
    head.version = parts.version;
    head.headers = parts.headers.clone();
    if let Some(peer) = peer(parts) {
        head.extensions.insert(PeerAddress(peer));
    }
    head
}

/// Without the query.
pub(crate) fn path(parts: &Parts) -> &str {
    original(parts).path()
}

pub(crate) fn host(parts: &Parts) -> String {
    let authority = parts.uri.authority().map(ToString::to_string);
    authority.or_else(|| parts.headers.get(header::HOST).map(latin1)).unwrap_or_default()
}

/// A socket's handshake is a GET, whatever HTTP/2 calls it.
pub(crate) fn method(parts: &Parts) -> &str {
    if parts.method == Method::CONNECT { "GET" } else { parts.method.as_str() }
}

/// `None`: a unix socket, a test client, or a server that was not asked to say it.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    if let Some(PeerAddress(address)) = parts.extensions.get() {
        return Some(*address);
    }
    #[cfg(feature = "axum")]
    {
        use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
        use std::net::SocketAddr;
        let real = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let mock = || parts.extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0);
        real.or_else(mock).map(|address| address.ip())
    }
    #[cfg(not(feature = "axum"))]
    None
}

pub(crate) fn http_request(parts: &Parts) -> pb::HttpRequest {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| pb::Header {
        name: name.as_str().to_owned(),
        value: latin1(value),
    };
    pb::HttpRequest {
        method: method(parts).to_owned(),
        scheme: original(parts).scheme_str().unwrap_or("http").to_owned(),
        host: host(parts),
        path: target(parts),
        peer_address: peer(parts).map(|address| address.to_string()).unwrap_or_default(),
        headers: parts.headers.iter().map(header).collect(),
    }
}

/// The client's address for a check that the application asks for; `None` when there is none.
pub(crate) fn client(parts: &Parts, trusted: &[IpNet], notices: &Notices) -> Option<IpAddr> {
    let forwarded: Vec<String> = parts.headers.get_all("x-forwarded-for").iter().map(latin1).collect();
    if !forwarded.is_empty() && trusted.is_empty() {
        notices.once(Notice::ForwardedUntrusted, "");
    }
    let client = address::client_address(peer(parts), &forwarded, trusted);
    if client.is_none() {
        notices.once(Notice::NoAddress, "serve with into_make_service_with_connect_info::<SocketAddr>()");
    }
    client
}

/// The request's own facts, then the caller's, which replace. They are sent, not judged: what is beyond the service's
/// bounds is left out, and a policy that needs it refuses. Claims give way where there are too many.
pub(crate) fn entries(own: BTreeMap<String, String>, given: &[(String, String)]) -> HashMap<String, String> {
    let mut kept: BTreeMap<String, String> = own
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && is_short(name) && is_short(value))
        .collect();
    kept.extend(given.iter().cloned());
    let mut beyond = kept.len().saturating_sub(MAX_ENTRIES);
    kept.retain(|name, _| {
        let is_claim = name.starts_with("claim:") && !given.iter().any(|(given, _)| given == name);
        let goes = is_claim && beyond > 0;
        beyond -= usize::from(goes);
        !goes
    });
    kept.into_iter().collect()
}

fn is_short(text: &str) -> bool {
    text.len() <= MAX_ENTRY_BYTES && !text.contains(|letter: char| letter < ' ' || letter == '\u{7f}')
}

/// CGI, WSGI and PHP know a header by its letters and digits alone: `X_User_Id` is `x-user-id` to them.
pub(crate) fn spelling(name: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect()
}

/// A request's headers as the application sees them: without any spelling of `removed`, with `added`.
pub(crate) fn shape<'a>(
    headers: &mut HeaderMap,
    added: &[pb::Header],
    removed: impl IntoIterator<Item = &'a String>,
) {
    let barred: Vec<String> = removed.into_iter().map(|name| spelling(name)).collect();
    let names: Vec<http::HeaderName> =
        headers.keys().filter(|name| barred.contains(&spelling(name.as_str()))).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    for header in added {
        let name = http::HeaderName::from_bytes(header.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(header.value.as_bytes())) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_ENTRIES, entries, shape};
    use http::HeaderMap;

    #[test]
    fn claims_give_way_where_there_are_too_many_entries() {
        let own = (0..60).map(|number| (format!("claim:{number:02}"), "x".to_owned()));
        let own = own.chain([("ip".to_owned(), "203.0.113.9".to_owned())]).collect();
        let kept = entries(own, &[("account".to_owned(), "7".to_owned())]);
        assert_eq!(kept.len(), MAX_ENTRIES);
        assert_eq!(kept.get("ip").map(String::as_str), Some("203.0.113.9"));
        assert_eq!(kept.get("account").map(String::as_str), Some("7"));
    }

    #[test]
    fn what_the_service_cannot_take_is_left_out_and_the_callers_own_replaces() {
        let own = [("user", "ann"), ("route", ""), ("claim:bio", "two\nlines")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let kept = entries(own.into_iter().collect(), &[("user".to_owned(), "bob".to_owned())]);
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [("user".to_owned(), "bob".to_owned())]);
    }

    #[test]
    fn every_spelling_of_an_identity_header_goes() {
        let mut headers = HeaderMap::new();
        for name in ["x-user-id", "x_user_id", "x.user-id", "x-other"] {
            headers.append(name, "admin".parse().unwrap());
        }
        let added = crate::v1::Header { name: "x-user-id".into(), value: "ann".into() };
        shape(&mut headers, &[added], [&"X-User-Id".to_owned()]);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-user-id"], "ann");
    }
}
