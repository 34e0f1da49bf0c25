//! What a scalar means to a reader of YAML 1.1: `yes` is true, `010` is eight, a quoted text is a text.
//!
//! The text always stays beside its meaning: where a text is wanted, `0404` and `off` are what was written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_saphyr::granit_parser::Tag;

const CORE: &str = "tag:yaml.org,2002:";

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    /// As written, without quotes and escapes; of `!!binary`, what it encodes.
    pub(super) text: String,
    /// What it means.
    pub(super) kind: Kind,
}

/// What a scalar means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    /// With a fraction or an exponent, or too large for the one above.
    Float(f64),
    Text,
}

impl Kind {
    /// As messages of the original name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text => "!!str",
        }
    }
}

/// Reads a scalar.
///
/// # Errors
/// It does not fit its tag: what is wrong.
pub(super) fn read(text: String, is_plain: bool, tag: Option<&Tag>) -> Result<Scalar, String> {
    let core = tag.map(|tag| if tag.handle() == CORE { tag.suffix() } else { "" });
    let plain = |text: &str| if is_plain { meaning(text) } else { Kind::Text };
    let kind = match core {
        None => plain(&text),
        Some("binary") => return binary(&text),
        Some(wanted @ ("bool" | "int" | "float" | "null")) => {
            let found = meaning(&text);
            match (wanted, found) {
                ("bool", Kind::Bool(_)) | ("int", Kind::Int(_)) | ("null", Kind::Null) => found,
                ("float", Kind::Float(_) | Kind::Int(_)) => {
                    Kind::Float(text.replace('_', "").parse().unwrap_or(f64::NAN))
                }
                _ => return Err(format!("cannot decode {} `{text}` as a !!{wanted}", found.name())),
            }
        }
        // `!!str`, and tags of somebody's own, which mean nothing.
        Some(_) => Kind::Text,
    };
    Ok(Scalar { text, kind })
}

fn binary(text: &str) -> Result<Scalar, String> {
    let packed: String = text.split_whitespace().collect();
    let bytes =
        STANDARD.decode(packed).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "the !!binary value is not UTF-8".to_owned())?;
    Ok(Scalar { text, kind: Kind::Text })
}

fn meaning(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Kind::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Kind::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Kind::Text;
    }
    let digits = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    if let Some(whole) = integer(&digits) {
        // Between the two lies what the original takes for a number of another kind, and so for none.
        return i64::try_from(whole).map_or_else(|_| Kind::Float(number(&digits)), Kind::Int);
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match digits.parse::<f64>() {
        Ok(float) if is_float && float.is_finite() => Kind::Float(float),
        _ => Kind::Text,
    }
}

fn number(digits: &str) -> f64 {
    digits.parse().unwrap_or(f64::NAN)
}

/// A whole number below 2^64: decimal, `0x1f`, `0b11`, `0o17` or `017`, signed or not.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let whole = u64::from_str_radix(digits, radix).ok()?;
    Some(i128::from(whole) * sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        let cases = [
            ("010", Kind::Int(8)),
            ("0o10", Kind::Int(8)),
            ("0x10", Kind::Int(16)),
            ("0b11", Kind::Int(3)),
            ("1_000", Kind::Int(1_000)),
            ("+500", Kind::Int(500)),
            ("-5", Kind::Int(-5)),
            ("0", Kind::Int(0)),
            ("08", Kind::Float(8.0)),
            ("1e3", Kind::Float(1_000.0)),
            ("1.0", Kind::Float(1.0)),
            (".5", Kind::Float(0.5)),
            ("18446744073709551615", Kind::Float(18_446_744_073_709_551_615.0)),
            ("99999999999999999999", Kind::Float(1e20)),
            ("1:30", Kind::Text),
            ("2001-02-03", Kind::Text),
            ("0x", Kind::Text),
            ("+", Kind::Text),
            ("1.2.3.4", Kind::Text),
            ("y", Kind::Bool(true)),
            ("oN", Kind::Text),
            ("off", Kind::Bool(false)),
            ("~", Kind::Null),
            ("infinity", Kind::Text),
        ];
        for (text, kind) in cases {
            assert_eq!(meaning(text), kind, "{text}");
        }
    }
}
