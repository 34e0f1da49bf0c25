//! What a renewal or release by somebody else needs of a lease: another thread, replica, or a process that was
//! restarted since.

use crate::engine::policy::Facts;
use crate::service::connection::{ConnectionCall, TokenReference};
use crate::service::facts::Entries;
use crate::service::plan::Plan;
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

impl LeaseTerms {
    /// The terms of what was planned. Conditions need no facts here: a renewal names its policies.
    pub(super) fn of(plan: &Plan<'_>, facts: &impl Facts, token: Option<TokenReference>) -> Self {
        let mut terms = Self { token, ..Self::default() };
        for planned in plan.0.iter().filter(|planned| planned.policy.is_connection()) {
            let policy = planned.policy;
            terms.add(&policy.domain, policy.name.to_string());
            let entries =
                policy.partition().filter_map(|name| Some((name.to_owned(), facts.get(name)?.into_owned())));
            terms.entries.extend(entries);
        }
        terms
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
