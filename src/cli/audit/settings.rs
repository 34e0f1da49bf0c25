//! What a configuration shows by itself. It holds, or it would not have been loaded; here is what it leaves open.

use super::row::Row;
use crate::config::{Config, StoreKind};
use crate::engine::http::default_security_headers;
use crate::engine::issuer::{IssuerSpec, OnRevocationError};
use crate::engine::policy::PolicySpec;
use crate::engine::route::{RouteSpec, TokenNeed};
use crate::engine::units::Micros;
use std::net::IpAddr;

/// Longer, a stolen token is good for too long.
const LONG_LIFETIME: Micros = Micros(8 * 86_400 * 1_000_000);
/// More difference than clocks that are kept have.
const LONG_LEEWAY: Micros = Micros(30 * 1_000_000);
/// What stands in paths on which secrets are tried.
const LOG_IN_WORDS: [&str; 5] = ["login", "signup", "password", "token", "otp"];
/// Public addresses far apart: who trusts all of a family trusts everybody.
const ANYBODY: [[IpAddr; 4]; 2] = {
    use std::net::{Ipv4Addr, Ipv6Addr};
    const fn v4(first: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(first, 1, 1, 1))
    }
    const fn v6(first: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 1))
    }
    [[v4(1), v4(93), v4(151), v4(203)], [v6(0x2001), v6(0x2606), v6(0x2a00), v6(0x2c0f)]]
};

/// Every check of the configuration.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let mut rows: Vec<Row> = config.issuers.iter().flat_map(tokens).collect();
    if config.issuers.is_empty() {
        rows.push(Row::skipped("tokens", "no issuer is configured"));
    } else {
        rows.push(revocations(config));
    }
    rows.extend(log_ins(config));
    rows.extend(config.route_specs().iter().flat_map(|route| without_token(route, config)));
    rows.push(trusted_proxies(config));
    rows.push(security_headers(config));
    rows
}

fn tokens(issuer: &IssuerSpec) -> [Row; 5] {
    let name = &issuer.name;
    let algorithms = issuer.algorithms.join(", ");
    let accepted = format!("{name}: {algorithms}; `none` is impossible, and a short secret does not load");
    [
        Row::ok("token-algorithms", accepted),
        required(issuer),
        match issuer.max_lifetime > LONG_LIFETIME {
            true => Row::warn(
                "token-lifetime",
                format!("{name}: max_lifetime is {} days", issuer.max_lifetime.seconds_up() / 86_400),
                "Issue tokens of minutes or hours, and bring max_lifetime down to what they need.",
            ),
            false => Row::ok("token-lifetime", format!("{name}: max_lifetime is 8 days or less")),
        },
        match issuer.leeway > LONG_LEEWAY {
            true => Row::warn(
                "token-leeway",
                format!("{name}: leeway is {} s", issuer.leeway.seconds_up()),
                "Keep the clocks right, and take the default of 30s.",
            ),
            false => Row::ok("token-leeway", format!("{name}: leeway is 30 s or less")),
        },
        match issuer.on_store_error {
            OnRevocationError::Deny => {
                Row::ok("token-store-error", format!("{name}: refused while revocations cannot be read"))
            }
            OnRevocationError::Allow => Row::warn(
                "token-store-error",
                format!("{name}: revoked tokens are good again while the store is away"),
                "Write on_store_error: deny, unless being away is worse than a revoked token.",
            ),
        },
    ]
}

fn required(issuer: &IssuerSpec) -> Row {
    let check = "token-require";
    // `exp` always is.
    let missing: Vec<&str> = ["sub", "jti", "iat"]
        .into_iter()
        .filter(|claim| issuer.require.iter().all(|one| one != claim))
        .collect();
    let message = format!("{}: `require` lacks {}", issuer.name, missing.join(", "));
    match missing.as_slice() {
        [] => Row::ok(check, format!("{}: sub, jti, iat and exp", issuer.name)),
        ["iat"] => {
            Row::warn(check, message, "Add iat, so that no token outlives the revocation of its subject.")
        }
        _ => Row::fail(
            check,
            message,
            "Add them: without sub nobody is limited by user, and without jti no token is revoked by itself.",
        ),
    }
}

fn revocations(config: &Config) -> Row {
    let check = "revocations-kept";
    match &config.store.kind {
        StoreKind::Redis { .. } => Row::ok(check, "in Redis"),
        StoreKind::Memory { data_dir: Some(_) } => Row::ok(check, "in store.data_dir"),
        StoreKind::Memory { data_dir: None } => Row::fail(
            check,
            "revoked tokens are good again after a restart",
            "Set store.data_dir, or use Redis.",
        ),
    }
}

