//! `quotad check`: one question to a running quotad.

use super::screen::Screen;
use super::{CheckArgs, EXIT_ALLOW, EXIT_DENY, EXIT_ERROR, json, table};
use crate::client::{self, Address, ClientError};
use crate::clock;
use crate::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use crate::pb::quotad::v1::{CheckLimitRequest, Decision, Outcome};
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Request, Status};

pub(super) const AFTER_HELP: &str = "\
Examples:
  quotad check --policy auth-per-ip ip=203.0.113.7     charge one unit, if it fits
  quotad check --peek user=42                          what is left, without charging
  quotad check --addr unix:/run/quotad.sock --json --cost 5 user=42 | jq .retry_after

Exit codes: 0 allowed, 1 denied, 2 error. With --json, durations are seconds.";

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("key `{0}` is given twice")]
    Twice(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{}: {}", code_name(.0.code()), .0.message())]
    Refused(Status),
    #[error("the connection to {address} broke before the answer came: {source}")]
    Lost { address: Address, source: Status },
    #[error("the answer has no decision in it")]
    Empty,
}

/// Asks, prints the decision, and returns the exit code.
pub async fn check(args: &CheckArgs, screen: &mut Screen<'_>) -> u8 {
    let local = tokio::task::LocalSet::new();
    match local.run_until(ask(args)).await {
        Ok(decision) => {
            let text = match args.json {
                true => json::decision(&decision),
                false => table::decision(&decision, screen.colour),
            };
            // A reader that went away still gets its exit code.
            screen.print(&text);
            exit_code(&decision)
        }
        Err(error) => {
            if args.json {
                screen.print(&json::error(error.code(), &error.to_string()));
            }
            screen.complain(&error.to_string(), error.hint());
            EXIT_ERROR
        }
    }
}

async fn ask(args: &CheckArgs) -> Result<Decision, CheckError> {
    let mut request = Request::new(message(args)?);
    let connection = client::connect(&args.addr, args.timeout);
    let started = clock::monotonic();
    let connection = connection.await?;
    let left = args.timeout.saturating_sub(clock::monotonic() - started).max(Duration::from_millis(1));
    // The server is told too, so that it does not charge for an answer that comes too late.
    request.set_timeout(left);
    let mut client = DecisionServiceClient::with_origin(connection, args.addr.origin());
    let answer = tokio::time::timeout(left, client.check_limit(request)).await;
    let answer = answer.map_err(|_| CheckError::Timeout(args.timeout))?;
    let refused = |status: Status| match std::error::Error::source(&status) {
        // What the server says has no cause on this side.
        None => CheckError::Refused(status),
        Some(_) => CheckError::Lost { address: args.addr.clone(), source: status },
    };
    answer.map_err(refused)?.into_inner().decision.ok_or(CheckError::Empty)
}

fn message(args: &CheckArgs) -> Result<CheckLimitRequest, CheckError> {
    let mut entries = HashMap::with_capacity(args.entries.len());
    for (key, value) in &args.entries {
        if entries.insert(key.clone(), value.clone()).is_some() {
            return Err(CheckError::Twice(key.clone()));
        }
    }
    Ok(CheckLimitRequest {
        domain: args.domain.clone(),
        entries,
        policies: args.policy.clone(),
        cost: if args.peek { Some(0) } else { args.cost },
        request_id: args.request_id.clone(),
        settle_within: None,
    })
}

fn exit_code(decision: &Decision) -> u8 {
    match Outcome::try_from(decision.outcome) {
        Ok(Outcome::Allow) => EXIT_ALLOW,
        Ok(Outcome::Deny) => EXIT_DENY,
        // A script must not take what we do not understand for an answer.
        Ok(Outcome::Unspecified) | Err(_) => EXIT_ERROR,
    }
}

