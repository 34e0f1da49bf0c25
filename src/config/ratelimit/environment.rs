//! The variables of envoyproxy/ratelimit, so that another image is the whole migration.
//!
//! An explicit list. A variable that is set to nothing is not set. What is known there and has no effect here is named in
//! one warning, so that nobody believes in it.

use super::super::diagnostic::{Findings, Place, elsewhere};
use super::super::environment::Environment;
use super::super::envoy::RateLimitHealth;
use super::super::http::is_header_name;
use super::super::listen::{self, Bind};
use super::super::log::LogFormat;
use super::super::settings::Settings;
use super::super::{show, store};
use super::{Domains, DotFiles, RateLimitFolder};
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::{OverLimit, RateLimitOptions, TrioNames};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where that program looks when nobody says otherwise.
const USUAL_ROOT: &str = "/srv/runtime_data/current";
/// What it serves on.
const USUAL_HOST: &str = "0.0.0.0";
const USUAL_GRPC_PORT: &str = "8081";
const USUAL_HTTP_PORT: &str = "8080";
const LEVELS: [(&str, &str); 8] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("fatal", "error"),
    ("panic", "error"),
];
const SOCKET_SCHEME: &str = "redis+unix://";
/// Beginnings of names that have no effect here; a whole name is its own beginning.
const IDLE: [&str; 24] = [
    "BACKEND_TYPE",
    "CACHE_KEY_PREFIX",
    "CONFIG_GRPC_XDS_",
    "CONFIG_TYPE",
    "DEBUG_HOST",
    "DEBUG_PORT",
    "DISABLE_STATS",
    "EXPIRATION_JITTER_MAX_SECONDS",
    "EXTRA_TAGS",
    "GRPC_CLIENT_TLS_",
    "GRPC_MAX_CONNECTION_AGE",
    "GRPC_SERVER_",
    "LOCAL_CACHE_SIZE_IN_BYTES",
    "MEMCACHE_",
    "NEAR_LIMIT_RATIO",
    "PROMETHEUS_",
    "REDIS_",
    "SENTINEL_",
    "STATSD_",
    "STATS_",
    "TRACING_",
    "USE_DOG_STATSD",
    "USE_PROMETHEUS",
    "XDS_CLIENT_",
];
/// Names that [`IDLE`] would hit and that have an effect.
const HONOURED: [&str; 5] = ["REDIS_URL", "REDIS_SOCKET_TYPE", "REDIS_AUTH", "REDIS_TYPE", "REDIS_TLS"];

/// Whether addresses come from a file too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Beside {
    File,
    Nothing,
}

/// What the variables say of rate limits.
pub(in super::super) struct Taken {
    pub(in super::super) folder: RateLimitFolder,
    pub(in super::super) options: RateLimitOptions,
    pub(in super::super) health: RateLimitHealth,
}

/// Lays the variables over the file's settings.
pub(in super::super) fn apply(
    environment: &Environment,
    beside: Beside,
    settings: &mut Settings,
    out: &mut Findings<'_>,
) -> Taken {
    let mut reader = Reader { environment, out };
    if let Some(binds) = reader.grpc(beside) {
        settings.listen.grpc = binds;
    }
    if let Some(binds) = reader.address(("HOST", "PORT"), USUAL_HTTP_PORT, beside) {
        settings.listen.http = binds;
    }
    reader.store(settings);
    reader.log(settings);
    // That program never starts without a configuration unless this says so; here it always does.
    reader.flag("FORCE_START_WITHOUT_INITIAL_CONFIG");
    let taken = Taken { folder: reader.folder(), options: reader.options(), health: reader.health() };
    reader.warn_of_idle();
    taken
}

struct Reader<'r, 'd> {
    environment: &'r Environment,
    out: &'r mut Findings<'d>,
}

