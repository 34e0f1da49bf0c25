//! `metadata`: any map, which goes out with the answer as JSON.
//!
//! Promise: metadata that JSON cannot hold, with an infinity or a number that is none in it, is left out whole, with a
//! warning; the limit beside it holds.

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
    let made = map(node.entries());
    if let Err(no_json) = &made {
        let message = format!("{} is no number of JSON, so the metadata is left out", no_json.0);
        warn(node, subject, Mistake::new("metadata", message, "quote it"), out);
    }
    made.ok()
}

/// A number that JSON does not have, as it is written.
struct NoJson(String);

fn map(entries: &[Entry]) -> Result<Map<String, Json>, NoJson> {
    entries.iter().map(|entry| Ok((entry.key.text.clone(), json(&entry.value)?))).collect()
}

fn json(node: &Node) -> Result<Json, NoJson> {
    Ok(match &node.value {
        Value::Map(entries) => Json::Object(map(entries)?),
        Value::List(items) => Json::Array(items.iter().map(|item| json(item)).collect::<Result<_, _>>()?),
        Value::Scalar(Scalar { kind, text }) => match kind {
            Kind::Null => Json::Null,
            Kind::Bool(set) => Json::Bool(*set),
            Kind::Int(number) => Json::Number((*number).into()),
            Kind::Text => Json::String(text.clone()),
            Kind::Float(number) => {
                Json::Number(Number::from_f64(*number).ok_or_else(|| NoJson(text.clone()))?)
            }
        },
    })
}
