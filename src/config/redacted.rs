//! The configuration in force, for operators: the shape of the file, every default written out, no secret.
//!
//! JSON, which is YAML too: but for a store's password, quotad reads it back as the same configuration.

use super::duration::write as span;
use super::size;
use super::store::StoreKind;
use super::{Config, http, policies, routes, tokens};
use crate::engine::address::ClientIp;
use crate::engine::issuer::{IssuerSpec, KeySource, TokenSource};
use crate::engine::policy::PolicySpec;
use crate::engine::route::RouteSpec;
use crate::engine::rule::Algorithm;
use serde_json::{Map, Value, json};

/// The whole configuration.
pub(super) fn redacted(config: &Config) -> Value {
    json!({
        "listen": {
            "grpc": config.listen.grpc.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "http": config.listen.http.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "admin": config.listen.admin.map(|admin| admin.to_string()),
            "max_connection_age": span(config.listen.max_connection_age.into()),
        },
        "threads": config.threads,
        "store": store(config),
        "http": face(config),
        "tokens": config.issuers.iter().map(issuer).map(entry).collect::<Vec<_>>(),
        "policies": config.policy_specs.iter().map(policy).map(entry).collect::<Vec<_>>(),
        "routes": config.routes.iter().map(route).map(entry).collect::<Vec<_>>(),
        "envoy": {
            "client_ip": client_ip(&config.envoy.client_ip),
            "ratelimit_config": config.envoy.ratelimit_config.as_ref().map(|folder| &folder.path),
        },
    })
}

/// An entry of a list, without the keys that have no value: there they would be mistakes.
fn entry(mut value: Value) -> Value {
    if let Value::Object(keys) = &mut value {
        keys.retain(|_, value| !value.is_null());
    }
    value
}

/// The word for a value of a table.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word)
}

fn store(config: &Config) -> Value {
    let mut value = json!({
        "timeout": span(config.store.timeout.into()),
        "start_grace": span(config.store.start_grace.into()),
        "replicas": config.store.replicas,
        // Without one it is the machine's to say, and another's would say something else.
        "max_memory": config.store.max_memory.map(size::write),
    });
    match &config.store.kind {
        StoreKind::Memory { data_dir } => {
            value["url"] = "memory:".into();
            value["data_dir"] = json!(data_dir);
        }
        StoreKind::Redis { url } => value["url"] = url.to_string().into(),
    }
    value
}

fn face(config: &Config) -> Value {
    let http = &config.http;
    let mut security: Map<String, Value> = crate::engine::http::default_security_headers()
        .into_iter()
        // A default that is not there was switched off.
        .map(|(name, _)| (name, Value::Null))
        .collect();
    for (name, value) in &http.face.security_headers {
        security.insert(name.clone(), Value::from(value.as_str()));
    }
    json!({
        "error_body": word(&http::ERROR_BODIES, &http.face.error_body),
        "limit_headers": http.face.limit_headers.iter().map(|family| word(&http::LIMIT_HEADERS, family)).collect::<Vec<_>>(),
        "security_headers": security,
        "trusted_proxies": http.proxies_written,
        "identity_headers": pairs(&http.identity_headers),
    })
}

fn issuer(issuer: &IssuerSpec) -> Value {
    let key = match &issuer.key {
        KeySource::File { path, generate } => json!({"file": path, "generate": generate}),
        KeySource::Env { name, .. } => json!({"env": name}),
        KeySource::JwksFile(path) => json!({"jwks_file": path}),
        KeySource::JwksUrl(url) => json!({"jwks_url": url}),
    };
    let from = |source: &TokenSource| match source {
        TokenSource::Authorization => "authorization".to_owned(),
        TokenSource::Cookie(name) => format!("cookie:{name}"),
        TokenSource::Query(name) => format!("query:{name}"),
    };
    json!({
        "name": issuer.name,
        "issuer": issuer.issuer,
        "algorithms": issuer.algorithms,
        "key": key,
        "require": issuer.require,
        "types": issuer.types,
        "type_claim": issuer.type_claim,
        "audience": issuer.audience,
        "leeway": span(issuer.leeway),
        "max_lifetime": span(issuer.max_lifetime),
        "from": issuer.from.iter().map(from).collect::<Vec<_>>(),
        "revoked_key": issuer.revoked_key,
        "revocation_cache": span(issuer.revocation_cache),
        "on_store_error": word(&tokens::ON_STORE_ERROR, &issuer.on_store_error),
    })
}

fn policy(policy: &PolicySpec) -> Value {
    let mut value = json!({
        "name": policy.name,
        "domain": policy.domain,
        "match": pairs(&policy.conditions),
        "partition": policy.partition,
        "algorithm": word(&policies::ALGORITHMS, &policy.algorithm),
        "limit": policy.limit,
        "cost": policy.cost,
        "shadow": policy.shadow,
        "on_store_error": word(&policies::ON_STORE_ERROR, &policy.on_store_error),
        "ip_prefix": {"v4": policy.ip_prefix.v4, "v6": policy.ip_prefix.v6},
    });
    // Only the keys that count for the algorithm.
    if let Value::Object(value) = &mut value {
        let mut put = |key: &str, what: Value| value.insert(key.to_owned(), what);
        match policy.algorithm {
            Algorithm::Concurrency => {
                put("lease_ttl", span(policy.lease_ttl).into());
                put("lease_entry", policy.lease_entry.as_str().into());
            }
            algorithm => {
                put("window", policy.window.map(span).into());
                if algorithm == Algorithm::TokenBucket {
                    put("burst", policy.burst.or(policy.limit).into());
                }
            }
        }
    }
    value
}

fn route(route: &RouteSpec) -> Value {
    json!({
        "name": route.name,
        "methods": route.methods,
        "hosts": route.hosts,
        "paths": route.paths,
        "case": word(&routes::CASES, &route.case),
        "headers": pairs(&route.headers),
        "token": word(&routes::TOKEN_NEEDS, &route.token),
        "issuers": route.issuers,
        "domain": route.domain,
        "policies": route.policies,
        "connection": route.connection,
        "cost": route.cost,
    })
}

fn client_ip(client_ip: &ClientIp) -> String {
    match client_ip {
        ClientIp::Peer => "peer".to_owned(),
        ClientIp::Metadata(key) => format!("metadata:{key}"),
        ClientIp::Header(name) => format!("header:{name}"),
        ClientIp::Forwarded(hops) => format!("xff:{hops}"),
    }
}

fn pairs(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}
