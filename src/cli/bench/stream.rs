//! The load of `CheckLimits`: one stream a connection, several messages of many checks in flight on it.

use super::frames::{Answer, Depth, Frames, GlanceDecision, PREFIX};
use super::keys::Picker;
use super::tally::Times;
use super::wire::{Answers, Caller, Failure, Refusal};
use super::worker::Worker;
use crate::cli::check::code_name;
use crate::pb::quotad::v1::check_limits_response::result::Result as CheckResult;
use crate::pb::quotad::v1::{CheckLimitsResponse, Outcome};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::join;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Before a stream that failed is opened anew.
const PAUSE: Duration = Duration::from_millis(100);
/// `checks = 1` of `CheckLimitsRequest`, length-delimited.
const CHECKS: u8 = 0x0a;
/// `id = 1` of `Check`, a varint.
const ID: u8 = 0x08;
/// `request = 2` of `Check`, length-delimited.
const REQUEST: u8 = 0x12;

/// One message in flight. The ids of its checks are its number times the batch, and up.
#[derive(Clone, Debug, Default)]
struct Slot {
    due: u64,
    sent: u64,
    /// The key of each check; none once it is answered.
    keys: Vec<Option<u32>>,
}

/// Keeps a stream busy until the run ends, and opens another when it breaks.
pub(super) async fn converse(worker: Rc<Worker>, mut caller: Caller, mut picker: Picker) {
    while !session(&worker, &mut caller, &mut picker).await {}
}

/// One stream; true when the run is over.
async fn session(worker: &Worker, caller: &mut Caller, picker: &mut Picker) -> bool {
    let lanes = usize::try_from(worker.plan.lanes).unwrap_or(1).max(1);
    let slots = RefCell::new(vec![Slot::default(); lanes]);
    let (free, mut freed) = mpsc::channel(lanes);
    for slot in 0..lanes {
        // It holds as many.
        let _ = free.try_send(slot);
    }
    let (response, mut requests) = match caller.begin(&worker.tally).await {
        Ok(call) => call,
        Err(failure) => return without_stream(worker, failure).await,
    };
    let speak = async {
        while let Some(number) = freed.recv().await {
            let Some((due, granted)) = worker.turn(worker.plan.batch()).await else {
                // That no more checks come; what it says when the stream is gone, the listener has heard.
                let _ = requests.send_data(Bytes::new(), true);
                return true;
            };
            let keys: Vec<u32> = (0..granted).map(|_| picker.pick()).collect();
            let frame = encode(&worker.frames, &keys, first_id(worker, number));
            if let Some(slot) = slots.borrow_mut().get_mut(number) {
                *slot = Slot { due, sent: worker.course.now(), keys: keys.into_iter().map(Some).collect() };
            }
            if requests.send_data(frame, false).is_err() {
                return false;
            }
        }
        false
    };
    let listen = async {
        // Dropped at the end of this block, which is how the speaker learns that nobody answers any more.
        let free = free;
        let mut answers = Answers::begin(response).await.map_err(|refusal| match refusal {
            Refusal::Unprocessed => Failure::LOST,
            Refusal::Failed(failure) => failure,
        })?;
        while let Some(message) = answers.next().await? {
            hear(worker, &slots, &free, &message)?;
        }
        Ok(())
    };
    let (over, heard) = join(speak, listen).await;
    let failure = heard.err().unwrap_or(Failure::LOST);
    for slot in slots.into_inner() {
        let unanswered = slot.keys.iter().flatten().count();
        worker.fail(slot.due, failure, u64::try_from(unanswered).unwrap_or(0));
    }
    if !over {
        tokio::time::sleep(PAUSE).await;
    }
    over
}

/// Counts one batch as failed for each attempt to open a stream, so that a run of so many requests ends too.
async fn without_stream(worker: &Worker, failure: Failure) -> bool {
    let Some((due, granted)) = worker.turn(worker.plan.batch()).await else { return true };
    worker.fail(due, failure, u64::from(granted));
    tokio::time::sleep(PAUSE).await;
    false
}

/// Counts the results of one message, and frees the slots whose checks are all answered.
fn hear(
    worker: &Worker,
    slots: &RefCell<Vec<Slot>>,
    free: &mpsc::Sender<usize>,
    message: &[u8],
) -> Result<(), Failure> {
    let received = worker.course.now();
    let batch = u64::from(worker.plan.batch());
    let mut slots = slots.borrow_mut();
    for (id, result) in decode(message, worker.plan.depth)? {
        let number = usize::try_from(id / batch).map_err(|_| Failure::MALFORMED)?;
        let index = usize::try_from(id % batch).map_err(|_| Failure::MALFORMED)?;
        let slot = slots.get_mut(number).ok_or(Failure::MALFORMED)?;
        // An id that was never asked, or is answered twice.
        let key = slot.keys.get_mut(index).and_then(Option::take).ok_or(Failure::MALFORMED)?;
        let Slot { due, sent, .. } = *slot;
        match result {
            Ok(answer) => worker.settle(key, Times { due, sent, received }, &answer),
            Err(failure) => worker.fail(due, failure, 1),
        }
        if slot.keys.iter().all(Option::is_none) {
            slot.keys.clear();
            // The speaker may have ended.
            let _ = free.try_send(number);
        }
    }
    Ok(())
}

