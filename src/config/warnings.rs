//! What holds, and probably not as meant. Nothing here refuses a configuration.

use super::diagnostic::Findings;
use super::document::Document;
use super::locate::{self, Item};
use super::store::StoreKind;
use super::{Config, several_issuers, show};
use crate::engine::ask::MAX_DEMANDS;
use crate::engine::issuer::{IssuerSpec, OnRevocationError};
use crate::engine::mistake::Mistake;
use crate::engine::policy::{OnStoreError, PolicySpec};
use crate::engine::route::{RouteSpec, TokenNeed};
use crate::engine::rule::Algorithm;
use std::collections::{HashMap, HashSet};

/// Warns of everything in a configuration that was built. Codes from Q301 on stand in docs/configuration.md.
pub(super) fn warn(config: &Config, out: &mut Findings<'_>) {
    let named: HashSet<(&str, &str)> = config
        .routes
        .iter()
        .flat_map(|route| route.policies.iter().map(|policy| (route.domain.as_str(), policy.as_str())))
        .collect();
    for (index, policy) in config.policy_specs.iter().enumerate() {
        let is_named = named.contains(&(policy.domain.as_str(), policy.name.as_str()));
        let found = [rounding(policy), policy_store_error(policy), counts_everything(policy, is_named)];
        let idle = idle_keys(policy, out.document(), index);
        for mistake in found.into_iter().flatten().chain(idle) {
            out.warn(locate::diagnostic(out.document(), Item::Policy(index), mistake));
        }
    }
    if config.issuers.len() > 1 {
        for (index, policy) in config.policy_specs.iter().enumerate() {
            for mistake in several_issuers::of_policy(policy, &config.issuers) {
                out.warn(locate::diagnostic(out.document(), Item::Policy(index), mistake));
            }
        }
        if let Some(mistake) = several_issuers::of_identity(config) {
            out.warn(locate::section(out.document(), mistake));
        }
    }
    for (index, mistake) in too_many_hold(&config.policy_specs) {
        out.warn(locate::diagnostic(out.document(), Item::Policy(index), mistake));
    }
    let by_name: HashMap<(&str, &str), &PolicySpec> = config
        .policy_specs
        .iter()
        .map(|policy| ((policy.domain.as_str(), policy.name.as_str()), policy))
        .collect();
    for (index, route) in config.routes.iter().enumerate() {
        for mistake in without_token(route, &by_name) {
            out.warn(locate::diagnostic(out.document(), Item::Route(index), mistake));
        }
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        for mistake in [revocation_store_error(issuer), undated(issuer)].into_iter().flatten() {
            out.warn(locate::diagnostic(out.document(), Item::Token(index), mistake));
        }
    }
    for mistake in [forgetful(config), open_admin(config), nothing(config)].into_iter().flatten() {
        out.warn(locate::section(out.document(), mistake));
    }
}

/// A unit of a bucket takes whole microseconds, rounded up; that may make the rate visibly lower than written.
fn rounding(policy: &PolicySpec) -> Option<Mistake> {
    let (limit, window) = (policy.limit.filter(|limit| *limit > 0)?, policy.window?.0);
    if policy.algorithm != Algorithm::TokenBucket {
        return None;
    }
    let exact_thousandths = window.saturating_mul(1_000) / limit;
    let emission = window.div_ceil(limit);
    let over = emission.saturating_mul(1_000).saturating_sub(exact_thousandths);
    let percent = over.saturating_mul(100) / exact_thousandths.max(1);
    (percent >= 1).then(|| {
        let real = window / emission.max(1);
        let message =
            format!("a unit takes {emission} whole microseconds, so {real} instead of {limit} pass a window");
        Mistake::new(
            "limit",
            message,
            "choose a limit that divides the window's microseconds, or a lower rate",
        )
    })
}

fn policy_store_error(policy: &PolicySpec) -> Option<Mistake> {
    (policy.on_store_error == OnStoreError::Allow).then(|| {
        let message = "while the store is away this policy limits nobody";
        Mistake::new("on_store_error", message, "local keeps a limit in each process; deny and error refuse")
    })
}

/// Tokens that do not say when they were issued: `max_lifetime` is measured from now for them, so one that is refused
/// today may be good later, when a revocation of its subject is over.
fn undated(issuer: &IssuerSpec) -> Option<Mistake> {
    (!issuer.require.iter().any(|claim| claim == "iat")).then(|| {
        let message = "Q311: a token without iat that lives longer than max_lifetime outlives a revocation of its subject, \
                       or of its id without expires_at, and is good at the end of its life";
        let hint = "add iat to require, or revoke such tokens by id with their expires_at";
        Mistake::new("require", message, hint)
    })
}

fn revocation_store_error(issuer: &IssuerSpec) -> Option<Mistake> {
    (issuer.on_store_error == OnRevocationError::Allow).then(|| {
        let message = "while the store is away revoked tokens are taken for good";
        Mistake::new("on_store_error", message, "deny refuses every token of this issuer meanwhile")
    })
}

