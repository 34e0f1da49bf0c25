//! The metadata of an answer: what was asked, and what the limits that passed carry.

use super::parts::Part;
use super::{Descriptor, DescriptorStatus, Override, RateLimitCall};
use crate::engine::decision::Outcome;
use crate::engine::rate_limit::Unit;
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// The metadata of an answer.
pub(super) fn of(
    call: &RateLimitCall<'_>,
    parts: &[Part<'_>],
    statuses: &[DescriptorStatus],
) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("domain".to_owned(), call.domain.into());
    all.insert("descriptors".to_owned(), call.descriptors.iter().map(descriptor).collect());
    if call.hits_addend > 0 {
        all.insert("hitsAddend".to_owned(), call.hits_addend.into());
    }
    let mut carried = Map::new();
    for (part, status) in parts.iter().zip(statuses) {
        if let Part::Counted(counted) = part
            && status.outcome == Outcome::Allow
            && let Some(metadata) = counted.metadata
        {
            merge(&mut carried, metadata);
        }
    }
    if !carried.is_empty() {
        all.insert("metadata".to_owned(), Value::Object(carried));
    }
    all
}

fn descriptor(descriptor: &Descriptor<'_>) -> Value {
    let mut shown = Map::new();
    let entries = descriptor.entries.iter().map(|(key, value)| Value::from(format!("{key}={value}")));
    shown.insert("entries".to_owned(), entries.collect());
    if let Some(limit) = descriptor.limit {
        shown.insert("limit".to_owned(), text(limit).into());
    }
    if let Some(hits) = descriptor.hits {
        shown.insert("hitsAddend".to_owned(), hits.into());
    }
    Value::Object(shown)
}

/// A limit as the text form of its message, where zero is not written.
fn text(limit: Override) -> String {
    let unit = match limit.unit {
        Unit::Second => "SECOND",
        Unit::Minute => "MINUTE",
        Unit::Hour => "HOUR",
        Unit::Day => "DAY",
        Unit::Week => "WEEK",
        Unit::Month => "MONTH",
        Unit::Year => "YEAR",
    };
    let requests = (limit.requests > 0).then(|| format!("requests_per_unit:{} ", limit.requests));
    let multiplier = limit.multiplier.map(|units| format!(" unit_multiplier:{{value:{units}}}"));
    format!("{}unit:{unit}{}", requests.unwrap_or_default(), multiplier.unwrap_or_default())
}

/// Adds what is not there yet; objects on both sides are merged. Nothing of it is shared with the configuration.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match (into.entry(name.clone()), value) {
            (Entry::Vacant(free), value) => {
                free.insert(value.clone());
            }
            (Entry::Occupied(mut held), Value::Object(more)) => {
                if let Value::Object(held) = held.get_mut() {
                    merge(held, more);
                }
            }
            (Entry::Occupied(_), _) => {}
        }
    }
}