impl CheckError {
    /// The gRPC code when a quotad answered, else `CLIENT`.
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(status) => code_name(status.code()),
            _ => "CLIENT",
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Client(error) => Some(error.hint()),
            Self::Twice(_) => Some("a descriptor has one value for each key"),
            Self::Timeout(_) => Some("wait longer with --timeout"),
            Self::Empty | Self::Lost { .. } => {
                Some("is that a quotad? --addr must name `listen.grpc` of its configuration")
            }
            Self::Refused(status) => match status.code() {
                Code::NotFound => {
                    Some("the configuration's `policies` say which there are, and in which domain")
                }
                Code::Unimplemented => Some("what listens there is not the decision service of a quotad"),
                Code::DeadlineExceeded => Some("wait longer with --timeout"),
                Code::Unavailable | Code::Unknown | Code::Internal => Some(
                    "the log of the server says more; --addr must name `listen.grpc` of its configuration",
                ),
                _ => None,
            },
        }
    }
}

/// The name of a gRPC code as the specification writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Decisions that tests render.
#[cfg(test)]
pub(super) mod samples {
    use crate::pb::quotad::v1::{Algorithm, Body, Decision, Header, Mode, Outcome, PolicyStatus, Reason};

    fn duration(seconds: i64, micros: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: micros * 1_000 })
    }

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.to_owned() }
    }

    pub(crate) fn unlimited() -> Decision {
        Decision {
            outcome: Outcome::Allow.into(),
            reason: Reason::NoPolicy.into(),
            mode: Mode::Exact.into(),
            http_status: 200,
            ..Decision::default()
        }
    }

    pub(crate) fn denied() -> Decision {
        Decision {
            outcome: Outcome::Deny.into(),
            reason: Reason::LimitExceeded.into(),
            mode: Mode::Exact.into(),
            retry_after: duration(41, 200_000),
            statuses: vec![PolicyStatus {
                policy: "auth-per-ip".to_owned(),
                algorithm: Algorithm::SlidingWindow.into(),
                limit: 10,
                window: duration(60, 0),
                remaining: 0,
                reset_after: duration(59, 999_993),
                violated: true,
                shadow: false,
                mode: Mode::Exact.into(),
                bound: Some(10),
            }],
            http_status: 429,
            headers: vec![
                header("RateLimit-Policy", "\"auth-per-ip\";q=10;w=60"),
                header("Retry-After", "42"),
            ],
            body: Some(Body {
                content_type: "application/json".to_owned(),
                content: b"{\"status\":\"error\"}".to_vec(),
            }),
            reservation: None,
        }
    }

    pub(crate) fn shadowed() -> Decision {
        let bucket = PolicyStatus {
            policy: "login-per-account".to_owned(),
            algorithm: Algorithm::TokenBucket.into(),
            limit: 100,
            window: duration(86_400, 0),
            remaining: 0,
            reset_after: duration(864, 70_000),
            violated: true,
            shadow: true,
            mode: Mode::Exact.into(),
            bound: Some(110),
        };
        let sockets = PolicyStatus {
            policy: "sockets-per-user".to_owned(),
            algorithm: Algorithm::Concurrency.into(),
            limit: 5,
            window: None,
            remaining: 4,
            reset_after: duration(30, 0),
            violated: false,
            shadow: false,
            mode: Mode::Local.into(),
            bound: Some(5),
        };
        Decision {
            reason: Reason::WithinLimit.into(),
            mode: Mode::Local.into(),
            statuses: vec![bucket, sockets],
            ..unlimited()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Screen;
    use super::super::fake::Fake;
    use super::super::screen::Colour;
    use super::*;
    use crate::pb::quotad::v1::CheckLimitResponse;
    use tokio::io::AsyncReadExt as _;

    fn args(address: &Address) -> CheckArgs {
        CheckArgs {
            addr: address.clone(),
            domain: "default".to_owned(),
            policy: Vec::new(),
            cost: None,
            peek: false,
            request_id: String::new(),
            timeout: Duration::from_secs(5),
            json: false,
            entries: vec![("user".to_owned(), "42".to_owned())],
        }
    }

    async fn outcome(args: &CheckArgs) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, colour: Colour::Off };
        let code = check(args, &mut screen).await;
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[tokio::test]
    async fn the_exit_code_is_the_outcome() {
        let fake = Fake::start(|request| {
            Ok(match request.entries["user"].as_str() {
                "42" => samples::unlimited(),
                _ => samples::denied(),
            })
        });
        let (code, out, err) = outcome(&args(&fake.address)).await;
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, table::decision(&samples::unlimited(), Colour::Off));
        let entries = vec![("user".to_owned(), "7".to_owned())];
        let (code, out, err) = outcome(&CheckArgs { entries, json: true, ..args(&fake.address) }).await;
        assert_eq!((code, err.as_str()), (1, ""));
        assert_eq!(out, json::decision(&samples::denied()));
    }

    #[tokio::test]
    async fn the_request_carries_what_was_asked() {
        let fake = Fake::start(|request| {
            let asked = (request.domain.as_str(), request.cost, request.request_id.as_str());
            assert_eq!(asked, ("eu", Some(0), "r1"));
            assert_eq!(request.policies, ["a", "b"]);
            Ok(samples::unlimited())
        });
        let asked = CheckArgs {
            domain: "eu".to_owned(),
            peek: true,
            request_id: "r1".to_owned(),
            policy: vec!["a".to_owned(), "b".to_owned()],
            ..args(&fake.address)
        };
        assert_eq!(outcome(&asked).await.0, 0);
    }

    #[tokio::test]
    async fn it_works_over_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start_unix(&folder.path().join("q.sock"), |_| Ok(samples::unlimited()));
        assert_eq!(outcome(&args(&fake.address)).await.0, 0);
    }

    #[tokio::test]
    async fn a_refusal_says_its_code_and_a_hint() {
        let fake =
            Fake::start(|_| Err(Status::not_found("policies: `x` is not a policy of domain `default`")));
        let (code, out, err) = outcome(&CheckArgs { json: true, ..args(&fake.address) }).await;
        assert_eq!(code, 2);
        assert!(err.starts_with("quotad: NOT_FOUND: policies: `x`") && err.contains("hint: "), "{err}");
        assert!(out.starts_with(r#"{"error":{"code":"NOT_FOUND""#), "{out}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_a_hint() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (code, out, err) = outcome(&args(&free.to_string().parse().unwrap())).await;
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("cannot connect") && err.contains("is quotad running there?"), "{err}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let mute = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sink = Vec::new();
            stream.read_to_end(&mut sink).await.unwrap();
        };
        let asked = CheckArgs { timeout: Duration::from_millis(50), ..args(&address) };
        let ((code, _, err), ()) = tokio::join!(outcome(&asked), mute);
        assert_eq!(code, 2);
        assert!(err.contains("--timeout"), "{err}");
    }

    #[tokio::test]
    async fn something_else_listening_there_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let other = async {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        let asked = args(&address);
        let ((code, out, err), ()) = tokio::join!(outcome(&asked), other);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("broke before the answer came") && err.contains("--addr"), "{err}");
    }

    #[tokio::test]
    async fn a_key_given_twice_is_refused_before_anything_is_sent() {
        let entries = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        let asked = CheckArgs { entries, ..args(&"127.0.0.1:1".parse().unwrap()) };
        let (code, _, err) = outcome(&asked).await;
        assert_eq!(code, 2);
        assert!(err.contains("`a` is given twice"), "{err}");
    }

    #[test]
    fn an_outcome_of_a_newer_server_is_not_taken_for_an_answer() {
        assert_eq!(exit_code(&Decision { outcome: 9, ..Decision::default() }), EXIT_ERROR);
        assert_eq!(exit_code(&CheckLimitResponse::default().decision.unwrap_or_default()), EXIT_ERROR);
    }
}
