//! `tokens`, as written: each entry becomes an [`IssuerSpec`]. What its keys and claims must look like is the token
//! module's to check; it shows its mistakes through [`super::Config::locate`].
//!
//! Must never: put the value of a variable, or what may be one, into a message.

use super::diagnostic::Findings;
use super::environment::{Environment, is_name};
use super::fields::{Fields, Scope, text};
use super::policies::{Read, read_list, set};
use super::store::StoreKind;
use super::tree::Node;
use super::{IssuerCheck, show};
use crate::engine::issuer::{IssuerSpec, KeySource, OnRevocationError, Secret, TokenSource};
use crate::engine::mistake::Mistake;

/// Most issuers; every token is tried against a map of them, so the bound is one of sense.
const MAX_ISSUERS: usize = 100;
/// The words for a revocation that cannot be read.
pub(super) const ON_STORE_ERROR: [(&str, OnRevocationError); 2] =
    [("deny", OnRevocationError::Deny), ("allow", OnRevocationError::Allow)];
const KEYS: [&str; 14] = [
    "name",
    "issuer",
    "algorithms",
    "key",
    "require",
    "types",
    "type_claim",
    "audience",
    "leeway",
    "max_lifetime",
    "from",
    "revoked_key",
    "revocation_cache",
    "on_store_error",
];
const KEY_SOURCES: [&str; 5] = ["file", "env", "jwks_file", "jwks_url", "generate"];
const KEY_HINT: &str = "write key: {file: FILE}, {env: NAME}, {jwks_file: FILE} or {jwks_url: https://...}";

/// Reads the list.
pub(super) fn read_all(
    root: &Fields<'_>,
    environment: &Environment,
    out: &mut Findings<'_>,
) -> Vec<Read<IssuerSpec>> {
    let mut list = read_list(root, "tokens", MAX_ISSUERS, out, |node, subject, out| {
        read(node, subject, environment, out)
    });
    for at in 1..list.len() {
        let (earlier, rest) = list.split_at_mut(at);
        let Some(entry) = rest.first_mut() else { continue };
        let twice = if earlier.iter().any(|other| other.spec.name == entry.spec.name) {
            ("name", &entry.spec.name, "each entry needs a name of its own")
        } else if earlier.iter().any(|other| other.spec.issuer == entry.spec.issuer) {
            ("issuer", &entry.spec.issuer, "an issuer has one entry; put its keys into one set")
        } else {
            continue;
        };
        let mistake = Mistake::new(twice.0, format!("{} stands twice", show(twice.1)), twice.2);
        super::locate::report(super::Item::Token(entry.index), &entry.subject, mistake, out);
        entry.broken = true;
    }
    list
}

/// Whether an application's own revocation keys can be read.
pub(super) fn check_store(list: &[Read<IssuerSpec>], store: &StoreKind, out: &mut Findings<'_>) {
    if matches!(store, StoreKind::Redis { .. }) {
        return;
    }
    for entry in list.iter().filter(|entry| entry.spec.revoked_key.is_some()) {
        let mistake = Mistake::new(
            "revoked_key",
            "the embedded store has no keys of an application",
            "remove revoked_key, or write store.url: redis://... of the Redis that the application uses",
        );
        super::locate::report(super::Item::Token(entry.index), &entry.subject, mistake, out);
    }
}

/// What the token module has to say of the entries that are good so far.
pub(super) fn check_with(list: &[Read<IssuerSpec>], check: IssuerCheck<'_>, out: &mut Findings<'_>) {
    let sound: Vec<&Read<IssuerSpec>> = list.iter().filter(|entry| !entry.broken).collect();
    let specs: Vec<IssuerSpec> = sound.iter().map(|entry| entry.spec.clone()).collect();
    for (at, mistake) in check(&specs) {
        if let Some(entry) = sound.get(at) {
            super::locate::report(super::Item::Token(entry.index), &entry.subject, mistake, out);
        }
    }
}

fn read(node: &Node, subject: &str, environment: &Environment, out: &mut Findings<'_>) -> Option<IssuerSpec> {
    let fields = Fields::read(node, Scope { subject, prefix: "" }, &KEYS, out)?;
    let issuer = fields.required("issuer", "write the `iss` claim of its tokens", out);
    let name = fields.text("name", out).or_else(|| issuer.clone());
    let key = read_key(&fields, environment, out);
    let placeholder = KeySource::JwksFile(std::path::PathBuf::new());
    let mut spec = IssuerSpec::named(
        name.unwrap_or_default(),
        issuer.clone().unwrap_or_default(),
        key.unwrap_or(placeholder),
    );
    set(&mut spec.algorithms, fields.texts("algorithms", out));
    set(&mut spec.require, fields.texts("require", out));
    set(&mut spec.types, fields.texts("types", out));
    set(&mut spec.type_claim, fields.text("type_claim", out));
    set(&mut spec.audience, fields.texts("audience", out));
    set(&mut spec.leeway, fields.duration("leeway", out));
    set(&mut spec.max_lifetime, fields.duration("max_lifetime", out));
    set(&mut spec.from, read_from(&fields, out));
    spec.revoked_key = fields.text("revoked_key", out);
    set(&mut spec.revocation_cache, fields.duration("revocation_cache", out));
    set(&mut spec.on_store_error, fields.choice("on_store_error", &ON_STORE_ERROR, out));
    issuer.map(|_| spec)
}

