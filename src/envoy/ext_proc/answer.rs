//! A verdict in ext_proc's words, and the empty answers.
//!
//! Must never: deny by a gRPC status; ext_proc's failure is for what no policy decided.

use crate::engine::http::{Header, Rendered};
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::pb::envoy::service::ext_proc::v3 as pb;
use crate::pb::envoy::r#type::v3::HttpStatus;
use pb::processing_request::Request;
use pb::processing_response::Response;

/// gRPC's RESOURCE_EXHAUSTED.
const RESOURCE_EXHAUSTED: u32 = 8;

/// The answer to request headers that may go on.
pub(super) fn allowed(set: Vec<Header>, remove: Vec<String>) -> pb::ProcessingResponse {
    // Envoy removes first and sets then.
    respond(Response::RequestHeaders(headers(mutation(set, remove))))
}

/// The response of a denial, whole.
pub(super) fn denied(rendered: Rendered, is_grpc: IsGrpc) -> pb::ProcessingResponse {
    let Rendered { status, headers: mut set, body, .. } = rendered;
    let body = body.map(|body| {
        set.push(Header::new("Content-Type", body.content_type));
        body.content
    });
    let grpc_status =
        (is_grpc == IsGrpc::Yes && status == 429).then_some(pb::GrpcStatus { status: RESOURCE_EXHAUSTED });
    respond(Response::ImmediateResponse(pb::ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: Some(mutation(set, Vec::new())),
        body: body.unwrap_or_default(),
        grpc_status,
        details: String::new(),
    }))
}

/// Whether a gRPC client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsGrpc {
    Yes,
    No,
}

/// The answer to a later message: nothing is changed but the response's headers. None: not expected here.
pub(super) fn go_on(message: &Request, set: &mut Vec<Header>) -> Option<pb::ProcessingResponse> {
    let trailers = pb::TrailersResponse::default();
    Some(respond(match message {
        Request::RequestHeaders(_) => return None,
        Request::ResponseHeaders(_) => {
            Response::ResponseHeaders(headers(mutation(std::mem::take(set), Vec::new())))
        }
        Request::RequestBody(_) => Response::RequestBody(pb::BodyResponse::default()),
        Request::ResponseBody(_) => Response::ResponseBody(pb::BodyResponse::default()),
        Request::RequestTrailers(_) => Response::RequestTrailers(trailers),
        Request::ResponseTrailers(_) => Response::ResponseTrailers(trailers),
    }))
}

fn respond(response: Response) -> pb::ProcessingResponse {
    pb::ProcessingResponse { response: Some(response), ..pb::ProcessingResponse::default() }
}

fn headers(mutation: pb::HeaderMutation) -> pb::HeadersResponse {
    let common = pb::CommonResponse { header_mutation: Some(mutation), ..pb::CommonResponse::default() };
    pb::HeadersResponse { response: Some(common) }
}

fn mutation(set: Vec<Header>, remove_headers: Vec<String>) -> pb::HeaderMutation {
    let option = |Header { name, value }: Header| HeaderValueOption {
        // ext_proc reads the bytes; `value` is for older ones and must be empty then.
        header: Some(HeaderValue {
            key: name.to_ascii_lowercase(),
            raw_value: value.into_bytes(),
            value: String::new(),
        }),
        append: None,
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: false,
    };
    pb::HeaderMutation { set_headers: set.into_iter().map(option).collect(), remove_headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decision::{Decision, Outcome, Reason};
    use crate::engine::http::HttpFace;

    fn immediate(reason: Reason, is_grpc: IsGrpc) -> pb::ImmediateResponse {
        let rendered = HttpFace::default().render(&Decision::plain(Outcome::Deny, reason), &[]);
        match denied(rendered, is_grpc).response.unwrap() {
            Response::ImmediateResponse(immediate) => immediate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_denial_is_a_whole_response() {
        for (reason, status) in [(Reason::TokenMissing, 401), (Reason::ConnectionLimitExceeded, 429)] {
            let response = immediate(reason, IsGrpc::No);
            assert_eq!(response.status.unwrap().code, status);
            assert!(!response.body.is_empty());
            assert_eq!(response.grpc_status, None);
            let set = response.headers.unwrap().set_headers;
            let named = |option: &&HeaderValueOption| option.header.as_ref().unwrap().key == "content-type";
            assert_eq!(set.iter().filter(named).count(), 1);
        }
        let grpc = |reason| immediate(reason, IsGrpc::Yes).grpc_status.map(|grpc| grpc.status);
        assert_eq!(grpc(Reason::LimitExceeded), Some(8));
        assert_eq!(grpc(Reason::TokenMissing), None);
    }

    #[test]
    fn later_messages_change_nothing_but_the_headers_of_the_response_once() {
        let mut set = vec![Header::new("X-Frame-Options", "DENY")];
        let body = go_on(&Request::ResponseBody(pb::HttpBody::default()), &mut set).unwrap();
        assert_eq!(body.response, Some(Response::ResponseBody(pb::BodyResponse::default())));
        for expected in [1, 0] {
            let answer = go_on(&Request::ResponseHeaders(pb::HttpHeaders::default()), &mut set).unwrap();
            let Some(Response::ResponseHeaders(headers)) = answer.response else { panic!("{answer:?}") };
            let mutation = headers.response.unwrap().header_mutation.unwrap();
            assert_eq!(mutation.set_headers.len(), expected);
        }
        assert_eq!(go_on(&Request::RequestHeaders(pb::HttpHeaders::default()), &mut set), None);
    }
}
