//! What three layers set, each over the one before: the file, the environment, the flags.
//!
//! An explicit list. A value that does not parse is a mistake of its own variable or flag, also when a later layer
//! would have replaced it: what is wrong is said, not hidden.

use super::diagnostic::{Findings, Place};
use super::environment::Environment;
use super::fields::choice;
use super::listen::{self, Listen};
use super::log::{self, LogConfig};
use super::nearest::nearest;
use super::store::{self, RedisUrl, StoreConfig, StoreKind};
use crate::engine::mistake::Mistake;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A store's URL, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreUrl {
    Memory,
    Redis(RedisUrl),
}

/// The values so far.
pub(super) struct Settings {
    pub(super) listen: Listen,
    /// Which variable or flag a key of `listen` is from; without one it is the file's or the default.
    pub(super) listen_by: BTreeMap<&'static str, Place>,
    pub(super) threads: usize,
    pub(super) store_url: StoreUrl,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) store_timeout: Duration,
    pub(super) start_grace: Duration,
    pub(super) replicas: Option<NonZeroU64>,
    pub(super) max_memory: Option<u64>,
    pub(super) log: LogConfig,
}

/// Flags of the command line, as typed; none: not given.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--listen`, repeated: the decision service's addresses.
    pub listen: Vec<String>,
    /// `--http`: where HTTP/1.1 is served; empty: nowhere.
    pub http: Option<String>,
    /// `--admin`: the admin service's address; empty: not served.
    pub admin: Option<String>,
    /// `--threads`.
    pub threads: Option<String>,
    /// `--store`: a URL.
    pub store: Option<String>,
    /// `--data-dir`; empty: nowhere.
    pub data_dir: Option<String>,
    /// `--store-timeout`.
    pub store_timeout: Option<String>,
    /// `--log`: a level, or `target=level` with commas.
    pub log: Option<String>,
    /// `--log-format`: text or json.
    pub log_format: Option<String>,
}

impl std::fmt::Debug for Overrides {
    /// A URL may hold a password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Overrides").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// What can be set outside the file.
#[derive(Clone, Copy)]
enum Setting {
    ListenGrpc,
    ListenHttp,
    ListenAdmin,
    Threads,
    StoreUrl,
    DataDir,
    StoreTimeout,
    Log,
    LogFormat,
}

/// The variables, in the order of the documentation. `QUOTAD_CONFIG`, which names the file, is the source's.
const VARIABLES: [(&str, Setting); 9] = [
    ("QUOTAD_LISTEN_GRPC", Setting::ListenGrpc),
    ("QUOTAD_LISTEN_HTTP", Setting::ListenHttp),
    ("QUOTAD_LISTEN_ADMIN", Setting::ListenAdmin),
    ("QUOTAD_THREADS", Setting::Threads),
    ("QUOTAD_STORE_URL", Setting::StoreUrl),
    ("QUOTAD_STORE_DATA_DIR", Setting::DataDir),
    ("QUOTAD_STORE_TIMEOUT", Setting::StoreTimeout),
    ("QUOTAD_LOG", Setting::Log),
    ("QUOTAD_LOG_FORMAT", Setting::LogFormat),
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            listen_by: BTreeMap::new(),
            threads: 0,
            store_url: StoreUrl::Memory,
            data_dir: None,
            store_timeout: Duration::from_millis(5),
            start_grace: store::START_GRACE,
            replicas: None,
            max_memory: None,
            log: LogConfig::default(),
        }
    }
}

impl Settings {
    /// Lays the environment over the file.
    pub(super) fn apply_environment(&mut self, environment: &Environment, out: &mut Findings<'_>) {
        for (name, setting) in VARIABLES {
            let Some(value) = environment.get(name) else { continue };
            match value.into_string() {
                Ok(text) => self.apply(setting, &text, Place::Variable(name.to_owned()), out),
                Err(_) => {
                    let mistake = Mistake::new(setting.key(), "the value is not UTF-8", "write plain text");
                    out.wrong_at(Place::Variable(name.to_owned()), mistake);
                }
            }
        }
        let mut known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
        known.push(super::source::CONFIG_VARIABLE);
        for name in environment.ours() {
            // Others are left alone: an orchestrator sets QUOTAD_SERVICE_HOST and the like by itself.
            if let Some(meant) = nearest_variable(&name, &known) {
                let mistake = Mistake::new("", "it has no effect", format!("did you mean {meant}?"));
                out.warn(super::diagnostic::elsewhere(Place::Variable(name), mistake));
            }
        }
    }