/// Keys that count for another algorithm only. A `burst` there is refused, because it would weaken a limit unseen.
fn idle_keys(policy: &PolicySpec, document: &Document, index: usize) -> Vec<Mistake> {
    let keys: &[&str] = match policy.algorithm {
        Algorithm::Concurrency => &["window"],
        _ => &["lease_ttl", "lease_entry"],
    };
    let Some(entry) = locate::find(document, Item::Policy(index)) else { return Vec::new() };
    let idle = |key: &&&str| entry.get(key).is_some_and(|entry| !entry.value.is_null());
    let algorithm = super::redacted::word(&super::policies::ALGORITHMS, &policy.algorithm);
    keys.iter()
        .filter(idle)
        .map(|key| Mistake::new(*key, format!("{key} has no effect on {algorithm}"), format!("remove {key}")))
        .collect()
}

/// No condition, no partition, no route: each check that names no policies is counted, all on one counter.
fn counts_everything(policy: &PolicySpec, is_named: bool) -> Option<Mistake> {
    let bare = policy.conditions.is_empty() && policy.partition.is_empty();
    let limits_requests = policy.algorithm != Algorithm::Concurrency;
    (bare && limits_requests && !is_named && !policy.shadow).then(|| {
        let message = format!(
            "no match, no partition, no route: one counter for every check of domain {} that names no policies",
            show(&policy.domain)
        );
        Mistake::new("name", message, "add a match, a partition, or a route that names it")
    })
}

/// Without a condition a policy holds for every request that has its partition: more of them than one request may be
/// checked against refuse each check that names no policies. Said once a domain and kind, at the first one too many.
fn too_many_hold(policies: &[PolicySpec]) -> Vec<(usize, Mistake)> {
    let mut counts: HashMap<(&str, bool), (usize, usize)> = HashMap::new();
    for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.conditions.is_empty()) {
        let is_connection = policy.algorithm == Algorithm::Concurrency;
        let (count, first_over) = counts.entry((&policy.domain, is_connection)).or_default();
        *count += 1;
        if *count == MAX_DEMANDS + 1 {
            *first_over = index;
        }
    }
    let mut found: Vec<_> = counts
        .into_iter()
        .filter(|(_, (count, _))| *count > MAX_DEMANDS)
        .map(|((domain, is_connection), (count, index))| {
            let what = if is_connection { "connection policies" } else { "policies" };
            let message = format!(
                "Q301: {count} {what} of domain {} have no match; where more than {MAX_DEMANDS} hold, a call that names \
                 none is refused",
                show(domain)
            );
            (index, Mistake::new("name", message, "give them a match, or name the policies in the call or in a route"))
        })
        .collect();
    found.sort_by_key(|(index, _)| *index);
    found
}

/// Facts that only a token gives, on a route that does not look at tokens.
fn without_token(route: &RouteSpec, policies: &HashMap<(&str, &str), &PolicySpec>) -> Vec<Mistake> {
    if route.token != TokenNeed::Ignored {
        return Vec::new();
    }
    let of_token = |entry: &&String| entry.as_str() == "user" || entry.starts_with("claim:");
    let lists = [("policies", &route.policies), ("connection", &route.connection)];
    let mut mistakes = Vec::new();
    for (field, names) in lists {
        for name in names {
            let Some(policy) = policies.get(&(route.domain.as_str(), name.as_str())) else { continue };
            let conditions = policy.conditions.iter().map(|(entry, _)| entry);
            if let Some(entry) = policy.partition.iter().chain(conditions).find(of_token) {
                let message =
                    format!("`{name}` looks at {}, which a route with token: ignored has not", show(entry));
                let hint = "write token: required, or the caller must send the entry itself";
                mistakes.push(Mistake::new(field, message, hint));
            }
        }
    }
    mistakes
}

fn forgetful(config: &Config) -> Option<Mistake> {
    let forgets = matches!(&config.store.kind, StoreKind::Memory { data_dir: None });
    (forgets && !config.issuers.is_empty()).then(|| {
        let message = "revocations are kept in memory only: a restart makes revoked tokens good again";
        Mistake::new("store.data_dir", message, "write data_dir: data, or use redis://")
    })
}

fn open_admin(config: &Config) -> Option<Mistake> {
    let admin = config.listen.admin.filter(|admin| !admin.ip().is_loopback())?;
    let message = format!("the admin service asks for no credentials, and {admin} is not loopback");
    Some(Mistake::new("listen.admin", message, "write 127.0.0.1:50052, or keep others out by the network"))
}

fn nothing(config: &Config) -> Option<Mistake> {
    let limits_nothing = config.policy_specs.is_empty() && config.envoy.ratelimit_config.is_none();
    limits_nothing.then(|| {
        Mistake::new("policies", "no policy is configured: nothing is limited", "add an entry under policies")
    })
}
