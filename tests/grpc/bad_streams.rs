//! Bad input on the streams of Envoy's protocols: a clear end, the leases of others as they were, a process that goes on.

use crate::bad_input::{bytes, frame};
use crate::harness::{PATIENCE, Quotad, until};
use crate::leases_envoy::{
    CONFIG, Log, Stream, allowed, asks, authorize, channel, entry, five, headers, message, put, streams,
};
use crate::tokens::mint;
use proc::processing_request::Request as Message;
use proc::processing_response::Response as Answer;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use quotad::pb::envoy::data::accesslog::v3::AccessLogType as Type;
use quotad::pb::envoy::service::ext_proc::v3 as proc;
use tonic::Code;

const LOG: &str = "envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const PROCESS: &str = "envoy.service.ext_proc.v3.ExternalProcessor/Process";

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

/// A value within a value, this many times.
fn nested(times: usize) -> Value {
    (0..times).fold(text("x"), |inner, _| list(vec![inner]))
}

/// A change of the lease in an entry's metadata.
type Change = Box<dyn Fn(&mut Struct)>;

fn changes() -> Vec<Change> {
    let set = |key: &'static str, to: Value| -> Change {
        Box::new(move |lease: &mut Struct| drop(lease.fields.insert(key.to_owned(), to.clone())))
    };
    let pairs = |count: usize, size: usize| {
        let pair = |i: usize| (format!("{i}{}", "k".repeat(size)), text(&"v".repeat(size)));
        value(Kind::StructValue(Struct { fields: (0..count).map(pair).collect() }))
    };
    vec![
        set("id", text("")),
        set("id", text(&"a".repeat(500_000))),
        set("id", text("a b\r\nc")),
        set("id", value(Kind::NumberValue(f64::NAN))),
        set("id", Value { kind: None }),
        set("domain", text(&"d".repeat(500_000))),
        set("domain", text("nowhere")),
        set("domain", list(Vec::new())),
        set("policies", list(Vec::new())),
        set("policies", list(vec![text("five"); 17])),
        set("policies", list(vec![text("five"); 50_000])),
        set("policies", list(vec![value(Kind::NullValue(0))])),
        set("policies", list(vec![text("")])),
        set("policies", list(vec![text("five"), text("nope")])),
        set("policies", nested(30)),
        set("entries", pairs(129, 1)),
        set("entries", pairs(20_000, 10)),
        set("entries", pairs(1, 400_000)),
        set("entries", pairs(0, 0)),
        set("entries", nested(30)),
        set("elsewhere", list(vec![text("five")])),
        set("elsewhere", list(vec![value(Kind::StructValue(Struct::default()))])),
        set("elsewhere", nested(30)),
        set("token", pairs(0, 0)),
        set("token", text("x")),
        set("token", pairs(1_000, 100)),
        Box::new(|lease| lease.fields.clear()),
        Box::new(|lease| {
            for key in ["id", "domain", "policies", "entries", "token", "elsewhere"] {
                put(lease, key, "x");
            }
        }),
    ]
}

#[tokio::test]
async fn garbage_in_place_of_a_lease_frees_and_renews_nothing_and_the_log_goes_on() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let held = five(&channel, &token).await;
    let log = Log::open(&channel);
    for change in changes() {
        for kind in [Type::DownstreamPeriodic, Type::DownstreamEnd] {
            let mut metadata = held[0].clone();
            let Some(Kind::StructValue(lease)) = &mut metadata.fields.get_mut("lease").unwrap().kind else {
                panic!("no struct")
            };
            change(lease);
            log.say(vec![entry(kind, &metadata)]).await;
        }
    }
    log.close().await.expect("every entry is skipped, and the stream goes on to its end");
    assert_eq!(authorize(&channel, "/ws/a", &token).await, None, "nothing of that freed a place");
    let log = Log::open(&channel);
    log.say(vec![entry(Type::DownstreamEnd, &held[0])]).await;
    log.close().await.unwrap();
    assert!(authorize(&channel, "/ws/a", &token).await.is_some(), "the lease itself is known still");
}

