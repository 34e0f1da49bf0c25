//! A domain that the directory has and policies of our own have too.
//!
//! Promise: both hold there, all or nothing. What cannot hold together is found before it is in force.

use super::{RateLimitOptions, RateLimitSet};
use crate::engine::mistake::Mistake;
use crate::engine::policy_set::PolicySet;
use std::collections::BTreeMap;

/// What cannot hold together: the place of a domain's first policy in the configuration, and the mistake.
#[must_use]
pub fn conflicts(
    set: &RateLimitSet,
    options: &RateLimitOptions,
    policies: &PolicySet,
) -> Vec<(usize, Mistake)> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in policies.policies().filter(|policy| set.has(&policy.domain)) {
        let order = first.entry(&policy.domain).or_insert(policy.order);
        *order = policy.order.min(*order);
    }
    let quotas = |domain: &str| options.quota || set.has_quotas(domain);
    let refused = first.into_iter().filter(|(domain, _)| quotas(domain));
    refused
        .map(|(domain, order)| {
            let message = format!(
                "Q401: domain `{}` has limits in quota mode in the directory of rate limits, and these refuse only all \
                 together, so no policy can be charged with them in one step",
                domain.escape_debug()
            );
            let hint = "give the policy a domain of its own, or take quota_mode out of the directory's domain";
            (order, Mistake::new("domain", message, hint))
        })
        .collect()
}