/// A row for each route on which secrets can be tried.
fn log_ins(config: &Config) -> Vec<Row> {
    let check = "log-in-limit";
    let is_log_in = |path: &String| {
        let path = path.to_lowercase();
        LOG_IN_WORDS.iter().any(|word| path.contains(word))
    };
    let takes_post =
        |route: &&RouteSpec| route.methods.is_empty() || route.methods.iter().any(|method| method == "POST");
    let routes = config.route_specs().iter().filter(takes_post);
    let rows: Vec<Row> =
        routes.filter(|route| route.paths.iter().any(is_log_in)).map(|route| log_in(route, config)).collect();
    if rows.is_empty() {
        let words = LOG_IN_WORDS.join(", ");
        return vec![Row::skipped(check, format!("no route for POST has a path with {words}"))];
    }
    rows
}

fn log_in(route: &RouteSpec, config: &Config) -> Row {
    let (check, name) = ("log-in-limit", &route.name);
    let by_ip = |policy: &&PolicySpec| policy.partition.iter().any(|entry| entry == "ip");
    let found: Vec<&PolicySpec> = policies(route, &route.policies, config).filter(by_ip).collect();
    let enforced = |policy: &&&PolicySpec| !policy.shadow;
    match found.iter().find(enforced) {
        Some(policy) if policy.conditions.is_empty() => {
            Row::ok(check, format!("route {name}: limited by ip, under {}", policy.name))
        }
        Some(policy) => Row::warn(
            check,
            format!("route {name}: limited by ip only where the `match` of {} holds", policy.name),
            "Add a policy with partition: [ip] and no match.",
        ),
        None if found.is_empty() => Row::fail(
            check,
            format!("route {name}: no policy counts by ip"),
            "Name a policy with partition: [ip] under its policies, such as auth-per-ip.",
        ),
        None => Row::fail(
            check,
            format!("route {name}: what counts by ip is in shadow and refuses nobody"),
            "Take shadow: true away from it once its limit has proved right.",
        ),
    }
}

fn policies<'a>(
    route: &'a RouteSpec,
    names: &'a [String],
    config: &'a Config,
) -> impl Iterator<Item = &'a PolicySpec> {
    let of_domain = config.policy_specs().iter().filter(move |policy| policy.domain == route.domain);
    of_domain.filter(move |policy| names.contains(&policy.name))
}

/// What a route means that looks at no token, and counts as if it did or holds connections.
fn without_token(route: &RouteSpec, config: &Config) -> Vec<Row> {
    if route.token != TokenNeed::Ignored {
        return Vec::new();
    }
    let name = &route.name;
    let by_user = |policy: &PolicySpec| policy.partition.iter().any(|entry| entry == "user");
    let named = [&route.policies, &route.connection];
    let mut rows: Vec<Row> = named
        .into_iter()
        .flat_map(|names| policies(route, names, config))
        .filter(|policy| by_user(policy))
        .map(|policy| {
            Row::fail(
                "user-without-token",
                format!("route {name}: {} counts by user, and no token says who that is", policy.name),
                "Write token: required on the route, or count by ip.",
            )
        })
        .collect();
    if !route.connection.is_empty() && rows.is_empty() {
        rows.push(Row::warn(
            "connection-without-token",
            format!("route {name}: connections are held for whom nobody knows"),
            "Write token: required, so that a connection ends when its token is revoked.",
        ));
    }
    rows
}

fn trusted_proxies(config: &Config) -> Row {
    let check = "trusted-proxies";
    let trusted = &config.http.trusted_proxies;
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|proxy| proxy.contains(*ip));
    match ANYBODY.iter().any(|family| family.iter().all(is_trusted)) {
        true => Row::fail(
            check,
            "everybody is trusted: any client chooses its own address, and so its counter",
            "Write the addresses of your own proxies, and no more, into http.trusted_proxies.",
        ),
        false if trusted.is_empty() => {
            Row::ok(check, "none: who connects is the client, and X-Forwarded-For is not believed")
        }
        false => Row::ok(check, format!("{} of them, not everybody", trusted.len())),
    }
}

