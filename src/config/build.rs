//! The second of the two passes: policies and routes as written become the set that decides.
//!
//! Promise: one mistake is reported once. A policy that is wrong stands in for itself while the routes are checked, so
//! that a route which names it is not called wrong too.

use super::diagnostic::Findings;
use super::locate::{self, Item};
use super::nearest::nearest;
use super::policies::Read;
use crate::engine::issuer::IssuerSpec;
use crate::engine::mistake::Mistake;
use crate::engine::name::check_name;
use crate::engine::policy::{Policy, PolicySpec};
use crate::engine::policy_set::{self, PolicySet};
use crate::engine::route::RouteSpec;
use crate::engine::units::Micros;
use std::collections::{HashMap, HashSet};

/// Most mistakes whose name is compared with every other: ten thousand times ten thousand is too many.
const MAX_SUGGESTIONS: usize = 50;

/// Everything that the set is made of, as written.
pub(super) struct Parts<'p> {
    pub(super) policies: &'p [Read<PolicySpec>],
    pub(super) routes: &'p [Read<RouteSpec>],
    pub(super) tokens: &'p [Read<IssuerSpec>],
    /// Whether the list of policies, or an entry of it, could not be read.
    pub(super) policies_lost: bool,
    /// Whether the list of tokens, or an entry of it, could not be read.
    pub(super) tokens_lost: bool,
}

/// Builds the set; every mistake is reported.
pub(super) fn build(parts: &Parts<'_>, out: &mut Findings<'_>) -> PolicySet {
    let mut policies = Vec::with_capacity(parts.policies.len());
    let mut read = Vec::with_capacity(parts.policies.len());
    // Policies of these names are lost, and routes may name them.
    let mut lost: HashSet<(String, String)> = HashSet::new();
    for entry in parts.policies {
        match build_policy(entry, out) {
            Some(policy) => {
                policies.push(policy);
                read.push(entry);
            }
            None => {
                lost.insert((entry.spec.domain.clone(), entry.spec.name.clone()));
            }
        }
    }
    let issuers = Issuers::of(parts);
    let names: HashSet<&str> = parts.policies.iter().map(|entry| entry.spec.name.as_str()).collect();
    let routes = parts.routes.iter().map(|route| prepared(route, &lost, &names, parts, &issuers)).collect();
    let mistakes = match PolicySet::new(policies, routes, &issuers.known) {
        Ok(set) => return set,
        Err(mistakes) => mistakes,
    };
    let mut suggestions = 0;
    for (item, mistake) in mistakes {
        let (item, subject, mistake) = match item {
            policy_set::Item::Policy(at) => {
                let Some(entry) = read.get(at) else { continue };
                (Item::Policy(entry.index), &entry.subject, with_first(mistake, at, &read, out))
            }
            policy_set::Item::Route(at) => {
                let Some(entry) = parts.routes.get(at) else { continue };
                suggestions += usize::from(suggestions < MAX_SUGGESTIONS);
                let mistake =
                    if suggestions < MAX_SUGGESTIONS { with_nearest(mistake, &names) } else { mistake };
                (Item::Route(entry.index), &entry.subject, mistake)
            }
        };
        locate::report(item, subject, mistake, out);
    }
    PolicySet::default()
}

/// The policy, or a stand-in of its name and kind when it is wrong, or nothing when it cannot even be named.
fn build_policy(entry: &Read<PolicySpec>, out: &mut Findings<'_>) -> Option<Policy> {
    let mistakes = match Policy::build(entry.spec.clone()) {
        Ok(policy) => return Some(policy),
        Err(mistakes) => mistakes,
    };
    let quota = ["limit", "burst", "algorithm"];
    let quota_is_wrong = mistakes.iter().any(|mistake| quota.contains(&mistake.field.as_str()));
    for mistake in mistakes {
        // What follows from a wrong quota is no mistake of its own.
        let follows = mistake.message.contains("can never pass") && (quota_is_wrong || entry.broken);
        // Whether a burst may stand there hangs on an algorithm that may not have been read.
        let replaced = entry.broken && mistake.field == "burst";
        if !follows && !replaced {
            locate::report(Item::Policy(entry.index), &entry.subject, mistake, out);
        }
    }
    let PolicySpec { name, domain, algorithm, .. } = entry.spec.clone();
    let (limit, window) = (Some(1), Some(Micros::SECOND));
    Policy::build(PolicySpec { domain, algorithm, limit, window, ..PolicySpec::named(name) }).ok()
}

/// Adds the line of the first policy of that name.
fn with_first(mistake: Mistake, at: usize, read: &[&Read<PolicySpec>], out: &Findings<'_>) -> Mistake {
    let same = |entry: &&&Read<PolicySpec>| {
        read.get(at).is_some_and(|this| {
            this.spec.name == entry.spec.name
                && this.spec.domain == entry.spec.domain
                && mistake.field == "name"
        })
    };
    let Some(first) = read.iter().take(at).find(same) else { return mistake };
    let found = locate::diagnostic(out.document(), Item::Policy(first.index), Mistake::new("name", "", ""));
    match found.place {
        super::Place::File { position: Some(position), .. } => {
            let hint = format!("{}; the first stands in line {}", mistake.hint, position.line);
            Mistake { hint, ..mistake }
        }
        _ => mistake,
    }
}

/// Adds the name that a route probably meant.
fn with_nearest(mistake: Mistake, names: &HashSet<&str>) -> Mistake {
    let name = mistake.message.strip_suffix("` is not a policy").and_then(|rest| rest.strip_prefix('`'));
    let mut known: Vec<&str> = names.iter().copied().collect();
    known.sort_unstable();
    match name.and_then(|name| nearest(name, &known)) {
        Some(meant) => Mistake { hint: format!("did you mean `{meant}`? {}", mistake.hint), ..mistake },
        None => mistake,
    }
}

/// Issuers as routes name them: by the `name` of their entry or by the `iss` claim. The set holds the claim.
struct Issuers {
    known: Vec<String>,
    by_name: HashMap<String, String>,
}

impl Issuers {
    fn of(parts: &Parts<'_>) -> Self {
        let specs = || parts.tokens.iter().map(|entry| &entry.spec);
        let mut known: Vec<String> = specs().map(|spec| spec.issuer.clone()).collect();
        if known.is_empty() && parts.tokens_lost {
            // An entry is there, only not readable: that no issuer is configured is not the mistake.
            known.push(String::new());
        }
        let by_name = specs().map(|spec| (spec.name.clone(), spec.issuer.clone())).collect();
        Self { known, by_name }
    }
}

/// A route for the engine: issuers by their claim, and without the names that other mistakes explain.
fn prepared(
    route: &Read<RouteSpec>,
    lost: &HashSet<(String, String)>,
    names: &HashSet<&str>,
    parts: &Parts<'_>,
    issuers: &Issuers,
) -> RouteSpec {
    let mut spec = route.spec.clone();
    let domain = spec.domain.clone();
    let is_there = |name: &String| !lost.contains(&(domain.clone(), name.clone()));
    spec.policies.retain(is_there);
    spec.connection.retain(is_there);
    if parts.policies_lost {
        // The lost entry may be the one that is named, so only what is no name at all is left to be called wrong.
        let known = |name: &String| names.contains(name.as_str()) || check_name("", name).is_err();
        spec.policies.retain(known);
        spec.connection.retain(known);
    }
    for issuer in &mut spec.issuers {
        if let Some(claim) = issuers.by_name.get(issuer) {
            issuer.clone_from(claim);
        }
    }
    if parts.tokens_lost {
        spec.issuers.retain(|issuer| issuers.known.contains(issuer));
    }
    spec
}
