//! Which keys there are, wherever they stand, as the original asks it of a whole file before it reads a part of it.

use super::super::diagnostic::{Findings, in_file};
use super::super::nearest::nearest;
use super::scalar::{Kind, Scalar};
use super::yaml::{Entry, Node, Value};
use crate::engine::mistake::Mistake;

/// The keys of a file.
pub(super) const ROOT: &[&str] = &["domain", "descriptors"];
/// The keys of a descriptor.
pub(super) const DESCRIPTOR: &[&str] = &[
    "key",
    "value",
    "rate_limit",
    "descriptors",
    "shadow_mode",
    "quota_mode",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
    OURS,
];
/// The keys of a limit.
pub(super) const LIMIT: &[&str] = &["unit", "requests_per_unit", "unlimited", "name", "replaces"];
/// The keys of an entry of `replaces`.
pub(super) const REPLACES: &[&str] = &["name"];
/// The key that the original does not have.
pub(super) const OURS: &str = "quotad";

const KNOWN: [&str; 17] = [
    "domain",
    "key",
    "value",
    "descriptors",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "shadow_mode",
    "quota_mode",
    "name",
    "replaces",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
    OURS,
];

/// Reports every key that is not known, and every value that no key can have.
pub(super) fn check(node: &Node, out: &mut Findings<'_>) {
    for entry in node.entries() {
        let Entry { key, span, value } = entry;
        if key.kind != Kind::Text {
            let message = format!("config error, key is not of type string: {}", key.text);
            out.wrong("", span, Mistake::new("", message, "quote it if it is meant as a text"));
        } else if !KNOWN.contains(&key.text.as_str()) {
            out.wrong("", span, unknown(&key.text));
        } else if key.text != "metadata" && key.text != OURS {
            check_value(value, &key.text, out);
        }
    }
}

fn unknown(key: &str) -> Mistake {
    let hint = nearest(key, &KNOWN).map_or_else(
        || "keys are, in small letters: domain, descriptors, key, value, rate_limit, …".to_owned(),
        |meant| format!("did you mean {meant}?"),
    );
    Mistake::new("", format!("config error, unknown key '{key}'"), hint)
}

fn check_value(value: &Node, key: &str, out: &mut Findings<'_>) {
    match &value.value {
        Value::Map(_) => check(value, out),
        Value::List(items) => {
            for item in items {
                match &item.value {
                    Value::Map(_) => check(item, out),
                    other => {
                        let shown = match other {
                            Value::Scalar(scalar) => scalar.text.as_str(),
                            _ => "[…]",
                        };
                        let message =
                            format!("config error, yaml file contains list of type other than map: {shown}");
                        out.wrong("", &item.span, Mistake::new(key, message, "write - key: value"));
                    }
                }
            }
        }
        Value::Scalar(Scalar { kind: Kind::Float(_), text }) => {
            let message = format!("error checking config: {text} is a number with a fraction or too large");
            let hint = "write a whole number, or quote the value if it is meant as a text";
            out.wrong("", &value.span, Mistake::new(key, message, hint));
        }
        Value::Scalar(_) => {}
    }
}

/// Warns of keys that are known elsewhere and do nothing here.
pub(super) fn warn_of_idle(node: &Node, known: &[&str], subject: &str, out: &mut Findings<'_>) {
    for Entry { key, span, .. } in node.entries() {
        if !known.contains(&key.text.as_str()) {
            let hint = format!("here are: {}", known.join(", "));
            let mistake = Mistake::new(&key.text, "it has no effect in this place", hint);
            let found = in_file(out.document(), subject, span, mistake);
            out.warn(found);
        }
    }
}
