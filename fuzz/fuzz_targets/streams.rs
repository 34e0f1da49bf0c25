//! Bytes of Envoy's streams, the access log's and ext_proc's, as they come over the wire: each ends with a status, and one of
//! ext_proc has leave to pass only by an answer that says so.
//!
//! Input: a byte (lowest bit: which stream; the next: whether what follows the messages is sent as it is), then
//! messages, of each the length in two bytes and the message.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use quotad::envoy::Envoy;
use quotad::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogServiceServer;
use quotad::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use quotad::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessorServer;
use quotad::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use quotad::store::memory::MemoryOptions;
use quotad_fuzz::{PLAIN, RUNTIME, service};
use tokio::task::LocalSet;
use tower_service::Service;

/// Messages of one stream.
const MOST: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let body = framed(rest, kind & 2 != 0);
    let envoy = Envoy::new(service(&PLAIN, MemoryOptions::default()));
    LocalSet::new().block_on(&RUNTIME, async {
        if kind & 1 == 0 {
            let path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
            let answer = AccessLogServiceServer::new(envoy).call(request(path, body)).await;
            ended(answer.expect("it cannot fail")).await;
        } else {
            let path = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
            let answer = ExternalProcessorServer::new(envoy).call(request(path, body)).await;
            let (status, said) = ended(answer.expect("it cannot fail")).await;
            judge(&status, said);
        }
    });
});

/// Messages as gRPC sends them; at their end, perhaps, what is none.
fn framed(mut rest: &[u8], raw_end: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..MOST {
        let [low, high, after @ ..] = rest else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        if raw_end && length > after.len() {
            break;
        }
        let (message, after) = after.split_at(length.min(after.len()));
        stream.push(0);
        stream.extend(u32::try_from(message.len()).expect("two bytes").to_be_bytes());
        stream.extend(message);
        rest = after;
    }
    if raw_end {
        stream.extend(rest);
    }
    stream
}

fn request(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    request.body(Full::from(body)).expect("a request")
}

/// The status of a stream, and what was said before.
async fn ended(answer: Response<tonic::body::Body>) -> (String, Bytes) {
    let (parts, body) = answer.into_parts();
    let collected = body.collect().await.expect("a body that ends");
    let of = |map: &HeaderMap| Some(map.get("grpc-status")?.to_str().expect("digits").to_owned());
    let status =
        of(&parts.headers).or_else(|| of(collected.trailers()?)).expect("a stream ends with a status");
    (status, collected.to_bytes())
}

fn judge(status: &str, mut said: Bytes) {
    let mut answers = Vec::new();
    while said.len() >= 5 {
        let head = said.split_to(5);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let message = said.split_to(usize::try_from(length).expect("small"));
        let answer = ProcessingResponse::decode(message).expect("an answer");
        answers.push(answer.response.expect("an answer says what"));
    }
    assert!(said.is_empty(), "half an answer");
    match answers.as_slice() {
        [] => assert_ne!(status, "0", "Envoy takes this for leave to pass"),
        [Answer::ImmediateResponse(denied), after @ ..] => {
            let code = denied.status.as_ref().expect("a status").code;
            assert!([400, 401, 403, 429, 503].contains(&code), "{denied:?}");
            assert!(!denied.body.is_empty() && after.is_empty(), "{answers:?}");
            assert_eq!(status, "0", "a denial that Envoy takes for a failure");
        }
        [Answer::RequestHeaders(_), after @ ..] => {
            let later =
                |answer: &Answer| !matches!(answer, Answer::RequestHeaders(_) | Answer::ImmediateResponse(_));
            assert!(after.iter().all(later), "judged twice: {answers:?}");
        }
        [first, ..] => panic!("not judged: {first:?}"),
    }
}
