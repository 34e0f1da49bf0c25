//! A policy: which requests, how much, by which algorithm, and what happens without a store.

mod check;

pub use check::check_entry_name;

use super::address::{IpPrefix, parse_ip};
use super::key::Key;
use super::matcher::{Form, Matcher};
use super::mistake::Mistake;
use super::name::{DEFAULT_DOMAIN, check_name};
use super::rule::{Algorithm, Rule};
use super::units::Micros;
use check::{build_conditions, build_rule, check_cost, check_partition, check_prefix};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// Most units of a limit, a burst or a cost.
pub const MAX_UNITS: u64 = 4_294_967_295;
/// Most entries of a partition or a match.
pub const MAX_ENTRIES: usize = 8;

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
    /// Units a window, or leases at once. Must be there.
    pub limit: Option<u64>,
    /// The window. Must be there, but for concurrency.
    pub window: Option<Micros>,
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
    /// The defaults of every key that has one. What a policy is about, its limit and its window, has none: a security
    /// rule holds the numbers that somebody wrote.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: DEFAULT_DOMAIN.to_owned(),
            conditions: Vec::new(),
            partition: Vec::new(),
            algorithm: Algorithm::SlidingWindow,
            limit: None,
            window: None,
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

    /// What is known of that value.
    fn form(&self, _name: &str) -> Form {
        Form::AsSent
    }
}

/// HEAD is GET without the body (RFC 9110 section 9.3.2): what limits the one limits the other, and they share a counter.
const COVERED: (&str, &str) = ("HEAD", "GET");

/// The method whose rules cover a request's.
#[must_use]
pub fn covering_method(method: &str) -> &str {
    let (covered, covering) = COVERED;
    if method == covered { covering } else { method }
}

/// A checked policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its identity within the domain.
    pub name: Arc<str>,
    /// The domain.
    pub domain: Arc<str>,
    /// Its place in the domain, by the order of the configuration.
    pub order: usize,
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
            order: 0,
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

    /// Whether every condition holds. One on `method` that holds for GET holds for HEAD too.
    #[must_use]
    pub fn matches(&self, facts: &impl Facts) -> bool {
        self.conditions
            .iter()
            .all(|(name, matcher)| facts.get(name).is_some_and(|value| holds(name, matcher, &value, facts)))
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
            } else if **name == *"method" && value == COVERED.0 {
                Cow::Borrowed(COVERED.1)
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

    /// Its item of the `RateLimit-Policy` header.
    #[must_use]
    pub fn policy_field(&self) -> &str {
        &self.policy_field
    }
}

fn holds(name: &str, matcher: &Matcher, value: &str, facts: &impl Facts) -> bool {
    let covered = || name == "method" && value == COVERED.0 && matcher.holds(COVERED.1, Form::AsSent);
    matcher.holds(value, facts.form(name)) || covered()
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(Vec<(&'static str, &'static str)>);
    impl Facts for Map {
        fn get(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    /// A hundred a minute.
    fn base() -> PolicySpec {
        let (limit, window) = (Some(100), Some(Micros::from_seconds(60)));
        PolicySpec { limit, window, ..PolicySpec::named("p") }
    }

    fn fields(spec: PolicySpec) -> Vec<String> {
        Policy::build(spec).unwrap_err().into_iter().map(|mistake| mistake.field).collect()
    }

    #[test]
    fn a_missing_or_empty_partition_entry_is_never_a_shared_counter() {
        let policy = Policy::build(PolicySpec { partition: vec!["user".into()], ..base() }).unwrap();
        assert_eq!(policy.key(&Map(vec![])), Err(NoKey::Missing("user".into())));
        assert_eq!(policy.key(&Map(vec![("user", "")])), Err(NoKey::Missing("user".into())));
        assert!(policy.key(&Map(vec![("user", "7")])).is_ok());
    }

    #[test]
    fn an_ip_is_cut_and_must_be_an_address() {
        let policy = Policy::build(PolicySpec { partition: vec!["ip".into()], ..base() }).unwrap();
        assert_eq!(policy.key(&Map(vec![("ip", "nonsense")])), Err(NoKey::NoAddress));
        let one = policy.key(&Map(vec![("ip", "2001:db8::1")]));
        assert_eq!(one, policy.key(&Map(vec![("ip", "2001:db8::2")])));
        assert!(one.is_ok());
    }

    #[test]
    fn every_mistake_names_its_field() {
        assert_eq!(fields(PolicySpec { limit: Some(0), ..base() }), ["limit"]);
        assert_eq!(fields(PolicySpec { window: Some(Micros(0)), ..base() }), ["window"]);
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

    #[test]
    fn what_a_policy_is_about_has_no_default() {
        assert_eq!(fields(PolicySpec::named("p")), ["limit", "window"]);
        for algorithm in [Algorithm::SlidingWindow, Algorithm::TokenBucket, Algorithm::FixedWindow] {
            let (burst, cost) = (None, 50);
            let spec = PolicySpec { algorithm, burst, cost, ..base() };
            assert_eq!(fields(PolicySpec { limit: None, ..spec.clone() }), ["limit"]);
            assert_eq!(fields(PolicySpec { window: None, ..spec }), ["window"]);
        }
        let sockets = PolicySpec { algorithm: Algorithm::Concurrency, window: None, ..base() };
        assert_eq!(fields(PolicySpec { limit: None, ..sockets.clone() }), ["limit"]);
        assert!(Policy::build(sockets).is_ok());
    }
}
