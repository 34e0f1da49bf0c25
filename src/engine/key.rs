//! The key of a counter: canonical text of (domain, policy, partition).
//!
//! Built from the policy's name and the partition values alone, so editing a limit never resets a counter.
//! Two different triples never share a key: names have a fixed alphabet and values are escaped. The part in
//! braces is Redis Cluster's hash tag, so policies with one partition are decided in one slot.
//!
//! `q1:{default|ip=203.0.113.7}:auth-per-ip:w`: layout version, domain and partition, policy, kind of state.

use super::name::check_name;
use super::rule::Rule;
use std::fmt::Write as _;
use std::ops::Range;

/// Canonical text of (domain, policy, partition).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    text: String,
    tag: Range<usize>,
    domain: Range<usize>,
}

impl Key {
    /// The key of `policy` in `domain` for the partition's (name, value) pairs, in the policy's order.
    #[must_use]
    pub fn new<'a>(
        domain: &str,
        policy: &str,
        partition: impl Iterator<Item = (&'a str, &'a str)>,
        rule: &Rule,
    ) -> Self {
        let mut text = String::with_capacity(64);
        text.push_str("q1:{");
        let start = text.len();
        text.push_str(domain);
        let domain = start..text.len();
        text.push('|');
        for (i, (name, value)) in partition.enumerate() {
            if i > 0 {
                text.push('&');
            }
            escape(&mut text, name);
            text.push('=');
            escape(&mut text, value);
        }
        let tag = start..text.len();
        text.push_str("}:");
        text.push_str(policy);
        text.push_str(kind(rule));
        Self { text, tag, domain }
    }

    /// The key of this text, which [`Key::as_str`] gave once; none for any other text.
    #[must_use]
    pub fn restored(text: &str) -> Option<Self> {
        let (tag, policy) = text.strip_prefix("q1:{")?.split_once("}:")?;
        let (domain, partition) = tag.split_once('|')?;
        let (policy, kind) = policy.rsplit_once(':')?;
        let is_kind = matches!(kind, "w" | "b" | "f" | "l");
        let is_partition = partition.bytes().all(|byte| is_plain(byte) || b"%=&".contains(&byte));
        if !is_kind || check_name("", domain).is_err() || check_name("", policy).is_err() || !is_partition {
            return None;
        }
        let tag = 4..4 + tag.len();
        let domain = 4..4 + domain.len();
        Some(Self { text: text.to_owned(), tag, domain })
    }

    /// The policy's name.
    #[must_use]
    pub fn policy(&self) -> &str {
        let after = self.after_tag().trim_start_matches("}:");
        after.rsplit_once(':').map_or(after, |(policy, _)| policy)
    }

    /// Whether its counter is of this kind of rule.
    #[must_use]
    pub fn is_of(&self, rule: &Rule) -> bool {
        self.text.ends_with(kind(rule))
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.domain.clone()).unwrap_or_default()
    }

    /// Domain and partition: the hash tag, without its braces.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.text.get(self.tag.clone()).unwrap_or_default()
    }

    /// What follows the tag: `}:policy:kind`.
    #[must_use]
    pub fn after_tag(&self) -> &str {
        self.text.get(self.tag.end..).unwrap_or_default()
    }

    /// The counter that all new keys of this policy share while it has no room for more.
    #[must_use]
    pub fn overflow(&self) -> Self {
        let mut text = format!("q1:{{{}|*", self.domain());
        let tag = self.tag.start..text.len();
        text.push_str(self.after_tag());
        Self { text, tag, domain: self.domain.clone() }
    }
}

/// States of different kinds never share a key, so a changed algorithm starts afresh instead of misreading.
fn kind(rule: &Rule) -> &'static str {
    match rule {
        Rule::Window(_) => ":w",
        Rule::Bucket(_) => ":b",
        Rule::Fixed(_) => ":f",
        Rule::Leases(_) => ":l",
    }
}

/// Appends `value` with every byte outside a safe set as `%XX`.
pub(crate) fn escape(text: &mut String, value: &str) {
    if value.bytes().all(is_plain) {
        text.push_str(value);
        return;
    }
    for byte in value.bytes() {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/' | b'@' | b'+' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::Micros;
    use crate::engine::window::Window;

    fn key(pairs: &[(&str, &str)]) -> Key {
        let rule = Rule::Window(Window::new(10, Micros::SECOND));
        Key::new("default", "auth-per-ip", pairs.iter().copied(), &rule)
    }

    #[test]
    fn reads_well_in_a_redis_browser() {
        let key = key(&[("ip", "203.0.113.7")]);
        assert_eq!(key.as_str(), "q1:{default|ip=203.0.113.7}:auth-per-ip:w");
        assert_eq!(key.tag(), "default|ip=203.0.113.7");
        assert_eq!(key.overflow().as_str(), "q1:{default|*}:auth-per-ip:w");
    }

    #[test]
    fn values_cannot_forge_another_partition() {
        assert_ne!(key(&[("a", "1&b=2")]), key(&[("a", "1"), ("b", "2")]));
        assert_ne!(key(&[("a", "%31")]), key(&[("a", "1")]));
        assert_ne!(key(&[("a", "}:x:w")]).as_str(), key(&[("a", "")]).as_str());
        assert_ne!(key(&[("a", "*")]).tag(), key(&[]).overflow().tag());
    }
}
