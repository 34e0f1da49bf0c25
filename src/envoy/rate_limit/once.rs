//! What a lenient reader of JSON would take with a meaning of its own is refused: a member that stands twice, in one
//! spelling or in both; a number that is not whole, or so large that it is not exact; a number as text that JSON could not
//! have without the quotes.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Looks through the first value of a text.
///
/// # Errors
/// It is no JSON, or an object of it has a member twice.
pub(super) fn check(text: &[u8]) -> Result<(), serde_json::Error> {
    Once::Any.deserialize(&mut serde_json::Deserializer::from_slice(text))
}

/// Members that are whole numbers, also as text, as [`plain`] has them.
const NUMBERS: [&str; 3] = ["hitsaddend", "requestsperunit", "unitmultiplier"];
/// From here on not every whole number has a float of its own: 2^53.
const INEXACT: f64 = 9_007_199_254_740_992.0;

/// What a value may be.
#[derive(Clone, Copy)]
enum Once {
    Any,
    /// A number, or one as text.
    Number,
}

/// Both spellings of a name; no two names of a message differ in less.
fn plain(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let plain = plain(&name);
            let value = if NUMBERS.contains(&plain.as_str()) { Self::Number } else { Self::Any };
            if !seen.insert(plain) {
                return Err(A::Error::custom(format_args!("duplicate member `{}`", name.escape_debug())));
            }
            map.next_value_seed(value)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self::Any)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    /// No member of a request has a fraction, and all are unsigned.
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if number.fract() == 0.0 && (0.0..INEXACT).contains(&number) {
            Ok(())
        } else {
            Err(E::custom("no whole number, or one too large to be exact"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let zeros_first = text.len() > 1 && text.starts_with('0');
        match self {
            Self::Number if zeros_first || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(E::custom("no number as JSON writes it"))
            }
            _ => Ok(()),
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
