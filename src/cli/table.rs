//! A decision as people read it: the answer, a row for each policy, and of a denial what the client would see.

use super::screen::{Colour, Style};
use super::{span, words};
use crate::pb::quotad::v1::{Decision, Outcome, PolicyStatus};
use std::fmt::Write as _;

const COLUMNS: [(&str, Align); 8] = [
    ("policy", Align::Left),
    ("algorithm", Align::Left),
    ("limit", Align::Right),
    ("window", Align::Right),
    ("remaining", Align::Right),
    ("reset after", Align::Right),
    ("mode", Align::Left),
    ("marks", Align::Left),
];
/// In place of what is absent.
const NONE: &str = "-";

/// Which side of a column a cell leans on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Renders a decision.
#[must_use]
pub fn decision(decision: &Decision, colour: Colour) -> String {
    let mut text = head(decision, colour);
    if !decision.statuses.is_empty() {
        let rows: Vec<_> = decision.statuses.iter().map(row).collect();
        text.push('\n');
        text.push_str(&grid(&COLUMNS, &rows, |row, line| match decision.statuses.get(row) {
            None => colour.paint(Style::Strong, line),
            Some(status) if status.violated && status.shadow => colour.paint(Style::Warn, line),
            Some(status) if status.violated => colour.paint(Style::Bad, line),
            Some(_) => line.to_owned(),
        }));
    }
    if decision.outcome != i32::from(Outcome::Allow) {
        response(decision, &mut text);
    }
    text
}

fn head(decision: &Decision, colour: Colour) -> String {
    let allowed = decision.outcome == i32::from(Outcome::Allow);
    let style = if allowed { Style::Good } else { Style::Bad };
    let mut lines = vec![
        ("outcome", colour.paint(style, &words::outcome(decision.outcome))),
        ("reason", words::reason(decision.reason)),
        ("mode", words::mode(decision.mode)),
    ];
    if let Some(wait) = words::duration(decision.retry_after) {
        lines.push(("retry after", span::show(wait)));
    }
    lines.push(("http status", decision.http_status.to_string()));
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11}  {value}");
        text
    })
}

fn row(status: &PolicyStatus) -> [String; 8] {
    let duration = |value| words::duration(value).map_or_else(|| NONE.to_owned(), span::show);
    let marks = match (status.violated, status.shadow) {
        (true, true) => "violated, shadow",
        (true, false) => "violated",
        (false, true) => "shadow",
        (false, false) => "",
    };
    [
        status.policy.clone(),
        words::algorithm(status.algorithm),
        status.limit.to_string(),
        duration(status.window),
        status.remaining.to_string(),
        duration(status.reset_after),
        words::mode(status.mode),
        marks.to_owned(),
    ]
}

/// The headers and the body, as the denied client gets them.
fn response(decision: &Decision, text: &mut String) {
    if !decision.headers.is_empty() {
        text.push('\n');
    }
    for header in &decision.headers {
        let _ = writeln!(text, "{}: {}", header.name, header.value);
    }
    if let Some(body) = &decision.body {
        let _ = writeln!(text, "\n{}", String::from_utf8_lossy(&body.content));
    }
}

/// Columns as wide as their widest cell, two spaces apart; `style` gets a row's number (the heading has none that
/// exists) and its line.
pub(super) fn grid<const N: usize>(
    columns: &[(&str, Align); N],
    rows: &[[String; N]],
    style: impl Fn(usize, &str) -> String,
) -> String {
    let heading = columns.map(|(name, _)| name.to_owned());
    let all: Vec<&[String; N]> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for (number, row) in all.iter().enumerate() {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(&style(number.wrapping_sub(1), line.trim_end()));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::samples;

    #[test]
    fn a_denial_shows_the_response_to_send() {
        let expected = "\
outcome      deny
reason       limit_exceeded
mode         exact
retry after  41.2s
http status  429

policy       algorithm       limit  window  remaining  reset after  mode   marks
auth-per-ip  sliding_window     10      1m          0   59.999993s  exact  violated

RateLimit-Policy: \"auth-per-ip\";q=10;w=60
Retry-After: 42

{\"status\":\"error\"}
";
        assert_eq!(decision(&samples::denied(), Colour::Off), expected);
    }

    #[test]
    fn a_shadow_policy_is_marked_and_leases_have_no_window() {
        let expected = "\
outcome      allow
reason       within_limit
mode         local
http status  200

policy             algorithm     limit  window  remaining  reset after  mode   marks
login-per-account  token_bucket    100      1d          0    14m24.07s  exact  violated, shadow
sockets-per-user   concurrency       5       -          4          30s  local
";
        assert_eq!(decision(&samples::shadowed(), Colour::Off), expected);
    }

    #[test]
    fn without_a_policy_there_is_no_table() {
        let text = decision(&samples::unlimited(), Colour::Off);
        assert_eq!(
            text,
            "outcome      allow\nreason       no_policy\nmode         exact\nhttp status  200\n"
        );
    }

    #[test]
    fn colours_mark_the_answer_and_what_violated_it() {
        let text = decision(&samples::denied(), Colour::On);
        assert!(text.contains("outcome      \x1b[31;1mdeny\x1b[0m"), "{text}");
        assert!(text.contains("\x1b[31;1mauth-per-ip  sliding_window"), "{text}");
        assert!(!decision(&samples::denied(), Colour::Off).contains('\x1b'));
    }
}
