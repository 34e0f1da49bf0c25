//! ext_authz as Envoy calls it: each thing that Envoy does with an answer, and each thing that a client can do to a request.

use crate::harness::{Quotad, Start, output_in_time, quotad as quotad_command, until};
use crate::server::{Kind, Server};
use crate::tokens::mint;
use core::address::Address;
use core::header_value_option::HeaderAppendAction;
use core::socket_address::PortSpecifier;
use pb::attribute_context::{HttpRequest, Peer, Request};
use pb::authorization_client::AuthorizationClient;
use pb::check_response::HttpResponse;
use quotad::pb::envoy::config::core::v3 as core;
use quotad::pb::envoy::service::auth::v3 as pb;
use std::collections::HashMap;
use tonic::transport::Channel;

const CONFIG: &str = r#"
http:
  identity_headers: {x-user-id: sub, x-plan: plan}
tokens:
  - name: app
    issuer: example-app
    algorithms: [HS256]
    key: {file: token.key, generate: true}
    from: [authorization, "cookie:session"]
policies:
  - {name: login-per-ip, partition: [ip], limit: 2, window: 1h}
  - {name: per-user, partition: [user], limit: 2, window: 1h}
  - {name: by-key, partition: ["header:x-api-key"], limit: 5, window: 1h}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 1}
  - {name: elsewhere, domain: other, partition: [ip], limit: 1, window: 1h}
routes:
  - {name: login, methods: [POST, OPTIONS, HEAD], paths: [/login], policies: [login-per-ip]}
  - {name: private, paths: ["/api/**"], token: required, policies: [per-user]}
  - {name: sockets, paths: ["/ws/**"], token: required, connection: [sockets]}
  - {name: soft, paths: [/soft], token: optional}
"#;

type Client = AuthorizationClient<Channel>;

async fn client(quotad: &Quotad) -> Client {
    let channel =
        Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap();
    AuthorizationClient::new(channel)
}

/// A request as Envoy shows it by default: headers joined, pseudo-headers among them.
fn shown(method: &str, path: &str, headers: &[(&str, &str)]) -> pb::CheckRequest {
    let mut joined: HashMap<String, String> = HashMap::new();
    let pseudo =
        [(":method", method), (":path", path), (":authority", "api.example.com"), (":scheme", "https")];
    for (name, value) in pseudo.iter().chain(headers) {
        let held = joined.entry((*name).to_owned()).or_default();
        *held = if held.is_empty() { (*value).to_owned() } else { format!("{held},{value}") };
    }
    let http = HttpRequest {
        id: "13659401915177660616".to_owned(),
        method: method.to_owned(),
        path: path.as_bytes().to_vec(),
        host: b"api.example.com".to_vec(),
        scheme: "https".to_owned(),
        protocol: "HTTP/1.1".to_owned(),
        headers: joined,
        ..HttpRequest::default()
    };
    let socket = core::SocketAddress {
        address: "203.0.113.7".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(4711)),
        ..core::SocketAddress::default()
    };
    let source = Peer {
        address: Some(core::Address { address: Some(Address::SocketAddress(socket)) }),
        ..Peer::default()
    };
    pb::CheckRequest {
        attributes: Some(pb::AttributeContext {
            source: Some(source),
            request: Some(Request { http: Some(http), time: None }),
            ..pb::AttributeContext::default()
        }),
    }
}

/// The same with `encode_raw_headers`: each header by itself, as bytes.
fn raw(method: &str, path: &str, headers: &[(&str, &[u8])]) -> pb::CheckRequest {
    let mut request = shown(method, path, &[]);
    let http = http(&mut request);
    http.headers.clear();
    let header = |name: &str, value: &[u8]| core::HeaderValue {
        key: name.to_owned(),
        raw_value: value.to_vec(),
        ..core::HeaderValue::default()
    };
    let mut all = vec![header(":method", method.as_bytes()), header(":path", path.as_bytes())];
    all.extend(headers.iter().map(|(name, value)| header(name, value)));
    http.header_map = Some(core::HeaderMap { headers: all });
    request
}

