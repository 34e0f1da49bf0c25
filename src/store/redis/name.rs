//! The names of keys in Redis.
//!
//! Promise: readable where that is safe and short, else a fingerprint; the same on every replica, so no secret of a
//! process goes in; what shares a hash tag keeps sharing it; two different things never share a name.
//!
//! | key | holds |
//! |---|---|
//! | `q1:{default\|ip=203.0.113.7}:auth-per-ip:w` | a counter or leases: domain and partition, policy, kind |
//! | `q1:{default\|~0f3c…}:auth-per-ip:w` | the same with a long partition, or one with unusual characters |
//! | `q1:{default\|ip=203.0.113.7}:answer:~9a1b…` | the answer to a `request_id` |
//! | `q1:{default\|ip=203.0.113.7}:settled:~5d20…` | what the settlement of a reservation moved |
//! | `q1:{revoked\|ISSUER}:id:JTI`, `…:sub:SUBJECT` | a revocation |
//! | `q1:replicas` | who shares this Redis |

use crate::engine::ask::Demand;
use crate::engine::key::{Key, escape};
use crate::engine::revocation::Target;
use aws_lc_rs::digest::{Context, SHA256};
use std::borrow::Cow;
use std::fmt::Write as _;

/// The sorted set of those who share this Redis.
pub(super) const REPLICAS: &str = "q1:replicas";

/// Longest tag, issuer, token id or subject that stands in a name as it is.
const MAX_READABLE: usize = 96;
/// Bytes of a fingerprint: among ten million names two are alike with probability 1.5e-25.
const FINGERPRINT: usize = 16;

/// The name of a counter or of a set of leases.
#[must_use]
pub(super) fn counter(key: &Key) -> Cow<'_, str> {
    match short_tag(key) {
        None => Cow::Borrowed(key.as_str()),
        Some(tag) => Cow::Owned(format!("q1:{{{tag}{}", key.after_tag())),
    }
}

/// The name under which the answer to a request id is kept, in the slot of the first demand.
#[must_use]
pub(super) fn answer(request_id: &str, demands: &[Demand]) -> Option<String> {
    let first = demands.first()?;
    let mut parts = vec![first.key.domain().as_bytes(), request_id.as_bytes()];
    let costs: Vec<[u8; 5]> = demands
        .iter()
        .map(|demand| {
            let [a, b, c, d] = demand.cost.to_be_bytes();
            [a, b, c, d, demand.take.number()]
        })
        .collect();
    for (demand, cost) in demands.iter().zip(&costs) {
        parts.push(demand.key.as_str().as_bytes());
        parts.push(cost);
        parts.push(demand.lease.as_deref().unwrap_or_default().as_bytes());
    }
    let fingerprint = fingerprint("answer", &parts);
    let tag = short_tag(&first.key).map_or(Cow::Borrowed(first.key.tag()), Cow::Owned);
    Some(format!("q1:{{{tag}}}:answer:{fingerprint}"))
}

/// The name under which a settlement is remembered, in the slot of the first counter.
#[must_use]
pub(super) fn settlement(name: &str, first: &Key) -> String {
    let fingerprint = fingerprint("settlement", &[first.domain().as_bytes(), name.as_bytes()]);
    let tag = short_tag(first).map_or(Cow::Borrowed(first.tag()), Cow::Owned);
    format!("q1:{{{tag}}}:settled:{fingerprint}")
}

/// The name of a revocation.
#[must_use]
pub(super) fn revocation(issuer: &str, target: &Target) -> String {
    match target {
        Target::TokenId(id) => revoked_id(issuer, id),
        Target::Subject(subject) => revoked_subject(issuer, subject),
    }
}

/// The name of the revocation of a token id.
#[must_use]
pub(super) fn revoked_id(issuer: &str, id: &str) -> String {
    format!("q1:{{revoked|{}}}:id:{}", readable("issuer", issuer), readable("id", id))
}

/// The name of the revocation of a subject.
#[must_use]
pub(super) fn revoked_subject(issuer: &str, subject: &str) -> String {
    format!("q1:{{revoked|{}}}:sub:{}", readable("issuer", issuer), readable("sub", subject))
}

/// `domain|~fingerprint` in place of a tag that cannot stand in a name.
fn short_tag(key: &Key) -> Option<String> {
    let tag = key.tag();
    if tag.len() <= MAX_READABLE && !tag.contains('%') {
        return None;
    }
    Some(format!("{}|{}", key.domain(), fingerprint("tag", &[tag.as_bytes()])))
}

