//! What ext_authz and the rate limit service add through a real Envoy, beside a service that always answers OK.

use crate::Options;
use crate::cell::{Found, block_on, median};
use crate::child::{Server, free_address};
use crate::load::requests;
use crate::rate_limit;
use crate::table::{Target, markdown, maybe, number, ratio, verdict};
use anyhow::{Context as _, ensure};
use prost::Message as _;
use quotad::client;
use quotad::config::Environment;
use quotad::pb::envoy::service::auth::v3::attribute_context::{self, HttpRequest};
use quotad::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use quotad::pb::envoy::service::auth::v3::check_response::HttpResponse;
use quotad::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse, OkHttpResponse};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections, one request at a time on each.
const CONNECTIONS: u32 = 8;
const COLUMNS: [&str; 6] =
    ["Envoy with", "requests/s", "p50 us", "p99 us", "service CPU us/request", "p99 of always OK's"];
/// The same work as a user's: a route, a counter for each user.
const AUTHZ: &str = "\
policies:
  - {name: api, partition: [\"header:x-user\"], algorithm: token_bucket, limit: 1000000, window: 1s}
routes:
  - {name: api, paths: [\"/**\"], policies: [api]}
";

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Authz,
    RateLimit,
}

/// A service behind an Envoy of its own.
struct Pair {
    name: &'static str,
    service: Server,
    envoy: Server,
}

/// Measures in alternating rounds and prints a section.
pub(crate) fn compare(options: &Options) -> anyhow::Result<String> {
    let program: PathBuf =
        Environment::process().get("QUOTAD_ENVOY").context("--envoy needs QUOTAD_ENVOY")?.into();
    let folder = tempfile::tempdir()?;
    let pairs = pairs(&program, folder.path())?;
    let mut rounds = vec![Vec::new(); pairs.len()];
    for _ in 0..options.rounds.max(1) {
        for (pair, found) in pairs.iter().zip(&mut rounds) {
            let pids = (Some(pair.service.pid()), None);
            let one = requests(&pair.envoy.address, (CONNECTIONS, options.span()), pids)?;
            ensure!(one.server.is_some_and(|cpu| cpu > 0.0), "{}: Envoy asks nobody", pair.name);
            found.push(one);
        }
    }
    let found: Vec<Found> = rounds.iter().map(|rounds| median(rounds)).collect();
    let [authz_ok, authz_same, authz, limit_ok, limit] = found.as_slice() else { return Ok(String::new()) };
    let bases = [authz_ok, authz_ok, authz_ok, limit_ok, limit_ok];
    let rows: Vec<_> =
        pairs.iter().zip(&found).zip(bases).map(|((pair, found), base)| row(pair, found, base)).collect();
    let table = markdown(COLUMNS, &rows);
    let p99 = |found: &Found, base: &Found| ratio(Some(found.p99), Some(base.p99));
    let mut text = verdict("ext_authz, p99 of always OK's", p99(authz, authz_ok), Target::Most(1.15));
    text += &verdict("the same, of always the same OK's", p99(authz, authz_same), Target::Most(1.15));
    text += &verdict("rate limit service, p99 of always OK's", p99(limit, limit_ok), Target::Most(1.15));
    Ok(format!("### Through Envoy, {CONNECTIONS} connections, embedded store\n\n{table}\n{text}"))
}

fn pairs(program: &Path, folder: &Path) -> anyhow::Result<[Pair; 5]> {
    let limits = rate_limit::settings(folder)?;
    let quotad_limits = Server::quotad_with(folder, 1, "memory:", &limits)?;
    let (authz_file, limit_file) = (folder.join("authz"), folder.join("limit"));
    std::fs::write(&limit_file, rate_limit::one_answer(&quotad_limits.address)?.encode_to_vec())?;
    let ok = CheckResponse {
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
        ..CheckResponse::default()
    };
    std::fs::write(&authz_file, ok.encode_to_vec())?;
    let quotad_authz = Server::quotad_with(folder, 1, "memory:", AUTHZ)?;
    let same_file = folder.join("authz-same");
    std::fs::write(&same_file, one_answer(&quotad_authz.address)?.encode_to_vec())?;
    let pair = |name, protocol, service: Server| {
        let envoy = envoy(program, folder, protocol, &service.address)?;
        anyhow::Ok(Pair { name, service, envoy })
    };
    Ok([
        pair("ext_authz, always OK", Protocol::Authz, Server::echo_of("ext-authz", &authz_file)?)?,
        pair(
            "ext_authz, always the OK of quotad, with its headers",
            Protocol::Authz,
            Server::echo_of("ext-authz", &same_file)?,
        )?,
        pair("ext_authz, quotad", Protocol::Authz, quotad_authz)?,
        pair("rate limit, always OK", Protocol::RateLimit, Server::echo_of("rate-limit", &limit_file)?)?,
        pair("rate limit, quotad", Protocol::RateLimit, quotad_limits)?,
    ])
}

/// What quotad answers to a request like those of the load.
fn one_answer(address: &str) -> anyhow::Result<CheckResponse> {
    let address: client::Address = address.parse()?;
    let text = |text: &str| text.to_owned();
    let http = HttpRequest {
        method: text("GET"),
        path: b"/bench".to_vec(),
        host: b"bench".to_vec(),
        headers: [(text("x-user"), text("bench"))].into(),
        ..HttpRequest::default()
    };
    let request = attribute_context::Request { http: Some(http), ..Default::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    block_on(async {
        let connection = client::connect(&address, Duration::from_secs(5)).await?;
        let mut client = AuthorizationClient::with_origin(connection, address.origin());
        let answer = client.check(CheckRequest { attributes: Some(attributes) }).await?.into_inner();
        ensure!(matches!(answer.http_response, Some(HttpResponse::OkResponse(_))), "not OK: {answer:?}");
        Ok(answer)
    })?
}

fn envoy(program: &Path, folder: &Path, protocol: Protocol, service: &str) -> anyhow::Result<Server> {
    let address = free_address()?;
    let file = folder.join(format!("envoy-{}.yaml", address.replace(':', "-")));
    std::fs::write(&file, bootstrap(&address, service, protocol)?)?;
    Server::envoy(program, &file, address)
}

fn bootstrap(address: &str, service: &str, protocol: Protocol) -> anyhow::Result<String> {
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned).context("no port");
    let (port, service, upstream) = (port(address)?, port(service)?, port(&free_address()?)?);
    let grpc = "{envoy_grpc: {cluster_name: service}, timeout: 5s}";
    let filter = match protocol {
        Protocol::Authz => format!(
            "{{name: envoy.filters.http.ext_authz, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, transport_api_version: V3, grpc_service: {grpc}}}}}"
        ),
        Protocol::RateLimit => format!(
            "{{name: envoy.filters.http.ratelimit, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: bench, timeout: 5s, failure_mode_deny: true, rate_limit_service: {{transport_api_version: V3, grpc_service: {grpc}}}}}}}"
        ),
    };
    Ok(format!(
        "\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              rate_limits:
              - actions: [{{request_headers: {{header_name: x-user, descriptor_key: user}}}}]
              routes:
              - {{match: {{prefix: /}}, route: {{cluster: upstream}}}}
          http_filters:
          - {filter}
          - {{name: envoy.filters.http.router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: upstream
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - {{match: {{prefix: /}}, direct_response: {{status: 200}}}}
          http_filters:
          - {{name: envoy.filters.http.router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]
  - name: service
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: service
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {service}}}}}}}}}]}}]
"
    ))
}

fn row(pair: &Pair, found: &Found, base: &Found) -> [String; 6] {
    [
        pair.name.to_owned(),
        number(found.rate),
        number(found.p50),
        number(found.p99),
        maybe(found.server),
        crate::table::times(ratio(Some(found.p99), Some(base.p99))),
    ]
}