fn first_id(worker: &Worker, slot: usize) -> u64 {
    u64::try_from(slot).unwrap_or(0) * u64::from(worker.plan.batch())
}

/// A framed `CheckLimitsRequest` of requests that are encoded already.
fn encode(frames: &Frames, keys: &[u32], first_id: u64) -> Bytes {
    let checks: Vec<(u64, Bytes)> =
        (first_id..).zip(keys).map(|(id, key)| (id, frames.message(*key))).collect();
    let width = |length: usize| u64::try_from(length).map_or(0, encoded_len_varint);
    let check_length =
        |id: u64, request: &Bytes| 2 + encoded_len_varint(id) + width(request.len()) + request.len();
    let total: usize = checks
        .iter()
        .map(|(id, request)| check_length(*id, request))
        .map(|length| 1 + width(length) + length)
        .sum();
    let mut frame = BytesMut::with_capacity(PREFIX + total);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    for (id, request) in &checks {
        frame.put_u8(CHECKS);
        encode_varint(u64::try_from(check_length(*id, request)).unwrap_or(0), &mut frame);
        frame.put_u8(ID);
        encode_varint(*id, &mut frame);
        frame.put_u8(REQUEST);
        encode_varint(u64::try_from(request.len()).unwrap_or(0), &mut frame);
        frame.extend_from_slice(request);
    }
    frame.freeze()
}

type Results = Vec<(u64, Result<Answer, Failure>)>;

fn decode(message: &[u8], depth: Depth) -> Result<Results, Failure> {
    let refused = |code: i32| Err(Failure(code_name(tonic::Code::from_i32(code))));
    match depth {
        Depth::Whole => {
            let message = CheckLimitsResponse::decode(message).map_err(|_| Failure::MALFORMED)?;
            let read = |result| match result {
                Some(CheckResult::Decision(decision)) => Ok(Answer::of(decision)),
                Some(CheckResult::Error(error)) => refused(error.code),
                None => Err(Failure::MALFORMED),
            };
            Ok(message.results.into_iter().map(|result| (result.id, read(result.result))).collect())
        }
        Depth::Outcome => {
            let message = GlanceResults::decode(message).map_err(|_| Failure::MALFORMED)?;
            let read = |result: &GlanceResult| match (&result.decision, &result.error) {
                (Some(decision), None) => {
                    let outcome = Outcome::try_from(decision.outcome).unwrap_or(Outcome::Unspecified);
                    Ok(Answer { outcome, decision: None })
                }
                (None, Some(error)) => refused(error.code),
                _ => Err(Failure::MALFORMED),
            };
            Ok(message.results.iter().map(|result| (result.id, read(result))).collect())
        }
    }
}

/// The part of a `CheckLimitsResponse` that says allow or deny.
#[derive(Clone, PartialEq, Message)]
struct GlanceResults {
    #[prost(message, repeated, tag = "1")]
    results: Vec<GlanceResult>,
}

#[derive(Clone, PartialEq, Message)]
struct GlanceResult {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    decision: Option<GlanceDecision>,
    #[prost(message, optional, tag = "3")]
    error: Option<GlanceError>,
}

#[derive(Clone, PartialEq, Message)]
struct GlanceError {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[cfg(test)]
mod tests {
    use super::super::frames::Question;
    use super::*;
    use crate::cli::check::samples;
    use crate::pb::quotad::v1::check_limits_response::{Error, Result as CheckAnswer};
    use crate::pb::quotad::v1::{CheckLimitsRequest, check_limits_request::Check};

    #[test]
    fn a_batch_by_hand_is_the_same_as_an_encoded_one() {
        let question = Question { key_entry: "user".to_owned(), ..Question::default() };
        let frames = Frames::encode(&question, 300).unwrap();
        let keys = [0, 299, 7];
        let frame = encode(&frames, &keys, 127);
        let request = CheckLimitsRequest::decode(&frame[PREFIX..]).unwrap();
        let expected = (127..).zip(keys).map(|(id, key)| Check { id, request: Some(question.request(key)) });
        assert_eq!(request.checks, expected.collect::<Vec<_>>());
        let length = u32::from_be_bytes(frame[1..PREFIX].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), frame.len() - PREFIX);
    }

    #[test]
    fn results_are_told_apart_at_either_depth() {
        let message = CheckLimitsResponse {
            results: vec![
                CheckAnswer { id: 4, result: Some(CheckResult::Decision(samples::denied())) },
                CheckAnswer {
                    id: 5,
                    result: Some(CheckResult::Error(Error { code: 5, message: "no".to_owned() })),
                },
                CheckAnswer { id: 6, result: None },
            ],
        }
        .encode_to_vec();
        for depth in [Depth::Outcome, Depth::Whole] {
            let results = decode(&message, depth).unwrap();
            assert_eq!(results[0].0, 4);
            assert_eq!(results[0].1.as_ref().unwrap().outcome, Outcome::Deny);
            assert_eq!(results[1], (5, Err(Failure("NOT_FOUND"))));
            assert_eq!(results[2], (6, Err(Failure::MALFORMED)));
        }
        assert_eq!(decode(&[0xff], Depth::Whole), Err(Failure::MALFORMED));
    }
}
