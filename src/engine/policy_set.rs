//! All policies and routes of one configuration, immutable; a reload swaps the whole set.

use super::mistake::Mistake;
use super::policy::{Facts, Policy};
use super::route::{Route, RouteSpec};
use std::collections::HashMap;
use std::sync::Arc;

/// Policies by domain, and routes.
#[derive(Debug, Default)]
pub struct PolicySet {
    domains: HashMap<Arc<str>, Domain>,
    routes: Vec<Route>,
    len: usize,
}

#[derive(Debug, Default)]
struct Domain {
    ordered: Vec<Arc<Policy>>,
    by_name: HashMap<Arc<str>, Arc<Policy>>,
}

/// Where a mistake is: the item's place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// In `policies`.
    Policy(usize),
    /// In `routes`.
    Route(usize),
}

/// Why named policies cannot be consulted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No policy is in this domain.
    #[error("domain: `{0}` is not configured")]
    UnknownDomain(String),
    /// No policy of this name is in the domain.
    #[error("policies: `{name}` is not a policy of domain `{domain}`")]
    UnknownPolicy {
        /// As asked for.
        name: String,
        /// Where it was looked for.
        domain: String,
    },
    /// No route has this name.
    #[error("route: `{0}` is not a route")]
    UnknownRoute(String),
    /// A connection policy in a check, or the reverse.
    #[error("policies: `{name}` {why}")]
    WrongKind {
        /// As asked for.
        name: String,
        /// What it is for.
        why: &'static str,
    },
}

/// Which kind of policies a call consults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Limits on requests.
    Limit,
    /// Limits on connections.
    Connection,
}

impl PolicySet {
    /// Puts checked policies together and checks the routes against them and the configured issuers.
    ///
    /// # Errors
    /// Every mistake with the item it is in.
    pub fn new(
        policies: Vec<Policy>,
        routes: Vec<RouteSpec>,
        issuers: &[String],
    ) -> Result<Self, Vec<(Item, Mistake)>> {
        let mut set = Self { len: policies.len(), ..Self::default() };
        let mut mistakes = Vec::new();
        for (i, mut policy) in policies.into_iter().enumerate() {
            policy.order = i;
            mistakes.extend(set.insert(Arc::new(policy)).err().map(|mistake| (Item::Policy(i), mistake)));
        }
        let mut built: Vec<Route> = Vec::new();
        for (i, spec) in routes.into_iter().enumerate() {
            if built.iter().any(|earlier| *earlier.name == *spec.name) {
                let message = format!("`{}` stands twice", spec.name);
                mistakes.push((
                    Item::Route(i),
                    Mistake::new("name", message, "each route needs a name of its own"),
                ));
            }
            match Route::build(spec, &set, issuers) {
                Ok(route) => built.push(route),
                Err(found) => mistakes.extend(found.into_iter().map(|mistake| (Item::Route(i), mistake))),
            }
        }
        set.routes = built;
        if mistakes.is_empty() { Ok(set) } else { Err(mistakes) }
    }

    fn insert(&mut self, policy: Arc<Policy>) -> Result<(), Mistake> {
        let domain = self.domains.entry(Arc::clone(&policy.domain)).or_default();
        domain.ordered.push(Arc::clone(&policy));
        match domain.by_name.insert(Arc::clone(&policy.name), Arc::clone(&policy)) {
            None => Ok(()),
            Some(_) => Err(Mistake::new(
                "name",
                format!("`{}` stands twice in domain `{}`", policy.name, policy.domain),
                "counters follow the name, so each policy needs its own",
            )),
        }
    }

    /// The policies of `domain` that hold for `facts`, in the order of the configuration.
    ///
    /// # Errors
    /// The domain is not configured (the default domain always is).
    pub fn matching(
        &self,
        domain: &str,
        kind: Kind,
        facts: &impl Facts,
    ) -> Result<impl Iterator<Item = &Arc<Policy>>, LookupError> {
        let ordered = self.domain(domain)?.map_or(&[][..], |domain| &domain.ordered);
        Ok(ordered.iter().filter(move |policy| {
            policy.is_connection() == (kind == Kind::Connection) && policy.matches(facts)
        }))
    }

    /// Whether a domain has policies.
    #[must_use]
    pub fn has(&self, domain: &str) -> bool {
        self.domains.contains_key(domain)
    }

    /// A policy by name.
    ///
    /// # Errors
    /// The domain or the policy is not configured, or the policy is of the other kind.
    pub fn named(&self, domain: &str, kind: Kind, name: &str) -> Result<&Arc<Policy>, LookupError> {
        let unknown = || LookupError::UnknownPolicy { name: name.to_owned(), domain: domain.to_owned() };
        let policies = self.domain(domain)?.ok_or_else(unknown)?;
        let policy = policies.by_name.get(name).ok_or_else(unknown)?;
        match (kind, policy.is_connection()) {
            (Kind::Limit, true) => Err(LookupError::WrongKind {
                name: name.to_owned(),
                why: "limits connections; ask AcquireConnection",
            }),
            (Kind::Connection, false) => {
                Err(LookupError::WrongKind { name: name.to_owned(), why: "limits requests; ask CheckLimit" })
            }
            _ => Ok(policy),
        }
    }

    /// A route by name.
    ///
    /// # Errors
    /// The route is not configured.
    pub fn route(&self, name: &str) -> Result<&Route, LookupError> {
        let named = self.routes.iter().find(|route| *route.name == *name);
        named.ok_or_else(|| LookupError::UnknownRoute(name.to_owned()))
    }

    /// The routes, in order; the first that matches holds.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// All policies, domain by domain, in the order of the configuration within each.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.domains.values().flat_map(|domain| &domain.ordered)
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn domain(&self, name: &str) -> Result<Option<&Domain>, LookupError> {
        match self.domains.get(name) {
            Some(domain) => Ok(Some(domain)),
            None if name == super::name::DEFAULT_DOMAIN => Ok(None),
            None => Err(LookupError::UnknownDomain(name.to_owned())),
        }
    }
}