impl Reader<'_, '_> {
    fn text(&mut self, name: &str) -> Option<String> {
        let value = self.environment.get(name).filter(|value| !value.is_empty())?;
        value.into_string().map_err(|_| self.wrong(name, "the value is not UTF-8", "write plain text")).ok()
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.text(name).as_deref() {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => false,
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => true,
            Some(other) => {
                self.wrong(
                    name,
                    &format!("{} is neither true nor false", show(other)),
                    "write true or false",
                );
                false
            }
        }
    }

    fn wrong(&mut self, name: &str, message: &str, hint: &str) {
        self.out.wrong_at(Place::Variable(name.to_owned()), Mistake::new("", message, hint));
    }

    fn grpc(&mut self, beside: Beside) -> Option<Vec<Bind>> {
        match self.text("GRPC_UDS") {
            Some(path) => self.binds("GRPC_UDS", &format!("unix:{path}")),
            None => self.address(("GRPC_HOST", "GRPC_PORT"), USUAL_GRPC_PORT, beside),
        }
    }

    /// The address that a pair of variables makes; none: they leave it to the file, or are wrong.
    fn address(&mut self, names: (&str, &str), usual_port: &str, beside: Beside) -> Option<Vec<Bind>> {
        let (host, port) = (self.text(names.0), self.text(names.1));
        if host.is_none() && port.is_none() && beside == Beside::File {
            return None;
        }
        let host = host.as_deref().unwrap_or(USUAL_HOST);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let name = if port.is_some() { names.1 } else { names.0 };
        self.binds(name, &format!("{host}:{}", port.as_deref().unwrap_or(usual_port)))
    }

    fn binds(&mut self, name: &str, written: &str) -> Option<Vec<Bind>> {
        listen::parse_list(written, Path::new(""))
            .map_err(|(message, hint)| self.wrong(name, &message, &hint))
            .ok()
    }

    fn health(&mut self) -> RateLimitHealth {
        match self.flag("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED") {
            true => RateLimitHealth::WithLimits,
            false => RateLimitHealth::Always,
        }
    }

    fn store(&mut self, settings: &mut Settings) {
        let (kind, socket) = (self.text("REDIS_TYPE"), self.text("REDIS_SOCKET_TYPE"));
        let (login, tls) = (self.text("REDIS_AUTH"), self.flag("REDIS_TLS"));
        let Some(url) = self.text("REDIS_URL") else { return };
        if let Some(kind) = kind.filter(|kind| !kind.eq_ignore_ascii_case("single")) {
            let message = format!("{} is not supported yet", show(&kind));
            return self.wrong("REDIS_TYPE", &message, "name one server: REDIS_TYPE=SINGLE");
        }
        let url = match socket.as_deref() {
            Some("unix") => socket_url(&url, login.as_deref()),
            None if url.starts_with('/') => socket_url(&url, login.as_deref()),
            None | Some("tcp") => redis_url(&url, login.as_deref(), tls),
            Some(other) => {
                let message = format!("{} is no kind of socket", show(other));
                return self.wrong("REDIS_SOCKET_TYPE", &message, "write tcp or unix");
            }
        };
        if tls && url.starts_with(SOCKET_SCHEME) {
            let hint = "unset it, or name a server: REDIS_SOCKET_TYPE=tcp and REDIS_URL=HOST:PORT";
            return self.wrong("REDIS_TLS", "there is no TLS on a unix socket", hint);
        }
        match store::parse_url(&url) {
            Ok(url) => settings.store_url = url,
            Err((message, hint)) => self.wrong("REDIS_URL", &message, &hint),
        }
    }

