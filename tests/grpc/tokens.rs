//! `ValidateToken` and `RevokeToken` over real gRPC, and what survives a restart.

use crate::connections::{acquire, connection, renew};
use crate::harness::{Client, Quotad, Start, body, header, output_in_time, quotad};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pb::renew_connections_response::State;
use pb::revoke_token_request::{Subject, Target, TokenId};
use quotad::pb::quotad::v1 as pb;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const CONFIG: &str = r#"
store: {url: "memory:", data_dir: data}
tokens:
  - name: app
    issuer: example-app
    algorithms: [HS256]
    key: {file: data/token.key, generate: true}
    require: [sub, jti, exp]
policies:
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 3, lease_ttl: 30s}
"#;

pub fn mint(config: &Path, subject: &str) -> String {
    let output =
        output_in_time(quotad().args(["token", "mint", "--subject", subject, "--config"]).arg(config));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn validate(client: &mut Client, token: &str) -> pb::ValidateTokenResponse {
    let request = pb::ValidateTokenRequest { token: token.to_owned(), ..Default::default() };
    client.validate_token(request).await.unwrap().into_inner()
}

async fn reason(client: &mut Client, token: &str) -> pb::Reason {
    validate(client, token).await.decision.unwrap().reason()
}

async fn revoke(client: &mut Client, target: Target) -> bool {
    let request = pb::RevokeTokenRequest { target: Some(target) };
    client.revoke_token(request).await.unwrap().into_inner().newly_revoked
}

fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_minted_token_is_good_and_a_bent_one_is_a_401_ready_to_send() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let token = mint(&quotad.config_path(), "alice");
    let good = validate(&mut client, &token).await;
    let decision = good.decision.unwrap();
    assert_eq!((decision.outcome(), decision.reason()), (pb::Outcome::Allow, pb::Reason::TokenValid));
    assert_eq!(decision.mode(), pb::Mode::Exact);
    let told = good.claims.unwrap();
    assert_eq!((told.issuer.as_str(), told.subject.as_str()), ("example-app", "alice"));
    assert!(!told.token_id.is_empty() && told.expires_at.is_some());
    assert!(told.all.unwrap().fields.contains_key("jti"));

    let mut bent = token.clone();
    let middle = token.len() - 10;
    let other = if token[middle..].starts_with('A') { "B" } else { "A" };
    bent.replace_range(middle..=middle, other);
    let refused = validate(&mut client, &bent).await;
    assert!(refused.claims.is_none());
    let decision = refused.decision.unwrap();
    assert_eq!((decision.outcome(), decision.http_status), (pb::Outcome::Deny, 401));
    assert_eq!(decision.reason(), pb::Reason::TokenSignatureInvalid);
    assert!(header(&decision, "WWW-Authenticate").unwrap().starts_with("Bearer error=\"invalid_token\""));
    assert_eq!(body(&decision)["code"], "TOKEN_INVALID");
    let missing = validate(&mut client, "").await.decision.unwrap();
    assert_eq!(missing.reason(), pb::Reason::TokenMissing);
    assert_eq!(header(&missing, "WWW-Authenticate"), Some("Bearer"));
    assert_eq!(body(&missing)["code"], "TOKEN_MISSING");
    assert_eq!(reason(&mut client, &"x".repeat(8_192)).await, pb::Reason::TokenMalformed);
}

#[tokio::test]
async fn the_generated_key_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let quotad = Quotad::start(CONFIG);
    let key = std::fs::metadata(quotad.folder.path().join("data/token.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert!(key.len() >= 43);
}

#[tokio::test]
async fn revocation_by_token_by_id_and_by_subject() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let [one, two, three] = ["alice", "alice", "bob"].map(|subject| mint(&quotad.config_path(), subject));
    for token in [&one, &two, &three] {
        assert_eq!(reason(&mut client, token).await, pb::Reason::TokenValid);
    }
    assert!(revoke(&mut client, Target::Token(one.clone())).await);
    assert_eq!(reason(&mut client, &one).await, pb::Reason::TokenRevoked);
    assert!(!revoke(&mut client, Target::Token(one)).await, "it was revoked already");
    assert_eq!(reason(&mut client, &two).await, pb::Reason::TokenValid);
    let id = claims(&two)["jti"].as_str().unwrap().to_owned();
    let by_id = || TokenId { issuer: "example-app".into(), id: id.clone(), expires_at: None };
    assert!(revoke(&mut client, Target::TokenId(by_id())).await);
    assert!(!revoke(&mut client, Target::TokenId(by_id())).await);
    assert_eq!(reason(&mut client, &two).await, pb::Reason::TokenRevoked);
    let subject = Subject { issuer: "example-app".into(), subject: "bob".into() };
    assert!(revoke(&mut client, Target::Subject(subject)).await);
    assert_eq!(reason(&mut client, &three).await, pb::Reason::TokenRevoked);
    let unknown = Subject { issuer: "nobody".into(), subject: "bob".into() };
    let request = pb::RevokeTokenRequest { target: Some(Target::Subject(unknown)) };
    let status = client.revoke_token(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("issuer"), "{}", status.message());
    let bad = pb::RevokeTokenRequest { target: Some(Target::Token("x.y.z".into())) };
    let status = client.revoke_token(bad).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(!status.message().contains("x.y.z"), "no piece of the token in an error");
}

