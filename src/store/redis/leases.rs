//! Renewals and releases as their scripts read them.
//!
//! Promise: a renewal of many leases goes in scripts of bounded size, so that none holds Redis for long.

use crate::engine::ask::Weight;
use crate::engine::units::Micros;
use crate::store::redis::life::Life;
use crate::store::redis::name;
use crate::store::redis::pack::Packed;
use crate::store::{HeldLease, Renewed};
use fred::types::{Key, Value};
use std::collections::HashMap;

/// Leases of one script: a fraction of a millisecond.
pub(super) const MAX_LEASES: usize = 128;

/// KEYS and ARGV of a renewal, as `renew.lua` lists them. Leases of one token or one policy share its keys, so
/// each key is sent, and its set tidied, once.
pub(super) fn renewal(leases: &[HeldLease], hold: Micros) -> (Vec<Key>, Vec<Value>) {
    let mut keys = Keys::default();
    let mut stream = Packed::default();
    for lease in leases {
        stream.number(u64::try_from(lease.limits.len()).unwrap_or(u64::MAX));
        let (mut id, mut subject, mut foreign, mut issued_at) = (0, 0, 0, None);
        if let Some(probe) = &lease.token {
            let issuer = &probe.issuer;
            id = probe.token_id.as_ref().map_or(0, |id| keys.number(&name::revoked_id(issuer, id)));
            subject =
                probe.subject.as_ref().map_or(0, |sub| keys.number(&name::revoked_subject(issuer, sub)));
            foreign = probe.foreign_key.as_ref().map_or(0, |key| keys.number(key));
            issued_at = probe.issued_at;
        }
        stream.number(id).number(subject);
        match issued_at {
            Some(at) => stream.number(at),
            None => stream.minus_one(),
        };
        stream.number(foreign).number(lease.token_ends.map_or(0, |ends| ends.0)).text(&lease.id);
        for one in &lease.limits {
            let number = keys.number(&name::counter(&one.key));
            let (ttl, shadow) = (one.limit.ttl, u64::from(one.weight == Weight::Shadow));
            stream.number(number).number(ttl.0).number(Life::fixed(ttl, hold).px()).number(shadow);
        }
    }
    (keys.list, vec![Value::Bytes(stream.finish().into())])
}

/// What a renewal's reply says of one lease; none for a byte that the script never writes.
pub(super) fn renewed(byte: u8) -> Option<Renewed> {
    match byte {
        b'H' => Some(Renewed::Held),
        b'L' => Some(Renewed::Lost),
        b'R' => Some(Renewed::Revoked),
        b'E' => Some(Renewed::Expired),
        _ => None,
    }
}

/// KEYS and ARGV of a release. The ttls go along so that the script can also shorten ends that a clock that
/// jumped back has left too far ahead.
pub(super) fn release(lease: &HeldLease) -> (Vec<Key>, Vec<Value>) {
    let keys = lease.limits.iter().map(|one| name::counter(&one.key).as_ref().into()).collect();
    let id = Value::String(lease.id.as_ref().into());
    let ttls = lease.limits.iter().map(|one| Value::String(one.limit.ttl.0.to_string().into()));
    (keys, std::iter::once(id).chain(ttls).collect())
}

/// KEYS, each once, by their numbers from 1.
#[derive(Default)]
struct Keys {
    list: Vec<Key>,
    numbers: HashMap<String, u64>,
}

impl Keys {
    fn number(&mut self, name: &str) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.list.push(name.into());
        let number = u64::try_from(self.list.len()).unwrap_or(u64::MAX);
        self.numbers.insert(name.to_owned(), number);
        number
    }
}
