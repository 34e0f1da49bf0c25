//! `metadata`: any map, which goes out with the answer as JSON.

use super::super::diagnostic::Findings;
use super::descriptor::{cannot_be, warn};
use super::scalar::{Kind, Scalar};
use super::yaml::{Entry, Node, Value};
use crate::engine::mistake::Mistake;
use serde_json::{Map, Number, Value as Json};

/// The metadata of a descriptor, if it has some.
pub(super) fn read(descriptor: &Node, subject: &str, out: &mut Findings<'_>) -> Option<Map<String, Json>> {
    let node = &*descriptor.get("metadata").filter(|entry| !entry.value.is_null())?.value;
    if !matches!(node.value, Value::Map(_)) {
        out.wrong(subject, &node.span, cannot_be("metadata", node.kind(), "a map"));
        return None;
    }
    Some(map(node.entries(), subject, out))
}

fn map(entries: &[Entry], subject: &str, out: &mut Findings<'_>) -> Map<String, Json> {
    entries.iter().map(|entry| (entry.key.text.clone(), json(&entry.value, subject, out))).collect()
}

fn json(node: &Node, subject: &str, out: &mut Findings<'_>) -> Json {
    match &node.value {
        Value::Map(entries) => Json::Object(map(entries, subject, out)),
        Value::List(items) => items.iter().map(|item| json(item, subject, out)).collect(),
        Value::Scalar(Scalar { kind, text }) => match kind {
            Kind::Null => Json::Null,
            Kind::Bool(set) => Json::Bool(*set),
            Kind::Int(number) => Json::Number((*number).into()),
            Kind::Text => Json::String(text.clone()),
            Kind::Float(number) => Number::from_f64(*number).map_or_else(
                || {
                    let message = format!("{text} is no number of JSON; it goes out as a text");
                    warn(node, subject, Mistake::new("metadata", message, "quote it"), out);
                    Json::String(text.clone())
                },
                Json::Number,
            ),
        },
    }
}
