//! The readings of a request's path, each with the route that it finds.
//!
//! Promise: `path` and `route` are made here alone, once for each reading, and every policy is asked with both of one
//! reading: a policy that two readings share is asked for each of them, and charged once where the counter is the same.
//!
//! Must never: let a reading go unasked. What cannot be held to all of them is [`ambiguous`].

use crate::engine::decision::{Decision, Outcome, PolicyStatus, Reason};
use crate::engine::glob::Case;
use crate::engine::http::tightness;
use crate::engine::path::Readings;
use crate::engine::policy::Policy;
use crate::engine::policy_set::{LookupError, PolicySet};
use crate::engine::route::{Route, RouteRequest};
use crate::service::HttpCall;
use crate::service::facts::HttpFacts;
use smallvec::SmallVec;

/// One reading of a request's path.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// In small letters under a route that compares paths so.
    pub(super) path: String,
    /// Of its own; none: no route matches.
    pub(super) route: Option<&'a Route>,
}

/// The readings of one request, at least one.
pub(super) type Routed<'a> = SmallVec<[Reading<'a>; 1]>;

impl<'a> Reading<'a> {
    /// Each of the paths with its route: the named one, or the first that matches.
    ///
    /// # Errors
    /// The named route is not configured.
    pub(super) fn all(
        set: &'a PolicySet,
        call: &HttpCall<'_>,
        host: &str,
        paths: Readings,
    ) -> Result<Routed<'a>, LookupError> {
        let named = call.route.map(|name| set.route(name)).transpose()?;
        let in_domain = |route: &Route| call.domain.is_empty() || *route.domain == *call.domain;
        let find = |path: &str| {
            let header = |name: &str| call.header(name);
            let request = RouteRequest { method: call.method, host, path, header };
            set.routes().iter().find(|route| in_domain(route) && route.matches(&request))
        };
        let mut readings = Routed::new();
        for path in paths {
            let route = named.or_else(|| find(&path));
            let mut reading = Reading { path, route };
            if reading.case() == Case::Insensitive {
                reading.path.make_ascii_lowercase();
            }
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        Ok(readings)
    }

    fn case(&self) -> Case {
        self.route.map_or(Case::Sensitive, |route| route.case)
    }

    /// The facts of the request as this reading gives them.
    pub(super) fn facts<'f>(&'f self, of: &HttpFacts<'f>) -> HttpFacts<'f> {
        let route = self.route.map_or("", |route| &*route.name);
        HttpFacts { path: &self.path, case: self.case(), route, ..of.clone() }
    }
}

impl PartialEq for Reading<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same = match (self.route, other.route) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same && self.path == other.path
    }
}

/// The routes of all readings, each once.
pub(super) fn routes<'a>(readings: &[Reading<'a>]) -> SmallVec<[&'a Route; 2]> {
    let mut routes: SmallVec<[&Route; 2]> = SmallVec::new();
    for route in readings.iter().filter_map(|reading| reading.route) {
        if !routes.iter().any(|other| std::ptr::eq(*other, route)) {
            routes.push(route);
        }
    }
    routes
}

/// The answer to a path whose readings cannot be held together.
pub(super) fn ambiguous() -> Decision {
    Decision::plain(Outcome::Deny, Reason::PathAmbiguous)
}

/// Leaves each policy one status: of several counters the tightest one's.
pub(super) fn stand_once<'a>(decision: &mut Decision, policies: &mut SmallVec<[&'a Policy; 4]>) {
    if decision.statuses.len() != policies.len() {
        return;
    }
    let mut once: SmallVec<[&'a Policy; 4]> = SmallVec::new();
    let mut statuses: Vec<PolicyStatus> = Vec::with_capacity(policies.len());
    for (policy, status) in policies.iter().zip(decision.statuses.drain(..)) {
        let earlier = once.iter().position(|other| std::ptr::eq(*other, *policy));
        match earlier.and_then(|at| statuses.get_mut(at)) {
            Some(earlier) if tightness(&status) < tightness(earlier) => *earlier = status,
            Some(_) => {}
            None => {
                once.push(policy);
                statuses.push(status);
            }
        }
    }
    decision.statuses = statuses;
    *policies = once;
}
