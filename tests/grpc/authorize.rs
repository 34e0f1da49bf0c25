//! `Authorize` over real gRPC: routes, paths, addresses, identity headers, token, limits and lease in one call.

use crate::connections::{connection, release, renew};
use crate::harness::{Client, Quotad, body, entries, header};
use crate::tokens::mint;
use pb::renew_connections_response::State;
use quotad::pb::quotad::v1 as pb;

const CONFIG: &str = r#"
store: {url: "memory:", data_dir: data}
http:
  trusted_proxies: [10.0.0.0/8]
  identity_headers: {x-user-id: sub, x-plan: plan}
tokens:
  - name: app
    issuer: example-app
    algorithms: [HS256]
    key: {file: data/token.key, generate: true}
    require: [sub, jti, exp]
    from: [authorization, "cookie:session"]
policies:
  - {name: auth-per-ip, partition: [ip], limit: 2, window: 1m}
  - {name: ai-per-user, partition: [user], limit: 30, window: 1m}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 1}
  - {name: by-header, match: {"header:x-plan-hint": "gold"}, partition: ["query:key"], limit: 1, window: 1m}
routes:
  - {name: auth, methods: [POST], paths: [/login, /signup], policies: [auth-per-ip]}
  - {name: ai, paths: ["/ai/**"], token: required, policies: [ai-per-user], cost: 3}
  - {name: sockets, paths: ["/ws/**"], token: required, connection: [sockets]}
  - {name: rooms, paths: ["/room/**"], token: required, policies: [ai-per-user], connection: [sockets]}
  - {name: soft, paths: [/soft], token: optional}
  - {name: hinted, paths: [/hinted], policies: [by-header]}
"#;

pub fn http(method: &str, path: &str, headers: &[(&str, &str)]) -> pb::AuthorizeRequest {
    let headers = headers
        .iter()
        .map(|(name, value)| pb::Header { name: (*name).to_owned(), value: (*value).to_owned() })
        .collect();
    pb::AuthorizeRequest {
        http: Some(pb::HttpRequest {
            method: method.into(),
            scheme: "https".into(),
            host: "api.example.com".into(),
            path: path.into(),
            peer_address: "203.0.113.7".into(),
            headers,
        }),
        ..Default::default()
    }
}

pub async fn authorize(client: &mut Client, request: pb::AuthorizeRequest) -> pb::AuthorizeResponse {
    client.authorize(request).await.unwrap().into_inner()
}

pub fn decision(answer: &pb::AuthorizeResponse) -> &pb::Decision {
    answer.decision.as_ref().unwrap()
}

#[tokio::test]
async fn every_spelling_of_a_path_counts_as_one() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for path in ["/login", "/signup"] {
        let answer = authorize(&mut client, http("POST", path, &[])).await;
        assert_eq!((decision(&answer).outcome(), answer.route.as_str()), (pb::Outcome::Allow, "auth"));
    }
    for path in [
        "//login",
        "/./login",
        "/x/../login",
        "/login/",
        "/%6Cogin",
        "/login;a=b",
        "/login?x=1",
        "/x%2f..%2flogin",
    ] {
        let answer = authorize(&mut client, http("POST", path, &[])).await;
        assert_eq!(decision(&answer).http_status, 429, "{path}");
        assert_eq!(body(decision(&answer))["code"], "RATE_LIMIT_EXCEEDED");
    }
    let get = authorize(&mut client, http("GET", "/login", &[])).await;
    assert_eq!((decision(&get).reason(), get.route.as_str()), (pb::Reason::NoPolicy, ""));
}

#[tokio::test]
async fn a_path_that_servers_read_differently_passes_by_neither_reading_alone() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    // Collapsed these are /soft, which is open; taken as they stand they are below /ai, which needs a token.
    for path in ["/ai/..%2Fsoft", "/ai/..;/soft", "/ai/x/../../soft", "/ai/..\\soft", "/%61i/tts/%ff"] {
        let answer = authorize(&mut client, http("GET", path, &[])).await;
        assert_eq!(decision(&answer).reason(), pb::Reason::TokenMissing, "{path}");
    }
    let twice = [("x-plan-hint", "gold")];
    for path in ["/hinted?key=a&key=b", "/hinted?key=a&key=c"] {
        let answer = authorize(&mut client, http("GET", path, &twice)).await;
        assert_eq!(decision(&answer).reason(), pb::Reason::PartitionMissing, "two values choose no counter");
    }
}

