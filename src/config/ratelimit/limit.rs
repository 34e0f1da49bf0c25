//! `rate_limit` and what stands beside it: how much, and what happens when it is used up.

use super::super::diagnostic::Findings;
use super::descriptor::{cannot_be, flag, text, warn};
use super::scalar::{Kind, Scalar};
use super::yaml::{Node, Value};
use super::{keys, metadata};
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::{Counting, Limit, Quota, Unit};
use crate::engine::rule::Algorithm;
use std::sync::Arc;

const UNITS: [(&str, Unit); 7] = [
    ("SECOND", Unit::Second),
    ("MINUTE", Unit::Minute),
    ("HOUR", Unit::Hour),
    ("DAY", Unit::Day),
    ("WEEK", Unit::Week),
    ("MONTH", Unit::Month),
    ("YEAR", Unit::Year),
];
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("sliding_window", Algorithm::SlidingWindow),
    ("token_bucket", Algorithm::TokenBucket),
    ("fixed_window", Algorithm::FixedWindow),
];

/// The limit of a descriptor, if it has one. What stands beside it is checked either way.
pub(super) fn read(descriptor: &Node, subject: &str, out: &mut Findings<'_>) -> Option<Limit> {
    let shadow = flag(descriptor, "shadow_mode", subject, out);
    let quota_mode = flag(descriptor, "quota_mode", subject, out);
    for unused in ["detailed_metric", "value_to_metric"] {
        flag(descriptor, unused, subject, out);
    }
    let metadata = metadata::read(descriptor, subject, out);
    let counting = counting(descriptor, subject, out);
    let entry = descriptor.get("rate_limit").filter(|entry| !entry.value.is_null())?;
    let node = &*entry.value;
    if !matches!(node.value, Value::Map(_)) {
        let mistake = cannot_be("rate_limit", node.kind(), "{unit: …, requests_per_unit: …}");
        out.wrong(subject, &node.span, mistake);
        return None;
    }
    keys::warn_of_idle(node, keys::LIMIT, subject, out);
    let name = node.get("name").and_then(|entry| text(&entry.value, "name", subject, out));
    let name = name.unwrap_or_default();
    let count = count(node, subject, out);
    let quota = quota(node, count, subject, out)?;
    let replaces = replaces(node, &name, subject, out);
    Some(Limit { name: name.into(), replaces, quota, shadow, quota_mode, metadata, counting })
}

fn quota(node: &Node, count: Option<u32>, subject: &str, out: &mut Findings<'_>) -> Option<Quota> {
    let written = match node.get("unit") {
        Some(entry) => text(&entry.value, "unit", subject, out)?,
        None => String::new(),
    };
    let upper = written.to_uppercase();
    let unit = UNITS.iter().find(|(name, _)| *name == upper).map(|(_, unit)| *unit);
    let span = node.get("unit").map_or(node.span.clone(), |entry| entry.value.span.clone());
    match (flag(node, "unlimited", subject, out), unit) {
        (true, Some(_)) => {
            let message = "should not specify rate limit unit when unlimited";
            out.wrong(subject, &span, Mistake::new("unit", message, "remove the unit, or `unlimited`"));
            None
        }
        (true, None) => {
            if let Some(entry) = node.get("unit").or_else(|| node.get("requests_per_unit")) {
                let mistake = Mistake::new("unlimited", "what stands beside it has no effect", "remove it");
                warn(&entry.value, subject, mistake, out);
            }
            Some(Quota::Unlimited)
        }
        (false, None) => {
            let message = format!("invalid rate limit unit '{written}'");
            let hint = "write second, minute, hour, day, week, month or year";
            out.wrong(subject, &span, Mistake::new("unit", message, hint));
            None
        }
        (false, Some(unit)) => {
            if count.is_none() {
                let mistake =
                    Mistake::new("requests_per_unit", "it is missing: this is a ban", "write 0 to mean it");
                warn(node, subject, mistake, out);
            }
            Some(Quota::Of(count.unwrap_or_default(), unit))
        }
    }
}

/// `requests_per_unit`; none when it is missing, nothing, or wrong.
fn count(node: &Node, subject: &str, out: &mut Findings<'_>) -> Option<u32> {
    let entry = node.get("requests_per_unit")?;
    let count = match &entry.value.value {
        Value::Scalar(Scalar { kind: Kind::Null, .. }) => return None,
        Value::Scalar(Scalar { kind: Kind::Int(count), .. }) => u32::try_from(*count).ok(),
        _ => None,
    };
    if count.is_none() {
        let wanted = format!("a whole number from 0 to {}, without quotes", u32::MAX);
        let mistake = cannot_be("requests_per_unit", entry.value.kind(), &wanted);
        out.wrong(subject, &entry.value.span, mistake);
    }
    // One that is wrong is reported already, and needs no warning.
    Some(count.unwrap_or_default())
}

fn replaces(node: &Node, own: &str, subject: &str, out: &mut Findings<'_>) -> Vec<Arc<str>> {
    let Some(entry) = node.get("replaces").filter(|entry| !entry.value.is_null()) else { return Vec::new() };
    let Value::List(items) = &entry.value.value else {
        let mistake = cannot_be("replaces", entry.value.kind(), "a list, each `- name: …`");
        out.wrong(subject, &entry.value.span, mistake);
        return Vec::new();
    };
    let mut names = Vec::new();
    for item in items {
        keys::warn_of_idle(item, keys::REPLACES, subject, out);
        let name = match item.get("name") {
            Some(entry) => text(&entry.value, "name", subject, out),
            None => Some(String::new()),
        };
        let Some(name) = name else { continue };
        let wrong = if name.is_empty() {
            Some(("should not have an empty replaces entry", "name the limit that this one replaces"))
        } else if name == own {
            Some(("replaces should not contain name of same descriptor", "name another limit"))
        } else {
            None
        };
        match wrong {
            Some((message, hint)) => {
                out.wrong(subject, &item.span, Mistake::new("replaces", message, hint));
            }
            None => names.push(name.into()),
        }
    }
    names
}

/// `quotad: {algorithm: …}`, our own key.
fn counting(descriptor: &Node, subject: &str, out: &mut Findings<'_>) -> Counting {
    let Some(entry) = descriptor.get(keys::OURS).filter(|entry| !entry.value.is_null()) else {
        return Counting::Everything;
    };
    let hint = "write quotad: {algorithm: sliding_window}, or token_bucket or fixed_window";
    for other in entry.value.entries().iter().filter(|entry| entry.key.text != "algorithm") {
        let message = format!("config error, unknown key '{}'", other.key.text);
        out.wrong(subject, &other.span, Mistake::new(keys::OURS, message, hint));
    }
    let word = entry.value.get("algorithm").map(|entry| &entry.value.value);
    let found = ALGORITHMS.iter().find(
        |(name, _)| matches!(word, Some(Value::Scalar(Scalar { kind: Kind::Text, text })) if text == name),
    );
    let Some((_, algorithm)) = found else {
        let message = "there is no algorithm of this name";
        out.wrong(subject, &entry.value.span, Mistake::new("quotad.algorithm", message, hint));
        return Counting::Everything;
    };
    Counting::Passed(*algorithm)
}