/// Streams of bytes that are no messages.
fn garbage(deep: &impl prost::Message) -> Vec<(&'static str, Vec<u8>)> {
    let announced = |length: u32, bytes: &[u8]| {
        let mut stream = vec![0];
        stream.extend(length.to_be_bytes());
        stream.extend(bytes);
        stream
    };
    vec![
        ("no protobuf", frame(b"\xff\xff\xff\xff")),
        ("a field that is cut", frame(b"\x12\x05ab")),
        ("a length without an end", frame(b"\x12\xff\xff\xff\xff\x7f")),
        ("a message of 4 GiB, announced", announced(u32::MAX, b"x")),
        ("a message beyond the bound", frame(&vec![0; 1024 * 1024 + 1])),
        ("a message that is cut", announced(100, b"\x12\x05")),
        ("a head that is cut", b"\0\0\0".to_vec()),
        ("an unknown flag", b"\x07\0\0\0\0".to_vec()),
        ("a compressed message", b"\x01\0\0\0\0".to_vec()),
        ("values within values", frame(&deep.encode_to_vec())),
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

fn deep_struct() -> Struct {
    Struct { fields: [("lease".to_owned(), nested(500))].into() }
}

fn deep_log() -> impl prost::Message {
    message(vec![entry(Type::DownstreamEnd, &deep_struct())])
}

fn deep_request(request: Option<Message>) -> impl prost::Message {
    let attributes = [("a".to_owned(), deep_struct())].into();
    proc::ProcessingRequest { request, attributes, ..Default::default() }
}

/// Statuses that blame the caller, or say that its stream broke.
const CALLERS: [&str; 4] = ["3", "12", "13", "1"];

#[tokio::test]
async fn bytes_that_are_no_messages_end_a_log_with_a_status() {
    let quotad = Quotad::start(CONFIG);
    for (what, stream) in garbage(&deep_log()) {
        let sent = bytes(&quotad.address, LOG, None, stream);
        let (status, said, _) = tokio::time::timeout(PATIENCE, sent).await.expect(what);
        assert!(CALLERS.contains(&status.as_deref().unwrap()), "{what}: {status:?} {said}");
        assert!(!said.is_empty(), "{what}");
    }
    goes_on(&quotad).await;
}

#[tokio::test]
async fn bytes_that_are_no_messages_are_a_denial_to_ext_proc() {
    let quotad = Quotad::start(CONFIG);
    let deep = deep_request(Some(Message::RequestHeaders(headers("/about", &[]))));
    for (what, stream) in garbage(&deep) {
        let sent = bytes(&quotad.address, PROCESS, None, stream);
        let (status, said, body) = tokio::time::timeout(PATIENCE, sent).await.expect(what);
        assert_eq!(status.as_deref(), Some("0"), "{what}: {said}");
        let answer = proc::ProcessingResponse::decode(&body[5..]).unwrap();
        let Some(Answer::ImmediateResponse(denied)) = answer.response else { panic!("{what}: {answer:?}") };
        assert_eq!(denied.status.unwrap().code, 400, "{what}");
        assert_eq!(
            body.len(),
            5 + u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize,
            "{what}: one answer"
        );
    }
    // Nothing at all is a stream that was given up.
    let (status, _, body) = bytes(&quotad.address, PROCESS, None, Vec::new()).await;
    assert_eq!((status.as_deref(), body.len()), (Some("13"), 0), "no leave to pass");
    goes_on(&quotad).await;
}

/// The process serves as before.
async fn goes_on(quotad: &Quotad) {
    let (channel, token) = (channel(quotad).await, mint(&quotad.config_path(), "bob"));
    let held = authorize(&channel, "/short/a", &token).await.expect("a place");
    let log = Log::open(&channel);
    log.say(vec![entry(Type::DownstreamEnd, &held)]).await;
    log.close().await.unwrap();
    let _stream = allowed(&channel, "/short/a", &token).await.expect("a place");
}

#[tokio::test]
async fn a_stream_of_ext_proc_that_begins_with_anything_else_is_refused_as_a_whole() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let (trailers, body) = (proc::HttpTrailers::default(), proc::HttpBody::default());
    for first in [
        Some(Message::RequestTrailers(trailers.clone())),
        Some(Message::ResponseTrailers(trailers)),
        Some(Message::ResponseHeaders(headers("", &[]))),
        Some(Message::RequestBody(body.clone())),
        Some(Message::ResponseBody(body)),
        None,
    ] {
        let mut stream = Stream::open(&channel).await;
        let opened = proc::ProcessingRequest { request: first.clone(), ..Default::default() };
        stream.sender.send(opened).await.unwrap();
        // What should have come first comes too late.
        let late = proc::ProcessingRequest { request: Some(asks("/short/a", &token)), ..Default::default() };
        let _ = stream.sender.send(late).await;
        let Ok(Some(Answer::ImmediateResponse(denied))) = stream.answer().await else {
            panic!("not denied: {first:?}")
        };
        assert_eq!(denied.status.unwrap().code, 503, "{first:?}");
        assert_eq!(stream.answer().await.unwrap(), None, "one answer: {first:?}");
    }
    let _held = allowed(&channel, "/short/a", &token).await.expect("none of them took the place");
}

#[tokio::test]
async fn a_second_request_on_a_stream_ends_it_and_frees_its_place() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    // Long-lived leases: the place is not free by its TTL.
    let mut held = streams(&channel, &token, 5).await;
    let mut stream = held.pop().unwrap();
    let status = stream.ask(asks("/ws/b", &token)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "request_headers: one request a stream")
    );
    until("its place is free", async || allowed(&channel, "/ws/a", &token).await.is_some()).await;
}

