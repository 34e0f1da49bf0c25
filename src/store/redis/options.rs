//! Where Redis is and how long it may take.
//!
//! Must never: let a password into an error or a log line.

use crate::store::redis::answers::Answers;
use crate::store::redis::replicas::Replicas;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, TcpConfig, UnresponsiveConfig,
};
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

/// How long a decision waits for Redis unless configured otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(5);
/// A connection that answers nothing for this long is given up. Far above the usual timeout of a call: one slow
/// script must not cost the connection and all that is under way on it.
pub(super) const UNRESPONSIVE: Duration = Duration::from_secs(1);
/// The longest that one attempt to connect takes, and that the client's own first commands take.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// First and longest pause between attempts to connect, in milliseconds.
pub(super) const RECONNECT_MS: (u32, u32) = (50, 1_000);
/// Commands that may wait inside the client; the line in front of it is bounded by itself.
const CLIENT_BUFFER: usize = 1_024;

/// Most characters of a host's name in the name of a connection.
const MAX_HOST: usize = 64;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Decisions.
    Decisions,
    /// Everything else: renewals, releases, revocations, the heartbeat, the start-up checks.
    Control,
}

/// The name by which `CLIENT LIST` shows an operator whose a connection is: `quotad-decisions-HOST-PID`. Redis takes
/// printable ASCII characters and no space.
pub(super) fn connection_name(purpose: Purpose) -> String {
    static HOST: LazyLock<String> = LazyLock::new(|| {
        // Without a name of its own a host is still told apart by the address that CLIENT LIST shows.
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let printable = name.trim().chars().filter(char::is_ascii_graphic);
        printable.take(MAX_HOST).collect()
    });
    let purpose = match purpose {
        Purpose::Decisions => "decisions",
        Purpose::Control => "control",
    };
    format!("quotad-{purpose}-{}-{}", *HOST, std::process::id())
}

/// How to reach Redis or Valkey.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `redis+unix://[user:password@]/path[?db=n]`.
    pub url: String,
    /// The longest that one call waits.
    pub timeout: Duration,
    /// What the stores of one process know of its replicas together.
    pub replicas: Replicas,
    /// What they have kept of answers to request ids together.
    pub answers: Answers,
    /// Tests only: a list of seconds and microseconds in Redis that the scripts take for the clock.
    #[doc(hidden)]
    pub clock_key: Option<String>,
}

impl RedisOptions {
    /// The defaults with `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timeout: DEFAULT_TIMEOUT,
            replicas: Replicas::default(),
            answers: Answers::default(),
            clock_key: None,
        }
    }
}

/// Without the URL: it may hold a password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The URL of a Redis cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store's URL cannot be used: {why}; write redis://host:port, rediss://host:port or redis+unix:///path"
)]
pub struct BadUrl {
    /// In our words, never with a part of the URL that could hold a password.
    why: String,
}

impl BadUrl {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }

    /// The client does not take it.
    pub(super) fn unusable() -> Self {
        Self::new("the client does not take it")
    }
}

/// Reads the URL.
///
/// # Errors
/// A scheme that is not ours, or parts that do not parse. The URL itself is not repeated.
pub(super) fn parse_url(url: &str) -> Result<Config, BadUrl> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| BadUrl::new("it has no scheme"))?;
    let mut config = match scheme {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            Config::from_url_centralized(url).map_err(|_| BadUrl::new("it does not parse"))?
        }
        "unix" | "redis+unix" => parse_unix(rest)?,
        _ => return Err(BadUrl::new(format!("`{}` is no scheme of Redis", scheme.escape_debug()))),
    };
    // Only for the first connection: with it, a server that is away at the start would end the client.
    config.fail_fast = false;
    Ok(config)
}

/// A socket's path with its login and database. The client's own form has no database, wants a host beside a login, and
/// takes the path as it is escaped; so it reads the login alone.
fn parse_unix(rest: &str) -> Result<Config, BadUrl> {
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let at = address.find('/').ok_or_else(|| BadUrl::new("the socket has no path"))?;
    let (login, path) = address.split_at(at);
    let login = login.rsplit_once('@').map_or("", |(login, _)| login);
    let mut config = Config::from_url_unix(&format!("redis+unix://{login}@socket/"))
        .map_err(|_| BadUrl::new("it does not parse"))?;
    config.server = ServerConfig::new_unix_socket(path);
    match query.split_once('=') {
        None if query.is_empty() => {}
        Some(("db", number)) => {
            let number = number.parse().map_err(|_| BadUrl::new("db is no number from 0 to 255"))?;
            config.database = Some(number);
        }
        _ => return Err(BadUrl::new("after the `?` of a unix socket only db=n is known")),
    }
    Ok(config)
}

/// The client's behaviour on trouble; most of its defaults are unsafe for charges.
pub(super) fn connection() -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: CONNECT,
        internal_command_timeout: CONNECT,
        // A second attempt of a script that was under way when the connection broke would charge twice.
        max_command_attempts: 1,
        max_redirections: 3,
        max_command_buffer_len: CLIENT_BUFFER,
        reconnect_on_auth_error: true,
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        unresponsive: UnresponsiveConfig { max_timeout: Some(UNRESPONSIVE), interval: UNRESPONSIVE / 4 },
        ..ConnectionConfig::default()
    }
}

/// Bounds the commands that bring no timeout of their own, such as the ping after a late call.
pub(super) fn performance() -> PerformanceConfig {
    // Calls bring their own, shorter timeout; this one bounds the rest.
    PerformanceConfig { default_command_timeout: UNRESPONSIVE * 2, ..PerformanceConfig::default() }
}

/// Doubling pauses, so that a Redis that comes back is not met by all replicas at full speed.
pub(super) fn reconnect() -> ReconnectPolicy {
    // No last attempt: a client that gave up would stay dead after a long outage.
    ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_forms_that_the_documentation_names() {
        let config = parse_url("redis://user:pass%40word@example.com:6380/3").unwrap();
        assert_eq!(config.username.as_deref(), Some("user"));
        assert_eq!(config.password.as_deref(), Some("pass@word"));
        assert_eq!(config.database, Some(3));
        assert!(parse_url("redis://127.0.0.1").unwrap().server.is_centralized());
        assert!(parse_url("rediss://example.com").unwrap().tls.is_some());
        let socket = parse_url("unix:///run/redis.sock?db=2").unwrap();
        assert!(socket.server.is_unix_socket());
        assert_eq!(socket.database, Some(2));
        for login in ["user:pass%40word@", "user:pass%40word@localhost"] {
            let socket = parse_url(&format!("redis+unix://{login}/run/a@b%20.sock")).unwrap();
            assert_eq!(socket.server, ServerConfig::new_unix_socket("/run/a@b%20.sock"));
            assert_eq!(socket.username.as_deref(), Some("user"));
            assert_eq!(socket.password.as_deref(), Some("pass@word"));
            assert_eq!(socket.database, None);
        }
    }

    #[test]
    fn a_bad_url_is_named_without_its_password() {
        for bad in ["", "localhost:6379", "http://a:hunter2@b", "redis://:hunter2@[", "unix:///s?db=hunter2"]
        {
            let error = parse_url(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", RedisOptions::new("redis://:hunter2@b")).contains("hunter2"));
    }
}