/// `key`: exactly one source. A mistake has been reported when there is none.
fn read_key(fields: &Fields<'_>, environment: &Environment, out: &mut Findings<'_>) -> Option<KeySource> {
    let Some(node) = fields.get("key") else {
        fields.missing("key", KEY_HINT, out);
        return None;
    };
    if text(node).is_ok() {
        // The text may be the secret itself, so it is not repeated.
        let message = "a key is never written into this file".to_owned();
        fields.wrong("key", node, (message, KEY_HINT.to_owned()), out);
        return None;
    }
    let scope = Scope { subject: fields.subject(), prefix: "key." };
    let key = Fields::read(node, scope, &KEY_SOURCES, out)?;
    let sources: Vec<&str> =
        KEY_SOURCES.into_iter().filter(|source| *source != "generate" && key.get(source).is_some()).collect();
    let [source] = sources.as_slice() else {
        let message = match sources.as_slice() {
            [] => "the key has no source".to_owned(),
            two => format!("the key has more than one source: {}", two.join(", ")),
        };
        fields.wrong("key", node, (message, KEY_HINT.to_owned()), out);
        return None;
    };
    let generate = key.switch("generate", out);
    if let (Some(_), Some(entry), false) = (generate, key.get("generate"), *source == "file") {
        let wrong =
            ("only a file can be generated", "remove generate, or write {file: FILE, generate: true}");
        key.wrong("generate", entry, (wrong.0.to_owned(), wrong.1.to_owned()), out);
    }
    let folder = out.document().folder.clone();
    match *source {
        "file" => {
            let path = folder.join(key.text("file", out)?);
            Some(KeySource::File { path, generate: generate.unwrap_or(false) })
        }
        "jwks_file" => key.text("jwks_file", out).map(|file| KeySource::JwksFile(folder.join(file))),
        "jwks_url" => read_url(&key, out),
        _ => read_env(&key, environment, out),
    }
}

fn read_url(key: &Fields<'_>, out: &mut Findings<'_>) -> Option<KeySource> {
    let url = key.text("jwks_url", out)?;
    let host = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    let why = match host {
        None => "a key set is fetched over https only",
        Some(host) if host.contains('@') => "a key set is public: its URL has no user or password",
        Some(host) if host.is_empty() || url.contains(char::is_whitespace) => "this is no https URL",
        Some(_) => return Some(KeySource::JwksUrl(url)),
    };
    if let Some(node) = key.get("jwks_url") {
        let hint = "write https://HOST/.well-known/jwks.json".to_owned();
        key.wrong("jwks_url", node, (why.to_owned(), hint), out);
    }
    None
}

fn read_env(key: &Fields<'_>, environment: &Environment, out: &mut Findings<'_>) -> Option<KeySource> {
    let name = key.text("env", out)?;
    // Bytes, not text: a secret is what it is.
    let value = environment.get(&name).map(|value| value.as_encoded_bytes().to_vec());
    let (why, hint) = match value {
        Some(value) if !value.is_empty() => {
            return Some(KeySource::Env { name, value: Secret(value) });
        }
        _ if !is_name(&name) => (
            "this is not the name of an environment variable that is set".to_owned(),
            "env takes a name such as TOKEN_KEY, never the key itself".to_owned(),
        ),
        Some(_) => (format!("the environment variable {name} is empty"), "give it the key".to_owned()),
        None => {
            (format!("the environment variable {name} is not set"), format!("set {name} before the start"))
        }
    };
    if let Some(node) = key.get("env") {
        key.wrong("env", node, (why, hint), out);
    }
    None
}

fn read_from(fields: &Fields<'_>, out: &mut Findings<'_>) -> Option<Vec<TokenSource>> {
    let items = fields.list("from", out)?;
    let mut sources: Vec<TokenSource> = Vec::new();
    for item in items {
        match text(item).and_then(parse_source) {
            Ok(source) if sources.contains(&source) => {
                let wrong = ("this source stands twice".to_owned(), "name each source once".to_owned());
                fields.wrong("from", item, wrong, out);
            }
            Ok(source) => sources.push(source),
            Err(wrong) => fields.wrong("from", item, wrong, out),
        }
    }
    if let (true, Some(list)) = (items.is_empty(), fields.get("from")) {
        let wrong = ("a token that comes from nowhere is never found", "write [authorization]");
        fields.wrong("from", list, (wrong.0.to_owned(), wrong.1.to_owned()), out);
    }
    Some(sources)
}

fn parse_source(text: &str) -> Result<TokenSource, (String, String)> {
    let hint = || "write authorization, cookie:NAME or query:NAME".to_owned();
    match text.split_once(':') {
        None if text == "authorization" => Ok(TokenSource::Authorization),
        Some(("cookie" | "query", "")) => Err((format!("{} has no name", show(text)), hint())),
        // The names of cookies are tokens as those of headers are (RFC 6265 section 4.1.1).
        Some(("cookie", name)) if super::http::is_header_name(name) => {
            Ok(TokenSource::Cookie(name.to_owned()))
        }
        Some(("query", name)) if !name.contains(['&', '=', '#', ' ']) => {
            Ok(TokenSource::Query(name.to_owned()))
        }
        Some(("cookie" | "query", _)) => Err((format!("{} has no name of that kind", show(text)), hint())),
        _ => Err((format!("{} is no place that a token comes from", show(text)), hint())),
    }
}
