//! The configuration: a file, then the environment, then the flags; as written, then as meant.
//!
//! Promise: [`load`] either gives a [`Config`] in which nothing is left to be checked but the contents of key files, or
//! every mistake at once, each with its file, line, column, the line itself and a hint. It opens no socket, writes no
//! file, and does not panic on any bytes.
//!
//! Must never: show a secret, in a message, in `Debug` or in [`Config::redacted`].

mod build;
mod diagnostic;
mod document;
mod duration;
mod environment;
mod envoy;
mod fields;
mod http;
mod listen;
mod locate;
mod log;
mod nearest;
mod policies;
pub mod ratelimit;
mod redacted;
mod routes;
mod settings;
mod several_issuers;
mod size;
mod source;
mod store;
mod syntax;
mod tokens;
mod tree;
mod warnings;

pub use diagnostic::{Diagnostic, Mistakes, Place, Severity};
pub use document::{Excerpt, Position};
pub use environment::Environment;
pub use envoy::{EnvoyConfig, RateLimitHealth};
pub use http::HttpConfig;
pub use listen::{Bind, Listen};
pub use locate::Item;
pub use log::{LogConfig, LogFormat};
pub use settings::Overrides;
pub use source::{Fingerprint, MAX_FILE_BYTES, Names, Source, fingerprint};
pub use store::{MIN_MEMORY, RedisUrl, StoreConfig, StoreKind};

use crate::engine::issuer::{IssuerSpec, KeySource};
use crate::engine::mistake::Mistake;
use crate::engine::policy::PolicySpec;
use crate::engine::policy_set::PolicySet;
use crate::engine::route::RouteSpec;
use diagnostic::{Findings, elsewhere};
use document::Document;
use fields::{Fields, Scope};
use policies::read_list;
use settings::Settings;
use std::path::Path;
use std::sync::Arc;

/// Most policies; each costs every check without names a look.
pub const MAX_POLICIES: usize = 10_000;
/// Most routes; they are tried in order.
pub const MAX_ROUTES: usize = 10_000;
const KEYS: [&str; 8] = ["listen", "threads", "store", "http", "tokens", "policies", "routes", "envoy"];

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the server listens on.
    pub listen: Listen,
    /// Threads that serve; 0: one a core.
    pub threads: usize,
    /// Where state lives.
    pub store: StoreConfig,
    /// The responses, and which headers of a request are believed.
    pub http: HttpConfig,
    /// Whose tokens are good; key material is not read yet.
    pub issuers: Vec<IssuerSpec>,
    /// Policies and routes.
    pub policies: Arc<PolicySet>,
    /// What is logged.
    pub log: LogConfig,
    /// Envoy's protocols.
    pub envoy: EnvoyConfig,
    /// What holds, and probably not as meant.
    pub warnings: Vec<Diagnostic>,
    /// As written, in the order of the file.
    policy_specs: Vec<PolicySpec>,
    routes: Vec<RouteSpec>,
    document: Arc<Document>,
}

/// A check of all issuers by the module that reads their keys: the place of an issuer in the list, and its mistake. It
/// is called for a file that may still be refused, so it must make and change nothing.
pub type IssuerCheck<'c> = &'c dyn Fn(&[IssuerSpec]) -> Vec<(usize, Mistake)>;

/// Loads a configuration, all but the contents of keys checked.
///
/// # Errors
/// Every mistake.
pub fn load(source: &Source) -> Result<Config, Mistakes> {
    load_with(source, &|_| Vec::new())
}

