//! What ext_authz and the rate limit service add through a real Envoy, beside a service that always answers OK.

use crate::Options;
use crate::cell::{Found, block_on, median};
use crate::child::{Server, free_address};
use crate::load::{Pace, requests};
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
/// Of what a service that always answers OK carries in a closed loop, the part that is then offered to each. A request
/// that finds everybody asleep costs Envoy twice the processor time of one in a crowd, so half of it would be near the most
/// that its one worker can carry, where a little more cost is much more wait.
const OFFERED: f64 = 0.2;
const COLUMNS: [&str; 9] = [
    "Envoy with",
    "requests/s, closed loop",
    "p50 us",
    "p99 us",
    "requests/s, offered",
    "p50 us",
    "p99 us",
    "service CPU us/request",
    "Envoy CPU us/request",
];
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
    /// What the others of its protocol are compared with.
    is_base: bool,
    service: Server,
    envoy: Server,
}

/// A pair in a closed loop, and at the pace at which all of a protocol are compared.
#[derive(Clone, Copy, Debug)]
struct Measured {
    closed: Found,
    paced: Found,
}

/// Measures in alternating rounds and prints a section.
pub(crate) fn compare(options: &Options) -> anyhow::Result<String> {
    let program: PathBuf =
        Environment::process().get("QUOTAD_ENVOY").context("--envoy needs QUOTAD_ENVOY")?.into();
    let folder = tempfile::tempdir()?;
    let pairs = pairs(&program, folder.path())?;
    let mut closed = vec![Vec::new(); pairs.len()];
    let mut paced = closed.clone();
    for _ in 0..options.rounds.max(1) {
        let mut offered = 0.0;
        for ((pair, closed), paced) in pairs.iter().zip(&mut closed).zip(&mut paced) {
            let found = pair.load(Pace::Closed, options.span())?;
            if pair.is_base {
                offered = found.rate * OFFERED;
            }
            closed.push(found);
            paced.push(pair.load(Pace::Rate(offered), options.span())?);
        }
    }
    let found: Vec<Measured> = closed
        .iter()
        .zip(&paced)
        .map(|(closed, paced)| Measured { closed: median(closed), paced: median(paced) })
        .collect();
    let rows: Vec<_> = pairs.iter().zip(&found).map(|(pair, found)| row(pair, found)).collect();
    let table = markdown(COLUMNS, &rows);
    let text = verdicts(&found);
    Ok(format!("### Through Envoy, {CONNECTIONS} connections, embedded store\n\n{table}\n{text}"))
}

fn verdicts(found: &[Measured]) -> String {
    let [authz_ok, authz_same, authz, limit_ok, limit] = found else { return String::new() };
    let target = Target::Most(1.15);
    let offered = |one: &Measured, base: &Measured| ratio(Some(one.paced.p99), Some(base.paced.p99));
    let closed = |one: &Measured, base: &Measured| ratio(Some(one.closed.p99), Some(base.closed.p99));
    [
        ("ext_authz, p99 of always OK's, both at the same rate", offered(authz, authz_ok)),
        ("the same, of always the same OK's", offered(authz, authz_same)),
        ("the same, of always OK's, in a closed loop", closed(authz, authz_ok)),
        ("the same, of always the same OK's, in a closed loop", closed(authz, authz_same)),
        ("rate limit service, p99 of always OK's, both at the same rate", offered(limit, limit_ok)),
        ("the same, in a closed loop", closed(limit, limit_ok)),
    ]
    .map(|(what, ratio)| verdict(what, ratio, target))
    .concat()
}

impl Pair {
    fn load(&self, pace: Pace, span: Duration) -> anyhow::Result<Found> {
        let pids = (Some(self.service.pid()), Some(self.envoy.pid()));
        let found = requests(&self.envoy.address, (CONNECTIONS, pace, span), pids)?;
        ensure!(found.server.is_some_and(|cpu| cpu > 0.0), "{}: Envoy asks nobody", self.name);
        Ok(found)
    }
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
        anyhow::Ok(Pair { name, is_base: false, service, envoy })
    };
    let base = |name, protocol, service| anyhow::Ok(Pair { is_base: true, ..pair(name, protocol, service)? });
    Ok([
        base("ext_authz, always OK", Protocol::Authz, Server::echo_of("ext-authz", &authz_file)?)?,
        pair(
            "ext_authz, always the OK of quotad, with its headers",
            Protocol::Authz,
            Server::echo_of("ext-authz", &same_file)?,
        )?,
        pair("ext_authz, quotad", Protocol::Authz, quotad_authz)?,
        base("rate limit, always OK", Protocol::RateLimit, Server::echo_of("rate-limit", &limit_file)?)?,
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

fn row(pair: &Pair, found: &Measured) -> [String; 9] {
    let Measured { closed, paced } = found;
    [
        pair.name.to_owned(),
        number(closed.rate),
        number(closed.p50),
        number(closed.p99),
        number(paced.rate),
        number(paced.p50),
        number(paced.p99),
        maybe(paced.server),
        maybe(paced.redis),
    ]
}
