//! What several issuers change: the entry `user` is issuer and subject then, `ISSUER~SUBJECT`, and what looks at subjects
//! alone takes those of two issuers for one.
//!
//! | code | |
//! |---|---|
//! | Q312 | a condition on `user` that begins with none of the issuers holds for nobody |
//! | Q313 | a policy looks at `claim:sub` and not at `claim:iss`: subjects of two issuers share its counters |
//! | Q314 | identity headers tell the application the subject and not the issuer |
//! | Q315 | a reload went from one issuer to several, or back: counters by `user` begin anew |

use super::{Config, show};
use crate::engine::issuer::{IssuerSpec, user_prefix};
use crate::engine::mistake::Mistake;
use crate::engine::policy::PolicySpec;

/// What a policy says of users, where there are several issuers.
pub(super) fn of_policy(policy: &PolicySpec, issuers: &[IssuerSpec]) -> impl Iterator<Item = Mistake> {
    let nobody =
        policy.conditions.iter().find(|(entry, written)| entry == "user" && !may_hold(written, issuers));
    let nobody = nobody.map(|(_, written)| {
        let message = format!(
            "Q312: with several issuers `user` is ISSUER~SUBJECT, and {} holds for none of them",
            show(written)
        );
        Mistake::new(
            "match.user",
            message,
            "write the issuer before the subject: \"https://id.example~test-*\"",
        )
    });
    let looks_at = |claim: &str| {
        let conditions = policy.conditions.iter().map(|(entry, _)| entry);
        policy.partition.iter().chain(conditions).any(|entry| entry == claim)
    };
    let shared = (looks_at("claim:sub") && !looks_at("claim:iss")).then(|| {
        let message =
            "Q313: the subjects of several issuers are alike to this policy: they share its counters";
        let field =
            if policy.partition.iter().any(|entry| entry == "claim:sub") { "partition" } else { "match" };
        Mistake::new(field, message, "look at user, which is issuer and subject, or at claim:iss too")
    });
    nobody.into_iter().chain(shared)
}

/// Whether a condition can hold for a user of one of `issuers`. An expression is given the benefit of the doubt where it
/// has a `~` or stands for any character.
fn may_hold(written: &str, issuers: &[IssuerSpec]) -> bool {
    if let Some(expression) = written.strip_prefix("re:") {
        return expression.contains(['~', '.', '[', '\\']);
    }
    let (begins, open) = match written.strip_suffix('*') {
        Some(begins) => (begins, true),
        None => (written, false),
    };
    // A fingerprint, which stands for a long issuer and subject.
    let short = begins.starts_with('~');
    short
        || issuers
            .iter()
            .map(|issuer| user_prefix(&issuer.issuer))
            .any(|prefix| begins.starts_with(&prefix) || open && prefix.starts_with(begins))
}

/// What the application is told of a user, where there are several issuers.
pub(super) fn of_identity(config: &Config) -> Option<Mistake> {
    let told = |claim: &str| config.http.identity_headers.iter().any(|(_, told)| told == claim);
    (told("sub") && !told("iss")).then(|| {
        let message = "Q314: the application is told the subject and not its issuer, and two issuers may have one subject";
        let hint = "tell it both: {x-user-id: sub, x-user-issuer: iss}; or write {} where it does not look at them";
        Mistake::new("http.identity_headers", message, hint)
    })
}

/// What a reload changes for users: nothing, or that the counters by `user` begin anew.
pub(super) fn between(old: &Config, new: &Config) -> Option<String> {
    let several = |config: &Config| config.issuers.len() > 1;
    if old.issuers.is_empty() || new.issuers.is_empty() || several(old) == several(new) {
        return None;
    }
    let by_user = |policy: &&PolicySpec| policy.partition.iter().any(|entry| entry == "user");
    let policies: Vec<&str> =
        new.policy_specs.iter().filter(by_user).map(|policy| policy.name.as_str()).take(10).collect();
    (!policies.is_empty()).then(|| {
        format!(
            "Q315: `user` is {} from now on: counters and leases by user begin anew ({})",
            if several(new) { "ISSUER~SUBJECT, for there are several issuers," } else { "the subject" },
            policies.join(", ")
        )
    })
}
