//! Calls that take long: messages that do not come, and deadlines that pass while the store is asked.

use crate::harness::{Quotad, Start, check, decide, until};
use crate::server::{Kind, Server};
use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use quotad::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use quotad::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use quotad::pb::envoy::service::auth::v3 as auth;
use quotad::pb::envoy::service::ratelimit::v3 as rls;
use quotad::pb::quotad::v1 as pb;
use std::time::{Duration, Instant};

/// What a message may take to come is 10 s; a busy machine is late.
const GIVEN_UP: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(20);

const CONFIG: &str = r#"
tokens:
  - {name: app, issuer: example-app, algorithms: [HS256], key: {file: token.key, generate: true}}
policies:
  - {name: wide, partition: [ip], limit: 1000, window: 1h}
"#;

/// A connection by hand: no client library that keeps a deadline of its own, or hides a stream that hangs.
pub async fn connect(address: &str) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // A small frame must not wait for the peer's word on the one before it.
    stream.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

/// A call under way.
pub struct Call {
    pub answer: h2::client::ResponseFuture,
    pub message: h2::SendStream<Bytes>,
}

impl Call {
    /// Sends the headers.
    pub async fn open(client: &SendRequest<Bytes>, method: &str, timeout: Option<&str>) -> Self {
        let ready = tokio::time::timeout(GIVEN_UP.end, client.clone().ready()).await;
        let mut client = ready.expect("a place in time").unwrap();
        let mut request = http::Request::post(format!("http://quotad/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let (answer, message) = client.send_request(request.body(()).unwrap(), false).unwrap();
        Self { answer, message }
    }

    /// Sends the message, whole.
    fn send(&mut self, message: &impl prost::Message) {
        assert!(self.try_send(message), "the call has ended");
    }

    /// False when the call has ended.
    fn try_send(&mut self, message: &impl prost::Message) -> bool {
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        framed.extend(message.encode_to_vec());
        self.message.send_data(framed.into(), true).is_ok()
    }

    /// The code and message of its status.
    async fn status(self) -> (String, String) {
        let answered = tokio::time::timeout(GIVEN_UP.end, self.answer).await;
        let (parts, mut body) = answered.expect("an answer in time").unwrap().into_parts();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        let text = |map: &HeaderMap, name: &str| Some(map.get(name)?.to_str().unwrap().to_owned());
        let of = |name| text(&parts.headers, name).or_else(|| text(&trailers, name)).unwrap_or_default();
        (of("grpc-status"), of("grpc-message"))
    }
}

#[tokio::test]
async fn a_message_that_never_comes_is_given_up_its_stream_is_free_and_streams_go_on() {
    let quotad = Quotad::start(CONFIG);
    let client = connect(&quotad.address).await;
    let stream = Call::open(&client, "quotad.v1.DecisionService/CheckLimits", None).await;
    let other = connect(&quotad.address).await;
    let begun = Instant::now();
    let mut calls = Vec::new();
    for method in [
        "quotad.v1.DecisionService/CheckLimit",
        "quotad.v1.DecisionService/RenewConnections",
        "envoy.service.auth.v3.Authorization/Check",
        "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        "grpc.health.v1.Health/Check",
    ] {
        calls.push(Call::open(&client, method, None).await);
    }
    // As many as a connection may have: who waits for a place gets one when these are given up.
    let mut full = Vec::new();
    for _ in 0..1_024 {
        let mut call = Call::open(&other, "quotad.v1.DecisionService/CheckLimit", None).await;
        // The beginning of a message is no message.
        call.message.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
        full.push(call);
    }
    for call in calls {
        assert_eq!(call.status().await, ("4".to_owned(), message_late()));
    }
    let mut next = Call::open(&other, "quotad.v1.DecisionService/CheckLimit", None).await;
    next.send(&check("wide", &[("ip", "203.0.113.7")]));
    assert_eq!(next.status().await.0, "0");
    assert!(GIVEN_UP.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // A stream with nothing to say is as good as ever.
    let mut stream = stream;
    stream.send(&pb::CheckLimitsRequest::default());
    assert_eq!(stream.status().await.0, "0");
}

fn message_late() -> String {
    "request:%20the%20message%20did%20not%20come%20in%20time".to_owned()
}

#[tokio::test]
async fn a_revocation_waits_for_redis_no_longer_than_its_caller_and_says_neither_yes_nor_no() {
    let redis = Server::start(Kind::Redis7);
    let quotad =
        Start::with(CONFIG).arg("--store").arg(redis.url()).arg("--store-timeout").arg("20s").start();
    let client = connect(&quotad.address).await;
    let revocation = pb::RevokeTokenRequest {
        target: Some(pb::revoke_token_request::Target::TokenId(pb::revoke_token_request::TokenId {
            issuer: "example-app".into(),
            id: "t1".into(),
            expires_at: None,
        })),
    };
    until("Redis is there", async || {
        let mut call = Call::open(&client, "quotad.v1.DecisionService/RevokeToken", None).await;
        call.send(&revocation);
        call.status().await.0 == "0"
    })
    .await;
    redis.freeze();
    let begun = Instant::now();
    let mut call = Call::open(&client, "quotad.v1.DecisionService/RevokeToken", Some("200m")).await;
    call.send(&revocation);
    let (code, message) = call.status().await;
    assert_eq!(code, "4", "{message}");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "sooner than the store's timeout: {:?}",
        begun.elapsed()
    );
    redis.thaw();
    let mut past = Call::open(&client, "quotad.v1.DecisionService/RevokeToken", Some("1n")).await;
    past.send(&revocation);
    let (code, message) = past.status().await;
    assert!(code == "4" && message.contains("nothing"), "{code} {message}");
}

#[tokio::test]
async fn a_deadline_counts_from_the_headers_and_what_comes_after_it_charges_nothing() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let quotad = Quotad::start(CONFIG);
    let client = connect(&quotad.address).await;
    let one = check("wide", &[("ip", "203.0.113.7")]);
    let of_stream = pb::CheckLimitsRequest {
        checks: vec![pb::check_limits_request::Check { id: 1, request: Some(one.clone()) }],
    };
    let mut alone = Call::open(&client, "quotad.v1.DecisionService/CheckLimit", Some("200m")).await;
    let mut stream = Call::open(&client, "quotad.v1.DecisionService/CheckLimits", Some("200m")).await;
    // The caller's time is over before it says anything: the case itself, not a wait for something.
    tokio::time::sleep(2 * TIMEOUT).await;
    // The call may have ended by then, and take nothing more.
    let _ = alone.try_send(&one);
    let _ = stream.try_send(&of_stream);
    for call in [alone, stream] {
        let (code, message) = call.status().await;
        assert_eq!(code, "4", "{message}");
    }
    // A call that says nothing ends with its deadline, and not when a message has had its time.
    let begun = Instant::now();
    for method in ["quotad.v1.DecisionService/CheckLimit", "quotad.v1.DecisionService/CheckLimits"] {
        let mut silent = Call::open(&client, method, Some("200m")).await;
        silent.message.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
        assert_eq!(silent.status().await.0, "4", "{method}");
    }
    assert!(begun.elapsed() < GIVEN_UP.start, "{:?}", begun.elapsed());
    let mut other = quotad.client().await;
    let peek = pb::CheckLimitRequest { cost: Some(0), ..one };
    assert_eq!(decide(&mut other, peek).await.statuses[0].remaining, 1_000, "nothing was charged");
}

#[tokio::test]
async fn a_deadline_of_envoys_counts_from_the_headers_too() {
    let timeout = Duration::from_millis(200);
    let quotad = Quotad::start(ENVOYS);
    let client = connect(&quotad.address).await;
    let http = auth::attribute_context::HttpRequest {
        method: "GET".to_owned(),
        path: b"/".to_vec(),
        host: b"api.example.com".to_vec(),
        ..Default::default()
    };
    let request = Some(auth::attribute_context::Request { http: Some(http), time: None });
    let judged =
        auth::CheckRequest { attributes: Some(auth::AttributeContext { request, ..Default::default() }) };
    let entries = vec![Entry { key: "kind".into(), value: "report".into() }];
    let descriptors = vec![RateLimitDescriptor { entries, ..Default::default() }];
    let limited = rls::RateLimitRequest { domain: String::from("edge"), descriptors, hits_addend: 0 };
    let mut peer = quotad.client().await;
    let mut left = async || {
        let mut left = Vec::new();
        for (domain, policy, pairs) in [("", "all", vec![]), ("edge", "reports", vec![("kind", "report")])] {
            let domain = domain.to_owned();
            let peek = pb::CheckLimitRequest { domain, cost: Some(0), ..check(policy, &pairs) };
            left.push(decide(&mut peer, peek).await.statuses[0].remaining);
        }
        left
    };
    // In time both charge.
    let (mut check, mut limit) = (opened(&client, CHECK, "20S").await, opened(&client, LIMIT, "20S").await);
    check.send(&judged);
    limit.send(&limited);
    assert_eq!([check.status().await.0, limit.status().await.0], ["0", "0"]);
    assert_eq!(left().await, [999, 999]);
    let (mut check, mut limit) = (opened(&client, CHECK, "200m").await, opened(&client, LIMIT, "200m").await);
    // The caller's time is over before it says anything: the case itself, not a wait for something.
    tokio::time::sleep(2 * timeout).await;
    // The call may have ended by then, and take nothing more.
    let _ = check.try_send(&judged);
    let _ = limit.try_send(&limited);
    for call in [check, limit] {
        let (code, message) = call.status().await;
        assert_eq!(code, "4", "{message}");
    }
    assert_eq!(left().await, [999, 999], "nothing more was charged");
}

const ENVOYS: &str = r"
policies:
  - {name: all, limit: 1000, window: 1h}
  - {name: reports, domain: edge, match: {kind: report}, limit: 1000, window: 1h}
routes:
  - {name: all, paths: [/], policies: [all]}
";
const CHECK: &str = "envoy.service.auth.v3.Authorization/Check";
const LIMIT: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

async fn opened(client: &SendRequest<Bytes>, method: &str, timeout: &str) -> Call {
    Call::open(client, method, Some(timeout)).await
}

#[tokio::test]
async fn calls_that_were_given_up_while_the_process_stood_still_charge_nothing() {
    let quotad = Quotad::start(CONFIG);
    let client = connect(&quotad.address).await;
    let one = check("wide", &[("ip", "203.0.113.7")]);
    let mut first = Call::open(&client, "quotad.v1.DecisionService/CheckLimit", None).await;
    first.send(&one);
    assert_eq!(first.status().await.0, "0");
    quotad.signal("STOP");
    // Fewer than make a connection suspicious.
    for _ in 0..10 {
        let mut call = Call::open(&client, "quotad.v1.DecisionService/CheckLimit", Some("20m")).await;
        call.send(&one);
        call.message.send_reset(h2::Reason::CANCEL);
    }
    // The connection's own task writes what it has when it is its turn; nobody reads yet.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    quotad.signal("CONT");
    let mut last = Call::open(&client, "quotad.v1.DecisionService/CheckLimit", None).await;
    last.send(&pb::CheckLimitRequest { cost: Some(0), ..one.clone() });
    assert_eq!(last.status().await.0, "0", "behind all of them on their connection");
    let mut other = quotad.client().await;
    let peek = pb::CheckLimitRequest { cost: Some(0), ..one };
    assert_eq!(decide(&mut other, peek).await.statuses[0].remaining, 999, "the first alone was charged");
}
