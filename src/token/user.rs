//! The entry `user` of a token: whose counters its requests are charged to.
//!
//! Promise: two users never share a value, and a value is at most 256 bytes, what an entry of a caller may have. With one
//! issuer it is the subject, so counters stay what they were; a subject says who somebody is to its own issuer only
//! (RFC 7519 section 4.1.2), so with several it is issuer and subject, and the subjects of two issuers are two users.
//!
//! Must never: depend on anything but the two claims and on whether there are several issuers, because a caller builds
//! the same value for its own entries, and another replica for its counters.

use super::text::MAX_TEXT_BYTES;
use crate::engine::issuer::user_prefix;
use std::fmt::Write as _;

/// How a user is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// By the subject: there is one issuer.
    Subject,
    /// By issuer and subject: there are several.
    IssuerAndSubject,
}

impl Users {
    /// Of so many issuers.
    pub(super) fn of(issuers: usize) -> Self {
        if issuers > 1 { Self::IssuerAndSubject } else { Self::Subject }
    }

    /// The value of the entry. The separator stands readable in the names of keys. What is too long is a fingerprint, which
    /// begins as no other value does: an issuer is never empty.
    pub(super) fn name(self, issuer: &str, subject: &str) -> Box<str> {
        if self == Self::Subject {
            return subject.into();
        }
        let pair = user_prefix(issuer) + subject;
        if pair.len() <= MAX_TEXT_BYTES {
            return pair.into();
        }
        let mut short = String::with_capacity(65);
        short.push('~');
        for byte in super::digest(pair.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(short, "{byte:02x}");
        }
        short.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_never_share_a_name_and_none_is_too_long_for_an_entry() {
        let long = "x".repeat(256);
        let parts = ["a", "a~", "~a", "a~a", "%7E", "%", "a%7Ea", "https://i.example/", &long];
        let mut names = std::collections::HashMap::new();
        for issuer in parts {
            for subject in parts {
                let name = Users::IssuerAndSubject.name(issuer, subject);
                assert!(name.len() <= 256, "{name}");
                assert_eq!(names.insert(name.clone(), (issuer, subject)), None, "{name}");
            }
        }
        let exact = "x".repeat(254);
        assert_eq!(&*Users::IssuerAndSubject.name("i", &exact), format!("i~{exact}"));
        assert_eq!(Users::IssuerAndSubject.name("i", &long).len(), 65);
    }

    #[test]
    fn with_one_issuer_it_is_the_subject() {
        assert_eq!(&*Users::of(1).name("i~", "a~b%"), "a~b%");
        assert_eq!(&*Users::of(2).name("https://id.example", "alice"), "https://id.example~alice");
    }
}
