//! Mistakes in entries of `tokens` that can be seen without reading a key.

use super::algorithm::{Algorithm, Family};
use super::load::FIELD as KEY;
use super::revoked_key::Template;
use super::text::{MAX_TEXT_BYTES, is_plain};
use crate::engine::issuer::{IssuerSpec, KeySource, TokenSource};
use crate::engine::mistake::Mistake;
use crate::engine::units::Micros;

/// RFC 7519 section 4.1.4 speaks of a few minutes; every second more is a second longer for a stolen token.
const MAX_LEEWAY: Micros = Micros(60_000_000);
/// A hundred years of 365.25 days: the ends of revocations stay integers that Redis's scripts hold exactly.
const MAX_LIFETIME: Micros = Micros(36_525 * 86_400 * 1_000_000);
/// Most entries of each list.
const MAX_LIST: usize = 64;

/// Every mistake of one entry. The algorithms are those that were understood.
pub(super) fn check(spec: &IssuerSpec) -> (Vec<Algorithm>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    if spec.issuer.is_empty() || !is_plain(&spec.issuer) {
        let message = format!("`{}` is no issuer", spec.issuer.escape_debug());
        let hint =
            format!("write the `iss` of the tokens: 1 to {MAX_TEXT_BYTES} bytes without control characters");
        mistakes.push(Mistake::new("issuer", message, hint));
    }
    let algorithms = algorithms(spec, &mut mistakes);
    times(spec, &mut mistakes);
    lists(spec, &mut mistakes);
    if let Some(text) = &spec.revoked_key
        && let Err(mistake) = Template::parse(text)
    {
        mistakes.push(mistake);
    }
    if let KeySource::JwksUrl(url) = &spec.key {
        mistakes.extend(url_mistake(url));
    }
    (algorithms, mistakes)
}

/// Entries that claim an issuer of an earlier one.
pub(super) fn doubles(specs: &[IssuerSpec]) -> Vec<(usize, Mistake)> {
    let double = |(index, spec): (usize, &IssuerSpec)| {
        let first = specs.iter().take(index).find(|other| other.issuer == spec.issuer)?;
        let message =
            format!("`{}` is the issuer of the entry `{}` too", spec.issuer.escape_debug(), first.name);
        Some((index, Mistake::new("issuer", message, "keep one entry for each issuer")))
    };
    specs.iter().enumerate().filter_map(double).collect()
}

fn algorithms(spec: &IssuerSpec, mistakes: &mut Vec<Mistake>) -> Vec<Algorithm> {
    let mut known: Vec<Algorithm> = Vec::new();
    let mut unknown = false;
    for name in &spec.algorithms {
        match Algorithm::named(name) {
            Some(algorithm) if known.contains(&algorithm) => {}
            Some(algorithm) => known.push(algorithm),
            None => {
                unknown = true;
                let message = format!("`{}` is not an algorithm that quotad accepts", name.escape_debug());
                mistakes.push(Mistake::new("algorithms", message, format!("write {}", Algorithm::NAMES)));
            }
        }
    }
    if spec.algorithms.is_empty() {
        let hint = format!("list what the issuer signs with: {}", Algorithm::NAMES);
        mistakes.push(Mistake::new("algorithms", "no algorithm is listed", hint));
    }
    if !unknown {
        mistakes.extend(unfit(&spec.key, &known));
    }
    known
}

/// Algorithms that the key source cannot serve.
fn unfit(source: &KeySource, algorithms: &[Algorithm]) -> Option<Mistake> {
    let (first, rest) = algorithms.split_first()?;
    let families = rest.iter().any(|other| other.family() != first.family());
    match source {
        KeySource::File { .. } | KeySource::Env { .. } if families => Some(Mistake::new(
            "algorithms",
            "one key cannot serve algorithms of two families",
            "list the one algorithm of the key, or give a key set by `jwks_file` or `jwks_url`",
        )),
        KeySource::File { .. } | KeySource::Env { .. } if !rest.is_empty() => Some(Mistake::new(
            "algorithms",
            format!("{} algorithms are listed for one key", algorithms.len()),
            "list exactly one: a key that serves two can be made to verify by the weaker",
        )),
        KeySource::File { generate: true, .. } if first.family() != Family::Hmac => Some(Mistake::new(
            KEY,
            format!("`generate` makes secrets, and {first} needs a public key"),
            "remove `generate` and give the issuer's public key",
        )),
        KeySource::JwksUrl(_) if algorithms.iter().all(|one| one.family() == Family::Hmac) => {
            Some(Mistake::new(
                "algorithms",
                "a secret is never taken from a URL",
                "list the public-key algorithms of the set, or give the secret by `file` or `env`",
            ))
        }
        _ => None,
    }
}

fn times(spec: &IssuerSpec, mistakes: &mut Vec<Mistake>) {
    if spec.leeway > MAX_LEEWAY {
        let message = format!("{} s is more than 60 s", spec.leeway.seconds_up());
        mistakes.push(Mistake::new("leeway", message, "keep the clocks together and write 60s or less"));
    }
    if spec.max_lifetime == Micros(0) {
        mistakes.push(Mistake::new("max_lifetime", "0 s refuses every token", "write 15m, 1h or 8d"));
    } else if spec.max_lifetime > MAX_LIFETIME {
        mistakes.push(Mistake::new("max_lifetime", "it is more than a hundred years", "write 15m, 1h or 8d"));
    }
}

fn lists(spec: &IssuerSpec, mistakes: &mut Vec<Mistake>) {
    let named = [("require", &spec.require), ("types", &spec.types), ("audience", &spec.audience)];
    for (field, list) in named {
        if list.len() > MAX_LIST {
            let hint = format!("list at most {MAX_LIST}");
            mistakes.push(Mistake::new(field, format!("{} values are listed", list.len()), hint));
        }
        for value in list.iter().filter(|value| value.is_empty() || !is_plain(value)) {
            let message = format!("`{}` can stand in no token", value.escape_debug());
            mistakes.push(Mistake::new(field, message, "write 1 to 256 bytes without control characters"));
        }
    }
    if spec.type_claim.is_empty() || !is_plain(&spec.type_claim) {
        let message = format!("`{}` is no claim", spec.type_claim.escape_debug());
        mistakes.push(Mistake::new("type_claim", message, "write the name of a claim, such as type"));
    }
    for source in &spec.from {
        mistakes.extend(source_mistake(source));
    }
}

fn source_mistake(source: &TokenSource) -> Option<Mistake> {
    // The characters of a token in RFC 9110 section 5.6.2, which cookie names are.
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let (text, good, hint) = match source {
        TokenSource::Authorization => return None,
        TokenSource::Cookie(name) => (
            name,
            !name.is_empty() && name.bytes().all(in_token),
            "write cookie:NAME with the name of a cookie",
        ),
        TokenSource::Query(name) => {
            (name, !name.is_empty() && is_plain(name), "write query:NAME with the name of a query parameter")
        }
    };
    (!good).then(|| Mistake::new("from", format!("`{}` is no name", text.escape_debug()), hint))
}

fn url_mistake(text: &str) -> Option<Mistake> {
    let wrong = |why: &str| {
        // The text may hold a password; the field is enough to find it by.
        Some(Mistake::new(KEY, format!("the `jwks_url` {why}"), "write https://HOST/PATH"))
    };
    let Ok(url) = text.parse::<http::Uri>() else { return wrong("is no URL") };
    if url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return wrong("does not begin with https://: whoever is between could put in keys of their own");
    }
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            wrong("holds a password; write it without one")
        }
        Some(authority) if !authority.host().is_empty() => None,
        _ => wrong("names no host"),
    }
}