fn http(request: &mut pb::CheckRequest) -> &mut HttpRequest {
    request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

fn from(mut request: pb::CheckRequest, peer: &str) -> pb::CheckRequest {
    let source = request.attributes.as_mut().unwrap().source.as_mut().unwrap();
    let socket = core::SocketAddress { address: peer.to_owned(), ..core::SocketAddress::default() };
    source.address = Some(core::Address { address: Some(Address::SocketAddress(socket)) });
    request
}

fn told(mut request: pb::CheckRequest, extensions: &[(&str, &str)]) -> pb::CheckRequest {
    request.attributes.as_mut().unwrap().context_extensions = crate::harness::entries(extensions);
    request
}

/// What Envoy does with an answer.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    Passes,
    Denies(i32),
    /// As its `failure_mode_allow` says; else this code.
    Fails(i32),
}

fn effect(answer: &pb::CheckResponse) -> Effect {
    let status = answer.status.as_ref().expect("an answer without status is leave for Envoy");
    match (status.code, answer.http_response.as_ref().expect("an answer without response")) {
        (0, HttpResponse::OkResponse(_)) => Effect::Passes,
        (0, other) => panic!("Envoy would let this pass: {other:?}"),
        (_, HttpResponse::DeniedResponse(denied)) => Effect::Denies(denied.status.unwrap().code),
        (_, HttpResponse::ErrorResponse(error)) => Effect::Fails(error.status.unwrap().code),
        (_, HttpResponse::OkResponse(_)) => panic!("a bare 403"),
    }
}

async fn ask(client: &mut Client, request: pb::CheckRequest) -> pb::CheckResponse {
    client.check(request).await.expect("never a gRPC status: Envoy may let it pass").into_inner()
}

async fn outcome(client: &mut Client, request: pb::CheckRequest) -> Effect {
    effect(&ask(client, request).await)
}

/// The headers that the client will see.
fn response_headers(answer: &pb::CheckResponse) -> &[core::HeaderValueOption] {
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => &ok.response_headers_to_add,
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => &denied.headers,
    }
}

fn header<'a>(headers: &'a [core::HeaderValueOption], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter_map(|option| {
        assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
        assert_eq!(option.append, None, "Envoy drops what is appended to nothing");
        option.header.as_ref().filter(|header| header.key == name)
    });
    let first = found.next().map(|header| header.value.as_str());
    assert!(found.next().is_none(), "{name} stands twice");
    first
}

fn body(answer: &pb::CheckResponse) -> serde_json::Value {
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => {
            assert_eq!(header(&denied.headers, "content-type"), Some("application/json"));
            serde_json::from_str(&denied.body).unwrap()
        }
        HttpResponse::OkResponse(_) => panic!("allowed: no body"),
    }
}

fn ok(answer: &pb::CheckResponse) -> &pb::OkHttpResponse {
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        other => panic!("{other:?}"),
    }
}

