//! `envoy`: how Envoy's requests say who the client is, and where rate limits in Envoy's own format are.

use super::diagnostic::Findings;
use super::fields::{Fields, Scope};
use super::ratelimit::RateLimitFolder;
use super::show;
use super::tree::Node;
use crate::engine::address::ClientIp;
use crate::engine::rate_limit::RateLimitOptions;

/// Most proxies that a request can have passed.
const MAX_HOPS: u32 = 32;

/// `envoy`, as meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyConfig {
    /// Who the client is.
    pub client_ip: ClientIp,
    /// A folder of configurations in envoyproxy/ratelimit's format.
    pub ratelimit_config: Option<RateLimitFolder>,
    /// What holds for all limits of the folder.
    pub ratelimit_options: RateLimitOptions,
    /// Since when the rate limit service is healthy.
    pub ratelimit_health: RateLimitHealth,
}

/// Since when the rate limit service is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimitHealth {
    /// From the start, whatever the folder holds.
    #[default]
    Always,
    /// While limits of the folder are in force.
    WithLimits,
}

/// Reads `envoy`.
pub(super) fn read(node: &Node, out: &mut Findings<'_>) -> EnvoyConfig {
    let mut envoy = EnvoyConfig::default();
    let scope = Scope { prefix: "envoy.", ..Scope::ROOT };
    let Some(fields) = Fields::read(node, scope, &["client_ip", "ratelimit_config"], out) else {
        return envoy;
    };
    if let (Some(node), Some(text)) = (fields.get("client_ip"), fields.text("client_ip", out)) {
        match parse(&text) {
            Ok(client_ip) => envoy.client_ip = client_ip,
            Err(wrong) => fields.wrong("client_ip", node, wrong, out),
        }
    }
    let folder = fields.text("ratelimit_config", out);
    envoy.ratelimit_config = folder.map(|folder| RateLimitFolder::new(out.document().folder.join(folder)));
    envoy
}

fn parse(text: &str) -> Result<ClientIp, (String, String)> {
    let wrong = |why: &str, hint: &str| Err((format!("{} {why}", show(text)), hint.to_owned()));
    match text.split_once(':') {
        None if text == "peer" => Ok(ClientIp::Peer),
        // Envoy's call names Envoy itself there.
        Some(("metadata", key)) if key.eq_ignore_ascii_case("x-forwarded-for") => wrong(
            "has Envoy's own address",
            "write metadata:x-client-ip, and set x-client-ip in the initial_metadata of Envoy's grpc_service",
        ),
        Some(("metadata", key)) if super::http::is_header_name(key) => {
            Ok(ClientIp::Metadata(key.to_ascii_lowercase()))
        }
        Some(("header", name)) if super::http::is_header_name(name) => {
            Ok(ClientIp::Header(name.to_ascii_lowercase()))
        }
        Some(("xff", hops)) => match hops.parse::<u32>() {
            Ok(hops @ 1..=MAX_HOPS) => Ok(ClientIp::Forwarded(hops)),
            _ => wrong("has no number of hops", &format!("write xff:1 to xff:{MAX_HOPS}")),
        },
        _ => wrong(
            "is no place of the client's address",
            "write peer, metadata:KEY, header:NAME or xff:HOPS, such as header:x-envoy-external-address",
        ),
    }
}
