//! Short ways to say what the cases ask.

use quotad::engine::ask::{Ask, Demand, Take, Weight};
use quotad::engine::bucket::Bucket;
use quotad::engine::fixed::Fixed;
use quotad::engine::key::Key;
use quotad::engine::leases::Leases;
use quotad::engine::revocation::Probe;
use quotad::engine::rule::Rule;
use quotad::engine::units::Micros;
use quotad::engine::window::Window;
use quotad::store::{HeldLease, LeaseLimit};

/// A span of seconds.
pub(crate) fn seconds(seconds: u64) -> Micros {
    Micros::from_seconds(seconds)
}

/// A sliding window.
pub(crate) fn window(limit: u64, span: Micros) -> Rule {
    Rule::Window(Window::new(limit, span))
}

/// A token bucket.
pub(crate) fn bucket(limit: u64, span: Micros, burst: u64) -> Rule {
    Rule::Bucket(Bucket::new(limit, span, burst))
}

/// A fixed window.
pub(crate) fn fixed(limit: u64, span: Micros) -> Rule {
    Rule::Fixed(Fixed { limit, window: span })
}

/// A connection limit.
pub(crate) fn leases(limit: u64, ttl: Micros) -> Rule {
    Rule::Leases(Leases { limit, ttl })
}

/// A demand of `user` in `domain` on `policy`.
pub(crate) fn demand(domain: &str, policy: &str, user: &str, rule: Rule) -> Demand {
    let key = Key::new(domain, policy, [("user", user)].into_iter(), &rule);
    Demand { key, rule, cost: 1, take: Take::Charge, weight: Weight::Enforced, lease: None }
}

/// The same with a cost.
pub(crate) fn costing(demand: Demand, cost: u32) -> Demand {
    Demand { cost, ..demand }
}

/// The same, only looking.
pub(crate) fn peeking(demand: Demand) -> Demand {
    Demand { take: Take::Peek, ..demand }
}

/// The same, taking otherwise.
pub(crate) fn taking(take: Take, demand: Demand) -> Demand {
    Demand { take, ..demand }
}

/// The same, never refusing.
pub(crate) fn shadow(demand: Demand) -> Demand {
    Demand { weight: Weight::Shadow, ..demand }
}

/// The same for a lease.
pub(crate) fn leasing(demand: Demand, id: &str) -> Demand {
    Demand { lease: Some(id.into()), ..demand }
}

/// An ask of these demands.
pub(crate) fn ask<const N: usize>(demands: [Demand; N]) -> Ask {
    Ask { demands: demands.into_iter().collect(), ..Ask::default() }
}

/// A token of `subject` with an id, issued at a second.
pub(crate) fn token(issuer: &str, id: &str, subject: &str, issued_at: u64) -> Probe {
    Probe {
        issuer: issuer.into(),
        token_id: Some(id.into()),
        subject: Some(subject.into()),
        issued_at: Some(issued_at),
        foreign_key: None,
    }
}

/// A lease that is held under the limits of these demands.
pub(crate) fn held<const N: usize>(id: &str, demands: [&Demand; N]) -> HeldLease {
    let limits = demands.into_iter().filter_map(|demand| match demand.rule {
        Rule::Leases(limit) => Some(LeaseLimit { key: demand.key.clone(), limit, weight: demand.weight }),
        _ => None,
    });
    HeldLease { id: id.into(), limits: limits.collect(), token: None, token_ends: None }
}
