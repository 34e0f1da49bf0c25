//! From a key of an entry back to its place in the file.

use super::diagnostic::{Diagnostic, Findings, Place, elsewhere, in_file};
use super::document::Document;
use super::policies;
use super::tree::{Node, Value};
use crate::engine::mistake::Mistake;
use crate::engine::policy_set;
use std::ops::Range;
use std::sync::Arc;

/// An entry of a list of the configuration, by its place from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Of `policies`.
    Policy(usize),
    /// Of `routes`.
    Route(usize),
    /// Of `tokens`.
    Token(usize),
}

impl From<policy_set::Item> for Item {
    fn from(item: policy_set::Item) -> Self {
        match item {
            policy_set::Item::Policy(index) => Self::Policy(index),
            policy_set::Item::Route(index) => Self::Route(index),
        }
    }
}

impl Item {
    fn path(self) -> (&'static str, usize) {
        match self {
            Self::Policy(index) => ("policies", index),
            Self::Route(index) => ("routes", index),
            Self::Token(index) => ("tokens", index),
        }
    }
}

/// Reports a mistake in a key of an entry.
pub(super) fn report(item: Item, subject: &str, mistake: Mistake, out: &mut Findings<'_>) {
    let found = find(out.document(), item).map(|node| spot(node, &mistake));
    match found {
        Some(span) => out.wrong(subject, &span, mistake),
        None => out.push(diagnostic(out.document(), item, mistake)),
    }
}

/// A mistake in a key of an entry, with its line.
pub(super) fn diagnostic(document: &Document, item: Item, mistake: Mistake) -> Diagnostic {
    let (list, index) = item.path();
    match find(document, item) {
        Some(node) => {
            let span = spot(node, &mistake);
            in_file(document, &policies::subject(list, index, node), &span, mistake)
        }
        None => {
            let place = Place::File { name: document.name.clone(), position: None };
            Diagnostic { subject: format!("{list}[{index}]"), ..elsewhere(place, mistake) }
        }
    }
}

/// The entry itself.
pub(super) fn find(document: &Document, item: Item) -> Option<&Arc<Node>> {
    let (list, index) = item.path();
    match &document.root.as_ref()?.get(list)?.value.value {
        Value::List(items) => items.get(index),
        _ => None,
    }
}

/// The part of an entry that a mistake is about: the value of its field, the item of a list that the message shows,
/// the key when nothing stands behind it, and the entry's beginning when the field is not there.
fn spot(node: &Node, mistake: &Mistake) -> Range<usize> {
    let mut node = node;
    let mut path = mistake.field.as_str();
    let mut fallback = node.span.start..node.span.start;
    while !path.is_empty() {
        // Keys may hold dots themselves, so the longest that is there counts.
        let ends: Vec<usize> = path.match_indices('.').map(|(at, _)| at).chain([path.len()]).collect();
        let found = ends.into_iter().rev().find_map(|end| {
            let (key, rest) = (path.get(..end)?, path.get(end..)?);
            Some((node.get(key)?, rest.strip_prefix('.').unwrap_or(rest)))
        });
        let Some((entry, rest)) = found else { return fallback };
        fallback = entry.key.span.clone();
        (node, path) = (&entry.value, rest);
        if entry.value.span.is_empty() {
            return fallback;
        }
    }
    if let Value::List(items) = &node.value {
        let shown = |item: &&Arc<Node>| match &item.value {
            Value::Scalar { text, .. } => mistake.message.contains(&format!("`{text}`")),
            _ => false,
        };
        // The last one: of a text that stands twice, the second is the mistake.
        if let Some(item) = items.iter().rev().find(shown) {
            return item.span.clone();
        }
    }
    if node.span.is_empty() { fallback } else { node.span.clone() }
}

/// The place of a key of the file's own sections, `store.data_dir`; the file's beginning when it is not there.
pub(super) fn section(document: &Document, mistake: Mistake) -> Diagnostic {
    let root = document.root.as_ref();
    let span = root.map(|root| spot(root, &mistake)).unwrap_or_default();
    match root {
        Some(_) => in_file(document, "", &span, mistake),
        None => {
            let place = Place::File { name: document.name.clone(), position: None };
            elsewhere(place, mistake)
        }
    }
}