fn fact(answer: &pb::CheckResponse, key: &str) -> Option<String> {
    use prost_types::value::Kind;
    match answer.dynamic_metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

fn bearer(quotad: &Quotad, subject: &str) -> String {
    format!("Bearer {}", mint(&quotad.config_path(), subject))
}

#[tokio::test]
async fn a_request_with_a_good_token_passes_with_the_identity_of_its_token() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let token = bearer(&quotad, "alice");
    let headers = [("authorization", token.as_str()), ("x-user-id", "admin"), ("x-plan", "gold")];
    let answer = ask(&mut client, shown("GET", "/api/x", &headers)).await;
    assert_eq!(effect(&answer), Effect::Passes);
    assert_eq!(header(&ok(&answer).headers, "x-user-id"), Some("alice"));
    assert_eq!(header(&ok(&answer).headers, "x-plan"), None);
    // Envoy sets first: what it has set must not be among what it removes.
    assert_eq!(ok(&answer).headers_to_remove, ["x-plan"], "what the client said of itself goes");
    assert_eq!(header(response_headers(&answer), "x-frame-options"), Some("DENY"));
    assert!(header(response_headers(&answer), "ratelimit").unwrap().starts_with("\"per-user\";r=1"));
    for (key, value) in [
        ("subject", "alice"),
        ("user", "alice"),
        ("issuer", "example-app"),
        ("route", "private"),
        ("policy", "per-user"),
        ("remaining", "1"),
        ("reason", "within_limit"),
        ("mode", "exact"),
    ] {
        assert_eq!(fact(&answer, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(fact(&answer, "lease_id"), None, "no lease was taken");
}

#[tokio::test]
async fn spoofed_identity_is_removed_on_public_routes_too() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    for path in ["/nowhere", "/soft", "/login"] {
        let answer = ask(&mut client, shown("POST", path, &[("x-user-id", "admin")])).await;
        assert_eq!(ok(&answer).headers_to_remove, ["x-user-id", "x-plan"], "{path}");
        assert!(ok(&answer).headers.is_empty(), "{path}");
        assert_eq!(header(response_headers(&answer), "x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn spoofed_identity_is_removed_however_it_is_spelled() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let token = bearer(&quotad, "alice");
    let cors = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let forged = [("x_user_id", "admin"), ("x-plan", "gold"), ("authorization", &*token)];
    for (method, path, left) in [
        ("GET", "/nowhere", &["x-user-id", "x-plan", "x_user_id"][..]),
        ("OPTIONS", "/api/x", &["x-user-id", "x-plan", "x_user_id"]),
        // What is set stands in place of what the client said; the other spelling still has to go.
        ("GET", "/api/x", &["x-plan", "x_user_id"]),
    ] {
        let sent: Vec<_> =
            forged.iter().chain(cors.iter().filter(|_| method == "OPTIONS")).copied().collect();
        let answer = ask(&mut client, shown(method, path, &sent)).await;
        assert_eq!(ok(&answer).headers_to_remove, left, "{method} {path}");
        let bytes: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let answer = ask(&mut client, raw(method, path, &bytes)).await;
        assert_eq!(ok(&answer).headers_to_remove, left, "{method} {path}, raw");
    }
}

#[tokio::test]
async fn no_token_and_a_bad_one_are_401_with_a_body_and_the_security_headers() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let missing = ask(&mut client, shown("GET", "/api/x", &[])).await;
    assert_eq!(effect(&missing), Effect::Denies(401));
    assert_eq!(body(&missing)["code"], "TOKEN_MISSING");
    assert_eq!(header(response_headers(&missing), "www-authenticate"), Some("Bearer"));
    assert_eq!(header(response_headers(&missing), "x-frame-options"), Some("DENY"));
    assert_eq!(fact(&missing, "reason").as_deref(), Some("token_missing"));
    for token in ["Bearer nonsense", "Bearer ", "Bearer a.b.c", &format!("Bearer {}", "x".repeat(60_000))] {
        let bad = ask(&mut client, shown("GET", "/api/x", &[("authorization", token)])).await;
        assert_eq!(effect(&bad), Effect::Denies(401), "{token:.20}");
        assert_eq!(body(&bad)["code"], "TOKEN_INVALID");
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused_in_both_forms() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let (alice, bob) = (bearer(&quotad, "alice"), bearer(&quotad, "bob"));
    for path in ["/api/x", "/soft"] {
        let joined = shown("GET", path, &[("authorization", &alice), ("authorization", &bob)]);
        assert_eq!(outcome(&mut client, joined).await, Effect::Denies(401), "{path}");
        let apart = [("authorization", alice.as_bytes()), ("authorization", bob.as_bytes())];
        assert_eq!(outcome(&mut client, raw("GET", path, &apart)).await, Effect::Denies(401), "{path}");
    }
}

#[tokio::test]
async fn raw_headers_and_cookies_carry_the_token_too() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let token = bearer(&quotad, "alice");
    let sent = [("authorization", token.as_bytes()), ("x-name", b"\xff\xfe"), ("X-User-Id", b"admin")];
    let answer = ask(&mut client, raw("GET", "/api/x", &sent)).await;
    assert_eq!(header(&ok(&answer).headers, "x-user-id"), Some("alice"));
    let cookie = format!("session={}", token.trim_start_matches("Bearer "));
    for cookies in
        [&[("cookie", "a=1"), ("cookie", cookie.as_str())][..], &[("cookie", &format!("a=1; {cookie}"))]]
    {
        let answer = ask(&mut client, shown("GET", "/soft", cookies)).await;
        assert_eq!(fact(&answer, "subject").as_deref(), Some("alice"), "{cookies:?}");
    }
    let twice = shown("GET", "/soft", &[("cookie", &cookie), ("cookie", "session=other")]);
    assert_eq!(outcome(&mut client, twice).await, Effect::Denies(401));
}

#[tokio::test]
async fn the_third_of_two_is_429_and_says_when_to_come_back() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    // The id of a request is the client's own word: one that is sent twice is charged twice.
    let login = || shown("POST", "/login", &[("x-request-id", "same")]);
    for remaining in ["1", "0"] {
        let answer = ask(&mut client, login()).await;
        assert_eq!(fact(&answer, "remaining").as_deref(), Some(remaining));
    }
    let denied = ask(&mut client, login()).await;
    assert_eq!(effect(&denied), Effect::Denies(429));
    assert_eq!(body(&denied)["code"], "RATE_LIMIT_EXCEEDED");
    let headers = response_headers(&denied);
    let wait: u64 = header(headers, "retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    assert_eq!(header(headers, "strict-transport-security"), Some("max-age=63072000; includeSubDomains"));
    assert_eq!(header(headers, "cache-control"), Some("no-store"));
    assert_eq!(header(headers, "grpc-status"), None, "it would show up at a plain client");
    assert_eq!(fact(&denied, "policy").as_deref(), Some("login-per-ip"));
    assert_eq!(fact(&denied, "reason").as_deref(), Some("limit_exceeded"));
    let head = ask(&mut client, shown("HEAD", "/login", &[])).await;
    assert_eq!(effect(&head), Effect::Denies(429));
    assert_eq!(outcome(&mut client, from(login(), "203.0.113.8")).await, Effect::Passes, "another peer");
}

#[tokio::test]
async fn a_grpc_client_learns_resource_exhausted() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    for kind in ["application/grpc", "application/grpc+proto"] {
        let sent = [("content-type", kind)];
        while outcome(&mut client, shown("POST", "/login", &sent)).await == Effect::Passes {}
        let denied = ask(&mut client, shown("POST", "/login", &sent)).await;
        assert_eq!(effect(&denied), Effect::Denies(429));
        assert_eq!(header(response_headers(&denied), "grpc-status"), Some("8"));
        let unknown = ask(&mut client, shown("POST", "/api/x", &sent)).await;
        assert_eq!(effect(&unknown), Effect::Denies(401));
        assert_eq!(header(response_headers(&unknown), "grpc-status"), None, "Envoy's own is right");
    }
}

#[tokio::test]
async fn a_preflight_passes_uncounted() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let cors =
        [("origin", "https://a.example"), ("access-control-request-method", "POST"), ("x-user-id", "admin")];
    for path in ["/login", "/api/x", "/ws/x"].repeat(3) {
        let answer = ask(&mut client, shown("OPTIONS", path, &cors)).await;
        assert_eq!(effect(&answer), Effect::Passes, "{path}");
        assert_eq!(ok(&answer).headers_to_remove, ["x-user-id", "x-plan"]);
        assert_eq!(fact(&answer, "lease_id"), None);
    }
    assert_eq!(outcome(&mut client, shown("OPTIONS", "/api/x", &cors[..1])).await, Effect::Denies(401));
    assert_eq!(outcome(&mut client, shown("GET", "/api/x", &cors)).await, Effect::Denies(401));
    let answer = ask(&mut client, shown("POST", "/login", &cors)).await;
    assert_eq!(fact(&answer, "remaining").as_deref(), Some("1"), "nothing was charged before");
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_its_route() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    for path in
        ["/x/../api/y", "/x%2f..%2fapi/y", "//api/y", "/api;a=b/y", "/%61pi/y", "/api/..%2Fsoft", "/api\\y"]
    {
        assert_eq!(outcome(&mut client, shown("GET", path, &[])).await, Effect::Denies(401), "{path}");
    }
}

#[tokio::test]
async fn whatever_a_client_writes_is_a_denial_and_never_a_failure() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let mut requests = Vec::new();
    for path in [&b"/api/\xff"[..], b"/api/\xc3\x28?x=\xff"] {
        let mut request = shown("GET", "/", &[]);
        http(&mut request).path = path.to_vec();
        requests.push((request, 401));
    }
    let mut host = shown("GET", "/api/x", &[]);
    http(&mut host).host = b"\xff\xfe".to_vec();
    requests.push((host, 401));
    let mut hello = shown("GET", "/api/x", &[]);
    let attributes = hello.attributes.as_mut().unwrap();
    attributes.tls_session = Some(pb::attribute_context::TlsSession { sni: b"\xff".to_vec() });
    attributes.source.as_mut().unwrap().principal = b"\xff".to_vec();
    requests.push((hello, 401));
    requests.push((shown("GET", "/api/x", &[("authorization", "Bearer \u{fffd}")]), 401));
    requests.push((raw("GET", "/api/x", &[("authorization", b"Bearer \xff")]), 401));
    requests.push((shown("GET", &format!("/{}", "a".repeat(20_000)), &[]), 400));
    requests.push((shown("GET", "no-slash", &[]), 400));
    requests.push((shown("GET", "/a\u{1}b", &[]), 400));
    requests.push((shown(&"M".repeat(300), "/", &[]), 400));
    requests.push((shown("GET", "/", &[("x-long", &"x".repeat(100_000))]), 400));
    let many: Vec<String> = (0..300).map(|i| format!("x-{i}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    requests.push((shown("GET", "/", &many), 400));
    for (request, code) in requests {
        let answer = ask(&mut client, request).await;
        assert_eq!(effect(&answer), Effect::Denies(code));
        assert_eq!(body(&answer)["status"], "error");
        assert_eq!(header(response_headers(&answer), "x-frame-options"), Some("DENY"));
    }
}

#[tokio::test]
async fn a_claim_with_a_line_break_starts_no_header() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let mut minting = quotad_command();
    minting.args(["token", "mint", "--subject", "alice", "--claim", "plan=gold\r\nx-admin: 1", "--config"]);
    let minted = output_in_time(minting.arg(quotad.config_path()));
    assert!(minted.status.success(), "{minted:?}");
    let token = format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim());
    let answer = ask(&mut client, shown("GET", "/api/x", &[("authorization", &token)])).await;
    assert_eq!(header(&ok(&answer).headers, "x-plan"), Some("gold  x-admin: 1"));
    for option in ok(&answer).headers.iter().chain(response_headers(&answer)) {
        let header = option.header.as_ref().unwrap();
        assert!(!header.value.contains(char::is_control), "{header:?}");
        assert!(header.raw_value.is_empty());
    }
}

#[tokio::test]
async fn extensions_of_envoys_route_choose_policies_cost_domain_and_route() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let keyed = |cost: &str| {
        let request = shown("GET", "/anything", &[("x-api-key", "k")]);
        told(request, &[("policy", "by-key"), ("cost", cost), ("note", "for others")])
    };
    let first = ask(&mut client, keyed("3")).await;
    assert_eq!(fact(&first, "remaining").as_deref(), Some("2"));
    assert_eq!(fact(&first, "policy").as_deref(), Some("by-key"));
    assert_eq!(outcome(&mut client, keyed("3")).await, Effect::Denies(429));
    let peek = ask(&mut client, keyed("0")).await;
    assert_eq!(fact(&peek, "remaining").as_deref(), Some("2"), "a cost of 0 charges nothing");
    assert_eq!(outcome(&mut client, keyed("2")).await, Effect::Passes);
    let keyless = ask(&mut client, told(shown("GET", "/", &[]), &[("policy", "by-key")])).await;
    assert_eq!(
        (effect(&keyless), body(&keyless)["code"].as_str()),
        (Effect::Denies(403), Some("PARTITION_MISSING"))
    );
    // Beside the route of the file, not in its place.
    let both = || told(shown("POST", "/login", &[("x-api-key", "l")]), &[("policy", "by-key")]);
    assert_eq!(outcome(&mut client, both()).await, Effect::Passes);
    assert_eq!(outcome(&mut client, both()).await, Effect::Passes);
    let denied = ask(&mut client, both()).await;
    assert_eq!(
        (effect(&denied), fact(&denied, "policy").as_deref()),
        (Effect::Denies(429), Some("login-per-ip"))
    );
    let named = told(shown("GET", "/", &[]), &[("route", "private")]);
    assert_eq!(outcome(&mut client, named).await, Effect::Denies(401), "as on that route");
    let other = || told(shown("GET", "/", &[]), &[("domain", "other"), ("policy", "elsewhere")]);
    assert_eq!(outcome(&mut client, other()).await, Effect::Passes);
    assert_eq!(outcome(&mut client, other()).await, Effect::Denies(429));
}

