//! What a renewal or release by somebody else needs of a lease: another thread, replica, or a process that was
//! restarted since.

use crate::engine::policy::Facts;
use crate::service::connection::{ConnectionCall, TokenReference};
use crate::service::facts::Entries;
use crate::service::plan::{Plan, Planned};
use crate::token::Claims;
use std::collections::HashMap;

/// Policies of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InDomain {
    /// Its name.
    pub domain: String,
    /// At least one.
    pub policies: Vec<String>,
}

/// Under what a lease was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Of the policies.
    pub domain: String,
    /// The connection policies; none: nothing is held, and there is nothing to renew.
    pub policies: Vec<String>,
    /// Policies of other domains, where a path that can be read in two ways met routes of two.
    pub elsewhere: Vec<InDomain>,
    /// The entries of their partitions, as given.
    pub entries: HashMap<String, String>,
    /// The token that was checked.
    pub token: Option<TokenReference>,
}

/// An entry that partitions leases has two values in one request.
#[derive(Debug)]
pub(super) struct OtherValue;

impl LeaseTerms {
    /// The terms of what was planned with one set of facts. Conditions need no facts here: a renewal names its policies.
    pub(super) fn of(plan: &Plan<'_>, facts: &impl Facts, token: Option<TokenReference>) -> Self {
        let mut terms = Self { token, ..Self::default() };
        // Facts that were never another reading's are one value each.
        let _ = terms.extend(&plan.0, facts);
        terms
    }

    /// Adds the terms of what was planned with these facts.
    ///
    /// # Errors
    /// An entry has another value under these facts than under earlier ones: no one call could renew both.
    pub(super) fn extend(&mut self, planned: &[Planned<'_>], facts: &impl Facts) -> Result<(), OtherValue> {
        for policy in planned.iter().map(|planned| planned.policy).filter(|policy| policy.is_connection()) {
            self.add(&policy.domain, policy.name.to_string());
            for name in policy.partition() {
                let Some(value) = facts.get(name) else { continue };
                let known = self.entries.entry(name.to_owned()).or_insert_with(|| value.clone().into_owned());
                if **known != *value {
                    return Err(OtherValue);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, domain: &str, policy: String) {
        if self.policies.is_empty() {
            domain.clone_into(&mut self.domain);
        }
        match self.elsewhere.iter_mut().find(|one| one.domain == domain) {
            _ if self.domain == domain => self.policies.push(policy),
            Some(one) => one.policies.push(policy),
            None => self.elsewhere.push(InDomain { domain: domain.to_owned(), policies: vec![policy] }),
        }
    }

    /// What renews and releases the lease of this id.
    #[must_use]
    pub fn call<'a>(&'a self, lease_id: &'a str) -> ConnectionCall<'a, Entries<'a>> {
        ConnectionCall {
            domain: &self.domain,
            policies: &self.policies,
            elsewhere: &self.elsewhere,
            facts: Entries(&self.entries),
            lease_id,
            token: self.token.clone(),
        }
    }
}

impl From<&Claims> for TokenReference {
    fn from(claims: &Claims) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            issuer: claims.issuer.to_string(),
            subject: text(claims.subject.as_deref()),
            token_id: text(claims.token_id.as_deref()),
            issued_at: claims.issued_at,
            expires_at: Some(claims.expires_at),
        }
    }
}
