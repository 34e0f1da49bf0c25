//! A policy: which requests, how much, by which algorithm, and what happens without a store.

use super::address::{IpPrefix, parse_ip};
use super::bucket::Bucket;
use super::fixed::Fixed;
use super::key::Key;
use super::leases::Leases;
use super::matcher::Matcher;
use super::mistake::Mistake;
use super::name::{DEFAULT_DOMAIN, check_name};
use super::rule::{Algorithm, Rule};
use super::units::Micros;
use super::window::Window;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// Most units of a limit, a burst or a cost.
pub const MAX_UNITS: u64 = 4_294_967_295;
/// Most entries of a partition or a match.
pub const MAX_ENTRIES: usize = 8;
const MIN_WINDOW: Micros = Micros(1_000);
const MAX_WINDOW: Micros = Micros(366 * 86_400 * 1_000_000);
const MIN_TTL: Micros = Micros::SECOND;
const MAX_TTL: Micros = Micros(86_400 * 1_000_000);
/// Longest that a bucket may take to fill; keeps its arithmetic far inside 2^53.
const MAX_FILL: u64 = 10 * 366 * 86_400 * 1_000_000;

/// What a policy does while the store cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// Enforce in this process, at this replica's share of the limit.
    #[default]
    Local,
    /// Deny.
    Deny,
    /// Allow.
    Allow,
    /// Answer with an error; the caller decides.
    Error,
}

/// A policy as meant by the configuration, not yet checked.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// Its identity within the domain.
    pub name: String,
    /// The domain.
    pub domain: String,
    /// Conditions on entries, all of which must hold.
    pub conditions: Vec<(String, String)>,
    /// Entries whose values each get a counter.
    pub partition: Vec<String>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Units a window, or leases.
    pub limit: u64,
    /// The window.
    pub window: Micros,
    /// Token bucket: the most at once.
    pub burst: Option<u64>,
    /// Units of a request.
    pub cost: u64,
    /// Concurrency: the life of a lease.
    pub lease_ttl: Micros,
    /// Concurrency through a rate limit protocol: the entry with the lease id.
    pub lease_entry: String,
    /// Counted, never denies.
    pub shadow: bool,
    /// Without a store.
    pub on_store_error: OnStoreError,
    /// How an `ip` entry is cut.
    pub ip_prefix: IpPrefix,
}

impl PolicySpec {
    /// The defaults of every key.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: DEFAULT_DOMAIN.to_owned(),
            conditions: Vec::new(),
            partition: Vec::new(),
            algorithm: Algorithm::SlidingWindow,
            limit: 100,
            window: Micros::from_seconds(60),
            burst: None,
            cost: 1,
            lease_ttl: Micros::from_seconds(30),
            lease_entry: "lease".to_owned(),
            shadow: false,
            on_store_error: OnStoreError::Local,
            ip_prefix: IpPrefix::default(),
        }
    }
}

/// Facts about a request: what entries resolve to.
pub trait Facts {
    /// The value of an entry, if the request has it.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// A checked policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its identity within the domain.
    pub name: Arc<str>,
    /// The domain.
    pub domain: Arc<str>,
    /// How it counts.
    pub rule: Rule,
    /// Units of a request that names no cost; at least 1.
    pub cost: u32,
    /// Counted, never denies.
    pub shadow: bool,
    /// Without a store.
    pub on_store_error: OnStoreError,
    /// Concurrency through a rate limit protocol: the entry with the lease id.
    pub lease_entry: Arc<str>,
    conditions: Vec<(Box<str>, Matcher)>,
    partition: Vec<Box<str>>,
    ip_prefix: IpPrefix,
    policy_field: Arc<str>,
}

/// Why a policy has no counter for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// This entry is missing or empty.
    Missing(Box<str>),
    /// The `ip` entry is no address.
    NoAddress,
}

