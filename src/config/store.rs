//! `store`: where counters, leases and revocations live.
//!
//! Must never: show a URL's user or password.

use super::diagnostic::Findings;
use super::fields::{Fields, Scope};
use super::listen::MAX_SOCKET_PATH;
use super::settings::{Settings, StoreUrl};
use super::tree::Node;
use super::{show, size};
use crate::engine::units::Micros;
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

const URL_HINT: &str = "write \"memory:\", redis://HOST:PORT, rediss://HOST:PORT or redis+unix:///PATH";
/// Longest wait of a decision for its store.
const MAX_TIMEOUT: Micros = Micros(60 * 1_000_000);
/// Longest wait of a start for its store: longer than any that an orchestrator has patience for is a mistake.
const MAX_START_GRACE: Micros = Micros(600 * 1_000_000);
/// Most replicas: each has at least one unit of every limit while the store is away.
const MAX_REPLICAS: u64 = 10_000;
/// Least memory of the embedded store: what an empty one and the decisions under way take is a small part of it.
pub const MIN_MEMORY: u64 = 16 << 20;
/// How long a start waits for its store unless configured otherwise.
pub(super) const START_GRACE: Duration = Duration::from_secs(1);

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process.
    Memory {
        /// Where revocations survive a restart; none: nowhere.
        data_dir: Option<PathBuf>,
    },
    /// In Redis or Valkey.
    Redis {
        /// Where it is.
        url: RedisUrl,
    },
}

/// The store as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Which one.
    pub kind: StoreKind,
    /// How long a decision waits for it (Redis).
    pub timeout: Duration,
    /// How long a start waits for it at most; zero: not at all.
    pub start_grace: Duration,
    /// How many quotad share it at least (Redis); none: as many as have said so to it.
    pub replicas: Option<NonZeroU64>,
    /// Most bytes of the state that this process keeps; none: a part of what there is.
    pub max_memory: Option<u64>,
}