/// The value where it is short and plain, else its fingerprint. `~` is left to fingerprints.
fn readable<'a>(what: &str, value: &'a str) -> Cow<'a, str> {
    let mut escaped = String::new();
    if value.len() <= MAX_READABLE {
        escape(&mut escaped, value);
    }
    if escaped == value && !value.is_empty() && !value.starts_with('~') {
        return Cow::Borrowed(value);
    }
    Cow::Owned(fingerprint(what, &[value.as_bytes()]))
}

/// `~` and 32 hex digits of SHA-256, over the kind of thing and the parts, each with its length before it.
fn fingerprint(what: &str, parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in [b"quotad q1".as_slice(), what.as_bytes()].iter().chain(parts) {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut text = String::with_capacity(1 + 2 * FINGERPRINT);
    text.push('~');
    for byte in context.finish().as_ref().iter().take(FINGERPRINT) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ask::{Take, Weight};
    use crate::engine::rule::Rule;
    use crate::engine::units::Micros;
    use crate::engine::window::Window;
    use std::collections::HashSet;

    fn rule() -> Rule {
        Rule::Window(Window::new(10, Micros::SECOND))
    }

    fn key(value: &str) -> Key {
        Key::new("default", "auth", [("user", value)].into_iter(), &rule())
    }

    fn demand(value: &str, cost: u32) -> Demand {
        let (take, weight) = (Take::Charge, Weight::Enforced);
        Demand { key: key(value), rule: rule(), cost, take, weight, lease: None }
    }

    #[test]
    fn plain_short_partitions_stand_as_they_are() {
        assert_eq!(counter(&key("alice")), "q1:{default|user=alice}:auth:w");
    }

    #[test]
    fn long_or_strange_partitions_become_the_same_fingerprint_everywhere_and_keep_the_domain() {
        let name = counter(&key("Zoë")).into_owned();
        assert_eq!(name, "q1:{default|~0264ce44400a41bf1ddee48b2fa089ed}:auth:w");
        let long = counter(&key(&"x".repeat(97))).into_owned();
        assert!(long.starts_with("q1:{default|~") && long.len() < 64, "{long}");
        assert_ne!(long, counter(&key(&"x".repeat(98))));
        assert_ne!(counter(&key("~0264ce44400a41bf1ddee48b2fa089ed")), name);
    }

    #[test]
    fn policies_of_one_partition_keep_one_hash_tag() {
        let other = Key::new("default", "other", [("user", "Zoë")].into_iter(), &rule());
        let tag = |name: &str| name.split_once('}').map(|(tag, _)| tag.to_owned());
        assert_eq!(tag(&counter(&key("Zoë"))), tag(&counter(&other)));
        let kept = answer("r", &[demand("Zoë", 1)]).unwrap();
        assert_eq!(tag(&counter(&key("Zoë"))), tag(&kept));
    }

    #[test]
    fn answers_differ_by_request_id_key_cost_take_and_lease() {
        let mut names = HashSet::new();
        names.insert(answer("r", &[demand("a", 1)]));
        names.insert(answer("s", &[demand("a", 1)]));
        names.insert(answer("r", &[demand("b", 1)]));
        names.insert(answer("r", &[demand("a", 2)]));
        names.insert(answer("r", &[Demand { take: Take::Peek, ..demand("a", 1) }]));
        names.insert(answer("r", &[Demand { lease: Some("l".into()), ..demand("a", 1) }]));
        names.insert(answer("r", &[demand("a", 1), demand("b", 1)]));
        assert_eq!(names.len(), 7);
        assert_eq!(answer("r", &[]), None);
    }

    #[test]
    fn revocations_cannot_be_forged_by_clever_names() {
        let plain = revoked_id("https://issuer.example", "abc-1");
        assert_eq!(plain, "q1:{revoked|https://issuer.example}:id:abc-1");
        let strange = revoked_id("https://issuer.example", "a b");
        let fingerprint = strange.rsplit_once(':').unwrap().1;
        assert!(fingerprint.starts_with('~'));
        assert_ne!(revoked_id("https://issuer.example", fingerprint), strange);
        assert_ne!(revoked_id("i", ""), "q1:{revoked|i}:id:");
        assert_ne!(revoked_id("i", "a"), revoked_subject("i", "a"));
        assert!(!revoked_subject("}x{", "s").contains("}x{"));
    }
}
