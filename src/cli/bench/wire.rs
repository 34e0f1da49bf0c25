//! gRPC over one connection, by hand, on HTTP/2 streams: frames out, messages in, the status at the end.
//!
//! The generated client and hyper under it start tasks and box bodies for each call, which costs as much as a server
//! needs to decide. Here a call is one stream: requests are encoded once, answers are read where they lie.

use super::frames::PREFIX;
use super::tally::Tally;
use crate::cli::check::code_name;
use crate::client::{self, Address, ClientError};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tonic::Code;

/// How long a connection may take to open.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts to open a connection anew.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a call is made that the server says it has not looked at: it closes a connection, not each of them.
const ATTEMPTS: u32 = 2;
/// Most bytes of one message from the server.
const MAX_MESSAGE: usize = 4 << 20;

/// Why a request got no decision: its name in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub &'static str);

impl Failure {
    /// The connection broke while the answer was awaited.
    pub const LOST: Self = Self("CONNECTION_LOST");
    /// No connection could be opened.
    pub const UNREACHABLE: Self = Self("UNREACHABLE");
    /// What came is no answer of this call.
    pub const MALFORMED: Self = Self("MALFORMED_ANSWER");
    /// The run ended before the answer came.
    pub const UNANSWERED: Self = Self("UNANSWERED");
}

/// One connection, opened anew when the server closes it; shared by the lanes on it.
#[derive(Debug)]
pub struct Line {
    address: Address,
    request: Request<()>,
    current: RefCell<SendRequest<Bytes>>,
    /// How often it was opened.
    generation: Cell<u64>,
    /// One lane opens it anew, the others wait.
    mending: tokio::sync::Mutex<()>,
}

/// One lane's handle to its line.
#[derive(Debug)]
pub struct Caller {
    line: Rc<Line>,
    sender: SendRequest<Bytes>,
    generation: u64,
}

impl Line {
    /// Opens a connection for calls of one method, such as `/quotad.v1.DecisionService/CheckLimit`.
    ///
    /// # Errors
    /// It does not open.
    pub async fn open(address: &Address, path: &'static str) -> Result<Self, ClientError> {
        let mut parts = address.origin().into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(Self {
            address: address.clone(),
            request,
            current: RefCell::new(client::streams(address, PATIENCE).await?),
            generation: Cell::new(0),
            mending: tokio::sync::Mutex::new(()),
        })
    }

    /// Opens the connection anew, unless another lane has done so since `generation`.
    async fn mend(&self, generation: u64, tally: &RefCell<Tally>) -> Result<(), Failure> {
        let _turn = self.mending.lock().await;
        if self.generation.get() != generation {
            return Ok(());
        }
        match client::streams(&self.address, PATIENCE).await {
            Ok(connection) => {
                self.current.replace(connection);
                self.generation.set(generation.wrapping_add(1));
                tally.borrow_mut().reconnects += 1;
                Ok(())
            }
            Err(_) => {
                // Without a pause a server that is gone would be asked a hundred thousand times a second.
                tokio::time::sleep(PAUSE).await;
                Err(Failure::UNREACHABLE)
            }
        }
    }
}

impl Caller {
    /// A handle of its own for one lane.
    #[must_use]
    pub fn new(line: &Rc<Line>) -> Self {
        let sender = line.current.borrow().clone();
        Self { line: Rc::clone(line), sender, generation: line.generation.get() }
    }

    /// Makes a call of one message, and returns the one message of its answer.
    ///
    /// # Errors
    /// The call failed.
    pub async fn unary(&mut self, frame: Bytes, tally: &RefCell<Tally>) -> Result<Bytes, Failure> {
        for _ in 0..ATTEMPTS {
            let (response, mut requests) = self.begin(tally).await?;
            requests.send_data(frame.clone(), true).map_err(|_| Failure::LOST)?;
            match Answers::begin(response).await {
                Ok(answers) => return answers.only().await,
                Err(Refusal::Unprocessed) => {}
                Err(Refusal::Failed(failure)) => return Err(failure),
            }
        }
        Err(Failure::LOST)
    }

    /// Begins a call; where its messages go and where its answer comes from. On a connection that is closed it begins
    /// on the next one.
    ///
    /// # Errors
    /// There is no connection to be had.
    pub async fn begin(
        &mut self,
        tally: &RefCell<Tally>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        loop {
            if let Ok(mut ready) = self.sender.clone().ready().await
                && let Ok(call) = ready.send_request(self.line.request.clone(), false)
            {
                return Ok(call);
            }
            self.line.mend(self.generation, tally).await?;
            self.generation = self.line.generation.get();
            self.sender = self.line.current.borrow().clone();
        }
    }
}

