//! Several issuers: who a user is, in limits, conditions, leases and identity headers.

use crate::harness::{Client, Quotad, check, entries, output_in_time};
use quotad::pb::quotad::v1 as pb;

const CONFIG: &str = r#"
store: {url: "memory:", data_dir: data}
http: {identity_headers: {x-user-id: sub, x-user-issuer: iss}}
tokens:
  - {name: one, issuer: "https://one.example", algorithms: [HS256], key: {file: data/one.key, generate: true}, require: [sub, iat, exp]}
  - {name: two, issuer: "two~%", algorithms: [HS256], key: {file: data/two.key, generate: true}, require: [sub, iat, exp]}
policies:
  - {name: per-user, partition: [user], limit: 2, window: 1h}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 1}
  - {name: tests, match: {user: "https://one.example~test-*"}, limit: 1, window: 1h}
routes:
  - {name: api, paths: ["/api/**"], token: required, policies: [per-user]}
  - {name: ws, paths: ["/ws/**"], token: required, connection: [sockets]}
  - {name: tests, paths: ["/tests/**"], token: required, policies: [tests]}
"#;

fn mint(quotad: &Quotad, issuer: &str, subject: &str) -> String {
    let args = ["token", "mint", "--issuer", issuer, "--subject", subject, "--config"];
    let output = output_in_time(crate::harness::quotad().args(args).arg(quotad.config_path()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn authorize(
    client: &mut Client,
    path: &str,
    token: &str,
    lease: Option<&str>,
) -> pb::AuthorizeResponse {
    let http = pb::HttpRequest {
        method: "GET".into(),
        host: "api.example.com".into(),
        path: path.into(),
        ..Default::default()
    };
    let offer =
        |id: &str| pb::authorize_request::ConnectionOffer { lease_id: id.into(), ..Default::default() };
    let request = pb::AuthorizeRequest {
        http: Some(http),
        token: Some(token.to_owned()),
        connection: lease.map(offer),
        ..Default::default()
    };
    client.authorize(request).await.unwrap().into_inner()
}

async fn passes(client: &mut Client, path: &str, token: &str) -> bool {
    authorize(client, path, token, None).await.decision.unwrap().outcome() == pb::Outcome::Allow
}

#[tokio::test]
async fn subjects_of_two_issuers_are_two_users() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let [one, two, bob] = [("one", "alice"), ("two", "alice"), ("one", "bob")]
        .map(|(issuer, subject)| mint(&quotad, issuer, subject));
    for token in [&one, &two] {
        for left in [1, 0] {
            let answer = authorize(&mut client, "/api/x", token, None).await;
            assert_eq!(answer.decision.unwrap().statuses[0].remaining, left);
        }
        assert!(!passes(&mut client, "/api/x", token).await, "two an hour");
    }
    assert!(passes(&mut client, "/api/x", &bob).await);
    for (lease, token) in [("a1", &one), ("a2", &two)] {
        let answer = authorize(&mut client, "/ws/x", token, Some(lease)).await;
        assert_eq!(answer.decision.unwrap().outcome(), pb::Outcome::Allow, "a socket each");
    }
}

#[tokio::test]
async fn a_callers_own_entry_shares_the_counter_of_the_token_and_is_told_how_to_be_written() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let long = "s".repeat(250);
    for (issuer, subject, user) in
        [("one", "alice", "https://one.example~alice"), ("two", "~|%", "two%7E%25~~|%"), ("one", &long, "")]
    {
        let token = mint(&quotad, issuer, subject);
        let answer = authorize(&mut client, "/api/x", &token, None).await;
        let claims = answer.claims.unwrap();
        if user.is_empty() {
            assert!(claims.user.starts_with('~') && claims.user.len() == 65, "{}", claims.user);
        } else {
            assert_eq!(claims.user, user);
        }
        let request = pb::ValidateTokenRequest { token, ..Default::default() };
        let validated = client.validate_token(request).await.unwrap().into_inner();
        assert_eq!(validated.claims.unwrap().user, claims.user);
        let own = check("per-user", &[("user", &claims.user)]);
        let checked = client.check_limit(own).await.unwrap().into_inner().decision.unwrap();
        assert_eq!(checked.statuses[0].remaining, 0, "one counter for both: {}", claims.user);
        // The header is the claim, as configured, and the issuer stands beside it.
        let told: Vec<_> = answer.upstream_headers.iter().map(|header| header.value.as_str()).collect();
        assert_eq!(told, [subject, claims.issuer.as_str()]);
    }
}

#[tokio::test]
async fn a_condition_names_the_issuer_too() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let [one, two] = ["one", "two"].map(|issuer| mint(&quotad, issuer, "test-1"));
    assert!(passes(&mut client, "/tests/x", &one).await);
    assert!(!passes(&mut client, "/tests/x", &one).await);
    for _ in 0..3 {
        assert!(passes(&mut client, "/tests/x", &two).await, "of another issuer");
    }
}

#[tokio::test]
async fn with_one_issuer_a_user_is_the_subject_as_ever() {
    let quotad = Quotad::start(crate::tokens::CONFIG);
    let mut client = quotad.client().await;
    let token = crate::tokens::mint(&quotad.config_path(), "alice");
    let request = pb::ValidateTokenRequest { token, ..Default::default() };
    let claims = client.validate_token(request).await.unwrap().into_inner().claims.unwrap();
    assert_eq!((claims.subject.as_str(), claims.user.as_str()), ("alice", "alice"));
    let connection = pb::Connection {
        entries: entries(&[("user", "alice")]),
        lease_id: "l1".into(),
        ..Default::default()
    };
    let request = pb::AcquireConnectionRequest { connection: Some(connection) };
    let acquired = client.acquire_connection(request).await.unwrap().into_inner();
    assert_eq!(acquired.decision.unwrap().statuses[0].remaining, 2);
}