impl Policy {
    /// Checks a policy.
    ///
    /// # Errors
    /// Every mistake, each with its field.
    pub fn build(spec: PolicySpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        mistakes.extend(check_name("name", &spec.name).err());
        mistakes.extend(check_name("domain", &spec.domain).err());
        let rule = build_rule(&spec, &mut mistakes);
        let conditions = build_conditions(&spec, &mut mistakes);
        check_partition(&spec, &mut mistakes);
        check_cost(&spec, &rule, &mut mistakes);
        check_prefix(spec.ip_prefix, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let policy_field = policy_field(&spec.name, &rule);
        Ok(Self {
            name: spec.name.into(),
            domain: spec.domain.into(),
            rule,
            cost: u32::try_from(spec.cost).unwrap_or(u32::MAX),
            shadow: spec.shadow,
            on_store_error: spec.on_store_error,
            lease_entry: spec.lease_entry.into(),
            conditions,
            partition: spec.partition.into_iter().map(Into::into).collect(),
            ip_prefix: spec.ip_prefix,
            policy_field: policy_field.into(),
        })
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn matches(&self, facts: &impl Facts) -> bool {
        self.conditions
            .iter()
            .all(|(name, matcher)| facts.get(name).is_some_and(|value| matcher.matches(&value)))
    }

    /// The counter of a request.
    ///
    /// # Errors
    /// A partition entry is missing or empty, or an `ip` entry is no address: never a shared counter.
    pub fn key(&self, facts: &impl Facts) -> Result<Key, NoKey> {
        let mut values: SmallVec<[(&str, Cow<'_, str>); 2]> = SmallVec::new();
        for name in &self.partition {
            let value = facts.get(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| NoKey::Missing(name.clone()))?;
            let value = if **name == *"ip" {
                Cow::Owned(self.ip_prefix.cut(parse_ip(&value).ok_or(NoKey::NoAddress)?))
            } else {
                value
            };
            values.push((name, value));
        }
        let pairs = values.iter().map(|(name, value)| (*name, &**value));
        Ok(Key::new(&self.domain, &self.name, pairs, &self.rule))
    }

    /// Whether this is a connection policy.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(self.rule, Rule::Leases(_))
    }

    /// The entries whose values each get a counter.
    pub fn partition(&self) -> impl Iterator<Item = &str> {
        self.partition.iter().map(|name| &**name)
    }

    /// The names of every entry that the policy looks at.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().map(|(name, _)| &**name).chain(self.partition())
    }

    /// Its item of the `RateLimit-Policy` header.
    #[must_use]
    pub fn policy_field(&self) -> &str {
        &self.policy_field
    }
}

/// The item of `RateLimit-Policy`: constant, so it is written once.
fn policy_field(name: &str, rule: &Rule) -> String {
    match rule {
        Rule::Leases(leases) => format!("\"{name}\";q={};qu=\"concurrent-requests\"", leases.limit),
        other => match other.window().and_then(Micros::whole_seconds) {
            Some(seconds) => format!("\"{name}\";q={};w={seconds}", other.limit()),
            None => format!("\"{name}\";q={}", other.limit()),
        },
    }
}

fn build_rule(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> Rule {
    if spec.limit == 0 || spec.limit > MAX_UNITS {
        mistakes.push(Mistake::new(
            "limit",
            format!("limit is {}", spec.limit),
            format!("write a whole number from 1 to {MAX_UNITS}"),
        ));
    }
    let limit = spec.limit.clamp(1, MAX_UNITS);
    if spec.algorithm != Algorithm::TokenBucket && spec.burst.is_some() {
        mistakes.push(Mistake::new(
            "burst",
            "only a token_bucket has a burst",
            "remove burst, or write algorithm: token_bucket",
        ));
    }
    if spec.algorithm == Algorithm::Concurrency {
        check_span("lease_ttl", spec.lease_ttl, (MIN_TTL, "1s"), (MAX_TTL, "1d"), mistakes);
        return Rule::Leases(Leases { limit, ttl: spec.lease_ttl });
    }
    check_span("window", spec.window, (MIN_WINDOW, "1ms"), (MAX_WINDOW, "366d"), mistakes);
    let window = spec.window.clamp(MIN_WINDOW, MAX_WINDOW);
    match spec.algorithm {
        Algorithm::TokenBucket => Rule::Bucket(build_bucket(spec, (limit, window), mistakes)),
        Algorithm::FixedWindow => Rule::Fixed(Fixed { limit, window }),
        _ => Rule::Window(Window::new(limit, window)),
    }
}

fn build_bucket(spec: &PolicySpec, rate: (u64, Micros), mistakes: &mut Vec<Mistake>) -> Bucket {
    let (limit, window) = rate;
    let burst = spec.burst.unwrap_or(limit);
    if burst == 0 || burst > MAX_UNITS {
        mistakes.push(Mistake::new(
            "burst",
            format!("burst is {burst}"),
            format!("write a whole number from 1 to {MAX_UNITS}; without it, burst is the limit"),
        ));
    }
    if limit > window.0 {
        mistakes.push(Mistake::new(
            "limit",
            format!("{limit} units in {} microseconds are too fast for a token_bucket", window.0),
            "a unit takes at least one microsecond: at most 1000000 a second",
        ));
    }
    let bucket = Bucket::new(limit, window, burst.max(1));
    if bucket.tolerance() > MAX_FILL {
        mistakes.push(Mistake::new(
            "burst",
            format!("a bucket of {burst} would take over ten years to fill"),
            "lower burst or raise limit",
        ));
    }
    bucket
}

fn check_span(
    field: &str,
    span: Micros,
    least: (Micros, &str),
    most: (Micros, &str),
    mistakes: &mut Vec<Mistake>,
) {
    if span < least.0 || span > most.0 {
        mistakes.push(Mistake::new(
            field,
            format!("{field} is {:?}", std::time::Duration::from(span)),
            format!("write a duration from {} to {}, such as 30s, 1m, 1h", least.1, most.1),
        ));
    }
}

fn build_conditions(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> Vec<(Box<str>, Matcher)> {
    if spec.conditions.len() > MAX_ENTRIES {
        mistakes.push(Mistake::new(
            "match",
            format!("match has {} entries", spec.conditions.len()),
            format!("at most {MAX_ENTRIES}"),
        ));
    }
    let mut conditions = Vec::new();
    for (name, text) in &spec.conditions {
        mistakes.extend(check_entry_name("match", name).err());
        match Matcher::parse(&format!("match.{name}"), text) {
            Ok(matcher) => conditions.push((name.as_str().into(), matcher)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    conditions
}

fn check_partition(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) {
    if spec.partition.len() > MAX_ENTRIES {
        mistakes.push(Mistake::new(
            "partition",
            format!("partition has {} entries", spec.partition.len()),
            format!("at most {MAX_ENTRIES}"),
        ));
    }
    for (i, name) in spec.partition.iter().enumerate() {
        mistakes.extend(check_entry_name("partition", name).err());
        if spec.partition.iter().take(i).any(|earlier| earlier == name) {
            mistakes.push(Mistake::new(
                "partition",
                format!("`{name}` stands twice"),
                "name each entry once",
            ));
        }
        if let Some((_, text)) =
            spec.conditions.iter().find(|(condition, text)| condition == name && text.is_empty())
        {
            mistakes.push(Mistake::new(
                "partition",
                format!("no match can supply `{name}`: its condition `{text}` wants it empty"),
                "a partition needs a value; remove the entry from match or from partition",
            ));
        }
    }
}

/// The families of entries that a request supplies by a name of their own.
const FAMILIES: [&str; 4] = ["header", "cookie", "query", "claim"];

/// Checks the name of an entry: not empty, at most 256 bytes, and a known family before a colon.
///
/// # Errors
/// A mistake in `field`.
pub fn check_entry_name(field: &str, name: &str) -> Result<(), Mistake> {
    let wrong = |why: String| {
        Err(Mistake::new(
            field,
            why,
            "entries are ip, user, method, host, path, route, header:NAME, cookie:NAME, query:NAME, claim:NAME, or a plain name of the caller's",
        ))
    };
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return wrong(format!("`{}` is not an entry's name", name.escape_debug()));
    }
    match name.split_once(':') {
        Some((family, _)) if !FAMILIES.contains(&family) => {
            wrong(format!("no match can supply `{name}`: `{family}:` is no family of entries"))
        }
        Some((_, "")) => wrong(format!("no match can supply `{name}`: the name after the colon is missing")),
        Some(("header", header)) if header.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            wrong(format!("no match can supply `{name}`: header names are lower case here"))
        }
        _ => Ok(()),
    }
}

fn check_cost(spec: &PolicySpec, rule: &Rule, mistakes: &mut Vec<Mistake>) {
    if spec.cost == 0 || spec.cost > MAX_UNITS {
        mistakes.push(Mistake::new(
            "cost",
            format!("cost is {}", spec.cost),
            format!("write a whole number from 1 to {MAX_UNITS}"),
        ));
    } else if spec.cost > rule.capacity() {
        mistakes.push(Mistake::new(
            "cost",
            format!("a cost of {} can never pass: at most {} fit at once", spec.cost, rule.capacity()),
            "lower cost, or raise limit (token_bucket: burst)",
        ));
    }
}

fn check_prefix(prefix: IpPrefix, mistakes: &mut Vec<Mistake>) {
    for (field, bits, whole) in [("ip_prefix.v4", prefix.v4, 32), ("ip_prefix.v6", prefix.v6, 128)] {
        if bits == 0 || bits > whole {
            mistakes.push(Mistake::new(
                field,
                format!("{field} is {bits}"),
                format!("write a number of leading bits from 1 to {whole}"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(Vec<(&'static str, &'static str)>);
    impl Facts for Map {
        fn get(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    fn fields(spec: PolicySpec) -> Vec<String> {
        Policy::build(spec).unwrap_err().into_iter().map(|mistake| mistake.field).collect()
    }

    #[test]
    fn a_missing_or_empty_partition_entry_is_never_a_shared_counter() {
        let policy =
            Policy::build(PolicySpec { partition: vec!["user".into()], ..PolicySpec::named("p") }).unwrap();
        assert_eq!(policy.key(&Map(vec![])), Err(NoKey::Missing("user".into())));
        assert_eq!(policy.key(&Map(vec![("user", "")])), Err(NoKey::Missing("user".into())));
        assert!(policy.key(&Map(vec![("user", "7")])).is_ok());
    }

    #[test]
    fn an_ip_is_cut_and_must_be_an_address() {
        let policy =
            Policy::build(PolicySpec { partition: vec!["ip".into()], ..PolicySpec::named("p") }).unwrap();
        assert_eq!(policy.key(&Map(vec![("ip", "nonsense")])), Err(NoKey::NoAddress));
        let one = policy.key(&Map(vec![("ip", "2001:db8::1")]));
        assert_eq!(one, policy.key(&Map(vec![("ip", "2001:db8::2")])));
        assert!(one.is_ok());
    }

    #[test]
    fn every_mistake_names_its_field() {
        let base = || PolicySpec::named("p");
        assert_eq!(fields(PolicySpec { limit: 0, ..base() }), ["limit"]);
        assert_eq!(fields(PolicySpec { window: Micros(0), ..base() }), ["window"]);
        assert_eq!(fields(PolicySpec { burst: Some(5), ..base() }), ["burst"]);
        let bucket = || PolicySpec { algorithm: Algorithm::TokenBucket, ..base() };
        assert_eq!(fields(PolicySpec { burst: Some(0), ..bucket() }), ["burst"]);
        assert_eq!(fields(PolicySpec { cost: 101, ..base() }), ["cost"]);
        assert_eq!(fields(PolicySpec { partition: vec!["heder:x".into()], ..base() }), ["partition"]);
        assert_eq!(fields(PolicySpec { ip_prefix: IpPrefix { v4: 33, v6: 64 }, ..base() }), ["ip_prefix.v4"]);
        assert_eq!(
            fields(PolicySpec { conditions: vec![("a".into(), "x*y".into())], ..base() }),
            ["match.a"]
        );
    }
}
