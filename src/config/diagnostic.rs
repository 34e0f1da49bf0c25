//! Mistakes and warnings as an operator reads them: where, what, the line itself, and what to write instead.

use super::document::{Document, Excerpt, Position, is_hostile};
use crate::engine::mistake::Mistake;
use std::fmt;
use std::ops::Range;

/// Most mistakes of a file that are kept; a file with more has one cause.
const MAX_KEPT: usize = 1_000;
/// Most mistakes that are printed.
const MAX_PRINTED: usize = 100;
/// Most characters of a message or a hint: texts of the file stand in them.
const MAX_WORDS: usize = 600;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// As given.
        name: String,
        /// Where in it; none when the file as a whole is meant.
        position: Option<Position>,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag(&'static str),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Mistake,
    /// It holds, and probably not as meant.
    Warning,
}

/// One mistake or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it was written.
    pub place: Place,
    /// The entry of a list: `policies[1] (ai-per-user)`; empty elsewhere.
    pub subject: String,
    /// The key, what is wrong, and the hint.
    pub mistake: Mistake,
    /// The line of the file.
    pub excerpt: Option<Excerpt>,
}

/// Every mistake of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Diagnostic>);

impl Mistakes {
    pub(super) fn new(mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_cached_key(|diagnostic| match &diagnostic.place {
            Place::File { name, position } => (0, name.clone(), *position),
            Place::Variable(_) => (1, String::new(), None),
            Place::Flag(_) => (2, String::new(), None),
        });
        Self(list)
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// How many there are; never 0.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl From<Vec<Diagnostic>> for Mistakes {
    /// Puts diagnostics of another module, such as those of [`super::Config::locate`], into the same words.
    fn from(list: Vec<Diagnostic>) -> Self {
        Self::new(list)
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.0.iter().take(MAX_PRINTED) {
            writeln!(out, "{diagnostic}\n")?;
        }
        if self.0.len() > MAX_PRINTED {
            writeln!(out, "… and {} more\n", self.0.len().saturating_sub(MAX_PRINTED))?;
        }
        match self.0.len() {
            1 => write!(out, "1 mistake"),
            count if count >= MAX_KEPT => write!(out, "{count} mistakes or more"),
            count => write!(out, "{count} mistakes"),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// The place, what is wrong, the line with a caret under the offending part, and the hint.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.place)?;
        if self.severity == Severity::Warning {
            write!(out, "warning: ")?;
        }
        if !self.subject.is_empty() {
            write!(out, "{}: ", self.subject)?;
        }
        let Mistake { field, message, hint } = &self.mistake;
        if !field.is_empty() {
            write!(out, "{field}: ")?;
        }
        write!(out, "{message}")?;
        let number = match &self.place {
            Place::File { position: Some(position), .. } => position.line.to_string(),
            _ => String::new(),
        };
        let margin = " ".repeat(number.len());
        if let Some(Excerpt { line, indent, width }) = &self.excerpt {
            write!(out, "\n  {number} | {line}\n  {margin} | {indent}{}", "^".repeat(*width))?;
        }
        if !hint.is_empty() {
            write!(out, "\n  {margin} = hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, position: Some(Position { line, column }) } => {
                write!(out, "{name}:{line}:{column}")
            }
            Self::File { name, position: None } => write!(out, "{name}"),
            Self::Variable(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => write!(out, "{name}"),
        }
    }
}

/// Mistakes while they are found.
pub(super) struct Findings<'d> {
    document: &'d Document,
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'d> Findings<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self { document, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// The file that is read.
    pub(super) fn document(&self) -> &'d Document {
        self.document
    }

    /// How many mistakes there are so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// A mistake in a part of the file.
    pub(super) fn wrong(&mut self, subject: &str, span: &Range<usize>, mistake: Mistake) {
        // A file with more mistakes than are kept is not worth a line for each.
        if self.mistakes.len() < MAX_KEPT {
            self.mistakes.push(in_file(self.document, subject, span, mistake));
        }
    }

    /// A mistake in a variable or a flag.
    pub(super) fn wrong_at(&mut self, place: Place, mistake: Mistake) {
        self.push(elsewhere(place, mistake));
    }

    /// A mistake that has its place already.
    pub(super) fn push(&mut self, found: Diagnostic) {
        if self.mistakes.len() < MAX_KEPT {
            self.mistakes.push(found);
        }
    }

    /// A warning that has its place already.
    pub(super) fn warn(&mut self, found: Diagnostic) {
        if self.warnings.len() < MAX_KEPT {
            self.warnings.push(Diagnostic { severity: Severity::Warning, ..found });
        }
    }

    /// Forgets mistakes that stand at an offset or after it, and those of the file as a whole.
    pub(super) fn forget_from(&mut self, offset: usize) {
        let end = self.document.position(offset);
        self.mistakes.retain(|found| match &found.place {
            Place::File { position, .. } => position.is_some_and(|position| position < end),
            _ => true,
        });
    }

    /// The warnings, or the mistakes if there are any.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>, Mistakes> {
        if self.mistakes.is_empty() { Ok(self.warnings) } else { Err(Mistakes::new(self.mistakes)) }
    }
}

/// A diagnostic with the line of the file.
pub(super) fn in_file(
    document: &Document,
    subject: &str,
    span: &Range<usize>,
    mistake: Mistake,
) -> Diagnostic {
    let place = Place::File { name: document.name.clone(), position: Some(document.position(span.start)) };
    let excerpt = Some(document.excerpt(span));
    Diagnostic { subject: tame(subject), excerpt, ..elsewhere(place, mistake) }
}

/// A diagnostic without a line.
pub(super) fn elsewhere(place: Place, mistake: Mistake) -> Diagnostic {
    let Mistake { field, message, hint } = mistake;
    let mistake = Mistake::new(tame(&field), tame(&message), tame(&hint));
    Diagnostic { severity: Severity::Mistake, place, subject: String::new(), mistake, excerpt: None }
}

/// Texts of the file stand in messages: they are cut, and cannot move a terminal's cursor or turn its writing round.
fn tame(text: &str) -> String {
    if text.len() <= MAX_WORDS && !text.chars().any(is_hostile) {
        return text.to_owned();
    }
    let mut tamed: String =
        text.chars().take(MAX_WORDS).map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_WORDS).is_some() {
        tamed.push('…');
    }
    tamed
}