const TWO_ISSUERS: &str = r#"
store: {url: "memory:", data_dir: data}
tokens:
  - {name: one, issuer: one, algorithms: [HS256], key: {file: data/one.key, generate: true}, from: [authorization]}
  - {name: two, issuer: two, algorithms: [HS256], key: {file: data/two.key, generate: true}, from: ["cookie:s"]}
routes:
  - {name: one, paths: ["/one/**"], token: required, issuers: [one]}
  - {name: two, paths: ["/two/**"], token: required, issuers: [two]}
"#;

#[tokio::test]
async fn two_tokens_for_the_two_readings_of_a_path_are_none() {
    let quotad = Quotad::start(TWO_ISSUERS);
    let mut client = quotad.client().await;
    let mint = |issuer: &str| {
        let config = quotad.folder.path().join("quotad.yaml");
        let mut command = crate::harness::quotad();
        command.args(["token", "mint", "--subject", "alice", "--issuer", issuer, "--config"]).arg(config);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let (bearer, cookie) = (format!("Bearer {}", mint("one")), format!("s={}", mint("two")));
    let both = [("authorization", &*bearer), ("cookie", &*cookie)];
    for path in ["/one/x", "/two/x"] {
        let answer = authorize(&mut client, http("GET", path, &both)).await;
        assert_eq!(decision(&answer).outcome(), pb::Outcome::Allow, "{path}");
    }
    // Only one of them would be asked about, and it is the caller who would choose which.
    let answer = authorize(&mut client, http("GET", "/one/..%2Ftwo/x", &both)).await;
    assert_eq!(
        (decision(&answer).reason(), decision(&answer).http_status),
        (pb::Reason::TokenMalformed, 401)
    );
}

#[tokio::test]
async fn a_forged_forwarder_gets_no_counter_of_its_own() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for i in 0..4 {
        let forged = format!("198.51.100.{i}");
        let answer = authorize(&mut client, http("POST", "/login", &[("x-forwarded-for", &forged)])).await;
        assert_eq!(decision(&answer).http_status, if i < 2 { 200 } else { 429 });
    }
    let through = |client_ip: &str| {
        let mut request = http("POST", "/login", &[("x-forwarded-for", client_ip)]);
        request.http.as_mut().unwrap().peer_address = "10.0.0.1:4711".into();
        request
    };
    for _ in 0..2 {
        let answer = authorize(&mut client, through("6.6.6.6, 192.0.2.1")).await;
        assert_eq!(decision(&answer).http_status, 200);
    }
    assert_eq!(decision(&authorize(&mut client, through("7.7.7.7, 192.0.2.1")).await).http_status, 429);
    assert_eq!(decision(&authorize(&mut client, through("6.6.6.6, 192.0.2.2")).await).http_status, 200);
    let mut bad = http("POST", "/login", &[]);
    bad.http.as_mut().unwrap().peer_address = "nonsense".into();
    let status = client.authorize(bad).await.unwrap_err();
    assert!(status.message().contains("peer_address"), "{status:?}");
}

#[tokio::test]
async fn identity_headers_are_set_from_the_token_and_removed_everywhere() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let public = authorize(&mut client, http("GET", "/public", &[("x-user-id", "admin")])).await;
    assert_eq!(decision(&public).outcome(), pb::Outcome::Allow);
    assert!(public.remove_headers.contains(&"x-user-id".to_owned()), "{:?}", public.remove_headers);
    assert!(public.upstream_headers.is_empty());
    assert_eq!(header(decision(&public), "X-Content-Type-Options"), Some("nosniff"));
    let token = mint(&quotad.config_path(), "alice");
    let bearer = format!("Bearer {token}");
    let ai = authorize(
        &mut client,
        http("GET", "/ai/chat", &[("authorization", &bearer), ("x-user-id", "admin")]),
    )
    .await;
    assert_eq!(decision(&ai).outcome(), pb::Outcome::Allow);
    assert_eq!(decision(&ai).statuses[0].remaining, 27, "the route's cost is 3");
    assert_eq!(ai.claims.as_ref().unwrap().subject, "alice");
    assert_eq!(ai.upstream_headers, [pb::Header { name: "x-user-id".into(), value: "alice".into() }]);
    assert!(ai.remove_headers.contains(&"x-user-id".to_owned()));
}