    fn log(&mut self, settings: &mut Settings) {
        if let Some(level) = self.text("LOG_LEVEL") {
            match LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&level)) {
                Some((_, ours)) => settings.log.filter = (*ours).to_owned(),
                None => {
                    let message = format!("{} is no level of logging", show(&level));
                    self.wrong("LOG_LEVEL", &message, "write error, warn, info, debug or trace");
                }
            }
        }
        match self.text("LOG_FORMAT").as_deref() {
            None => {}
            Some("json") => settings.log.format = LogFormat::Json,
            Some("text") => settings.log.format = LogFormat::Text,
            Some(other) => {
                self.wrong("LOG_FORMAT", &format!("{} is no format", show(other)), "write text or json");
            }
        }
    }

    fn folder(&mut self) -> RateLimitFolder {
        let mut path = PathBuf::from(self.text("RUNTIME_ROOT").unwrap_or_else(|| USUAL_ROOT.to_owned()));
        path.extend(self.text("RUNTIME_SUBDIRECTORY"));
        path.push(self.text("RUNTIME_APPDIRECTORY").unwrap_or_else(|| "config".to_owned()));
        let dots = if self.flag("RUNTIME_IGNOREDOTFILES") { DotFiles::Skipped } else { DotFiles::Read };
        let domains = if self.flag("MERGE_DOMAIN_CONFIG") { Domains::Merged } else { Domains::Once };
        RateLimitFolder { path, domains, dots }
    }

    fn options(&mut self) -> RateLimitOptions {
        let usual = TrioNames::default();
        let names = TrioNames {
            limit: self.header("LIMIT_LIMIT_HEADER", usual.limit),
            remaining: self.header("LIMIT_REMAINING_HEADER", usual.remaining),
            reset: self.header("LIMIT_RESET_HEADER", usual.reset),
        };
        let only_itself = self.flag("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT");
        RateLimitOptions {
            headers: self.flag("LIMIT_RESPONSE_HEADERS_ENABLED").then_some(names),
            shadow: self.flag("SHADOW_MODE"),
            quota: self.flag("QUOTA_MODE"),
            metadata: self.flag("RESPONSE_DYNAMIC_METADATA"),
            over_limit: if only_itself { OverLimit::OnlyItself } else { OverLimit::Everything },
        }
    }

    fn header(&mut self, variable: &str, usual: Arc<str>) -> Arc<str> {
        match self.text(variable) {
            None => usual,
            Some(name) if is_header_name(&name) => name.into(),
            Some(name) => {
                let message = format!("{} is not a header's name", show(&name));
                self.wrong(variable, &message, "write a name such as RateLimit-Limit");
                usual
            }
        }
    }

    /// One warning of all that is set in vain.
    fn warn_of_idle(&mut self) {
        let is_idle = |name: &String| {
            IDLE.iter().any(|idle| name.starts_with(idle)) && !HONOURED.contains(&name.as_str())
        };
        let says_the_same = |name: &String| {
            let usual = [("BACKEND_TYPE", "redis"), ("CONFIG_TYPE", "FILE")];
            usual
                .iter()
                .any(|(of, usual)| name == of && self.environment.get(name).is_some_and(|is| is == *usual))
        };
        let mut names: Vec<String> = self.environment.names();
        names.retain(|name| is_idle(name) && !says_the_same(name));
        if names.is_empty() {
            return;
        }
        names.sort();
        let (message, hint) = ("it has no effect here", "docs/envoy/migration.md says what there is instead");
        self.out.warn(elsewhere(Place::Variable(names.join(", ")), Mistake::new("", message, hint)));
    }
}

/// A URL of ours from an address or a URL of theirs.
fn redis_url(url: &str, login: Option<&str>, tls: bool) -> String {
    let scheme = if tls { "rediss" } else { "redis" };
    let (scheme, place) = url.split_once("://").unwrap_or((scheme, url));
    let login = login.filter(|_| !place.contains('@')).map(written);
    format!("{scheme}://{}{place}", login.unwrap_or_default())
}

/// A URL of ours from the path of a socket.
fn socket_url(path: &str, login: Option<&str>) -> String {
    format!("{SOCKET_SCHEME}{}{path}", login.map(written).unwrap_or_default())
}

/// A password, or a user and a password, as a URL begins with them.
fn written(login: &str) -> String {
    match login.split_once(':') {
        Some((user, password)) => format!("{}:{}@", escape(user), escape(password)),
        None => format!(":{}@", escape(login)),
    }
}

/// What a URL can hold between `//` and `@`.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
