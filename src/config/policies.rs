//! `policies`, as written: each entry becomes a [`PolicySpec`] for the engine to check.

use super::diagnostic::Findings;
use super::fields::{Fields, Scope};
use super::tree::{Node, Value};
use crate::engine::address::IpPrefix;
use crate::engine::mistake::Mistake;
use crate::engine::policy::{OnStoreError, PolicySpec, check_entry_name};
use crate::engine::rule::Algorithm;
use crate::engine::units::Micros;

/// The words for an algorithm.
pub(super) const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sliding_window", Algorithm::SlidingWindow),
    ("token_bucket", Algorithm::TokenBucket),
    ("fixed_window", Algorithm::FixedWindow),
    ("concurrency", Algorithm::Concurrency),
];
/// The words for what happens without a store.
pub(super) const ON_STORE_ERROR: [(&str, OnStoreError); 4] = [
    ("local", OnStoreError::Local),
    ("deny", OnStoreError::Deny),
    ("allow", OnStoreError::Allow),
    ("error", OnStoreError::Error),
];
const KEYS: [&str; 14] = [
    "name",
    "domain",
    "match",
    "partition",
    "algorithm",
    "limit",
    "window",
    "burst",
    "cost",
    "lease_ttl",
    "lease_entry",
    "shadow",
    "on_store_error",
    "ip_prefix",
];

/// An entry of a list, read.
pub(super) struct Read<T> {
    /// Its place in the list, from 0.
    pub(super) index: usize,
    /// `policies[1] (ai-per-user)`.
    pub(super) subject: String,
    /// What it says, defaults in the place of what is wrong.
    pub(super) spec: T,
    /// Whether a mistake was found in it.
    pub(super) broken: bool,
}

/// The words for an entry of a list: its place, and its name when it has one.
pub(super) fn subject(list: &str, index: usize, node: &Node) -> String {
    match node.get("name").map(|entry| &entry.value.value) {
        Some(Value::Scalar { text, .. }) if !text.is_empty() => {
            format!("{list}[{index}] ({})", text.chars().take(64).collect::<String>())
        }
        _ => format!("{list}[{index}]"),
    }
}

/// The entries of a list that are maps, each read by `read`; a list that is too long is refused whole.
pub(super) fn read_list<T>(
    fields: &Fields<'_>,
    key: &'static str,
    most: usize,
    out: &mut Findings<'_>,
    read: impl Fn(&Node, &str, &mut Findings<'_>) -> Option<T>,
) -> Vec<Read<T>> {
    let Some(items) = fields.list(key, out) else { return Vec::new() };
    if items.len() > most {
        if let Some(list) = fields.get(key) {
            let message = format!("{} entries are too many", items.len());
            fields.wrong(key, list, (message, format!("at most {most}")), out);
        }
        return Vec::new();
    }
    let mut list = Vec::with_capacity(items.len());
    for (index, node) in items.iter().enumerate() {
        let subject = subject(key, index, node);
        let before = out.count();
        if let Some(spec) = read(node, &subject, out) {
            list.push(Read { index, subject, spec, broken: out.count() > before });
        }
    }
    list
}

/// Reads an entry; nothing when it is no map or has no name.
pub(super) fn read(node: &Node, subject: &str, out: &mut Findings<'_>) -> Option<PolicySpec> {
    let fields = Fields::read(node, Scope { subject, prefix: "" }, &KEYS, out)?;
    let name = fields.required("name", "every policy has a name: counters follow it", out);
    let mut spec = PolicySpec::named(name.clone().unwrap_or_default());
    set(&mut spec.domain, fields.text("domain", out));
    for (entry, value) in fields.pairs("match", out).unwrap_or_default() {
        match value {
            Some(value) => spec.conditions.push((entry.key.text.clone(), value)),
            None => {
                let field = format!("match.{}", entry.key.text);
                let hint = "write the value, or \"\" for an empty one";
                out.wrong(subject, &entry.key.span, Mistake::new(field, "the condition is missing", hint));
            }
        }
    }
    set(&mut spec.partition, fields.texts("partition", out));
    set(&mut spec.algorithm, fields.choice("algorithm", &ALGORITHMS, out));
    // What stands there and cannot be read has been reported; called missing too, it would be reported twice.
    spec.limit = fields.number("limit", out).or(fields.entry("limit").map(|_| 1));
    spec.window = fields.duration("window", out).or(fields.entry("window").map(|_| Micros::from_seconds(60)));
    spec.burst = fields.number("burst", out);
    set(&mut spec.cost, fields.number("cost", out));
    set(&mut spec.lease_ttl, fields.duration("lease_ttl", out));
    set(&mut spec.lease_entry, fields.text("lease_entry", out));
    if let (Some(node), Err(mistake)) =
        (fields.get("lease_entry"), check_entry_name("lease_entry", &spec.lease_entry))
    {
        out.wrong(subject, &node.span, mistake);
    }
    set(&mut spec.shadow, fields.switch("shadow", out));
    set(&mut spec.on_store_error, fields.choice("on_store_error", &ON_STORE_ERROR, out));
    if let Some(node) = fields.written("ip_prefix", out) {
        read_prefix(node, subject, &mut spec.ip_prefix, out);
    }
    name.map(|_| spec)
}

fn read_prefix(node: &Node, subject: &str, prefix: &mut IpPrefix, out: &mut Findings<'_>) {
    let scope = Scope { subject, prefix: "ip_prefix." };
    let Some(fields) = Fields::read(node, scope, &["v4", "v6"], out) else { return };
    // What does not fit a byte is beyond every prefix, so the engine refuses it in its own words.
    let bits = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    set(&mut prefix.v4, fields.number("v4", out).map(bits));
    set(&mut prefix.v6, fields.number("v6", out).map(bits));
}

/// Replaces a default by what was written.
pub(super) fn set<T>(default: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *default = written;
    }
}