#[tokio::test]
async fn an_identity_header_spelled_otherwise_is_removed_too_and_policies_stay_exact() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let token = mint(&quotad.config_path(), "alice");
    let bearer = format!("Bearer {token}");
    let forged =
        [("X_User_Id", "admin"), ("x_plan", "gold"), ("x_plans", "gold"), ("authorization", &bearer)];
    for path in ["/public", "/soft", "/ai/chat"] {
        let answer = authorize(&mut client, http("GET", path, &forged)).await;
        assert_eq!(decision(&answer).outcome(), pb::Outcome::Allow, "{path}");
        assert_eq!(answer.remove_headers, ["x-user-id", "x-plan", "x_user_id", "x_plan"], "{path}");
    }
    // The policy looks at x-plan-hint; another spelling is another header.
    let hinted = authorize(&mut client, http("GET", "/hinted?key=a", &[("x_plan_hint", "gold")])).await;
    assert_eq!(decision(&hinted).reason(), pb::Reason::NoPolicy);
}

#[tokio::test]
async fn tokens_where_a_route_needs_them() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let token = mint(&quotad.config_path(), "alice");
    let bearer = format!("Bearer {token}");
    let missing = authorize(&mut client, http("GET", "/ai/chat", &[])).await;
    assert_eq!(
        (decision(&missing).reason(), decision(&missing).http_status),
        (pb::Reason::TokenMissing, 401)
    );
    assert_eq!(
        header(decision(&missing), "Strict-Transport-Security"),
        Some("max-age=63072000; includeSubDomains")
    );
    let two = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    for headers in [&two[..], &[("authorization", format!("{bearer},{bearer}").as_str())][..]] {
        let answer = authorize(&mut client, http("GET", "/ai/chat", headers)).await;
        assert_eq!(decision(&answer).reason(), pb::Reason::TokenMalformed);
    }
    let cookie = format!("a=b; session={token}");
    let by_cookie = authorize(&mut client, http("GET", "/ai/chat", &[("cookie", &cookie)])).await;
    assert_eq!(decision(&by_cookie).outcome(), pb::Outcome::Allow);
    let given = pb::AuthorizeRequest { token: Some(token.clone()), ..http("GET", "/ai/chat", &[]) };
    assert_eq!(decision(&authorize(&mut client, given).await).outcome(), pb::Outcome::Allow);
    let huge = "x".repeat(9_000);
    let oversized = pb::AuthorizeRequest { token: Some(huge), ..http("GET", "/ai/chat", &[]) };
    let answer = authorize(&mut client, oversized).await;
    assert_eq!(
        (decision(&answer).reason(), decision(&answer).http_status),
        (pb::Reason::TokenMalformed, 401)
    );
    assert_eq!(
        decision(&authorize(&mut client, http("GET", "/soft", &[])).await).outcome(),
        pb::Outcome::Allow
    );
    let bad = authorize(&mut client, http("GET", "/soft", &[("authorization", "Bearer x.y.z")])).await;
    assert_eq!(decision(&bad).http_status, 401, "an optional token that is bad is refused");
}

#[tokio::test]
async fn a_connection_takes_its_lease_in_the_same_call() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let token = mint(&quotad.config_path(), "alice");
    let open = |lease_id: &str| pb::AuthorizeRequest {
        token: Some(token.clone()),
        connection: Some(pb::authorize_request::ConnectionOffer {
            lease_id: lease_id.into(),
            holder: "pod-1".into(),
        }),
        ..http("GET", "/ws/room", &[])
    };
    let first = authorize(&mut client, open("l1")).await;
    let lease = first.lease.unwrap();
    assert_eq!((&*lease.lease_id, &*first.client_address), ("l1", "203.0.113.7"));
    let held = lease.connection.unwrap();
    assert_eq!((&*held.holder, &held.policies), ("pod-1", &vec!["sockets".to_owned()]));
    assert_eq!(held.token.as_ref().map(|token| &*token.subject), Some("alice"));
    assert_eq!(renew(&mut client, vec![held.clone()]).await, [State::Held], "as it came");
    let second = authorize(&mut client, open("l2")).await;
    assert_eq!(decision(&second).reason(), pb::Reason::ConnectionLimitExceeded);
    assert!(second.lease.is_none() && second.upstream_headers.is_empty());
    assert!(authorize(&mut client, open("l1")).await.lease.is_some());
    assert!(release(&mut client, held).await, "as it came");
    assert!(authorize(&mut client, open("l2")).await.lease.is_some());
}