/// Why an answer does not begin.
#[derive(Debug)]
pub enum Refusal {
    /// The server says that it has not looked at the call: it may be made again.
    Unprocessed,
    /// Otherwise.
    Failed(Failure),
}

/// The messages of one answer.
#[derive(Debug)]
pub struct Answers {
    body: RecvStream,
    pending: Bytes,
}

impl Answers {
    /// Waits for the answer to begin.
    ///
    /// # Errors
    /// The call failed before its first message.
    pub async fn begin(response: ResponseFuture) -> Result<Self, Refusal> {
        let (head, body) = match response.await {
            Ok(response) => response.into_parts(),
            Err(error) if is_unprocessed(&error) => return Err(Refusal::Unprocessed),
            Err(_) => return Err(Refusal::Failed(Failure::LOST)),
        };
        if head.status != http::StatusCode::OK {
            return Err(Refusal::Failed(Failure::MALFORMED));
        }
        // A call that fails at once has its status here and no body.
        match status(&head.headers) {
            Some(Err(failure)) => Err(Refusal::Failed(failure)),
            _ => Ok(Self { body, pending: Bytes::new() }),
        }
    }

    /// The next message; none when the call ended well.
    ///
    /// # Errors
    /// The call ended otherwise.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = split(&mut self.pending)? {
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(Ok(data)) => self.append(data)?,
                Some(Err(_)) => return Err(Failure::LOST),
                None => break,
            }
        }
        let trailers = self.body.trailers().await.map_err(|_| Failure::LOST)?;
        match trailers.as_ref().and_then(status) {
            Some(Ok(())) if self.pending.is_empty() => Ok(None),
            Some(Err(failure)) => Err(failure),
            _ => Err(Failure::MALFORMED),
        }
    }

    fn append(&mut self, data: Bytes) -> Result<(), Failure> {
        self.body.flow_control().release_capacity(data.len()).map_err(|_| Failure::LOST)?;
        if self.pending.is_empty() {
            self.pending = data;
        } else {
            let mut joined = BytesMut::with_capacity(self.pending.len() + data.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&data);
            self.pending = joined.freeze();
        }
        Ok(())
    }

    /// The one message of a unary call.
    ///
    /// # Errors
    /// The call failed, or has none or several.
    pub async fn only(mut self) -> Result<Bytes, Failure> {
        let message = self.next().await?.ok_or(Failure::MALFORMED)?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Failure::MALFORMED),
        }
    }
}

/// RFC 9113, 6.8 and 8.7: streams behind the last one of a graceful GOAWAY, and refused ones.
fn is_unprocessed(error: &h2::Error) -> bool {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => true,
        Some(Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    }
}

/// Takes a whole message off the front, if one is there.
fn split(pending: &mut Bytes) -> Result<Option<Bytes>, Failure> {
    let Some((prefix, rest)) = pending.split_at_checked(PREFIX) else { return Ok(None) };
    let (compressed, length) = prefix.split_first().ok_or(Failure::MALFORMED)?;
    let length = length.try_into().map(u32::from_be_bytes).map_err(|_| Failure::MALFORMED)?;
    let length = usize::try_from(length).map_err(|_| Failure::MALFORMED)?;
    if *compressed != 0 || length > MAX_MESSAGE {
        return Err(Failure::MALFORMED);
    }
    if rest.len() < length {
        return Ok(None);
    }
    pending.advance(PREFIX);
    Ok(Some(pending.split_to(length)))
}

/// What the headers say about how the call ended; none when they say nothing.
fn status(headers: &HeaderMap) -> Option<Result<(), Failure>> {
    let code = headers.get("grpc-status")?;
    Some(match Code::from_bytes(code.as_bytes()) {
        Code::Ok => Ok(()),
        code => Err(Failure(code_name(code))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_where_their_frames_end() {
        let mut pending = Bytes::from_static(&[0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(split(&mut pending).unwrap().unwrap(), [7, 8][..]);
        assert_eq!(split(&mut pending).unwrap().unwrap(), [][..]);
        assert_eq!(split(&mut pending), Ok(None), "the last message has not come yet");
    }

    #[test]
    fn a_compressed_or_giant_message_is_refused() {
        assert_eq!(split(&mut Bytes::from_static(&[1, 0, 0, 0, 0])), Err(Failure::MALFORMED));
        assert_eq!(split(&mut Bytes::from_static(&[0, 0xff, 0, 0, 0])), Err(Failure::MALFORMED));
    }

    #[test]
    fn the_status_is_told_by_its_name() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(status(&headers), Some(Ok(())));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        assert_eq!(status(&headers), Some(Err(Failure("UNAVAILABLE"))));
    }
}
