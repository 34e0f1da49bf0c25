//! A verdict as a CheckResponse.
//!
//! Envoy allows what has status 0, an empty message too, and takes `denied_response` for nothing then. So every denial
//! comes from [`denied`], and nothing here is ever left to a default.

use super::metadata;
use crate::engine::decision::Outcome;
use crate::engine::http::{Header, Rendered};
use crate::envoy::judge::Verdict;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::pb::envoy::service::auth::v3 as pb;
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::r#type::v3::HttpStatus;
use crate::pb::google::rpc::Status;
use crate::service::Authorized;
use tonic::Code;

/// Who reads the answer behind Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Any.
    Http,
    /// It reads `grpc-status`.
    Grpc,
}

/// The answer to a request.
pub(super) fn answer(verdict: Verdict, client: Client) -> pb::CheckResponse {
    match verdict {
        Verdict::Judged(authorized) => {
            let dynamic_metadata = Some(metadata::of(&authorized));
            let response = match authorized.answered.decision.outcome {
                Outcome::Allow => allowed(*authorized),
                Outcome::Deny => denied(authorized.answered.rendered, client),
            };
            pb::CheckResponse { dynamic_metadata, ..response }
        }
        Verdict::Refused(rendered) => denied(rendered, client),
        Verdict::Undecided(rendered) => undecided(rendered, client),
    }
}

fn allowed(authorized: Authorized) -> pb::CheckResponse {
    let ok = pb::OkHttpResponse {
        headers: authorized.upstream_headers.into_iter().map(set).collect(),
        // Envoy removes first and sets then.
        headers_to_remove: authorized.remove_headers,
        response_headers_to_add: authorized.answered.rendered.headers.into_iter().map(set).collect(),
        ..pb::OkHttpResponse::default()
    };
    pb::CheckResponse {
        status: Some(status(Code::Ok)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

/// The one place where a denial is made.
fn denied(rendered: Rendered, client: Client) -> pb::CheckResponse {
    let code = match rendered.status {
        401 => Code::Unauthenticated,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    pb::CheckResponse {
        status: Some(status(code)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(response(rendered, client))),
    }
}

/// Envoy counts it as an error, and does as its `failure_mode_allow` says.
fn undecided(rendered: Rendered, client: Client) -> pb::CheckResponse {
    pb::CheckResponse {
        status: Some(status(Code::Unavailable)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::ErrorResponse(response(rendered, client))),
    }
}

fn response(rendered: Rendered, client: Client) -> pb::DeniedHttpResponse {
    let (status, mut headers) = (rendered.status, rendered.headers);
    // Envoy turns 429 into UNAVAILABLE for a gRPC client unless it is told.
    if client == Client::Grpc && status == 429 {
        headers.push(Header::new("grpc-status", "8"));
    }
    let body = rendered.body.map(|body| {
        headers.push(Header::new("Content-Type", body.content_type));
        String::from_utf8_lossy(&body.content).into_owned()
    });
    pb::DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: headers.into_iter().map(set).collect(),
        body: body.unwrap_or_default(),
    }
}

fn status(code: Code) -> Status {
    Status { code: i32::from(code), ..Status::default() }
}

/// Replaces: without an action Envoy appends to what the application sent.
fn set(header: Header) -> HeaderValueOption {
    let Header { name, value } = header;
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_ascii_lowercase(), value, ..HeaderValue::default() }),
        append: None,
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: false,
    }
}
