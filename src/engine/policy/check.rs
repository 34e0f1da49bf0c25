//! What a policy's keys must be, each mistake in words.

use super::{MAX_ENTRIES, MAX_UNITS, PolicySpec};
use crate::engine::address::IpPrefix;
use crate::engine::bucket::Bucket;
use crate::engine::fixed::Fixed;
use crate::engine::leases::Leases;
use crate::engine::matcher::Matcher;
use crate::engine::mistake::Mistake;
use crate::engine::rule::{Algorithm, Rule};
use crate::engine::units::Micros;
use crate::engine::window::Window;

const MIN_WINDOW: Micros = Micros(1_000);
const MAX_WINDOW: Micros = Micros(366 * 86_400 * 1_000_000);
const MIN_TTL: Micros = Micros::SECOND;
const MAX_TTL: Micros = Micros(86_400 * 1_000_000);
/// Longest that a bucket may take to fill; keeps its arithmetic far inside 2^53.
const MAX_FILL: u64 = 10 * 366 * 86_400 * 1_000_000;

pub(super) fn build_rule(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> Rule {
    let limit = check_limit(spec, mistakes);
    if spec.algorithm != Algorithm::TokenBucket && spec.burst.is_some() {
        mistakes.push(Mistake::new(
            "burst",
            "only a token_bucket has a burst",
            "remove burst, or write algorithm: token_bucket",
        ));
    }
    if spec.algorithm == Algorithm::Concurrency {
        check_span("lease_ttl", spec.lease_ttl, (MIN_TTL, "1s"), (MAX_TTL, "1d"), mistakes);
        return Rule::Leases(Leases { limit, ttl: spec.lease_ttl });
    }
    let window = check_window(spec, mistakes);
    match spec.algorithm {
        Algorithm::TokenBucket => Rule::Bucket(build_bucket(spec, (limit, window), mistakes)),
        Algorithm::FixedWindow => Rule::Fixed(Fixed { limit, window }),
        _ => Rule::Window(Window::new(limit, window)),
    }
}

fn check_limit(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> u64 {
    let wrong = match spec.limit {
        Some(1..=MAX_UNITS) => None,
        Some(limit) => {
            Some((format!("limit is {limit}"), format!("write a whole number from 1 to {MAX_UNITS}")))
        }
        None => {
            let what = match spec.algorithm {
                Algorithm::Concurrency => "how many leases may be held at once, such as 5",
                _ => "how many units a window allows, such as 10",
            };
            Some(("limit is missing".to_owned(), format!("write {what}; a limit has no default")))
        }
    };
    mistakes.extend(wrong.map(|(message, hint)| Mistake::new("limit", message, hint)));
    // Stands in for a missing one, such that nothing else is called wrong for it.
    spec.limit.or(spec.burst).unwrap_or(spec.cost).clamp(1, MAX_UNITS)
}

fn check_window(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> Micros {
    if let Some(window) = spec.window {
        check_span("window", window, (MIN_WINDOW, "1ms"), (MAX_WINDOW, "366d"), mistakes);
        return window.clamp(MIN_WINDOW, MAX_WINDOW);
    }
    mistakes.push(Mistake::new(
        "window",
        "window is missing",
        "write the time that limit counts in, such as 1m; only algorithm: concurrency has none",
    ));
    Micros::from_seconds(60)
}

fn build_bucket(spec: &PolicySpec, rate: (u64, Micros), mistakes: &mut Vec<Mistake>) -> Bucket {
    let (limit, window) = rate;
    let burst = spec.burst.unwrap_or(limit);
    if burst == 0 || burst > MAX_UNITS {
        mistakes.push(Mistake::new(
            "burst",
            format!("burst is {burst}"),
            format!("write a whole number from 1 to {MAX_UNITS}; without it, burst is the limit"),
        ));
    }
    if limit > window.0 {
        mistakes.push(Mistake::new(
            "limit",
            format!("{limit} units in {} microseconds are too fast for a token_bucket", window.0),
            "a unit takes at least one microsecond: at most 1000000 a second",
        ));
    }
    let bucket = Bucket::new(limit, window, burst.max(1));
    if bucket.tolerance() > MAX_FILL {
        mistakes.push(Mistake::new(
            "burst",
            format!("a bucket of {burst} would take over ten years to fill"),
            "lower burst or raise limit",
        ));
    }
    bucket
}

fn check_span(
    field: &str,
    span: Micros,
    least: (Micros, &str),
    most: (Micros, &str),
    mistakes: &mut Vec<Mistake>,
) {
    if span < least.0 || span > most.0 {
        mistakes.push(Mistake::new(
            field,
            format!("{field} is {:?}", std::time::Duration::from(span)),
            format!("write a duration from {} to {}, such as 30s, 1m, 1h", least.1, most.1),
        ));
    }
}

pub(super) fn build_conditions(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) -> Vec<(Box<str>, Matcher)> {
    if spec.conditions.len() > MAX_ENTRIES {
        mistakes.push(Mistake::new(
            "match",
            format!("match has {} entries", spec.conditions.len()),
            format!("at most {MAX_ENTRIES}"),
        ));
    }
    let mut conditions = Vec::new();
    for (name, text) in &spec.conditions {
        mistakes.extend(check_entry_name("match", name).err());
        match Matcher::parse(&format!("match.{name}"), text) {
            Ok(matcher) => conditions.push((name.as_str().into(), matcher)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    conditions
}

pub(super) fn check_partition(spec: &PolicySpec, mistakes: &mut Vec<Mistake>) {
    if spec.partition.len() > MAX_ENTRIES {
        mistakes.push(Mistake::new(
            "partition",
            format!("partition has {} entries", spec.partition.len()),
            format!("at most {MAX_ENTRIES}"),
        ));
    }
    for (i, name) in spec.partition.iter().enumerate() {
        mistakes.extend(check_entry_name("partition", name).err());
        if spec.partition.iter().take(i).any(|earlier| earlier == name) {
            mistakes.push(Mistake::new(
                "partition",
                format!("`{name}` stands twice"),
                "name each entry once",
            ));
        }
        if let Some((_, text)) =
            spec.conditions.iter().find(|(condition, text)| condition == name && text.is_empty())
        {
            mistakes.push(Mistake::new(
                "partition",
                format!("no match can supply `{name}`: its condition `{text}` wants it empty"),
                "a partition needs a value; remove the entry from match or from partition",
            ));
        }
    }
}

/// The families of entries that a request supplies by a name of their own.
const FAMILIES: [&str; 4] = ["header", "cookie", "query", "claim"];

/// Checks the name of an entry: not empty, at most 256 bytes, and a known family before a colon.
///
/// # Errors
/// A mistake in `field`.
pub fn check_entry_name(field: &str, name: &str) -> Result<(), Mistake> {
    let wrong = |why: String| {
        Err(Mistake::new(
            field,
            why,
            "entries are ip, user, method, host, path, route, header:NAME, cookie:NAME, query:NAME, claim:NAME, or a plain name of the caller's",
        ))
    };
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return wrong(format!("`{}` is not an entry's name", name.escape_debug()));
    }
    match name.split_once(':') {
        Some((family, _)) if !FAMILIES.contains(&family) => {
            wrong(format!("no match can supply `{name}`: `{family}:` is no family of entries"))
        }
        Some((_, "")) => wrong(format!("no match can supply `{name}`: the name after the colon is missing")),
        Some(("header", header)) if header.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            wrong(format!("no match can supply `{name}`: header names are lower case here"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_cost(spec: &PolicySpec, rule: &Rule, mistakes: &mut Vec<Mistake>) {
    if spec.cost == 0 || spec.cost > MAX_UNITS {
        mistakes.push(Mistake::new(
            "cost",
            format!("cost is {}", spec.cost),
            format!("write a whole number from 1 to {MAX_UNITS}"),
        ));
    } else if spec.cost > rule.capacity() {
        mistakes.push(Mistake::new(
            "cost",
            format!("a cost of {} can never pass: at most {} fit at once", spec.cost, rule.capacity()),
            "lower cost, or raise limit (token_bucket: burst)",
        ));
    }
}

pub(super) fn check_prefix(prefix: IpPrefix, mistakes: &mut Vec<Mistake>) {
    for (field, bits, whole) in [("ip_prefix.v4", prefix.v4, 32), ("ip_prefix.v6", prefix.v6, 128)] {
        if bits == 0 || bits > whole {
            mistakes.push(Mistake::new(
                field,
                format!("{field} is {bits}"),
                format!("write a number of leading bits from 1 to {whole}"),
            ));
        }
    }
}