#[tokio::test]
async fn what_envoy_names_and_nobody_configured_is_503_and_not_leave() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let mut requests = vec![pb::CheckRequest::default()];
    requests.push(pb::CheckRequest { attributes: Some(pb::AttributeContext::default()) });
    for extension in [("policy", "unknown"), ("domain", "unknown"), ("route", "unknown"), ("cost", "much")] {
        requests.push(told(shown("GET", "/soft", &[]), &[extension]));
    }
    for request in requests {
        let answer = ask(&mut client, request).await;
        assert_eq!(effect(&answer), Effect::Denies(503));
        assert_eq!(body(&answer)["code"], "NOT_CONFIGURED");
    }
}

#[tokio::test]
async fn a_route_that_limits_connections_takes_a_lease_for_whatever_comes() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let (alice, bob) = (bearer(&quotad, "alice"), bearer(&quotad, "bob"));
    let upgrade = [("authorization", alice.as_str()), ("upgrade", "websocket"), ("connection", "upgrade")];
    let taken = ask(&mut client, shown("GET", "/ws/chat", &upgrade)).await;
    assert_eq!(effect(&taken), Effect::Passes);
    let id = fact(&taken, "lease_id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let full = ask(&mut client, shown("GET", "/ws/chat", &upgrade)).await;
    assert_eq!(effect(&full), Effect::Denies(429));
    assert_eq!(
        (fact(&full, "lease_id"), fact(&full, "reason").as_deref()),
        (None, Some("connection_limit_exceeded"))
    );
    let stream = ask(&mut client, shown("GET", "/ws/events", &[("authorization", &bob)])).await;
    let other = fact(&stream, "lease_id").unwrap();
    assert_ne!(id, other);
    let named = told(shown("GET", "/api/x", &[("authorization", &bob)]), &[("policy", "sockets")]);
    assert_eq!(outcome(&mut client, named).await, Effect::Denies(429), "a connection policy by name");
}

