//! Durations of the command line: as typed (`500ms`, `1.5s`, `1m`) and as shown (`1m30s`, `59.999993s`).

use std::fmt::Write as _;
use std::time::Duration;

/// The longest that anything here lasts: longer is a slip of a unit.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;
const UNITS: [(&str, f64); 6] =
    [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];

/// Parses a number with a unit.
///
/// # Errors
/// What is wrong, with an example.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let (Some(scale), Ok(number), true) = (scale, number.parse::<f64>(), plain) else {
        return Err("write a number and a unit, such as 500ms, 1s, 2m, 1h".to_owned());
    };
    match number * scale {
        seconds if seconds <= 0.0 => Err("it must be longer than nothing".to_owned()),
        seconds if seconds > MAX_SECONDS => Err("that is longer than a year".to_owned()),
        seconds => Ok(Duration::from_secs_f64(seconds)),
    }
}

/// Shows a duration exactly to the microsecond, without parts that are zero.
pub(super) fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    let mut text = String::new();
    for (unit, size, modulus) in [("d", 86_400, u64::MAX), ("h", 3_600, 24), ("m", 60, 60)] {
        let part = seconds / size % modulus;
        if part > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{part}{unit}");
        }
    }
    let (seconds, micros) = (seconds % 60, span.subsec_micros());
    if micros > 0 {
        let fraction = format!("{micros:06}");
        let _ = write!(text, "{seconds}.{}s", fraction.trim_end_matches('0'));
    } else if seconds > 0 || text.is_empty() {
        let _ = write!(text, "{seconds}s");
    }
    text
}

/// A duration in seconds, as a decimal number that is exact to the microsecond.
pub(super) fn seconds(span: Duration) -> f64 {
    // By way of text: the nearest double of the decimal prints as that decimal again, a quotient need not.
    format!("{}.{:06}", span.as_secs(), span.subsec_micros()).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_numbers_with_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "-1s", "0s", "1w", "1e9s", "400d", "infs", "1 s"] {
            assert!(parse(bad).is_err(), "{bad} must not pass");
        }
    }

    #[test]
    fn shows_exactly_and_briefly() {
        for (micros, text) in [
            (0, "0s"),
            (7, "0.000007s"),
            (41_200_000, "41.2s"),
            (59_999_993, "59.999993s"),
            (60_000_000, "1m"),
            (90_500_000, "1m30.5s"),
            (3_600_000_000, "1h"),
            (90_061_000_000, "1d1h1m1s"),
            (86_400_000_000 * 30, "30d"),
        ] {
            assert_eq!(show(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn seconds_print_as_the_decimal_they_are() {
        assert_eq!(seconds(Duration::from_micros(59_999_993)).to_string(), "59.999993");
        assert_eq!(seconds(Duration::from_micros(41_200_000)).to_string(), "41.2");
        assert_eq!(seconds(Duration::from_secs(60)).to_string(), "60");
    }
}
