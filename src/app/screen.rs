//! The one screen that a start shows: where it listens, what is in force, and a line to try.

use super::AppError;
use crate::config::{Config, StoreKind};
use crate::engine::policy::Policy;
use crate::engine::rule::{Algorithm, Rule};
use crate::engine::units::Micros;
use crate::server::{Address, Face, Listener};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Policies that are listed; a large set is counted.
const LISTED: usize = 20;

/// Prints it.
pub(super) fn show(
    config: &Config,
    listeners: &[Listener],
    threads: usize,
    took: Duration,
) -> Result<(), AppError> {
    let at = |listener: &Listener| Some((listener.face(), listener.address()?));
    let addresses: Vec<(Face, Address)> = listeners.iter().filter_map(at).collect();
    let text = screen(config, &addresses, threads, took);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn screen(config: &Config, addresses: &[(Face, Address)], threads: usize, took: Duration) -> String {
    let mut text = format!("quotad {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<9} {value}");
    };
    for (face, address) in addresses {
        let label = match face {
            Face::Grpc => "gRPC",
            Face::Http => "HTTP",
        };
        line(label, &address.to_string());
    }
    line("store", &store(config));
    line("threads", &threads.to_string());
    line("config", &format!("{}: {}", config.name(), config.summary()));
    let mut policies: Vec<&Policy> = config.policies.policies().map(|policy| &**policy).collect();
    // Stable: within a domain they stay in the order of the file.
    policies.sort_by(|one, other| one.domain.cmp(&other.domain));
    for (i, policy) in policies.iter().take(LISTED).enumerate() {
        line(if i == 0 { "policies" } else { "" }, &describe(policy));
    }
    if policies.len() > LISTED {
        line("", &format!("and {} more", policies.len() - LISTED));
    }
    if let Some(example) = example(&policies, addresses) {
        line("try", &example);
    }
    let _ = writeln!(text, "ready in {} ms", took.as_millis());
    text
}

fn store(config: &Config) -> String {
    match &config.store.kind {
        StoreKind::Memory { data_dir: Some(path) } => {
            format!("memory, revocations in {}", path.display())
        }
        StoreKind::Memory { data_dir: None } => "memory, revocations end with this process".to_owned(),
        StoreKind::Redis { url } => format!("{url}, decisions wait at most {:?}", config.store.timeout),
    }
}

fn describe(policy: &Policy) -> String {
    let quota = match policy.rule {
        Rule::Leases(leases) => format!("{} at once, leases of {}", leases.limit, span(leases.ttl)),
        Rule::Bucket(bucket) => {
            format!("{} per {}, burst {}", bucket.limit, span(bucket.window), bucket.burst)
        }
        rule => format!("{} per {}", rule.limit(), span(rule.window().unwrap_or_default())),
    };
    let by: Vec<&str> = policy.partition().collect();
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
    let algorithm = match policy.rule.algorithm() {
        Algorithm::SlidingWindow => "sliding_window",
        Algorithm::TokenBucket => "token_bucket",
        Algorithm::FixedWindow => "fixed_window",
        Algorithm::Concurrency => "concurrency",
    };
    let domain = match &*policy.domain {
        crate::engine::name::DEFAULT_DOMAIN => String::new(),
        domain => format!("{domain}/"),
    };
    let shadow = if policy.shadow { ", shadow" } else { "" };
    format!("{:<24} {quota}{by} ({algorithm}{shadow})", format!("{domain}{}", policy.name))
}

fn span(span: Micros) -> String {
    match span.whole_seconds() {
        Some(seconds) if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        Some(seconds) if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        Some(seconds) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        Some(seconds) => format!("{seconds}s"),
        None => format!("{:?}", Duration::from(span)),
    }
}

/// A line to paste, for the first policy whose partition is easy to make up.
fn example(policies: &[&Policy], addresses: &[(Face, Address)]) -> Option<String> {
    let (_, address) = addresses.iter().find(|(face, _)| *face == Face::Grpc)?;
    let target = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix://{}", path.display()),
    };
    let policy = policies.iter().find(|policy| {
        !policy.is_connection() && !policy.shadow && policy.partition().all(|name| !name.contains(':'))
    })?;
    let entries: Vec<String> = policy
        .partition()
        .map(|name| format!("\"{name}\":\"{}\"", if name == "ip" { "203.0.113.7" } else { "alice" }))
        .collect();
    let domain = match &*policy.domain {
        crate::engine::name::DEFAULT_DOMAIN => String::new(),
        domain => format!("\"domain\":\"{domain}\","),
    };
    Some(format!(
        "grpcurl -plaintext -d '{{{domain}\"policies\":[\"{}\"],\"entries\":{{{}}}}}' {target} quotad.v1.DecisionService/CheckLimit",
        policy.name,
        entries.join(",")
    ))
}