#[tokio::test]
async fn garbage_later_on_a_stream_ends_it_with_a_status_and_frees_its_place() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    for (i, (what, garbage)) in garbage(&deep_request(None)).into_iter().enumerate() {
        let token = mint(&quotad.config_path(), &format!("user {i}"));
        let mut held = streams(&channel, &token, 4).await;
        let first = proc::ProcessingRequest { request: Some(asks("/ws/a", &token)), ..Default::default() };
        let mut stream = frame(&first.encode_to_vec());
        stream.extend(garbage);
        let (status, said, body) = bytes(&quotad.address, PROCESS, None, stream).await;
        let answer = proc::ProcessingResponse::decode(&body[5..]).unwrap();
        assert!(matches!(answer.response, Some(Answer::RequestHeaders(_))), "{what}: {answer:?}");
        assert_eq!(status.as_deref(), Some("3"), "{what}: {said}");
        until("its place is free", async || match allowed(&channel, "/ws/a", &token).await {
            Some(stream) => {
                held.push(stream);
                true
            }
            None => false,
        })
        .await;
        assert!(allowed(&channel, "/ws/a", &token).await.is_none(), "{what}: one place, not more");
    }
}

#[tokio::test]
async fn a_request_beyond_every_bound_is_a_denial() {
    let quotad = Quotad::start(CONFIG);
    let channel = channel(&quotad).await;
    let token = mint(&quotad.config_path(), "alice");
    let long = "x".repeat(100_000);
    let many: Vec<(String, &str)> = (0..5_000).map(|i| (format!("h{i}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for request in [
        headers(&format!("/ws/{long}"), &[]),
        headers("/ws/a", &[("x", &long)]),
        headers("/ws/a", &many),
        headers("/ws/a\r\nx: y", &[]),
        headers("", &[]),
    ] {
        let mut stream = Stream::open(&channel).await;
        let Ok(Some(Answer::ImmediateResponse(denied))) = stream.ask(Message::RequestHeaders(request)).await
        else {
            panic!("not denied")
        };
        assert_eq!(denied.status.unwrap().code, 400);
        assert_eq!(stream.answer().await.unwrap(), None);
    }
    let _held = allowed(&channel, "/short/a", &token).await.expect("a place");
}
