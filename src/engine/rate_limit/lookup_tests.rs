//! How a descriptor finds its limit, against the rule written a second time: plainly, over maps of joined texts.

use super::tree::{Builder, RateLimitSet, Spot};
use super::{Counting, Limit, Quota, Unit};
use proptest::prelude::*;
use std::collections::HashMap;

fn limit(name: &str) -> Limit {
    Limit {
        name: name.into(),
        replaces: Vec::new(),
        quota: Quota::Of(5, Unit::Hour),
        shadow: false,
        quota_mode: false,
        metadata: None,
        counting: Counting::Everything,
    }
}

/// An entry of a file: a limit has its joined path for a name.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: String,
    limited: bool,
    below: Vec<Entry>,
}

fn entry(written: &str) -> Entry {
    let (key, value) = written.split_once('=').unwrap_or((written, ""));
    Entry { key: key.into(), value: value.into(), limited: true, below: Vec::new() }
}

fn bare(written: &str) -> Entry {
    Entry { limited: false, ..entry(written) }
}

fn build(entries: &[Entry]) -> RateLimitSet {
    fn add(builder: &mut Builder, before: &mut Vec<Spot>, entries: &[Entry]) {
        for entry in entries {
            let value = (!entry.value.is_empty()).then(|| entry.value.as_str().into());
            let spot = Spot { key: entry.key.as_str().into(), value, shared: false };
            let name: String = before.iter().chain([&spot]).map(|spot| spot.joined() + "/").collect();
            let limit = entry.limited.then(|| limit(&name));
            // Of two that join to the same the first stays.
            if builder.add("d", before, &spot, limit).is_ok() {
                before.push(spot);
                add(builder, before, &entry.below);
                before.pop();
            }
        }
    }
    let mut builder = Builder::default();
    add(&mut builder, &mut Vec::new(), entries);
    builder.build()
}

/// The name of the limit that is found, nothing when there is none.
fn found(set: &RateLimitSet, asked: &[(&str, &str)]) -> Option<String> {
    set.find("d", asked).map(|found| found.limit.name.to_string())
}

/// The same by the rule of the original: a map from `key` or `key_value` to the entry, and a list of the texts with `*`.
fn plainly(entries: &[Entry], asked: &[(&str, &str)]) -> Option<String> {
    let (mut level, mut name) = (entries, String::new());
    let (last, _) = asked.split_last()?;
    for (depth, (key, value)) in asked.iter().enumerate() {
        let (mut map, mut wild) = (HashMap::<String, &Entry>::new(), Vec::new());
        for entry in level {
            let text = match entry.value.as_str() {
                "" => entry.key.clone(),
                value => format!("{}_{value}", entry.key),
            };
            if map.contains_key(&text) {
                continue;
            }
            if text.contains('*') {
                wild.push(text.clone());
            }
            map.insert(text, entry);
        }
        let text = format!("{key}_{value}");
        let chosen = [&text].into_iter().chain(wild.iter().filter(|pattern| likes(pattern, &text)));
        let chosen = chosen.chain([&(*key).to_owned()]).find(|text| map.contains_key(*text)).cloned()?;
        name += &(chosen.clone() + "/");
        let entry = map[&chosen];
        if depth + 1 == asked.len() {
            assert_eq!((key, value), (&last.0, &last.1));
            return entry.limited.then_some(name);
        }
        level = &entry.below;
    }
    None
}

/// Whether a text fits a pattern, letter by letter.
fn likes(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| likes(rest, &text[at..])),
        letter => text.strip_prefix(letter).is_some_and(|text| likes(rest, text)),
    }
}

/// What a request finds among entries of one level, by both.
fn finds(entries: &[Entry], key: &str, value: &str) -> Option<String> {
    let name = found(&build(entries), &[(key, value)]);
    assert_eq!(name, plainly(entries, &[(key, value)]), "{entries:?} {key}={value}");
    name
}

#[test]
fn a_pattern_of_keys_without_a_value_must_end_where_the_value_ends() {
    let alone = [entry("pa*h")];
    assert_eq!(finds(&alone, "path", "日本"), None);
    assert_eq!(finds(&alone, "path", ""), None);
    assert_eq!(finds(&alone, "path", "h"), Some("pa*h/".into()));
    assert_eq!(finds(&[entry("pa*h"), entry("path")], "path", "true"), Some("path/".into()));
}

#[test]
fn a_literal_star_finds_what_is_written_so_before_any_pattern() {
    assert_eq!(finds(&[entry("k k=*"), bare("k k=**")], "k k", "**"), None);
    assert_eq!(finds(&[entry("*=**"), entry("a=b*c")], "a", "b*c"), Some("a_b*c/".into()));
    assert_eq!(finds(&[entry("us*=*"), entry("user=v*l*")], "user", "v*l*"), Some("user_v*l*/".into()));
    assert_eq!(finds(&[entry("us*=*"), entry("user=v*l*")], "user", "vel"), Some("us*_*/".into()));
    // Nothing fits `pa*h_x`, but the key is written so.
    assert_eq!(finds(&[entry("pa*h")], "pa*h", "x"), Some("pa*h/".into()));
}

#[test]
fn a_pattern_is_compared_with_key_and_value_joined() {
    let both = [entry("pa*h"), entry("pa*h=*_y")];
    assert_eq!(finds(&both, "pa1h", "._y"), Some("pa*h_*_y/".into()));
    assert_eq!(finds(&[entry("*=b")], "a", "x_b"), Some("*_b/".into()), "the star reaches into the value");
    assert_eq!(finds(&[entry("*=b")], "a_b", ""), None);
    assert_eq!(finds(&[entry("a=*b*")], "a_b", ""), Some("a_*b*/".into()), "and out of the key");
}

/// Short texts around `*` that often meet.
fn text(letters: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(letters).unwrap()
}

fn entries(key: &'static str) -> impl Strategy<Value = Vec<Entry>> {
    let one = (text(key), text("[ab_*é]{0,3}"), any::<bool>());
    let leaf = one.prop_map(|(key, value, limited)| Entry { key, value, limited, below: Vec::new() });
    let deep = leaf.prop_recursive(3, 24, 5, move |inner| {
        let one = (text(key), text("[ab_*é]{0,3}"), any::<bool>(), prop::collection::vec(inner, 0..5));
        one.prop_map(|(key, value, limited, below)| Entry { key, value, limited, below })
    });
    prop::collection::vec(deep, 0..6)
}

fn asked(key: &'static str) -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((text(key), text("[ab_*é]{0,4}")), 1..4)
}

fn borrowed(asked: &[(String, String)]) -> Vec<(&str, &str)> {
    asked.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// A key without `_`, so that a joined text has one reading and the two must agree everywhere.
    #[test]
    fn every_lookup_is_that_of_joined_texts(entries in entries("[ab*é]{1,3}"), asked in asked("[ab*é]{0,3}")) {
        let asked = borrowed(&asked);
        prop_assert_eq!(found(&build(&entries), &asked), plainly(&entries, &asked));
    }
}
