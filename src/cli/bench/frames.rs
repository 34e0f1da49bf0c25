//! The requests of a bench, encoded before it starts, and the answers, decoded no further than needed.
//!
//! The client shares the machine with the server more often than not: what it spends on itself it takes from what it
//! measures.

use crate::pb::quotad::v1::{CheckLimitRequest, CheckLimitResponse, Decision, Outcome};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use std::net::Ipv4Addr;

/// Most bytes of all encoded requests together.
const MAX_BYTES: usize = 1 << 30;
/// Of a gRPC frame: one for compression, four for the length.
pub(super) const PREFIX: usize = 5;
/// Where made-up addresses begin: the private network 10.0.0.0/8.
const FIRST_ADDRESS: u32 = 0x0a00_0000;

/// What a bench asks about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The domain.
    pub domain: String,
    /// Exactly these policies; empty: every one that matches.
    pub policies: Vec<String>,
    /// Units; none: each policy's own cost.
    pub cost: Option<u32>,
    /// The entries that every request has.
    pub entries: Vec<(String, String)>,
    /// The entry that makes the keys differ.
    pub key_entry: String,
}

impl Question {
    /// The request for the `key`-th key.
    #[must_use]
    pub fn request(&self, key: u32) -> CheckLimitRequest {
        let mut entries: std::collections::HashMap<_, _> = self.entries.iter().cloned().collect();
        entries.insert(self.key_entry.clone(), self.value(key));
        CheckLimitRequest {
            domain: self.domain.clone(),
            entries,
            policies: self.policies.clone(),
            cost: self.cost,
            request_id: String::new(),
            settle_within: None,
        }
    }

    /// The value of the key entry: an address where one is wanted.
    #[must_use]
    pub fn value(&self, key: u32) -> String {
        match self.key_entry.as_str() {
            "ip" => Ipv4Addr::from(FIRST_ADDRESS.saturating_add(key)).to_string(),
            _ => format!("bench-{key}"),
        }
    }

    /// Units that an admission of this request is known to have taken: at least one where the policy says how many.
    #[must_use]
    pub fn known_cost(&self) -> u32 {
        self.cost.unwrap_or(1)
    }
}

/// One encoded request a key, each a whole gRPC frame, in one piece of memory.
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Frames {
    /// Encodes the requests of `keys` keys.
    ///
    /// # Errors
    /// They take too much memory.
    pub fn encode(question: &Question, keys: u32) -> Result<Self, String> {
        let mut bytes = BytesMut::new();
        let mut ends = Vec::new();
        for key in 0..keys.max(1) {
            let request = question.request(key);
            let length = request.encoded_len();
            if bytes.len() + length > MAX_BYTES {
                return Err(format!("the requests of {keys} keys take more than {MAX_BYTES} bytes"));
            }
            bytes.put_u8(0);
            bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            request.encode(&mut bytes).map_err(|error| error.to_string())?;
            ends.push(bytes.len());
        }
        Ok(Self { bytes: bytes.freeze(), ends })
    }

    /// The request of a key without its frame: a message by itself.
    #[must_use]
    pub fn message(&self, key: u32) -> Bytes {
        let mut frame = self.of(key);
        frame.split_off(PREFIX.min(frame.len()))
    }

    /// The frame of a key, without a copy.
    #[must_use]
    pub fn of(&self, key: u32) -> Bytes {
        let key = usize::try_from(key).unwrap_or(usize::MAX);
        let start = key.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(key).copied().unwrap_or(start);
        self.bytes.slice(start..end)
    }
}

/// How much of an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its outcome.
    Outcome,
    /// All of it.
    Whole,
}

/// What was seen of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Allow, or deny.
    pub outcome: Outcome,
    /// When the whole of it was looked at.
    pub decision: Option<Box<Decision>>,
}

impl Answer {
    /// Looks at a decision that is decoded already.
    #[must_use]
    pub fn of(decision: Decision) -> Self {
        let outcome = Outcome::try_from(decision.outcome).unwrap_or(Outcome::Unspecified);
        Self { outcome, decision: Some(Box::new(decision)) }
    }

    /// Reads a `CheckLimitResponse`; none when it is none, or has no decision.
    #[must_use]
    pub fn read(message: &[u8], depth: Depth) -> Option<Self> {
        match depth {
            Depth::Whole => CheckLimitResponse::decode(message).ok()?.decision.map(Self::of),
            Depth::Outcome => {
                let outcome = Glance::decode(message).ok()?.decision?.outcome;
                Some(Self { outcome: Outcome::try_from(outcome).ok()?, decision: None })
            }
        }
    }
}

/// The part of a `CheckLimitResponse` that says allow or deny; the rest is skipped unread.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Glance {
    #[prost(message, optional, tag = "1")]
    decision: Option<GlanceDecision>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GlanceDecision {
    #[prost(int32, tag = "1")]
    pub(super) outcome: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::samples;

    fn question(key_entry: &str) -> Question {
        Question {
            domain: "default".to_owned(),
            policies: vec!["p".to_owned()],
            cost: Some(2),
            entries: vec![("plan".to_owned(), "gold".to_owned())],
            key_entry: key_entry.to_owned(),
        }
    }

    #[test]
    fn every_key_has_a_frame_of_its_own() {
        let frames = Frames::encode(&question("user"), 3).unwrap();
        for key in 0..3 {
            let bytes = frames.of(key);
            let request = CheckLimitRequest::decode(&bytes[PREFIX..]).unwrap();
            assert_eq!(request.entries["user"], format!("bench-{key}"));
            assert_eq!((request.entries["plan"].as_str(), request.cost), ("gold", Some(2)));
            assert_eq!(request, question("user").request(key));
            let length = u32::from_be_bytes(bytes[1..PREFIX].try_into().unwrap());
            assert_eq!((bytes[0], usize::try_from(length).unwrap()), (0, bytes.len() - PREFIX));
            assert_eq!(frames.message(key), bytes[PREFIX..]);
        }
        assert!(frames.of(3).is_empty());
    }

    #[test]
    fn keys_of_an_ip_entry_are_addresses() {
        assert_eq!(question("ip").value(0), "10.0.0.0");
        assert_eq!(question("ip").value(258), "10.0.1.2");
    }

    #[test]
    fn a_glance_sees_the_same_outcome_as_the_whole() {
        for decision in [samples::denied(), samples::shadowed()] {
            let bytes = CheckLimitResponse { decision: Some(decision.clone()) }.encode_to_vec();
            let whole = Answer::read(&bytes, Depth::Whole).unwrap();
            let glance = Answer::read(&bytes, Depth::Outcome).unwrap();
            assert_eq!(whole.outcome, glance.outcome);
            assert_eq!(*whole.decision.unwrap(), decision);
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let good = CheckLimitResponse { decision: Some(samples::denied()) }.encode_to_vec();
        for bad in [&good[..good.len() - 1], &[], &[0xff]] {
            assert_eq!(Answer::read(bad, Depth::Outcome), None);
            assert_eq!(Answer::read(bad, Depth::Whole), None);
        }
    }
}
