//! Protobuf's well-known types (google.protobuf) from ours, for every front end alike.
//!
//! Promise: total; what a type cannot hold is cut to its end.

use crate::engine::units::{Micros, Moment};
use prost_types::{Duration, ListValue, Struct, Timestamp, Value, value::Kind};

/// A span.
#[must_use]
pub fn duration(span: Micros) -> Duration {
    let Micros(micros) = span;
    Duration { seconds: seconds(micros), nanos: nanos(micros) }
}

/// A moment.
#[must_use]
pub fn timestamp(at: Moment) -> Timestamp {
    let Moment(micros) = at;
    Timestamp { seconds: seconds(micros), nanos: nanos(micros) }
}

fn seconds(micros: u64) -> i64 {
    i64::try_from(micros / Micros::SECOND.0).unwrap_or(i64::MAX)
}

fn nanos(micros: u64) -> i32 {
    i32::try_from(micros % Micros::SECOND.0 * 1_000).unwrap_or(0)
}

/// A JSON object. Whoever read it has bounded how deep it nests, claims and metadata alike, so this ends soon.
#[must_use]
pub fn object(map: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.iter().map(|(name, value)| (name.clone(), json(value))).collect() }
}

fn json(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(json).collect() })
        }
        serde_json::Value::Object(map) => Kind::StructValue(object(map)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_micros_and_never_wrap() {
        assert_eq!(duration(Micros(1_500_000)), Duration { seconds: 1, nanos: 500_000_000 });
        assert_eq!(timestamp(Moment(2_000_001)), Timestamp { seconds: 2, nanos: 1_000 });
        let longest = duration(Micros(u64::MAX));
        assert!(longest.seconds > 0 && (0..1_000_000_000).contains(&longest.nanos));
    }
}
