//! Patterns of the configuration against whatever a client sends: any text must parse or be refused in words,
//! and what matches must hold to what the pattern's form promises.
//!
//! Input: the pattern's line, then the value.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use quotad::engine::address::{Cidr, IpPrefix, client_ip, parse_ip_and_port};
use quotad::engine::glob::{Case, Glob};
use quotad::engine::matcher::Matcher;
use quotad::engine::path;
use quotad::engine::policy_set::PolicySet;
use quotad::engine::route::{Route, RouteRequest, RouteSpec, normalise_host};
use std::net::IpAddr;

/// Entries are at most 256 bytes; longer expressions only compile longer.
const MOST: usize = 256;

fuzz_target!(|text: &str| -> Corpus {
    if text.len() > MOST {
        return Corpus::Reject;
    }
    let (pattern, value) = text.split_once('\n').unwrap_or((text, ""));
    matcher(pattern, value);
    paths(value);
    addresses(pattern, value);
    route(pattern, value);
    Corpus::Keep
});

fn matcher(pattern: &str, value: &str) {
    let matcher = match Matcher::parse("match", pattern) {
        Ok(matcher) => matcher,
        Err(mistake) => {
            assert!(!mistake.message.is_empty() && !mistake.hint.is_empty(), "a refusal without words");
            return;
        }
    };
    let holds = matcher.matches(value);
    match &matcher {
        Matcher::Exact(exact) => assert_eq!(holds, **exact == *value),
        Matcher::Prefix(prefix) => assert!(matcher.matches(prefix)),
        // The expression must take the whole value, however its parentheses are written.
        Matcher::Expression(regex) if holds => {
            let found = regex.find(value).expect("it matched");
            assert_eq!((found.start(), found.end()), (0, value.len()), "only a part of the value matched");
        }
        _ => {}
    }
}

fn paths(value: &str) {
    let normal = path::normalise(value);
    assert!(normal.starts_with('/'));
    for segment in normal.split('/').skip(1) {
        assert!(segment != "." && segment != "..", "a dot segment is left in {normal:?}");
        assert!(!segment.contains(['\\', ';']), "a separator is left in {normal:?}");
    }
    assert!(normal == "/" || !normal.ends_with('/'));
    if let Ok(readings) = path::readings(value) {
        assert_eq!(readings.first(), Some(&normal));
        for (at, reading) in readings.iter().enumerate() {
            assert!(
                reading.starts_with('/') && !reading.contains("//") && !reading.contains('\\'),
                "{reading:?}"
            );
            assert!(!readings[..at].contains(reading), "{reading:?} stands twice");
        }
    }
    if let Ok(glob) = Glob::parse("paths", &normal)
        && !normal.contains('*')
    {
        assert!(glob.matches(&normal, Case::Sensitive), "a plain path does not match itself: {normal:?}");
    }
}

fn addresses(pattern: &str, value: &str) {
    if let Some(ip) = parse_ip_and_port(value) {
        for prefix in [IpPrefix::default(), IpPrefix { v4: 0, v6: 0 }, IpPrefix { v4: 32, v6: 128 }] {
            let cut = prefix.cut(ip);
            let range: Cidr = cut.parse().expect("a cut address is a range");
            assert!(range.contains(ip), "{cut} does not hold {ip}");
        }
    }
    let trusted: Vec<Cidr> = pattern.parse().into_iter().collect();
    let peer = IpAddr::from([10, 0, 0, 1]);
    let client = client_ip(peer, value.split(','), &trusted);
    if !trusted.iter().any(|cidr| cidr.contains(peer)) {
        assert_eq!(client, peer, "an untrusted peer chose its address");
    }
}

fn route(pattern: &str, value: &str) {
    let spec = RouteSpec {
        hosts: vec![pattern.to_owned()],
        paths: vec![pattern.to_owned()],
        methods: vec![pattern.to_owned()],
        headers: vec![("x-any".to_owned(), pattern.to_owned())],
        ..RouteSpec::named("fuzz")
    };
    let alone = [
        RouteSpec { paths: Vec::new(), methods: Vec::new(), headers: Vec::new(), ..spec.clone() },
        RouteSpec { hosts: Vec::new(), methods: Vec::new(), headers: Vec::new(), ..spec.clone() },
        RouteSpec { hosts: Vec::new(), paths: Vec::new(), headers: Vec::new(), ..spec.clone() },
        RouteSpec { hosts: Vec::new(), paths: Vec::new(), methods: Vec::new(), ..spec },
    ];
    let (host, path) = (normalise_host(value), path::normalise(value));
    for spec in alone {
        match Route::build(spec, &PolicySet::default(), &[]) {
            Ok(route) => {
                let request = RouteRequest {
                    method: value,
                    host: &host,
                    path: &path,
                    header: |name: &str| (name == "x-any").then_some(value),
                };
                let _ = route.matches(&request);
            }
            Err(mistakes) => assert!(!mistakes.is_empty(), "refused without a mistake"),
        }
    }
}