#[tokio::test]
async fn a_caller_names_further_policies_beside_the_route_and_all_are_charged_or_none() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let ask = |path: &str, policies: &[&str]| pb::AuthorizeRequest {
        policies: policies.iter().map(|policy| (*policy).to_owned()).collect(),
        ..http("POST", path, &[])
    };
    let both = authorize(&mut client, ask("/unknown", &["auth-per-ip"])).await;
    assert_eq!((decision(&both).reason(), &*both.route), (pb::Reason::WithinLimit, ""));
    assert_eq!(decision(&both).statuses[0].policy, "auth-per-ip");
    let unknown = client.authorize(ask("/unknown", &["nope"])).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let sockets = client.authorize(ask("/unknown", &["sockets"])).await.unwrap_err();
    assert_eq!(sockets.code(), tonic::Code::InvalidArgument, "nothing is offered that could be counted");
    let many = vec!["auth-per-ip"; 17];
    let many = client.authorize(ask("/unknown", &many)).await.unwrap_err();
    assert!(many.message().starts_with("policies"), "{}", many.message());
    let peek = pb::AuthorizeRequest { cost: Some(0), ..ask("/unknown", &["auth-per-ip"]) };
    assert_eq!(decision(&authorize(&mut client, peek).await).statuses[0].remaining, 1, "once");
}

#[tokio::test]
async fn a_repeated_request_claims_no_lease_that_is_gone() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let token = mint(&quotad.config_path(), "alice");
    let open = |request_id: &str, lease_id: &str| pb::AuthorizeRequest {
        token: Some(token.clone()),
        request_id: request_id.into(),
        connection: Some(pb::authorize_request::ConnectionOffer {
            lease_id: lease_id.into(),
            holder: "pod-1".into(),
        }),
        ..http("GET", "/room/a", &[])
    };
    let holds = |lease_id: &str| connection(&["sockets"], "alice", lease_id);
    let first = authorize(&mut client, open("r", "one")).await;
    assert!(first.lease.is_some());
    let left = |answer: &pb::AuthorizeResponse| {
        let mut statuses = decision(answer).statuses.iter();
        statuses.find(|status| status.policy == "ai-per-user").unwrap().remaining
    };
    assert_eq!(left(&first), 29);
    // Released and asked for again: held again, and charged once.
    assert!(release(&mut client, holds("one")).await);
    let again = authorize(&mut client, open("r", "one")).await;
    assert!(again.lease.is_some() && left(&again) == 29);
    assert_eq!(renew(&mut client, vec![holds("one")]).await, [State::Held]);
    // Released and taken by another: the repeated answer does not say otherwise.
    assert!(release(&mut client, holds("one")).await);
    assert!(authorize(&mut client, open("s", "two")).await.lease.is_some());
    let gone = authorize(&mut client, open("r", "one")).await;
    assert_eq!(decision(&gone).reason(), pb::Reason::ConnectionLimitExceeded);
    assert!(gone.lease.is_none() && gone.upstream_headers.is_empty());
    assert_eq!(renew(&mut client, vec![holds("two")]).await, [State::Held]);
    // What was refused was not charged: r and s were, once each.
    let peek = pb::AuthorizeRequest { cost: Some(0), connection: None, ..open("", "none") };
    assert_eq!(left(&authorize(&mut client, peek).await), 28);
}

#[tokio::test]
async fn policies_of_a_route_hold_by_their_match() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let gold = [("x-plan-hint", "gold")];
    let plain = authorize(&mut client, http("GET", "/hinted?key=a", &[])).await;
    assert_eq!(decision(&plain).reason(), pb::Reason::NoPolicy);
    let ask = |path: &str| http("GET", path, &gold);
    assert_eq!(decision(&authorize(&mut client, ask("/hinted?key=a%20b")).await).http_status, 200);
    assert_eq!(decision(&authorize(&mut client, ask("/hinted?key=a+b")).await).http_status, 429);
    assert_eq!(decision(&authorize(&mut client, ask("/hinted?key=c")).await).http_status, 200);
    let missing = authorize(&mut client, ask("/hinted")).await;
    assert_eq!(
        (decision(&missing).reason(), decision(&missing).http_status),
        (pb::Reason::PartitionMissing, 403)
    );
    let own = pb::AuthorizeRequest { entries: entries(&[("query:key", "mine")]), ..ask("/hinted") };
    assert_eq!(decision(&authorize(&mut client, own).await).http_status, 200);
}
