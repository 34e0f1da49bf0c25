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
    let headers: Vec<_> = authorized.upstream_headers.into_iter().map(set).collect();
    // Envoy sets first and removes then, and what it sets replaces the client's own.
    let is_set = |name: &str| {
        let mut names = headers.iter().filter_map(|option| Some(&option.header.as_ref()?.key));
        names.any(|key| key.eq_ignore_ascii_case(name))
    };
    let headers_to_remove = authorized.remove_headers.into_iter().filter(|name| !is_set(name)).collect();
    let ok = pb::OkHttpResponse {
        headers_to_remove,
        headers,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decision::{Decision, Reason};
    use crate::engine::http::{HttpFace, Refusal};
    use crate::service::Answered;

    fn judged(outcome: Outcome, reason: Reason) -> Verdict {
        let decision = Decision::plain(outcome, reason);
        let mut rendered = HttpFace::default().render(&decision, &[]);
        HttpFace::default().secure(&mut rendered.headers);
        Verdict::Judged(Box::new(Authorized {
            answered: Answered { decision, rendered, reservation: None },
            route: String::new(),
            client_address: None,
            good: None,
            lease: None,
            upstream_headers: vec![Header::new("X-User", "a\r\nb: c")],
            remove_headers: vec!["x-user".to_owned(), "x-plan".to_owned()],
        }))
    }

    fn values(options: &[HeaderValueOption], name: &str) -> Vec<String> {
        let named = options.iter().filter_map(|option| option.header.as_ref()).filter(|one| one.key == name);
        named.map(|header| header.value.clone()).collect()
    }

    fn code(answer: &pb::CheckResponse) -> i32 {
        answer.status.as_ref().unwrap().code
    }

    #[test]
    fn only_an_allowed_request_has_status_0() {
        let allow = answer(judged(Outcome::Allow, Reason::NoPolicy), Client::Http);
        let Some(HttpResponse::OkResponse(ok)) = &allow.http_response else { panic!("{allow:?}") };
        assert_eq!(code(&allow), 0);
        assert_eq!(values(&ok.headers, "x-user"), ["a  b: c"], "set, over the client's own");
        assert_eq!(ok.headers_to_remove, ["x-plan"], "Envoy would remove what it has just set");
        assert_eq!(values(&ok.response_headers_to_add, "x-frame-options"), ["DENY"]);
        for (reason, status) in [
            (Reason::TokenMissing, 401),
            (Reason::TokenRevoked, 401),
            (Reason::PartitionMissing, 403),
            (Reason::OriginNotAllowed, 403),
            (Reason::LimitExceeded, 429),
            (Reason::StoreUnavailable, 503),
        ] {
            let deny = answer(judged(Outcome::Deny, reason), Client::Http);
            let Some(HttpResponse::DeniedResponse(denied)) = &deny.http_response else { panic!("{deny:?}") };
            assert_ne!(code(&deny), 0, "{reason:?}");
            assert_eq!(denied.status.unwrap().code, status, "{reason:?}");
            assert!(!denied.body.is_empty());
            for name in ["x-frame-options", "content-type", "cache-control"] {
                assert_eq!(values(&denied.headers, name).len(), 1, "{name}");
            }
            assert!(deny.dynamic_metadata.is_some(), "Envoy takes it on denials too");
        }
    }

    #[test]
    fn refusals_are_denials_and_only_a_policys_error_is_left_to_envoy() {
        let face = HttpFace::default();
        for refusal in [Refusal::Malformed, Refusal::NotConfigured, Refusal::Unavailable] {
            let refused = answer(Verdict::Refused(face.refuse(refusal)), Client::Http);
            assert!(matches!(refused.http_response, Some(HttpResponse::DeniedResponse(_))), "{refused:?}");
            assert_ne!(code(&refused), 0);
        }
        let undecided = answer(Verdict::Undecided(face.refuse(Refusal::Unavailable)), Client::Http);
        let Some(HttpResponse::ErrorResponse(error)) = &undecided.http_response else {
            panic!("{undecided:?}")
        };
        assert_eq!(code(&undecided), i32::from(Code::Unavailable));
        assert_eq!(error.status.unwrap().code, 503);
        assert_eq!(values(&error.headers, "retry-after"), ["1"]);
        assert!(error.body.contains("RATE_LIMIT_UNAVAILABLE"));
    }

    #[test]
    fn a_grpc_client_is_told_resource_exhausted_and_no_other() {
        for (client, reason, told) in [
            (Client::Grpc, Reason::LimitExceeded, &["8"][..]),
            (Client::Grpc, Reason::TokenMissing, &[]),
            (Client::Http, Reason::LimitExceeded, &[]),
        ] {
            let deny = answer(judged(Outcome::Deny, reason), client);
            let Some(HttpResponse::DeniedResponse(denied)) = &deny.http_response else { panic!("{deny:?}") };
            assert_eq!(values(&denied.headers, "grpc-status"), told, "{client:?} {reason:?}");
        }
    }

    #[test]
    fn every_header_replaces_what_is_there() {
        let option = set(Header::new("RateLimit", "x"));
        assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
        assert_eq!(option.append, None);
        assert_eq!(option.header.unwrap().key, "ratelimit");
    }
}