    /// Lays the flags over all.
    pub(super) fn apply_flags(&mut self, flags: &Overrides, out: &mut Findings<'_>) {
        let listen = (!flags.listen.is_empty()).then(|| flags.listen.join(","));
        let given = [
            ("--listen", Setting::ListenGrpc, &listen),
            ("--http", Setting::ListenHttp, &flags.http),
            ("--admin", Setting::ListenAdmin, &flags.admin),
            ("--threads", Setting::Threads, &flags.threads),
            ("--store", Setting::StoreUrl, &flags.store),
            ("--data-dir", Setting::DataDir, &flags.data_dir),
            ("--store-timeout", Setting::StoreTimeout, &flags.store_timeout),
            ("--log", Setting::Log, &flags.log),
            ("--log-format", Setting::LogFormat, &flags.log_format),
        ];
        for (flag, setting, text) in given {
            if let Some(text) = text {
                self.apply(setting, text, Place::Flag(flag), out);
            }
        }
    }

    /// Sets one value; names of files are relative to the working directory.
    fn apply(&mut self, setting: Setting, text: &str, place: Place, out: &mut Findings<'_>) {
        let set = match setting {
            Setting::ListenGrpc => {
                listen::parse_list(text, Path::new("")).map(|binds| self.listen.grpc = binds)
            }
            Setting::ListenHttp if text.is_empty() => {
                self.listen.http = Vec::new();
                Ok(())
            }
            Setting::ListenHttp => {
                listen::parse_list(text, Path::new("")).map(|binds| self.listen.http = binds)
            }
            Setting::ListenAdmin if text.is_empty() => {
                self.listen.admin = None;
                Ok(())
            }
            Setting::ListenAdmin => listen::parse_tcp(text).map(|admin| self.listen.admin = Some(admin)),
            Setting::Threads => listen::parse_threads(text).map(|threads| self.threads = threads),
            Setting::StoreUrl => store::parse_url(text).map(|url| self.store_url = url),
            Setting::DataDir => {
                self.data_dir = (!text.is_empty()).then(|| PathBuf::from(text));
                Ok(())
            }
            Setting::StoreTimeout => super::duration::parse(text)
                .and_then(store::check_timeout)
                .map(|timeout| self.store_timeout = timeout),
            Setting::Log => log::parse_filter(text).map(|filter| self.log.filter = filter),
            Setting::LogFormat => choice(text, &log::FORMATS).map(|format| self.log.format = format),
        };
        match set {
            Ok(()) if matches!(setting, Setting::ListenGrpc | Setting::ListenHttp | Setting::ListenAdmin) => {
                self.listen_by.insert(setting.key(), place);
            }
            Ok(()) => {}
            Err((message, hint)) => out.wrong_at(place, Mistake::new(setting.key(), message, hint)),
        }
    }

    /// What only the layers together can get wrong: two listeners on one address, after each layer was right by itself.
    pub(super) fn check_together(&self, out: &mut Findings<'_>) {
        if out.count() > 0 {
            return;
        }
        let Some((key, (message, hint))) = self.listen.clash() else { return };
        let mistake = Mistake::new(key, message, hint);
        match (self.listen_by.get(key), listen::written(out.document(), key)) {
            (Some(place), _) => out.wrong_at(place.clone(), mistake),
            (None, Some(node)) => out.wrong("", &node.span, mistake),
            // A default in the way of what somebody said.
            (None, None) => {
                let file = || Place::File { name: out.document().name.clone(), position: None };
                let place = self.listen_by.values().next().cloned().unwrap_or_else(file);
                out.wrong_at(place, mistake);
            }
        }
    }

    /// The store that the layers add up to.
    pub(super) fn store(&self) -> StoreConfig {
        let kind = match &self.store_url {
            StoreUrl::Memory => StoreKind::Memory { data_dir: self.data_dir.clone() },
            StoreUrl::Redis(url) => StoreKind::Redis { url: url.clone() },
        };
        StoreConfig {
            kind,
            timeout: self.store_timeout,
            start_grace: self.start_grace,
            replicas: self.replicas,
            max_memory: self.max_memory,
        }
    }
}

/// A variable of ours that another is a slip of.
fn nearest_variable<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let tail = |name: &'k str| name.strip_prefix("QUOTAD_").unwrap_or(name);
    if known.contains(&name) {
        return None;
    }
    let lower: Vec<String> = known.iter().map(|name| tail(name).to_ascii_lowercase()).collect();
    let words: Vec<&str> = lower.iter().map(String::as_str).collect();
    let meant = nearest(name.strip_prefix("QUOTAD_")?, &words)?;
    known.iter().find(|known| tail(known).eq_ignore_ascii_case(meant)).copied()
}

impl Setting {
    /// The key of the file that it replaces.
    fn key(self) -> &'static str {
        match self {
            Self::ListenGrpc => "listen.grpc",
            Self::ListenHttp => "listen.http",
            Self::ListenAdmin => "listen.admin",
            Self::Threads => "threads",
            Self::StoreUrl => "store.url",
            Self::DataDir => "store.data_dir",
            Self::StoreTimeout => "store.timeout",
            Self::Log => "log",
            Self::LogFormat => "log format",
        }
    }
}