/// Loads a configuration; what `check` finds is reported beside all other mistakes.
///
/// # Errors
/// Every mistake.
pub fn load_with(source: &Source, check: IssuerCheck<'_>) -> Result<Config, Mistakes> {
    let mut document = source::open(source)?;
    let tree::Parsed { root, broken, doubtful_from } = tree::parse(document.text());
    if let Some(root) = root.filter(|root| !root.is_null()) {
        document.set_root(root);
    }
    let document = Arc::new(document);
    let mut out = Findings::new(&document);
    if document.root.is_none() && broken.is_none() {
        out.push(empty(&document));
    }
    let whole = if broken.is_none() { Whole::Yes } else { Whole::No };
    let config = read(source, whole, check, &mut out);
    if let Some(tree::Broken { span, message, hint }) = broken {
        out.forget_from(doubtful_from);
        out.wrong("", &span, Mistake::new("", message, hint));
    }
    let warnings = out.finish()?;
    // Whatever keeps a configuration from being read is a mistake that ended the line above.
    let config = config.map(|config| Config { warnings, document: Arc::clone(&document), ..config });
    config.ok_or_else(|| Mistakes::from(vec![empty(&document)]))
}

/// Whether the tree is the whole file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

impl Config {
    /// A mistake that another module found in an entry, with the file, line and words of our own.
    #[must_use]
    pub fn locate(&self, item: Item, mistake: Mistake) -> Diagnostic {
        locate::diagnostic(&self.document, item, mistake)
    }

    /// The name of the file, as messages have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.document.name
    }

    /// The policies as written, in the order of the file.
    #[must_use]
    pub fn policy_specs(&self) -> &[PolicySpec] {
        &self.policy_specs
    }

    /// The routes as written, in the order of the file.
    #[must_use]
    pub fn route_specs(&self) -> &[RouteSpec] {
        &self.routes
    }

    /// What it holds: `4 policies, 3 routes, 1 issuer`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count =
            |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        [
            count(self.policies.len(), "policy", "policies"),
            count(self.policies.routes().len(), "route", "routes"),
            count(self.issuers.len(), "issuer", "issuers"),
        ]
        .join(", ")
    }

    /// The configuration in force as JSON in the shape of the file, every default written out, no secret.
    #[must_use]
    pub fn redacted(&self) -> String {
        format!("{:#}", redacted::redacted(self))
    }

    /// Files beside the configuration's own whose change is a change of the configuration: keys and key sets.
    pub fn key_files(&self) -> impl Iterator<Item = &Path> {
        self.issuers.iter().filter_map(|issuer| match &issuer.key {
            KeySource::File { path, .. } | KeySource::JwksFile(path) => Some(path.as_path()),
            KeySource::Env { .. } | KeySource::JwksUrl(_) => None,
        })
    }

    /// Keys that `new` changes and that only take effect at the next start.
    #[must_use]
    pub fn restart_needed(&self, new: &Self) -> Vec<&'static str> {
        let dir = |config: &Self| match &config.store.kind {
            StoreKind::Memory { data_dir } => data_dir.clone(),
            StoreKind::Redis { .. } => None,
        };
        let url = |config: &Self| match &config.store.kind {
            StoreKind::Memory { .. } => None,
            StoreKind::Redis { url } => Some(url.clone()),
        };
        [
            ("listen.grpc", self.listen.grpc != new.listen.grpc),
            ("listen.http", self.listen.http != new.listen.http),
            ("listen.admin", self.listen.admin != new.listen.admin),
            ("listen.max_connection_age", self.listen.max_connection_age != new.listen.max_connection_age),
            ("threads", self.threads != new.threads),
            ("store.url", url(self) != url(new)),
            ("store.data_dir", url(self) == url(new) && dir(self) != dir(new)),
            ("store.timeout", self.store.timeout != new.store.timeout),
            ("store.start_grace", self.store.start_grace != new.store.start_grace),
            ("store.replicas", self.store.replicas != new.store.replicas),
            ("store.max_memory", self.store.max_memory != new.store.max_memory),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }

    /// What a reload from this configuration to `new` changes that nobody may expect, each with a code.
    #[must_use]
    pub fn changed_meaning(&self, new: &Self) -> Option<String> {
        several_issuers::between(self, new)
    }
}

