//! Text types for serde: they trim, bring text to one form (NFC) and refuse what has no place in a name or a title:
//! control, bidirectional and invisible characters, and the beginning of a tag.
//!
//! What they do not do: make text safe to put into a page, a query or a shell. Escape on output, bind parameters, keep a
//! Content-Security-Policy. Never use them for passwords.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{borrow::Cow, fmt, ops::Deref};
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Invisible, and needed: by Persian and Indian scripts, and in emoji.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// Why a text is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextError {
    /// Empty once it was trimmed.
    #[error("a text is required here")]
    Empty,
    /// More characters than this.
    #[error("at most {0} characters are accepted here")]
    TooLong(usize),
    /// Control, bidirectional, zero-width, private or unassigned characters.
    #[error("text with control or invisible characters is not accepted here")]
    Invisible,
    /// The beginning of a tag, closed or not.
    #[error("text with markup is not accepted here")]
    Markup,
    /// No letter, or something that stands in no name.
    #[error("a name has letters, spaces, apostrophes, hyphens and dots")]
    Name,
    /// Not lower-case letters and digits with single hyphens between.
    #[error("lower-case letters and digits with single hyphens between are accepted here")]
    Slug,
    /// Not an https URL of a host name.
    #[error("only https:// with a host name, without a user, is accepted here")]
    Url,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $max:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Trims, normalises, and refuses what has no place here.
            ///
            /// # Errors
            ///
            /// [`TextError`] says what.
            pub fn new(text: &str) -> Result<Self, TextError> {
                tidied(text, $max).and_then($check).map(Self)
            }

            /// The text, out of its type.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                Self::new(&text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                Self::new(&text).map_err(D::Error::custom)
            }
        }
    };
}

text_type!(
    /// One line of at most 255 characters: a title, a subject.
    PlainText, 255, plain
);
text_type!(
    /// Several lines of at most 10,000 characters, tabs included: a comment, a description.
    MultilineText, 10_000, lines
);
text_type!(
    /// What somebody is called, in at most 100 characters.
    PersonName, 100, person
);
text_type!(
    /// `my-room-7`, at most 64 characters: what stands in a path.
    SlugText, 64, slug
);
text_type!(
    /// An https URL to somebody's page, at most 2,048 characters. Whoever fetches it must look at the address that the
    /// name has then.
    SafeUrl, 2_048, https_url
);

/// Trimmed and in NFC, so that lengths are those of what is kept.
fn tidied(text: &str, max: usize) -> Result<String, TextError> {
    // NFC has at least a third of the characters: what is longer needs no look.
    if text.trim().len() > max.saturating_mul(12) {
        return Err(TextError::TooLong(max));
    }
    let text: String = text.nfc().collect();
    let text = text.trim();
    match text.chars().count() {
        0 => Err(TextError::Empty),
        count if count > max => Err(TextError::TooLong(max)),
        _ => Ok(text.to_owned()),
    }
}

fn plain(text: String) -> Result<String, TextError> {
    visible(&text, &[])?;
    without_markup(text)
}

fn lines(text: String) -> Result<String, TextError> {
    let text = text.replace("\r\n", "\n");
    visible(&text, &['\n', '\t'])?;
    without_markup(text)
}

/// `I <3 you` and `5<6` pass; `<b`, `</p`, `<!--` do not, closed or not.
fn without_markup(text: String) -> Result<String, TextError> {
    let begins =
        |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphabetic() || "/!?".contains(next));
    if text.split('<').skip(1).any(begins) { Err(TextError::Markup) } else { Ok(text) }
}

fn visible(text: &str, kept: &[char]) -> Result<(), TextError> {
    use GeneralCategory as Is;
    let is_hidden = |letter: char| {
        !kept.contains(&letter)
            && !JOINERS.contains(&letter)
            && matches!(
                letter.general_category(),
                Is::Control
                    | Is::Format
                    | Is::Surrogate
                    | Is::PrivateUse
                    | Is::Unassigned
                    | Is::LineSeparator
                    | Is::ParagraphSeparator
            )
    };
    if text.contains(is_hidden) { Err(TextError::Invisible) } else { Ok(()) }
}

/// Letters of any script, marks, spaces and what stands between names. `O'Brien` and `María-José` are names.
fn person(text: String) -> Result<String, TextError> {
    let is_letter = |letter: char| letter.general_category_group() == GeneralCategoryGroup::Letter;
    let is_mark = |letter: char| letter.general_category_group() == GeneralCategoryGroup::Mark;
    let stands = |letter: char| {
        is_letter(letter) || is_mark(letter) || " '’.-·,".contains(letter) || JOINERS.contains(&letter)
    };
    if text.contains(is_letter) && text.chars().all(stands) { Ok(text) } else { Err(TextError::Name) }
}

