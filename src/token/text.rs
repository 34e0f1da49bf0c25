//! What a string from outside may hold before it becomes part of a key, a look-up or an answer.

/// Most bytes of an issuer, a subject, a token id or a key id.
pub(super) const MAX_TEXT_BYTES: usize = 256;

/// Whether a string is short and shows as what it is: no control characters, and none of those that turn the
/// direction of writing (Unicode's `Bidi_Control`), which make two strings look alike in a log.
#[must_use]
pub(super) fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(|c| c.is_control() || turns_direction(c))
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_short_and_shows_as_it_is() {
        assert!(is_plain("https://issuer.example/é"));
        assert!(is_plain(&"x".repeat(256)));
        for bad in
            ["a\0", "a\n", "a\u{7f}", "a\u{85}", "a\u{202e}b", "a\u{2066}b", "a\u{200f}", &"x".repeat(257)]
        {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