/// The client that a request counts for: whoever shares it shares the two logins.
async fn logins(client: &mut Client, request: impl Fn() -> tonic::Request<pb::CheckRequest>) -> usize {
    let mut passed = 0;
    for _ in 0..3 {
        let answer = client.check(request()).await.unwrap().into_inner();
        passed += usize::from(effect(&answer) == Effect::Passes);
    }
    passed
}

fn called(request: pb::CheckRequest, metadata: &[(&'static str, &str)]) -> tonic::Request<pb::CheckRequest> {
    let mut call = tonic::Request::new(request);
    for (key, value) in metadata {
        call.metadata_mut().append(*key, value.parse().unwrap());
    }
    call
}

fn with_client_ip(place: &str) -> Quotad {
    Quotad::start(&format!("{CONFIG}envoy: {{client_ip: \"{place}\"}}\n"))
}

#[tokio::test]
async fn the_client_is_the_peer_unless_the_configuration_says_where_else() {
    let quotad = Quotad::start(CONFIG);
    let mut client = client(&quotad).await;
    let said =
        [("x-forwarded-for", "1.1.1.1"), ("x-envoy-external-address", "2.2.2.2"), ("x-client-ip", "3.3.3.3")];
    let request = || called(shown("POST", "/login", &said), &[("x-client-ip", "4.4.4.4")]);
    assert_eq!(logins(&mut client, request).await, 2);
    let silent = || called(shown("POST", "/login", &[]), &[]);
    assert_eq!(logins(&mut client, silent).await, 0, "the same client without its forgeries");
    let piped = || called(from(shown("POST", "/login", &said), "/run/envoy.sock"), &[]);
    assert_eq!(logins(&mut client, piped).await, 0, "a peer without an address has no counter by it");
    let answer = ask(&mut client, from(shown("POST", "/login", &said), "")).await;
    assert_eq!(effect(&answer), Effect::Denies(403));
    assert_eq!(body(&answer)["code"], "PARTITION_MISSING");
}

#[tokio::test]
async fn the_client_is_in_the_metadata_of_the_call() {
    let quotad = with_client_ip("metadata:x-client-ip");
    let mut client = client(&quotad).await;
    let through = |peer: &'static str, ip: &'static str| {
        move || {
            called(from(shown("POST", "/login", &[("x-client-ip", "9.9.9.9")]), peer), &[("x-client-ip", ip)])
        }
    };
    assert_eq!(logins(&mut client, through("10.0.0.1", "1.2.3.4")).await, 2);
    assert_eq!(logins(&mut client, through("10.0.0.2", "1.2.3.4")).await, 0);
    assert_eq!(logins(&mut client, through("10.0.0.1", "1.2.3.5")).await, 2);
    assert_eq!(logins(&mut client, through("10.0.0.1", "nonsense")).await, 2, "the peer");
    let none = || called(from(shown("POST", "/login", &[("x-client-ip", "9.9.9.9")]), "10.0.0.1"), &[]);
    assert_eq!(logins(&mut client, none).await, 0, "the peer, as before");
}

#[tokio::test]
async fn the_client_is_in_a_header() {
    let quotad = with_client_ip("header:x-envoy-external-address");
    let mut client = client(&quotad).await;
    let said = |value: &'static str| {
        move || called(shown("POST", "/login", &[("x-envoy-external-address", value)]), &[])
    };
    assert_eq!(logins(&mut client, said("1.2.3.4")).await, 2);
    assert_eq!(logins(&mut client, said("1.2.3.5")).await, 2);
    assert_eq!(logins(&mut client, said("1.2.3.4,1.2.3.6")).await, 2, "two: the peer");
    assert_eq!(logins(&mut client, said("")).await, 0, "none: the peer");
}

#[tokio::test]
async fn the_client_is_so_many_hops_away() {
    let quotad = with_client_ip("xff:1");
    let mut client = client(&quotad).await;
    let said = |xff: &'static str| move || called(shown("POST", "/login", &[("x-forwarded-for", xff)]), &[]);
    assert_eq!(logins(&mut client, said("1.2.3.4, 5.6.7.8")).await, 2);
    assert_eq!(
        logins(&mut client, said("9.9.9.9, 5.6.7.8")).await,
        0,
        "what stands before is the client's word"
    );
    assert_eq!(logins(&mut client, said("5.6.7.8, 203.0.113.7")).await, 0, "Envoy's own peer is not counted");
    assert_eq!(logins(&mut client, said("5.6.7.8, garbage")).await, 2, "the peer");
    assert_eq!(logins(&mut client, said("")).await, 0, "the peer");
}

const AWAY: &str = r#"
policies:
  - {name: local, partition: [ip], limit: 1, window: 1h}
  - {name: closed, partition: [ip], limit: 9, window: 1h, on_store_error: deny}
  - {name: open, partition: [ip], limit: 9, window: 1h, on_store_error: allow}
  - {name: loud, partition: [ip], limit: 9, window: 1h, on_store_error: error}
"#;

#[tokio::test]
async fn while_the_store_is_away_each_policy_does_as_it_says() {
    let redis = Server::start(Kind::Redis7);
    let quotad =
        Start::with(AWAY).arg("--store").arg(redis.url()).arg("--store-timeout").arg("250ms").start();
    let mut client = client(&quotad).await;
    let named = |policies: &str| told(shown("GET", "/", &[]), &[("policy", policies)]);
    until("Redis", async || fact(&ask(&mut client, named("open")).await, "mode").as_deref() == Some("exact"))
        .await;
    redis.kill();
    until("its end", async || {
        fact(&ask(&mut client, named("open")).await, "mode").as_deref() == Some("failed_open")
    })
    .await;
    let open = ask(&mut client, named("open")).await;
    assert_eq!(effect(&open), Effect::Passes);
    let closed = ask(&mut client, named("closed")).await;
    assert_eq!(effect(&closed), Effect::Denies(503));
    assert_eq!(fact(&closed, "mode").as_deref(), Some("failed_closed"));
    let loud = ask(&mut client, named("loud")).await;
    assert_eq!(effect(&loud), Effect::Fails(503), "Envoy decides");
    for answer in [&closed, &loud] {
        assert_eq!(body(answer)["code"], "RATE_LIMIT_UNAVAILABLE");
        assert_eq!(header(response_headers(answer), "retry-after"), Some("1"));
        assert_eq!(header(response_headers(answer), "x-frame-options"), Some("DENY"));
    }
    assert_eq!(outcome(&mut client, named("loud,closed")).await, Effect::Denies(503), "a denial is surer");
    let local = ask(&mut client, named("local")).await;
    assert_eq!((effect(&local), fact(&local, "mode").as_deref()), (Effect::Passes, Some("local")));
    assert_eq!(outcome(&mut client, named("local")).await, Effect::Denies(429), "enforced in this process");
}

#[tokio::test]
async fn the_service_is_healthy_by_its_name() {
    let quotad = Quotad::start(CONFIG);
    let channel =
        Channel::from_shared(format!("http://{}", quotad.address)).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked =
        tonic_health::pb::HealthCheckRequest { service: "envoy.service.auth.v3.Authorization".to_owned() };
    let answer = health.check(asked).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}
