//! JSON read strictly.
//!
//! Two readers that disagree about one text are how a token says one thing to a gateway and another to an
//! application (RFC 8725 section 2.6), so what is not clear-cut is refused: a member that stands twice in one object,
//! at any depth; more than [`MAX_DEPTH`] objects and arrays in one another; a number that no double holds; text after
//! the value.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Most objects and arrays in one another, the outermost included.
pub(super) const MAX_DEPTH: usize = 16;

/// Reads one object.
///
/// # Errors
/// The text is no JSON object, or is one of those that two readers could take for different things. The error says
/// nothing of the text.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: MAX_DEPTH }.deserialize(&mut reader).map_err(|_| NotStrict)?;
    reader.end().map_err(|_| NotStrict)?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(NotStrict),
    }
}

/// The text is not an object of strict JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one JSON object, or a member stands twice, or it is nested too deep")]
pub(super) struct NotStrict;

/// Reads a value, with so many levels left.
#[derive(Clone, Copy)]
struct Strict {
    left: usize,
}

impl Strict {
    fn down<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.down()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.down()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn refuses_what_two_readers_could_take_for_different_things() {
        for bad in [
            "",
            "1",
            "[]",
            "null",
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"x\":[{\"a\":{\"b\":1,\"b\":2}}]}",
            "{\"a\":1} x",
            "{\"a\":1}{\"a\":1}",
            "{\"a\":1e400}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":01}",
            "{\"a\":'b'}",
            "{a:1}",
            "{\"a\":1,}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\t\"}",
            "\u{feff}{\"a\":1}",
            "{\"a\":1}//",
            &nested(17),
        ] {
            assert_eq!(object(bad.as_bytes()), Err(NotStrict), "{bad}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(NotStrict));
    }

    #[test]
    fn reads_sixteen_levels_and_equal_names_in_different_objects() {
        assert!(object(nested(16).as_bytes()).is_ok());
        let read = object(br#" {"a":{"a":1},"b":[{"a":1},{"a":-2.5}],"c":null,"d":true} "#).unwrap();
        assert_eq!(read["b"][1]["a"], -2.5);
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_the_plain_reader(text in "[\\[\\]{}\",:a0-9.e\\\\u-]{0,40}") {
            if let Ok(members) = object(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Object(members));
            }
        }
    }
}
