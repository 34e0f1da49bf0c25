//! A check's result, and how people and scripts read it.

use super::super::json;
use super::super::screen::{Colour, Style};
use serde::Serialize;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Ok,
    /// Holds, and could be stronger.
    Warn,
    /// Open to whom it should not be.
    Fail,
    /// Not looked at.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its name, which stays.
    pub(super) check: &'static str,
    #[serde(rename = "result")]
    pub(super) grade: Grade,
    /// What was seen.
    pub(super) message: String,
    /// What to do, in a sentence; none for what is good or was not looked at.
    pub(super) remedy: Option<&'static str>,
}

impl Row {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, grade: Grade::Ok, message: message.into(), remedy: None }
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { check, grade: Grade::Warn, message: message.into(), remedy: Some(remedy) }
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { check, grade: Grade::Fail, message: message.into(), remedy: Some(remedy) }
    }

    pub(super) fn skipped(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, grade: Grade::Skipped, message: message.into(), remedy: None }
    }
}

impl Grade {
    const ALL: [Self; 4] = [Self::Ok, Self::Warn, Self::Fail, Self::Skipped];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => Style::Good,
            Self::Warn => Style::Warn,
            Self::Fail => Style::Bad,
            Self::Skipped => Style::Faint,
        }
    }
}

/// A line for each check, its remedy below it, and the sums.
pub(super) fn table(rows: &[Row], colour: Colour) -> String {
    let width = rows.iter().map(|row| row.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let word = colour.paint(row.grade.style(), &format!("{:<8}", row.grade.word()));
        text += &format!("{word}{:<width$}  {}\n", row.check, shown(&row.message));
        if let Some(remedy) = row.remedy {
            text += &format!("{:8}{:<width$}  remedy: {remedy}\n", "", "");
        }
    }
    let count = |grade| rows.iter().filter(|row| row.grade == grade).count();
    let sums: Vec<_> = Grade::ALL.iter().map(|grade| format!("{} {}", count(*grade), grade.word())).collect();
    text + &format!("\n{}\n", sums.join(", "))
}

/// One line for all.
pub(super) fn json(rows: &[Row]) -> String {
    let failed = rows.iter().filter(|row| row.grade == Grade::Fail).count();
    json::line(&serde_json::json!({"failed": failed, "checks": rows}))
}

/// What an application sent must not move the cursor of a terminal.
fn shown(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 4] {
        [
            Row::ok("first", "good"),
            Row::warn("second-one", "so so", "Do this."),
            Row::fail("third", "bad\x1b[2J", "Do that."),
            Row::skipped("fourth", "no --url"),
        ]
    }

    #[test]
    fn each_check_is_a_line_with_its_remedy_below() {
        let expected = "\
ok      first       good
warn    second-one  so so
                    remedy: Do this.
fail    third       bad [2J
                    remedy: Do that.
skipped fourth      no --url

1 ok, 1 warn, 1 fail, 1 skipped
";
        assert_eq!(table(&rows(), Colour::Off), expected);
        assert!(table(&rows(), Colour::On).contains("\x1b[31;1mfail    \x1b[0mthird"));
    }

    #[test]
    fn json_has_every_row() {
        let value: serde_json::Value = serde_json::from_str(&json(&rows())).unwrap();
        assert_eq!(value["failed"], 1);
        let second = serde_json::json!(
            {"check": "second-one", "result": "warn", "message": "so so", "remedy": "Do this."}
        );
        assert_eq!(value["checks"][1], second);
        assert_eq!(value["checks"][3]["remedy"], serde_json::Value::Null);
    }
}
