//! Durations as Go's `time.ParseDuration` takes them: `24h`, `1h15m30.918s`, `300ms`, `0`.
//!
//! A sign is a mistake here: no duration of this program is below zero. What is finer than a microsecond is dropped.

use super::super::super::{duration, show};
use crate::engine::units::Micros;

const HINT: &str = "write a duration such as 24h, 90m or 1h30m";
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", NANOS_A_MICRO),
    ("\u{b5}s", NANOS_A_MICRO),
    ("\u{3bc}s", NANOS_A_MICRO),
    ("ms", 1_000 * NANOS_A_MICRO),
    ("s", 1_000_000 * NANOS_A_MICRO),
    ("m", 60_000_000 * NANOS_A_MICRO),
    ("h", 3_600_000_000 * NANOS_A_MICRO),
];
const NANOS_A_MICRO: u128 = 1_000;
/// Digits behind a point that count: those of a nanosecond in hours are fewer.
const MAX_FRACTION: usize = 15;

/// Parses a duration.
///
/// # Errors
/// What is wrong, and a hint.
pub(super) fn parse(text: &str) -> Result<Micros, (String, String)> {
    let wrong = |why: &str| (format!("{} is not a duration: {why}", show(text)), HINT.to_owned());
    if text == "0" {
        return Ok(Micros(0));
    }
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong("its unit is none of ns, us, ms, s, m, h"));
        };
        let part = part(number, *size).ok_or_else(|| wrong("its numbers and units do not alternate"))?;
        nanos = nanos.saturating_add(part);
        rest = after;
    }
    match u64::try_from(nanos / NANOS_A_MICRO) {
        Ok(micros) if micros <= duration::MAX.0 => Ok(Micros(micros)),
        _ => Err(wrong("it is longer than ten years")),
    }
}

/// A number, maybe with a fraction, of units of this size, in nanoseconds.
fn part(number: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // What is too large for the type is too large for a duration.
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
    let fraction = fraction.get(..MAX_FRACTION).unwrap_or(fraction);
    let mut below = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()?.saturating_mul(size) };
    for _ in fraction.bytes() {
        below /= 10;
    }
    Some(whole.saturating_mul(size).saturating_add(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_is_taken() {
        for (text, micros) in [
            ("24h", 86_400_000_000),
            ("1h30m", 5_400_000_000),
            ("30m1h", 5_400_000_000),
            ("1m1m", 120_000_000),
            ("1.5h", 5_400_000_000),
            (".5s", 500_000),
            ("1.s", 1_000_000),
            ("1h15m30.918273645s", 4_530_918_273),
            ("300ms", 300_000),
            ("2us", 2),
            ("2\u{b5}s", 2),
            ("2\u{3bc}s", 2),
            ("1999ns", 1),
            ("0.1000000000000000000000000000000000000000s", 100_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Micros(micros)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        for (text, word) in [
            ("", "empty"),
            ("3600", "unit"),
            ("00", "unit"),
            ("1d", "unit"),
            ("1 h", "unit"),
            ("h", "alternate"),
            (".h", "alternate"),
            ("1.2.3h", "alternate"),
            ("-1h", "unit"),
            ("+1h", "unit"),
            ("\u{663}h", "unit"),
            ("87841h", "ten years"),
            ("99999999999999999999999999999999999999999999h", "ten years"),
        ] {
            let (message, hint) = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
            assert_eq!(hint, HINT);
        }
    }
}
