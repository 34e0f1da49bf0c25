//! Where a command writes: answers, and trouble.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};

/// Whether output has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// With escape sequences.
    On,
    /// Plain text.
    Off,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Good: green.
    Good,
    /// Bad: red.
    Bad,
    /// Worth a look: yellow.
    Warn,
    /// A heading: bold.
    Strong,
    /// Less important: dim.
    Faint,
}

impl Colour {
    /// Colours on a terminal, unless `NO_COLOR` is set to anything (no-color.org).
    #[must_use]
    pub fn for_stdout(no_color: Option<&OsStr>) -> Self {
        Self::decide(io::stdout().is_terminal(), no_color)
    }

    fn decide(terminal: bool, no_color: Option<&OsStr>) -> Self {
        if terminal && no_color.is_none_or(OsStr::is_empty) { Self::On } else { Self::Off }
    }

    /// `text` in a style.
    #[must_use]
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "32;1",
            Style::Bad => "31;1",
            Style::Warn => "33",
            Style::Strong => "1",
            Style::Faint => "2",
        };
        match self {
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

/// Where a command writes.
pub struct Screen<'a> {
    /// Answers.
    pub out: &'a mut dyn Write,
    /// What failed, and a hint.
    pub err: &'a mut dyn Write,
    /// Of `out`.
    pub colour: Colour,
}

impl fmt::Debug for Screen<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Screen").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl Screen<'_> {
    /// Writes an answer; false when nobody reads it any more (a closed pipe), which is no failure of ours to report.
    pub fn print(&mut self, text: &str) -> bool {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_ok()
    }

    /// Writes a report of several lines to standard error, as it is.
    pub fn report(&mut self, text: &str) {
        // There is no other place to say that standard error is closed.
        let _ = writeln!(self.err, "{text}");
    }

    /// Writes what failed, and what to do about it.
    pub fn complain(&mut self, message: &str, hint: Option<&str>) {
        // There is no other place to say that standard error is closed.
        let _ = writeln!(self.err, "quotad: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(self.err, "  hint: {hint}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_on_a_terminal_and_never_against_no_color() {
        assert_eq!(Colour::decide(true, None), Colour::On);
        assert_eq!(Colour::decide(true, Some(OsStr::new(""))), Colour::On);
        assert_eq!(Colour::decide(true, Some(OsStr::new("1"))), Colour::Off);
        assert_eq!(Colour::decide(false, None), Colour::Off);
        assert_eq!(Colour::Off.paint(Style::Bad, "x"), "x");
        assert_eq!(Colour::On.paint(Style::Bad, "x"), "\x1b[31;1mx\x1b[0m");
    }
}