/// A `redis://`, `rediss://` or `redis+unix://` URL; its user and password never show.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The whole URL, with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return out.write_str(&self.0) };
        // The path of a socket may have an `@`; its login is escaped, and so has no `/`.
        let ends = if scheme.ends_with("unix") { rest.find('/') } else { None };
        let (before, path) = rest.split_at(ends.unwrap_or(rest.len()));
        match before.rsplit_once('@') {
            Some((_, host)) => write!(out, "{scheme}://***@{host}{path}"),
            None => out.write_str(&self.0),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads `store`.
pub(super) fn read(node: &Node, settings: &mut Settings, out: &mut Findings<'_>) {
    let scope = Scope { prefix: "store.", ..Scope::ROOT };
    let known = ["url", "data_dir", "timeout", "start_grace", "replicas", "max_memory"];
    let Some(fields) = Fields::read(node, scope, &known, out) else { return };
    if let (Some(node), Some(text)) = (fields.get("url"), fields.text("url", out)) {
        match parse_url(&text) {
            Ok(url) => settings.store_url = url,
            Err(wrong) => fields.wrong("url", node, wrong, out),
        }
    }
    if let Some(text) = fields.text("data_dir", out) {
        settings.data_dir = Some(out.document().folder.join(text));
    }
    if let (Some(node), Some(span)) = (fields.get("timeout"), fields.duration("timeout", out)) {
        match check_timeout(span) {
            Ok(timeout) => settings.store_timeout = timeout,
            Err(wrong) => fields.wrong("timeout", node, wrong, out),
        }
    }
    if let (Some(node), Some(span)) = (fields.get("start_grace"), fields.duration("start_grace", out)) {
        if span <= MAX_START_GRACE {
            settings.start_grace = span.into();
        } else {
            let message = format!("start_grace is {}", super::duration::write(span));
            let hint =
                "write a duration from 0s to 10m; a start waits that long at most for its store".to_owned();
            fields.wrong("start_grace", node, (message, hint), out);
        }
    }
    if let (Some(node), Some(count)) = (fields.get("replicas"), fields.number("replicas", out)) {
        settings.replicas = NonZeroU64::new(count).filter(|count| count.get() <= MAX_REPLICAS);
        if settings.replicas.is_none() {
            let hint =
                format!("write how many quotad share the store at least, 1 to {MAX_REPLICAS}, or remove it");
            fields.wrong("replicas", node, (format!("replicas is {count}"), hint), out);
        }
    }
    if let (Some(node), Some(memory)) = (fields.get("max_memory"), fields.size("max_memory", out)) {
        if memory >= MIN_MEMORY {
            settings.max_memory = Some(memory);
        } else {
            let message = format!("max_memory is {}", size::write(memory));
            let hint = format!("write at least {}: counters need room to be exact", size::write(MIN_MEMORY));
            fields.wrong("max_memory", node, (message, hint), out);
        }
    }
}

/// A store's URL.
pub(super) fn parse_url(text: &str) -> Result<StoreUrl, (String, String)> {
    if text == "memory:" {
        return Ok(StoreUrl::Memory);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        // Without a scheme nothing tells a password from a host, so the text is not repeated.
        let hint = if text == "memory" { "write \"memory:\", with its colon" } else { URL_HINT };
        return Err(("this is not a store's URL".to_owned(), hint.to_owned()));
    };
    match scheme {
        "redis" | "rediss" => check_redis(rest).map(|()| StoreUrl::Redis(RedisUrl(text.to_owned()))),
        "redis+unix" | "unix" => check_socket(rest).map(|()| StoreUrl::Redis(RedisUrl(text.to_owned()))),
        "redis-sentinel" | "rediss-sentinel" | "redis-cluster" | "rediss-cluster" => Err((
            format!("`{scheme}://` is not supported yet"),
            "write redis://HOST:PORT of one server; Sentinel and Cluster follow".to_owned(),
        )),
        "valkey" | "valkeys" => Err((
            format!("`{scheme}://` is not known"),
            "write redis:// or rediss://: Valkey speaks the same protocol".to_owned(),
        )),
        "memory" => Err(("the embedded store has no host".to_owned(), "write \"memory:\"".to_owned())),
        _ => Err((format!("{} is not a store's scheme", show(scheme)), URL_HINT.to_owned())),
    }
}

/// `[user:password@]host[:port][/database]`.
fn check_redis(rest: &str) -> Result<(), (String, String)> {
    let wrong = |why: &str, hint: &str| Err((why.to_owned(), hint.to_owned()));
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("a URL has no spaces", URL_HINT);
    }
    if rest.contains(['?', '#']) {
        return wrong(
            "a redis URL has no parameters here",
            "write redis://[USER:PASSWORD@]HOST:PORT[/DATABASE]; escape ? and # of a password as %3F and %23",
        );
    }
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let (address, database) = place.split_once('/').unwrap_or((place, ""));
    if !database.is_empty() && database.parse::<u8>().is_err() {
        return wrong("the database is not a number from 0 to 255", "write redis://HOST:PORT/0");
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    if host.is_empty() || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
        return wrong("the host is missing or no host", "write redis://127.0.0.1:6379 or redis://[::1]:6379");
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        _ => wrong("the port is not a number from 1 to 65535", "write redis://127.0.0.1:6379"),
    }
}

/// `[user:password@]/path[?db=number]`. A user and a password are escaped, so that they have no `/`; a path is not.
fn check_socket(rest: &str) -> Result<(), (String, String)> {
    let form =
        "write redis+unix:///PATH, redis+unix://USER:PASSWORD@/PATH, and ?db=1 behind it for a database";
    let wrong = |why: &str| Err((why.to_owned(), form.to_owned()));
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("a URL has no spaces");
    }
    let Some((login, path)) = rest.split_once('/') else { return wrong("the socket has no path") };
    let host = login.rsplit_once('@').map_or(login, |(_, host)| host);
    if !matches!(host, "" | "localhost") {
        return wrong("a unix socket has no host");
    }
    let (path, database) = path.split_once('?').unwrap_or((path, "db=0"));
    // The first slash is no part of it here.
    if path.is_empty() || path.ends_with('/') || path.len() >= MAX_SOCKET_PATH {
        return wrong(&format!(
            "this is no path of a unix socket, which has at most {MAX_SOCKET_PATH} bytes"
        ));
    }
    match database.strip_prefix("db=").map(str::parse::<u8>) {
        Some(Ok(_)) => Ok(()),
        _ => wrong("behind the ? stands the database, as a number from 0 to 255"),
    }
}

