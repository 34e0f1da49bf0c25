//! The environment: the only place of the program that reads it.
//!
//! An explicit list of variables, no pattern: what is neither in [`super::settings`] nor in
//! [`super::ratelimit::environment`] has no effect, and a name that is one slip away from one of ours is warned of.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Variables, of this process or given.
#[derive(Clone, Default)]
pub struct Environment {
    /// None: those of this process.
    given: Option<BTreeMap<String, OsString>>,
}

impl std::fmt::Debug for Environment {
    /// Values may be secrets.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.given {
            None => out.write_str("Environment(process)"),
            Some(given) => out.debug_set().entries(given.keys()).finish(),
        }
    }
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn process() -> Self {
        Self { given: None }
    }

    /// These variables and no others.
    #[must_use]
    pub fn given<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let given = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self { given: Some(given) }
    }

    /// The value of a variable; set but empty is a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        match &self.given {
            Some(given) => given.get(name).cloned(),
            // A name with these makes the call panic on some systems.
            None if name.is_empty() || name.contains(['=', '\0']) => None,
            None => std::env::var_os(name),
        }
    }

    /// The names of our own variables that are set.
    pub(super) fn ours(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.starts_with("QUOTAD_")).collect()
    }

    /// The names of all variables that are set.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.given {
            Some(given) => given.keys().cloned().collect(),
            None => std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
        }
    }
}

/// Whether a text can be the name of a variable, and not, by a slip, its value.
pub(super) fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(letter)
        && text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}
