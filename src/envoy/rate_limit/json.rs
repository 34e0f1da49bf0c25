//! `/json`: the rate limit service for callers that have no gRPC. A `RateLimitRequest` in protobuf's JSON form, answered in
//! the same form.
//!
//! Must never: decide or bound anything that gRPC does not; both forms go one way.

use super::once;
use crate::envoy::Envoy;
use crate::pb::DESCRIPTORS;
use crate::pb::envoy::service::ratelimit::v3 as pb;
use crate::service::Deadline;
use crate::store::Store;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use pb::rate_limit_response::Code;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::Serialize as _;
use serde::de::Error as _;
use serde_json::ser::{CompactFormatter, Formatter};
use std::io;
use std::sync::LazyLock;

/// What the two messages are made of; none, should the descriptors ever be without them.
static FORMS: LazyLock<Option<Forms>> = LazyLock::new(Forms::read);

struct Forms {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Forms {
    fn read() -> Option<Self> {
        let pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
        let of = |name: &str| pool.get_message_by_name(&format!("envoy.service.ratelimit.v3.{name}"));
        Some(Self { request: of("RateLimitRequest")?, response: of("RateLimitResponse")? })
    }
}

impl<S: Store> Envoy<S> {
    /// Answers the body of a request: 200, or 429 when it is over a limit, with the answer as JSON.
    ///
    /// # Errors
    /// 400 for what is no request, or cannot be answered as it is; 500 for an answer that has no form.
    pub async fn rate_limit_json(&self, body: &[u8]) -> Result<Response<Bytes>, StatusCode> {
        let forms = FORMS.as_ref().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let request = parse(forms, body).map_err(|error| {
            // The error's own words may be the caller's.
            tracing::debug!(kind = ?error.classify(), column = error.column(), "no request in JSON");
            StatusCode::BAD_REQUEST
        })?;
        let answer = self.limited(&request, Deadline(None)).await.map_err(|status| {
            tracing::debug!(code = ?status.code(), message = status.message(), "a request in JSON without an answer");
            StatusCode::BAD_REQUEST
        })?;
        let text = write(forms, &answer).map_err(|error| {
            tracing::error!(%error, "an answer has no form in JSON");
            StatusCode::INTERNAL_SERVER_ERROR
        })?;
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = match answer.overall_code() {
            Code::Ok => StatusCode::OK,
            Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// A request from its JSON form: names in both spellings, numbers as text too, enums by number too.
fn parse(forms: &Forms, body: &[u8]) -> Result<pb::RateLimitRequest, serde_json::Error> {
    once::check(body)?;
    let mut from = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize(forms.request.clone(), &mut from)?;
    from.end()?;
    message.transcode_to().map_err(serde_json::Error::custom)
}

/// The JSON form of an answer: names in camel case, nothing that has its default.
fn write(forms: &Forms, answer: &pb::RateLimitResponse) -> Result<Vec<u8>, serde_json::Error> {
    let mut message = DynamicMessage::new(forms.response.clone());
    message.transcode_from(answer).map_err(serde_json::Error::custom)?;
    let mut into = serde_json::Serializer::with_formatter(Vec::new(), Numbers);
    message.serialize(&mut into)?;
    Ok(into.into_inner())
}

/// Writes a whole number as one: metadata knows only floats, and `5.0` is no integer to many readers.
struct Numbers;

/// From here on protobuf's JSON has an exponent.
const EXPONENT: f64 = 1e21;

impl Formatter for Numbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < EXPONENT {
            write!(writer, "{value}")
        } else {
            CompactFormatter.write_f64(writer, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use crate::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
        Entry, RateLimitOverride,
    };
    use pb::rate_limit_response::rate_limit::Unit;
    use pb::rate_limit_response::{DescriptorStatus, RateLimit};
    use prost_types::value::Kind;
    use prost_types::{Duration, Struct, Value};

    fn forms() -> &'static Forms {
        FORMS.as_ref().expect("the descriptors have both messages")
    }

    fn read(text: &str) -> Result<pb::RateLimitRequest, String> {
        parse(forms(), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_spellings_numbers_as_text_and_enums_by_number_are_one_request() {
        let entry = Entry { key: "k".into(), value: "v".into() };
        let limit = RateLimitOverride { requests_per_unit: 7, unit: 2, unit_multiplier: Some(3) };
        let descriptor = RateLimitDescriptor {
            entries: vec![entry],
            limit: Some(limit),
            hits_addend: Some(5),
            is_negative_hits: true,
        };
        let wanted =
            pb::RateLimitRequest { domain: "d".into(), descriptors: vec![descriptor], hits_addend: 4 };
        for text in [
            r#"{"domain":"d","hitsAddend":4,"descriptors":[{"entries":[{"key":"k","value":"v"}],"hitsAddend":"5",
                "limit":{"requestsPerUnit":7,"unit":"MINUTE","unitMultiplier":3},"isNegativeHits":true}]}"#,
            r#" {"domain":"d","hits_addend":"4","descriptors":[{"entries":[{"key":"k","value":"v"}],"hits_addend":5,
                "limit":{"requests_per_unit":"7","unit":2,"unit_multiplier":"3"},"is_negative_hits":true}]} "#,
            r#"{"\u0064omain":"d","hitsAddend":4e0,"descriptors":[{"entries":[{"key":"k","value":"v"}],"hitsAddend":5.0,
                "limit":{"requestsPerUnit":7.0,"unit":"MINUTE","unitMultiplier":3},"isNegativeHits":true}]}"#,
        ] {
            assert_eq!(read(text).as_ref(), Ok(&wanted), "{text}");
        }
        let nulls = r#"{"domain":null,"descriptors":[{"entries":null,"limit":null,"hitsAddend":null}],"hitsAddend":null}"#;
        let wanted =
            pb::RateLimitRequest { descriptors: vec![RateLimitDescriptor::default()], ..Default::default() };
        assert_eq!(read(nulls), Ok(wanted));
        assert_eq!(read("{}"), Ok(pb::RateLimitRequest::default()));
        for (written, hits) in
            [("18446744073709551615", u64::MAX), ("\"0\"", 0), ("9e15", 9_000_000_000_000_000)]
        {
            let request = read(&format!("{{\"descriptors\":[{{\"hitsAddend\":{written}}}]}}")).unwrap();
            assert_eq!(request.descriptors[0].hits_addend, Some(hits), "{written}");
        }
        let texts = r#"{"domain":"+5","descriptors":[{"entries":[{"key":"005","value":" 5"}]}]}"#;
        assert!(read(texts).is_ok(), "only numbers");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let mut bad = vec![
            "",
            " ",
            "null",
            "[]",
            "1",
            "\"d\"",
            "{",
            "{}{}",
            "{} x",
            "{},",
            "\u{feff}{}",
            "{\"domain\":}",
            "{'domain':'d'}",
            r#"{"other":1}"#,
            r#"{"domain":"d","":1}"#,
            r#"{"Domain":"d"}"#,
            r#"{"domain":1}"#,
            r#"{"domain":["d"]}"#,
            r#"{"domain":"d","domain":"e"}"#,
            r#"{"hitsAddend":1,"hits_addend":2}"#,
            r#"{"hitsAddend":1,"hitsAddend":null}"#,
            r#"{"hitsAddend":-1}"#,
            r#"{"hitsAddend":4294967296}"#,
            r#"{"hitsAddend":1.5}"#,
            r#"{"hitsAddend":"1.5"}"#,
            r#"{"hitsAddend":""}"#,
            r#"{"hitsAddend":true}"#,
            r#"{"hitsAddend":"+5"}"#,
            r#"{"hits_addend":"005"}"#,
            r#"{"hitsAddend":" 5"}"#,
            r#"{"descriptors":[{"hitsAddend":"05"}]}"#,
            r#"{"descriptors":[{"hitsAddend":18446744073709551616}]}"#,
            r#"{"descriptors":[{"hitsAddend":9007199254740993.0}]}"#,
            r#"{"descriptors":[{"hitsAddend":1e-5}]}"#,
            r#"{"descriptors":[{"limit":{"requestsPerUnit":"+1","unit":"DAY"}}]}"#,
            r#"{"hitsAddend":"many"}"#,
            r#"{"descriptors":{}}"#,
            r#"{"descriptors":[null]}"#,
            r#"{"descriptors":[[]]}"#,
            r#"{"descriptors":[1]}"#,
            r#"{"descriptors":[{"entries":[{"key":"k","key":"l"}]}]}"#,
            r#"{"descriptors":[{"entries":[{"key":1}]}]}"#,
            r#"{"descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#,
            r#"{"descriptors":[{"limit":{"unit":"2"}}]}"#,
            r#"{"descriptors":[{"isNegativeHits":"true"}]}"#,
            r#"{"domain":"\ud800"}"#,
            "{\"domain\":\"\n\"}",
        ];
        let deep = "[".repeat(60_000);
        bad.push(&deep);
        for text in bad {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(parse(forms(), b"{\"domain\":\"\xff\"}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_request_or_none(
            at in 0_usize..200,
            put in proptest::prelude::any::<Vec<u8>>(),
            cut in 0_usize..20,
            word in "[\\[\\]{}:,\"a-z0-9eE+.-]{0,40}",
        ) {
            const WHOLE: &[u8] = br#"{"domain":"d","hitsAddend":4,"descriptors":[{"entries":[{"key":"k","value":"v"}],"hitsAddend":"5","limit":{"requestsPerUnit":7,"unit":"MINUTE","unitMultiplier":3}}]}"#;
            for put in [put.as_slice(), word.as_bytes()] {
                let (head, tail) = WHOLE.split_at(at.min(WHOLE.len()));
                let text = [head, put, tail.get(cut..).unwrap_or_default()].concat();
                if parse(forms(), &text).is_ok() {
                    assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "what is taken is JSON");
                }
            }
        }
    }

    #[test]
    fn answers_leave_out_defaults_and_name_enums() {
        let number = |value: f64| Value { kind: Some(Kind::NumberValue(value)) };
        let fields = [("whole", 5.0), ("half", 0.5), ("huge", 1e300)]
            .map(|(name, value)| (name.into(), number(value)));
        let limit = RateLimit {
            name: "n".into(),
            requests_per_unit: 4_294_967_295,
            unit: Unit::Week.into(),
            unit_multiplier: Some(0),
        };
        let full = DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: Some(limit),
            limit_remaining: 3,
            duration_until_reset: Some(Duration { seconds: 58, nanos: 500_000_000 }),
            quota: None,
        };
        let answer = pb::RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![
                full,
                DescriptorStatus { code: Code::Ok.into(), ..Default::default() },
                Default::default(),
            ],
            raw_body: b"\xff\xfe".to_vec(),
            dynamic_metadata: Some(Struct { fields: fields.into() }),
            ..Default::default()
        };
        let text = String::from_utf8(write(forms(), &answer).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"overallCode":"OVER_LIMIT","statuses":[{"code":"OVER_LIMIT","currentLimit":{"requestsPerUnit":4294967295,"unit":"WEEK","name":"n","unitMultiplier":0},"limitRemaining":3,"durationUntilReset":"58.500s"},{"code":"OK"},{}],"rawBody":"//4=","dynamicMetadata":{"half":0.5,"huge":1e+300,"whole":5}}"#
        );
        assert_eq!(write(forms(), &pb::RateLimitResponse::default()).unwrap(), b"{}");
        let endless = Struct { fields: [("never".to_owned(), number(f64::NAN))].into() };
        let formless = pb::RateLimitResponse { dynamic_metadata: Some(endless), ..Default::default() };
        assert!(write(forms(), &formless).is_err());
    }
}