fn slug(text: String) -> Result<String, TextError> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if text.split('-').all(is_word) { Ok(text) } else { Err(TextError::Slug) }
}

fn https_url(text: String) -> Result<String, TextError> {
    let is_odd = |letter: char| !letter.is_ascii_graphic() || "\\\"<>^`{|}".contains(letter);
    let rest = text.strip_prefix("https://").ok_or(TextError::Url)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let labels: Vec<&str> = host.split('.').collect();
    // A last label of digits is an address, not a name.
    let is_name = labels.len() > 1
        && host.len() <= 253
        && labels.iter().all(|label| is_label(label))
        && !labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if text.contains(is_odd) || !is_port || !is_name { Err(TextError::Url) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::{MultilineText, PersonName, PlainText, SafeUrl, SlugText, TextError};

    #[test]
    fn plain_text_keeps_what_people_write() {
        for text in
            ["I <3 you", "5<6", "Ann O'Brien", "SELECT * FROM the menu", "می\u{200c}خواهم", "👩\u{200d}🚀"]
        {
            assert_eq!(&*PlainText::new(text).expect(text), text);
        }
        assert_eq!(&*PlainText::new("  Cafe\u{301} ").unwrap(), "Café", "trimmed, and in one form");
    }

    #[test]
    fn plain_text_refuses_what_has_no_place_in_it() {
        for (text, error) in [
            ("", TextError::Empty),
            (" \u{3000} ", TextError::Empty),
            ("<img src=x onerror=alert(1)", TextError::Markup),
            ("</p", TextError::Markup),
            ("<!--x", TextError::Markup),
            ("a<<b", TextError::Markup),
            ("two\nlines", TextError::Invisible),
            ("a\u{202e}b", TextError::Invisible),
            ("a\u{200b}b", TextError::Invisible),
            ("a\0b", TextError::Invisible),
            ("a\u{e000}", TextError::Invisible),
        ] {
            assert_eq!(PlainText::new(text), Err(error), "{text:?}");
        }
        assert!(PlainText::new(&"ä".repeat(255)).is_ok());
        assert_eq!(PlainText::new(&"ä".repeat(256)), Err(TextError::TooLong(255)));
        assert_eq!(PlainText::new(&"x".repeat(1 << 20)), Err(TextError::TooLong(255)));
    }

    #[test]
    fn several_lines_have_line_ends_of_one_kind() {
        assert_eq!(&*MultilineText::new("a\r\n\tb\n").unwrap(), "a\n\tb");
        assert_eq!(MultilineText::new("a\rb"), Err(TextError::Invisible));
        assert_eq!(MultilineText::new("a\n<b>"), Err(TextError::Markup));
    }

    #[test]
    fn names_are_of_any_script() {
        for text in
            ["O'Brien", "María-José", "D’Arcy", "李小龍", "Dr. Who", "أحمد", "Martin Luther King, Jr."]
        {
            assert!(PersonName::new(text).is_ok(), "{text}");
        }
        for text in ["<b>", "Ann1", "'-.", "a_b", "Ann\u{202e}", "1234"] {
            assert_eq!(PersonName::new(text), Err(TextError::Name), "{text}");
        }
    }

    #[test]
    fn slugs_are_lower_case_words() {
        assert!(SlugText::new("my-room-7").is_ok());
        for text in ["My-room", "-a", "a-", "a--b", "a b", "ä", "a/b"] {
            assert_eq!(SlugText::new(text), Err(TextError::Slug), "{text}");
        }
    }

    #[test]
    fn urls_are_https_with_a_host_name() {
        for text in ["https://example.com", "https://a.example.com:8443/x?y#z", "https://EXAMPLE.com/"] {
            assert!(SafeUrl::new(text).is_ok(), "{text}");
        }
        for text in [
            "http://example.com",
            "HTTPS://example.com",
            "https://user@example.com",
            "https://example.com:0",
            "https://example.com:99999",
            "https://example.com:+1",
            "https://127.0.0.1",
            "https://localhost",
            "https://[::1]",
            "https://0x7f.1",
            "https://example.com\\@evil.com",
            "https://exa mple.com",
            "https://-a.com",
            "javascript:alert(1)",
            "https://exämple.com",
            "https://example.com/<script>",
        ] {
            assert_eq!(SafeUrl::new(text), Err(TextError::Url), "{text}");
        }
    }

    #[test]
    fn serde_tells_what_is_wrong() {
        assert_eq!(serde_json::from_str::<SlugText>("\" my-room \"").unwrap().into_string(), "my-room");
        let error = serde_json::from_str::<PlainText>("\"<b>\"").unwrap_err().to_string();
        assert!(error.contains("markup"), "{error}");
        assert!(serde_json::from_str::<PlainText>("7").is_err());
    }
}
