//! Every kind of bad input: a clear status that names the field, nothing charged, and the process goes on.

use crate::harness::{Client, Quotad, check, connect, decide, entries};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use quotad::pb::quotad::v1 as pb;
use tonic::{Code, Request};

const CONFIG: &str = r#"
policies:
  - {name: wide, partition: [ip], limit: 100, window: 1h}
  - {name: sockets, partition: [user], algorithm: concurrency, limit: 5}
"#;

async fn refused(client: &mut Client, request: pb::CheckLimitRequest, code: Code, word: &str) {
    let status = client.check_limit(request).await.expect_err(word);
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(word), "{} lacks {word}", status.message());
}

async fn remaining(client: &mut Client) -> u64 {
    let peek = pb::CheckLimitRequest { cost: Some(0), ..check("wide", &[("ip", "203.0.113.7")]) };
    decide(client, peek).await.statuses[0].remaining
}

#[tokio::test]
async fn out_of_bounds_requests_name_their_field_and_charge_nothing() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let good = || check("wide", &[("ip", "203.0.113.7")]);
    let named = |names: &[&str]| pb::CheckLimitRequest {
        policies: names.iter().map(|name| (*name).to_owned()).collect(),
        ..good()
    };
    let invalid = Code::InvalidArgument;
    refused(&mut client, named(&["wide", "nope"]), Code::NotFound, "nope").await;
    refused(&mut client, named(&["wide", "sockets"]), invalid, "sockets").await;
    refused(&mut client, named(&["wide", ""]), invalid, "policies").await;
    refused(&mut client, named(&["wide"; 17]), invalid, "policies").await;
    let elsewhere = pb::CheckLimitRequest { domain: "mars".into(), ..good() };
    refused(&mut client, elsewhere, Code::NotFound, "mars").await;
    let unnamed = pb::CheckLimitRequest { domain: "mars".into(), ..check("", &[]) };
    refused(&mut client, unnamed, Code::NotFound, "mars").await;
    refused(&mut client, check("wide", &[("ip", "999.1.1.1")]), invalid, "ip").await;
    refused(&mut client, check("wide", &[("ip", "203.0.113.7"), ("", "x")]), invalid, "entries").await;
    let long = "x".repeat(257);
    refused(&mut client, check("wide", &[("ip", "203.0.113.7"), ("user", &long)]), invalid, "user").await;
    let mut many = good();
    many.entries.extend((0..32).map(|i| (format!("k{i}"), "v".to_owned())));
    refused(&mut client, many, invalid, "entries").await;
    let id = pb::CheckLimitRequest { request_id: "r".repeat(65), ..good() };
    refused(&mut client, id, invalid, "request_id").await;
    let huge = pb::CheckLimitRequest { domain: "d".repeat(70_000), ..good() };
    refused(&mut client, huge, invalid, "request").await;
    let monstrous = pb::CheckLimitRequest { domain: "d".repeat(5_000_000), ..good() };
    let status = client.check_limit(monstrous).await.unwrap_err();
    assert_eq!(status.code(), invalid, "{status:?}");
    assert_eq!(remaining(&mut client).await, 100);
}

#[tokio::test]
async fn a_call_whose_deadline_is_past_charges_nothing() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    for _ in 0..50 {
        let mut late = Request::new(check("wide", &[("ip", "203.0.113.7")]));
        late.metadata_mut().insert("grpc-timeout", "1n".parse().unwrap());
        let status = client.check_limit(late).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    }
    assert_eq!(remaining(&mut client).await, 100);
}

/// Sends bytes as one gRPC message, and returns the status.
async fn raw(
    address: &str,
    method: &str,
    encoding: Option<&str>,
    message: &[u8],
) -> (Option<String>, String) {
    let mut framed = frame(message);
    framed[0] = u8::from(encoding.is_some());
    let (status, said, _) =
        bytes(address, &format!("quotad.v1.DecisionService/{method}"), encoding, framed).await;
    (status, said)
}

/// A message as gRPC sends it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

/// Sends the bytes of a whole stream; returns its status, the status's words and the bytes that came back.
pub async fn bytes(
    address: &str,
    method: &str,
    encoding: Option<&str>,
    body: Vec<u8>,
) -> (Option<String>, String, Bytes) {
    let client: HttpClient<_, Full<Bytes>> =
        HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request = http::Request::post(format!("http://{address}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let response = client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let find = |name: &str| {
        let of = |map: &http::HeaderMap| map.get(name).map(|value| value.to_str().unwrap().to_owned());
        of(&parts.headers).or_else(|| collected.trailers().and_then(of))
    };
    let (status, said) = (find("grpc-status"), find("grpc-message").unwrap_or_default());
    (status, said, collected.to_bytes())
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault() {
    let quotad = Quotad::start(CONFIG);
    let garbage: [&[u8]; 4] =
        [b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28", b"\x0a\xff\xff\xff\xff\x7f"];
    for (i, bytes) in garbage.iter().enumerate() {
        for method in ["CheckLimit", "Authorize", "AcquireConnection", "ValidateToken", "RenewConnections"] {
            let (status, message) = raw(&quotad.address, method, None, bytes).await;
            assert_eq!(status.as_deref(), Some("3"), "{method} {i}: {message}");
        }
    }
    let (status, _) = raw(&quotad.address, "CheckLimit", Some("br"), b"x").await;
    assert_eq!(status.as_deref(), Some("12"), "an unknown compression");
    let (status, _) = raw(&quotad.address, "Nothing", None, b"").await;
    assert_eq!(status.as_deref(), Some("12"), "an unknown method");
    let mut client = connect(&quotad.address).await;
    assert_eq!(remaining(&mut client).await, 100);
}

#[tokio::test]
async fn connections_and_tokens_are_bounded_too() {
    let quotad = Quotad::start(CONFIG);
    let mut client = quotad.client().await;
    let connection = |lease_id: &str| pb::Connection {
        policies: vec!["sockets".into()],
        entries: entries(&[("user", "7")]),
        lease_id: lease_id.into(),
        ..Default::default()
    };
    let long = "x".repeat(65);
    for lease_id in ["", "a b", "é", &long] {
        let request = pb::AcquireConnectionRequest { connection: Some(connection(lease_id)) };
        let status = client.acquire_connection(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("lease_id"), "{}", status.message());
    }
    let missing = client.acquire_connection(pb::AcquireConnectionRequest::default()).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::InvalidArgument, "connection: missing"));
    let wrong = pb::Connection { policies: vec!["wide".into()], ..connection("lease") };
    let wrong = pb::AcquireConnectionRequest { connection: Some(wrong) };
    let status = client.acquire_connection(wrong).await.unwrap_err();
    assert!(status.message().contains("wide") && status.code() == Code::InvalidArgument, "{status:?}");
    let many = pb::RenewConnectionsRequest { connections: vec![connection("lease"); 4_097] };
    let status = client.renew_connections(many).await.unwrap_err();
    assert!(status.message().contains("4097"), "{status:?}");
    let token = pb::ValidateTokenRequest { token: "x".repeat(8 * 1024 + 1), ..Default::default() };
    let status = client.validate_token(token).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().starts_with("token"), "{status:?}");
    let nothing = client.revoke_token(pb::RevokeTokenRequest::default()).await.unwrap_err();
    assert!(nothing.message().contains("target"), "{nothing:?}");
    let no_http = client.authorize(pb::AuthorizeRequest::default()).await.unwrap_err();
    assert_eq!((no_http.code(), no_http.message()), (Code::InvalidArgument, "http: missing"));
}
