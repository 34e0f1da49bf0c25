//! The variables of envoyproxy/ratelimit, so that another image is the whole migration.
//!
//! An explicit list. A variable that is set to nothing is not set. What is known there and has no effect here is named in
//! one warning, so that nobody believes in it.

mod go_duration;
mod idle;
mod redis;

use super::super::diagnostic::{Findings, Place};
use super::super::duration;
use super::super::environment::Environment;
use super::super::envoy::{EnvoyConfig, RateLimitHealth};
use super::super::http::is_header_name;
use super::super::listen::{self, Bind};
use super::super::log::LogFormat;
use super::super::settings::Settings;
use super::super::show;
use super::{Domains, DotFiles, RateLimitFolder};
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::{OverLimit, RateLimitOptions, TrioNames};
use crate::engine::units::Micros;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where that program looks when nobody says otherwise.
const USUAL_ROOT: &str = "/srv/runtime_data/current";
const USUAL_FOLDER: &str = "config";
/// What it serves on.
const USUAL_HOST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
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
/// What the variables say of rate limits.
pub(in super::super) struct Taken {
    /// None: they name no folder.
    path: Option<PathBuf>,
    domains: Domains,
    dots: DotFiles,
    options: RateLimitOptions,
    health: RateLimitHealth,
}

impl Taken {
    /// Lays it over the file's `envoy`, whose folder stays while no variable names one.
    pub(in super::super) fn over(self, envoy: &mut EnvoyConfig) {
        let Self { path, domains, dots, options, health } = self;
        let of_file = envoy.ratelimit_config.take().map(|folder| folder.path);
        let path = path.or(of_file).unwrap_or_else(|| Path::new(USUAL_ROOT).join(USUAL_FOLDER));
        envoy.ratelimit_config = Some(RateLimitFolder { path, domains, dots });
        envoy.ratelimit_options = options;
        envoy.ratelimit_health = health;
    }
}

/// Lays the variables over the file's settings.
pub(in super::super) fn apply(
    environment: &Environment,
    settings: &mut Settings,
    out: &mut Findings<'_>,
) -> Taken {
    let mut reader = Reader { environment, out };
    if let Some((bind, by)) = reader.grpc() {
        settings.listen.grpc = vec![bind];
        settings.listen_by.extend(by.map(|name| (GRPC.key, Place::Variable(name.to_owned()))));
    }
    if let Some((bind, by)) = reader.address(&HTTP) {
        settings.listen.http = vec![bind];
        settings.listen_by.extend(by.map(|name| (HTTP.key, Place::Variable(name.to_owned()))));
    }
    if let Some(age) = reader.connection_age() {
        settings.listen.max_connection_age = age;
    }
    reader.store(settings);
    reader.log(settings);
    // That program never starts without a configuration unless this says so; here it always does.
    reader.flag("FORCE_START_WITHOUT_INITIAL_CONFIG");
    let taken = reader.taken();
    reader.warn_of_idle(taken.options.over_limit);
    taken
}

/// A listener by the variables of its address.
struct Pair {
    key: &'static str,
    host: &'static str,
    port: &'static str,
    usual_port: u16,
}

/// The size of a cache that is not here; whether the original would have one says what is counted.
const LOCAL_CACHE: &str = "LOCAL_CACHE_SIZE_IN_BYTES";

const GRPC: Pair = Pair { key: "listen.grpc", host: "GRPC_HOST", port: "GRPC_PORT", usual_port: 8_081 };
const HTTP: Pair = Pair { key: "listen.http", host: "HOST", port: "PORT", usual_port: 8_080 };

