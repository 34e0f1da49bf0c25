//! Descriptors: each an entry of the tree, with or without a limit, and what may follow it.

use super::super::diagnostic::{Findings, in_file};
use super::scalar::{Kind, Scalar};
use super::yaml::{Node, Value};
use super::{keys, limit};
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::{Builder, Limit, Spot};

/// Reads the descriptors of one file.
pub(super) struct Reader<'r, 'd> {
    /// Their domain.
    pub(super) domain: &'r str,
    /// The descriptors around the one that is read.
    pub(super) path: Vec<Spot>,
    /// The tree.
    pub(super) builder: &'r mut Builder,
    /// What is wrong with them.
    pub(super) out: &'r mut Findings<'d>,
}

impl Reader<'_, '_> {
    /// Reads `descriptors` of a file or of a descriptor.
    pub(super) fn read_list(&mut self, parent: &Node) {
        let Some(entry) = parent.get("descriptors").filter(|entry| !entry.value.is_null()) else { return };
        let Value::List(items) = &entry.value.value else {
            let subject = self.subject(None);
            let mistake =
                cannot_be("descriptors", entry.value.kind(), "a list of descriptors, each `- key: …`");
            return self.out.wrong(&subject, &entry.value.span, mistake);
        };
        for item in items {
            self.read_one(item);
        }
    }

    fn read_one(&mut self, node: &Node) {
        let Some(spot) = self.spot(node) else { return };
        let subject = self.subject(Some(&spot));
        keys::warn_of_idle(node, keys::DESCRIPTOR, &subject, self.out);
        if spot.shared && !spot.is_pattern() {
            let message = format!(
                "share_threshold can only be used with wildcard values (containing '*'), but found key '{}'",
                spot.joined()
            );
            let span = node.get("share_threshold").map_or(node.span.clone(), |entry| entry.span.clone());
            let hint = "remove it: a value without `*` has one counter anyway";
            self.out.wrong(&subject, &span, Mistake::new("share_threshold", message, hint));
        }
        let limit: Option<Limit> = limit::read(node, &subject, self.out);
        if let Err(duplicate) = self.builder.add(self.domain, &self.path, &spot, limit) {
            let message = format!("duplicate descriptor composite key '{}'", duplicate.name);
            let hint = "an entry of the same level has it, key and value joined by `_`; put both into one";
            return self.out.wrong(&subject, &node.span, Mistake::new("", message, hint));
        }
        self.path.push(spot);
        self.read_list(node);
        self.path.pop();
    }

    /// Key and value; nothing when they are wrong.
    fn spot(&mut self, node: &Node) -> Option<Spot> {
        let subject = self.subject(None);
        let mut read = |key: &str| match node.get(key) {
            Some(entry) => text(&entry.value, key, &subject, self.out),
            None => Some(String::new()),
        };
        let (key, value) = (read("key")?, read("value")?);
        if key.is_empty() {
            let span = node.get("key").map_or(node.span.clone(), |entry| entry.span.clone());
            let mistake = Mistake::new("key", "descriptor has empty key", "name the key that Envoy sends");
            self.out.wrong(&subject, &span, mistake);
            return None;
        }
        let shared = flag(node, "share_threshold", &subject, self.out);
        let value = (!value.is_empty()).then(|| value.into());
        Some(Spot { key: key.into(), value, shared })
    }

    /// The path as messages name it: `domain.key_value.key`.
    fn subject(&self, last: Option<&Spot>) -> String {
        let spots = self.path.iter().chain(last).map(Spot::joined);
        std::iter::once(self.domain.to_owned()).chain(spots).collect::<Vec<_>>().join(".")
    }
}

/// A value that must be a text; empty when it is nothing.
pub(super) fn text(node: &Node, key: &str, subject: &str, out: &mut Findings<'_>) -> Option<String> {
    match &node.value {
        Value::Scalar(Scalar { kind: Kind::Null, .. }) => Some(String::new()),
        Value::Scalar(Scalar { text, .. }) => Some(text.clone()),
        _ => {
            out.wrong(subject, &node.span, cannot_be(key, node.kind(), "a text"));
            None
        }
    }
}

/// A value that must be true or false; false when it is not there.
pub(super) fn flag(node: &Node, key: &str, subject: &str, out: &mut Findings<'_>) -> bool {
    let Some(entry) = node.get(key) else { return false };
    match &entry.value.value {
        Value::Scalar(Scalar { kind: Kind::Bool(set), .. }) => *set,
        Value::Scalar(Scalar { kind: Kind::Null, .. }) => false,
        _ => {
            let mistake = cannot_be(key, entry.value.kind(), "true or false, without quotes");
            out.wrong(subject, &entry.value.span, mistake);
            false
        }
    }
}

/// A value of the wrong kind.
pub(super) fn cannot_be(key: &str, kind: &str, wanted: &str) -> Mistake {
    let message = format!("error loading config file: cannot unmarshal {kind} into {key}");
    Mistake::new(key, message, format!("write {wanted}"))
}

/// Warns of a key of a descriptor or a limit.
pub(super) fn warn(node: &Node, subject: &str, mistake: Mistake, out: &mut Findings<'_>) {
    let found = in_file(out.document(), subject, &node.span, mistake);
    out.warn(found);
}
