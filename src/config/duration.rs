//! Durations as they are written: whole numbers with a unit, `500ms`, `10s`, `1m`, `1h30m`, `1d`.

use crate::engine::units::Micros;

/// The longest duration that is taken for meant: anything longer is a slip of a unit.
pub(super) const MAX: Micros = Micros(3_660 * 86_400 * 1_000_000);
const HINT: &str = "write whole numbers with a unit: 500ms, 10s, 1m, 1h30m, 1d";
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];

/// Parses a duration.
///
/// # Errors
/// What is wrong, and a hint.
pub(super) fn parse(text: &str) -> Result<Micros, (String, String)> {
    let shown = super::show(text);
    let wrong = |why: &str, hint: &str| Err((format!("{shown} is not a duration: {why}"), hint.to_owned()));
    if text.starts_with('-') {
        return wrong("it is negative", HINT);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong("it has no unit", &format!("did you mean {text}s? {HINT}"));
    }
    if text.contains('.') && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return wrong("it has a fraction", "write 1500ms instead of 1.5s");
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return wrong("numbers and units do not alternate", HINT);
        }
        // Units are taken from the largest down, each once, so one length of time has few spellings.
        let Some((_, micros)) = units.by_ref().find(|(name, _)| *name == unit) else {
            let why = if UNITS.iter().any(|(name, _)| *name == unit) {
                "its units do not go from large to small, each once"
            } else {
                "its unit is none of ms, s, m, h, d"
            };
            return wrong(why, HINT);
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*micros));
        match part.and_then(|part| total.checked_add(part)).filter(|sum| *sum <= MAX.0) {
            Some(sum) => total = sum,
            None => return wrong("it is longer than ten years", HINT),
        }
        rest = after;
    }
    if text.is_empty() { wrong("it is empty", HINT) } else { Ok(Micros(total)) }
}

/// The text of a duration, as [`parse`] takes it: in the largest unit that leaves no rest.
pub(super) fn write(span: Micros) -> String {
    let fitting = UNITS.iter().find(|(_, micros)| span.0 > 0 && span.0.is_multiple_of(*micros));
    match fitting {
        Some((unit, micros)) => format!("{}{unit}", span.0 / micros),
        None if span.0 == 0 => "0s".to_owned(),
        None => format!("{}ms", span.millis_up()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_units() {
        for (text, micros) in [
            ("500ms", 500_000),
            ("10s", 10_000_000),
            ("1m", 60_000_000),
            ("1h30m", 5_400_000_000),
            ("1d", 86_400_000_000),
            ("0s", 0),
            ("1s500ms", 1_500_000),
        ] {
            assert_eq!(parse(text), Ok(Micros(micros)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        for (text, word) in [
            ("-5s", "negative"),
            ("60", "no unit"),
            ("1.5s", "fraction"),
            ("", "empty"),
            ("s", "alternate"),
            ("5 s", "alternate"),
            ("5x", "none of"),
            ("30m1h", "large to small"),
            ("1m1m", "large to small"),
            ("99999999999999999999s", "ten years"),
            ("999999d", "ten years"),
            ("1h30", "alternate"),
            ("٣s", "alternate"),
        ] {
            let (message, hint) = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
            assert!(!hint.is_empty());
        }
        assert!(parse("60").unwrap_err().1.contains("60s"));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for micros in [0, 1_000, 5_000, 1_500_000, 90_000_000, 5_400_000_000, 86_400_000_000, 691_200_000_000]
        {
            assert_eq!(parse(&write(Micros(micros))), Ok(Micros(micros)));
        }
        assert_eq!(write(Micros::from_seconds(90)), "90s");
        assert_eq!(write(Micros::from_millis(1_500)), "1500ms");
    }
}
