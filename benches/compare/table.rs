//! Markdown tables, and targets with what became of them.

use std::fmt::Write as _;

/// A table; the first column leans left, the others right.
pub(crate) fn markdown<const N: usize>(columns: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = format!("| {} |\n|", columns.join(" | "));
    for column in 0..N {
        text.push_str(if column == 0 { "---|" } else { "---:|" });
    }
    text.push('\n');
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// A number with as many digits as are worth reading.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1} k", value / 1_000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

/// The same of what was not measured.
pub(crate) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// What part of `whole` a value is.
pub(crate) fn ratio(value: Option<f64>, whole: Option<f64>) -> Option<f64> {
    match (value, whole) {
        (Some(value), Some(whole)) if whole > 0.0 => Some(value / whole),
        _ => None,
    }
}

/// The same, written.
pub(crate) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Which side of a target is good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
}

/// One line: what was wanted, what was found.
pub(crate) fn verdict(name: &str, found: Option<f64>, target: Target) -> String {
    let (met, wanted) = match target {
        Target::Least(least) => (found.map(|found| found >= least), format!("at least {least}")),
        Target::Most(most) => (found.map(|found| found <= most), format!("at most {most}")),
    };
    let outcome = match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not measured",
    };
    format!("- {name}: {} ({wanted}): {outcome}\n", times(found))
}
