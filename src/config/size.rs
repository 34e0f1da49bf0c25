//! Sizes as they are written: one whole number with a unit, `512MiB`, `2GiB`.

/// The largest size that is taken for meant: anything more is a slip of a unit.
const MAX: u64 = 1 << 40;
const HINT: &str = "write a whole number with a unit: 512MiB, 2GiB";
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Parses a size in bytes.
///
/// # Errors
/// What is wrong, and a hint.
pub(super) fn parse(text: &str) -> Result<u64, (String, String)> {
    let shown = super::show(text);
    let wrong = |why: &str, hint: &str| Err((format!("{shown} is not a size: {why}"), hint.to_owned()));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return wrong("it does not begin with a whole number", HINT);
    }
    if unit.is_empty() {
        return wrong("it has no unit", &format!("did you mean {number}MiB? {HINT}"));
    }
    if unit.starts_with('.') {
        return wrong("it has a fraction", "write 1536MiB instead of 1.5GiB");
    }
    let Some((_, bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return wrong("its unit is none of KiB, MiB, GiB", HINT);
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes)) {
        Some(size) if size <= MAX => Ok(size),
        _ => wrong("it is more than 1024GiB", HINT),
    }
}

/// The text of a size, as [`parse`] takes it: in the largest unit that leaves no rest.
pub(super) fn write(size: u64) -> String {
    match UNITS.iter().find(|(_, bytes)| size.is_multiple_of(*bytes)) {
        Some((unit, bytes)) => format!("{}{unit}", size / bytes),
        None => format!("{}KiB", size / 1_024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_a_unit_and_nothing_else() {
        for (text, size) in [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("16384KiB", 16 << 20)] {
            assert_eq!(parse(text), Ok(size), "{text}");
            assert_eq!(parse(&write(size)), Ok(size));
        }
        for (text, word) in [
            ("", "whole number"),
            ("-1MiB", "whole number"),
            ("MiB", "whole number"),
            ("536870912", "no unit"),
            ("1.5GiB", "fraction"),
            ("1GB", "none of"),
            ("1 GiB", "none of"),
            ("1gib", "none of"),
            ("1025GiB", "more than"),
            ("99999999999999999999GiB", "more than"),
        ] {
            let (message, hint) = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
            assert!(!hint.is_empty());
        }
        assert!(parse("512").unwrap_err().1.contains("512MiB"));
    }
}
