//! A mistake in what an operator wrote: which field, what is wrong with it, and what to write instead.

/// One mistake. The configuration adds file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, as written in the file: `window`, `match.path`, `partition`.
    pub field: String,
    /// What is wrong, with the offending text.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Mistake {
    /// A mistake in `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), hint: hint.into() }
    }
}