/// An address, and the variable that says so; none: it is the usual one.
type Found = (Bind, Option<&'static str>);

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

    /// Whether the original would remember what is over.
    fn has_local_cache(&mut self) -> bool {
        let Some(bytes) = self.text(LOCAL_CACHE) else { return false };
        bytes.parse::<u64>().map_or_else(
            |_| {
                let message = format!("{} is not a number of bytes", show(&bytes));
                self.wrong(LOCAL_CACHE, &message, "write digits, or leave it out");
                false
            },
            |bytes| bytes > 0,
        )
    }

    fn wrong(&mut self, name: &str, message: &str, hint: &str) {
        self.out.wrong_at(Place::Variable(name.to_owned()), Mistake::new("", message, hint));
    }

    fn grpc(&mut self) -> Option<Found> {
        const SOCKET: &str = "GRPC_UDS";
        let Some(path) = self.text(SOCKET) else { return self.address(&GRPC) };
        match listen::parse_bind(&format!("unix:{path}"), Path::new("")) {
            Ok(bind) => Some((bind, Some(SOCKET))),
            Err((message, hint)) => {
                self.wrong(SOCKET, &message, &hint);
                None
            }
        }
    }

    /// The address that a pair of variables makes; none: they leave it to the file, or are wrong.
    fn address(&mut self, pair: &Pair) -> Option<Found> {
        let (host, port) = (self.text(pair.host), self.text(pair.port));
        let by = match (&host, &port) {
            (_, Some(_)) => Some(pair.port),
            (Some(_), None) => Some(pair.host),
            (None, None) => None,
        };
        if by.is_none() && listen::written(self.out.document(), pair.key).is_some() {
            return None;
        }
        let host = host.map_or(Some(USUAL_HOST), |text| self.host(pair.host, &text));
        let port = port.map_or(Some(pair.usual_port), |text| self.port(pair.port, &text));
        Some((Bind::Tcp(SocketAddr::new(host?, port?)), by))
    }

    fn host(&mut self, name: &str, text: &str) -> Option<IpAddr> {
        let host = match text {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse(),
        };
        host.map_err(|_| {
            let hint =
                "names are not looked up; write 0.0.0.0 or :: for every interface, or one of its addresses";
            self.wrong(name, &format!("{} is not an address", show(text)), hint);
        })
        .ok()
    }

    fn port(&mut self, name: &str, text: &str) -> Option<u16> {
        let wrong =
            |_| self.wrong(name, &format!("{} is not a port", show(text)), "write one number, such as 8080");
        text.parse().map_err(wrong).ok()
    }

    /// How old a connection may become. Nothing, in the words of Go's gRPC, is without an end.
    fn connection_age(&mut self) -> Option<Duration> {
        const AGE: &str = "GRPC_MAX_CONNECTION_AGE";
        let text = self.text(AGE)?;
        let age = go_duration::parse(&text).and_then(|age| match age {
            Micros(0) => Ok(duration::MAX.into()),
            age => listen::check_age(age),
        });
        age.map_err(|(message, hint)| self.wrong(AGE, &message, &hint)).ok()
    }

    fn health(&mut self) -> RateLimitHealth {
        match self.flag("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED") {
            true => RateLimitHealth::WithLimits,
            false => RateLimitHealth::Always,
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

    fn taken(&mut self) -> Taken {
        let dots = if self.flag("RUNTIME_IGNOREDOTFILES") { DotFiles::Skipped } else { DotFiles::Read };
        let domains = if self.flag("MERGE_DOMAIN_CONFIG") { Domains::Merged } else { Domains::Once };
        Taken { path: self.folder(), domains, dots, options: self.options(), health: self.health() }
    }

    /// The folder that any of three variables names.
    fn folder(&mut self) -> Option<PathBuf> {
        let names = ["RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY", "RUNTIME_APPDIRECTORY"];
        let [root, middle, folder] = names.map(|name| self.text(name));
        if root.is_none() && middle.is_none() && folder.is_none() {
            return None;
        }
        let mut path = PathBuf::from(root.as_deref().unwrap_or(USUAL_ROOT));
        path.extend(middle);
        path.push(folder.as_deref().unwrap_or(USUAL_FOLDER));
        Some(path)
    }

    fn options(&mut self) -> RateLimitOptions {
        let usual = TrioNames::default();
        let names = TrioNames {
            limit: self.header("LIMIT_LIMIT_HEADER", usual.limit),
            remaining: self.header("LIMIT_REMAINING_HEADER", usual.remaining),
            reset: self.header("LIMIT_RESET_HEADER", usual.reset),
        };
        let over_limit = match self.flag("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT") {
            true if self.has_local_cache() => OverLimit::NothingOnceOver,
            true => OverLimit::OnlyItself,
            false => OverLimit::Everything,
        };
        RateLimitOptions {
            headers: self.flag("LIMIT_RESPONSE_HEADERS_ENABLED").then_some(names),
            shadow: self.flag("SHADOW_MODE"),
            quota: self.flag("QUOTA_MODE"),
            metadata: self.flag("RESPONSE_DYNAMIC_METADATA"),
            over_limit,
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
}