/// `store.timeout`.
pub(super) fn check_timeout(span: Micros) -> Result<Duration, (String, String)> {
    if span < Micros::from_millis(1) || span > MAX_TIMEOUT {
        let message = format!("timeout is {}", super::duration::write(span));
        return Err((
            message,
            "write a duration from 1ms to 60s; a decision waits that long at most".to_owned(),
        ));
    }
    Ok(span.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_urls_and_what_is_none() {
        for good in [
            "redis://127.0.0.1:6379",
            "rediss://user:p%40ss@redis.example.com:6380/2",
            "redis://:pw@[::1]:6379/0",
            "redis://redis",
            "redis://[::1]",
            "redis+unix:///run/redis.sock",
            "redis+unix://user:p%40ss@/run/redis.sock?db=3",
            "unix://:pw@localhost/run/redis.sock",
        ] {
            assert!(matches!(parse_url(good), Ok(StoreUrl::Redis(_))), "{good}");
        }
        for (bad, word) in [
            ("redis://", "host"),
            ("redis://:6379", "host"),
            ("redis://h:0", "port"),
            ("redis://h:99999", "port"),
            ("redis://h/x", "database"),
            ("redis://h h", "spaces"),
            ("redis://h?x=1", "parameters"),
            ("redis://::1:6379", "host"),
            ("redis+unix://", "no path"),
            ("redis+unix:///", "no path of"),
            ("redis+unix://h/s", "no host"),
            ("redis+unix://run/redis.sock", "no host"),
            ("redis+unix:///s?db=256", "database"),
            ("redis+unix:///s?x=1", "database"),
            ("redis+unix:///a b", "spaces"),
            ("redis-cluster://h:1", "not supported yet"),
            ("redis-sentinel://h:1", "not supported yet"),
            ("valkey://h:1", "not known"),
            ("postgres://h", "scheme"),
            ("memory://", "no host"),
            ("memory", "URL"),
            ("", "URL"),
        ] {
            let Err((message, hint)) = parse_url(bad) else { panic!("{bad}") };
            assert!(message.contains(word), "{bad}: {message}");
            assert!(!hint.is_empty());
        }
    }

    #[test]
    fn a_password_never_shows() {
        for text in [
            "redis://user:hunter2@h:1/0",
            "redis://:hunter2@h",
            "rediss://:hun@ter2@h:1",
            "redis+unix://:hunter2@/run/s?db=1",
            "redis+unix://:hunter2@/run/a@b",
        ] {
            let Ok(StoreUrl::Redis(url)) = parse_url(text) else { panic!("{text}") };
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("hun") && !shown.contains("ter2"), "{shown}");
            assert_eq!(url.expose(), text);
        }
        let Ok(StoreUrl::Redis(url)) = parse_url("unix:///run/a@b") else { panic!() };
        assert_eq!(url.to_string(), "unix:///run/a@b", "nothing to hide");
        for bad in [
            "hunter2@h",
            "redis//:hunter2@h",
            "postgres://u:hunter2@h",
            "redis://u:hunter2@h:x",
            "redis+unix://u:hunter2@h/s",
            "redis+unix://u:hunter2@",
            "redis+unix:///s?db=hunter2",
        ] {
            let Err((message, hint)) = parse_url(bad) else { panic!("{bad}") };
            assert!(!format!("{message}{hint}").contains("hunter2"), "{message}");
        }
    }
}