/// Both passes over a tree; nothing when there is a mistake.
fn read(source: &Source, whole: Whole, check: IssuerCheck<'_>, out: &mut Findings<'_>) -> Option<Config> {
    let document = out.document();
    let mut settings = Settings::default();
    let root = document.root.as_ref().and_then(|root| Fields::read(root, Scope::ROOT, &KEYS, out));
    if let Some(root) = &root {
        read_settings(root, &mut settings, out);
    }
    let taken = source.take_names(&mut settings, out);
    settings.apply_environment(&source.environment, out);
    settings.apply_flags(&source.overrides, out);
    // Of half a file nobody knows what the layers add up to.
    if whole == Whole::Yes {
        settings.check_together(out);
    }
    let root = root?;
    let http = root.get("http").map_or_else(HttpConfig::default, |node| http::read(node, out));
    let mut envoy = root.get("envoy").map_or_else(EnvoyConfig::default, |node| envoy::read(node, out));
    if let Some(taken) = taken {
        taken.over(&mut envoy);
    }
    let tokens = tokens::read_all(&root, &source.environment, out);
    let policies = read_list(&root, "policies", MAX_POLICIES, out, policies::read);
    let routes = read_list(&root, "routes", MAX_ROUTES, out, routes::read);
    let store = settings.store();
    if whole == Whole::Yes {
        tokens::check_store(&tokens, &store.kind, out);
    }
    tokens::check_with(&tokens, check, out);
    let is_lost = |key: &str, read: usize| whole == Whole::No || read < written(&root, key);
    let parts = build::Parts {
        policies: &policies,
        routes: &routes,
        tokens: &tokens,
        policies_lost: is_lost("policies", policies.len()),
        tokens_lost: is_lost("tokens", tokens.len()),
    };
    let set = build::build(&parts, out);
    if out.count() > 0 || whole == Whole::No {
        return None;
    }
    let config = Config {
        listen: settings.listen,
        threads: settings.threads,
        store,
        http,
        issuers: tokens.into_iter().map(|entry| entry.spec).collect(),
        policies: Arc::new(set),
        log: settings.log,
        envoy,
        warnings: Vec::new(),
        policy_specs: policies.into_iter().map(|entry| entry.spec).collect(),
        routes: routes.into_iter().map(|entry| entry.spec).collect(),
        document: Arc::default(),
    };
    warnings::warn(&config, out);
    Some(config)
}

/// How many entries a section has as written.
fn written(root: &Fields<'_>, key: &str) -> usize {
    match root.get(key).map(|node| &node.value) {
        Some(tree::Value::List(items)) => items.len(),
        Some(_) => 1,
        None => 0,
    }
}

/// The sections that environment and flags can replace.
fn read_settings(root: &Fields<'_>, settings: &mut Settings, out: &mut Findings<'_>) {
    if let Some(node) = root.get("listen") {
        listen::read(node, settings, out);
    }
    read_threads(root, settings, out);
    if let Some(node) = root.get("store") {
        store::read(node, settings, out);
    }
}

fn read_threads(root: &Fields<'_>, settings: &mut Settings, out: &mut Findings<'_>) {
    if let (Some(node), Some(text)) = (root.get("threads"), root.text("threads", out)) {
        match listen::parse_threads(&text) {
            Ok(threads) => settings.threads = threads,
            Err(wrong) => root.wrong("threads", node, wrong, out),
        }
    }
}

fn empty(document: &Document) -> Diagnostic {
    let place = Place::File { name: document.name.clone(), position: None };
    let hint = "begin with config/quotad.yaml as shipped; `policies:` is what a configuration is for";
    elsewhere(place, Mistake::new("", "the file is empty", hint))
}

/// A text of the file in a message: quoted, cut when it is long.
fn show(text: &str) -> String {
    format!("`{}`", clip(text).escape_debug())
}

fn clip(text: &str) -> String {
    const MOST: usize = 80;
    let mut clipped: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        clipped.push('…');
    }
    clipped
}