#[tokio::test]
async fn a_revocation_survives_kill_9() {
    let mut folder = None;
    let mut tokens: Vec<String> = Vec::new();
    for round in 0..3 {
        let quotad = match folder.take() {
            Some(folder) => Start::again(folder).start(),
            None => Quotad::start(CONFIG),
        };
        let mut client = quotad.client().await;
        for token in &tokens {
            assert_eq!(reason(&mut client, token).await, pb::Reason::TokenRevoked, "round {round}");
        }
        let token = mint(&quotad.config_path(), "alice");
        assert_eq!(reason(&mut client, &token).await, pb::Reason::TokenValid);
        assert!(revoke(&mut client, Target::Token(token.clone())).await);
        tokens.push(token);
        // The answer is here, so it is on disk: no time to write anything more.
        folder = Some(quotad.stop("KILL").await);
    }
}

#[tokio::test]
async fn a_second_quotad_on_one_data_dir_does_not_start() {
    let first = Quotad::start(CONFIG);
    let (code, text) = Start::with(CONFIG)
        .arg("--data-dir")
        .arg(first.folder.path().join("data").display().to_string())
        .fails();
    assert_ne!(code, 0);
    assert!(text.contains("data_dir") && text.contains("another quotad"), "{text}");
}

#[tokio::test]
async fn a_renewal_tells_that_the_token_was_revoked_or_is_over() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = |offset: Duration| prost_types::Timestamp {
        seconds: i64::try_from((now + offset).as_secs()).unwrap(),
        nanos: 0,
    };
    let with = |lease: &str, id: &str, expires: Duration| pb::Connection {
        token: Some(pb::TokenReference {
            issuer: "example-app".into(),
            subject: "alice".into(),
            token_id: id.into(),
            issued_at: Some(at(Duration::ZERO)),
            expires_at: Some(at(expires)),
        }),
        ..connection(&["sockets"], "alice", lease)
    };
    let hour = Duration::from_secs(3_600);
    for (lease, id) in [("a", "t1"), ("b", "t2")] {
        assert!(acquire(&mut client, with(lease, id, hour)).await.lease.is_some());
    }
    revoke(
        &mut client,
        Target::TokenId(TokenId { issuer: "example-app".into(), id: "t1".into(), expires_at: None }),
    )
    .await;
    let batch = vec![with("a", "t1", hour), with("b", "t2", hour)];
    assert_eq!(renew(&mut client, batch).await, [State::Revoked, State::Held]);
    let freed = vec![connection(&["sockets"], "alice", "a")];
    assert_eq!(renew(&mut client, freed).await, [State::Lost], "a revoked token's lease is given back");
    let over = pb::TokenReference {
        expires_at: Some(prost_types::Timestamp { seconds: at(Duration::ZERO).seconds - 3_600, nanos: 0 }),
        ..with("b", "t2", hour).token.unwrap()
    };
    let over = pb::Connection { token: Some(over), ..connection(&["sockets"], "alice", "b") };
    assert_eq!(renew(&mut client, vec![over.clone()]).await, [State::Expired]);
    let refused = acquire(&mut client, with("c", "t1", hour)).await.decision.unwrap();
    assert_eq!((refused.reason(), refused.http_status), (pb::Reason::TokenRevoked, 401));
    let refused = acquire(&mut client, over).await.decision.unwrap();
    assert_eq!(refused.reason(), pb::Reason::TokenExpired);
}