fn security_headers(config: &Config) -> Row {
    let check = "security-headers";
    let set = &config.http.face.security_headers;
    let is_set = |name: &str| set.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let off: Vec<String> =
        default_security_headers().into_iter().map(|(name, _)| name).filter(|name| !is_set(name)).collect();
    match off.is_empty() {
        true => Row::ok(check, "all five are on"),
        false => Row::warn(
            check,
            format!("switched off: {}", off.join(", ")),
            "Take the `null` away from http.security_headers, or see that another layer sets them.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Grade;
    use super::super::samples;
    use super::*;

    const NOTHING: [(&str, Grade); 0] = [];
    const GOOD: &str = "
store: {url: 'memory:', data_dir: data}
http: {trusted_proxies: [10.0.0.0/8]}
tokens:
  - {name: app, issuer: a, algorithms: [HS256], key: {file: k, generate: true}, require: [sub, jti, exp, iat]}
policies:
  - {name: auth, partition: [ip], limit: 10, window: 1m}
  - {name: ai, partition: [user], limit: 10, window: 1m}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 5}
  - {name: streams, partition: [ip], algorithm: concurrency, limit: 5}
routes:
  - {name: login, methods: [POST], paths: [/v1/Login], policies: [auth]}
  - {name: ai, paths: ['/ai/**'], token: required, policies: [ai]}
  - {name: sockets, paths: ['/ws/**'], token: required, connection: [sockets]}
  - {name: pages, methods: [GET], paths: [/password]}
";

    /// The checks that are not good after these changes.
    fn bad(changes: &[(&str, &str)]) -> Vec<(&'static str, Grade)> {
        let mut text = GOOD.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let rows = rows(&samples::config(&text)).into_iter();
        rows.filter(|row| row.grade != Grade::Ok).map(|row| (row.check, row.grade)).collect()
    }

    #[test]
    fn a_careful_configuration_is_good() {
        assert_eq!(bad(&[]), NOTHING);
    }

    #[test]
    fn the_shipped_configuration_fails_nowhere() {
        let config = crate::config::load(&crate::config::Source::shipped()).unwrap();
        let rows = rows(&config);
        assert!(rows.iter().all(|row| row.grade != Grade::Fail), "{rows:?}");
    }

    #[test]
    fn tokens_without_claims_lifetime_or_a_place_for_revocations_are_told_of() {
        let one = |from, to| bad(&[(from, to)]);
        assert_eq!(one(", exp, iat]", ", exp]"), [("token-require", Grade::Warn)]);
        assert_eq!(one("jti, exp", "exp"), [("token-require", Grade::Fail)]);
        assert_eq!(one("sub, jti", "jti"), [("token-require", Grade::Fail)]);
        assert_eq!(one("require:", "max_lifetime: 9d, require:"), [("token-lifetime", Grade::Warn)]);
        assert_eq!(one("require:", "leeway: 31s, require:"), [("token-leeway", Grade::Warn)]);
        assert_eq!(one("require:", "on_store_error: allow, require:"), [("token-store-error", Grade::Warn)]);
        assert_eq!(one(", data_dir: data", ""), [("revocations-kept", Grade::Fail)]);
        assert_eq!(one("'memory:', data_dir: data", "'redis://127.0.0.1:1'"), NOTHING);
    }

    #[test]
    fn a_log_in_that_nobody_counts_by_ip_fails() {
        let one = |from, to| bad(&[(from, to)]);
        assert_eq!(one(", policies: [auth]", ""), [("log-in-limit", Grade::Fail)]);
        assert_eq!(
            one("methods: [POST], paths: [/v1/Login], policies: [auth]", "paths: [/otp]"),
            [("log-in-limit", Grade::Fail)]
        );
        assert_eq!(
            one(
                "limit: 10, window: 1m}\n  - {name: ai",
                "limit: 10, window: 1m, shadow: true}\n  - {name: ai"
            ),
            [("log-in-limit", Grade::Fail)]
        );
        assert_eq!(
            one("{name: auth,", "{name: auth, match: {method: POST},"),
            [("log-in-limit", Grade::Warn)]
        );
        assert_eq!(one("/v1/Login", "/v1/enter"), [("log-in-limit", Grade::Skipped)]);
    }

    #[test]
    fn counting_by_user_without_a_token_fails_and_holding_for_nobody_is_warned_of() {
        let ignored = |route: &str| bad(&[(format!("{route}, token: required").as_str(), route)]);
        assert_eq!(ignored("['/ai/**']"), [("user-without-token", Grade::Fail)]);
        assert_eq!(ignored("['/ws/**']"), [("user-without-token", Grade::Fail)]);
        let streams =
            ("['/ws/**'], token: required, connection: [sockets]", "['/ws/**'], connection: [streams]");
        assert_eq!(bad(&[streams]), [("connection-without-token", Grade::Warn)]);
    }

    #[test]
    fn trust_in_everybody_fails_in_one_piece_or_in_several() {
        for all in ["0.0.0.0/0", "'::/0'", "0.0.0.0/1, 128.0.0.0/1"] {
            assert_eq!(bad(&[("10.0.0.0/8", all)]), [("trusted-proxies", Grade::Fail)], "{all}");
        }
        assert_eq!(bad(&[("10.0.0.0/8", "0.0.0.0/1")]), NOTHING);
        assert_eq!(bad(&[("10.0.0.0/8", "")]), NOTHING);
    }

    #[test]
    fn security_headers_that_are_off_are_warned_of() {
        let off = ("http: {", "http: {security_headers: {X-Frame-Options: null}, ");
        assert_eq!(bad(&[off]), [("security-headers", Grade::Warn)]);
    }
}
