//! Patterns of keys and values: `*` stands for any text, the empty one too, and may stand anywhere and often.
//!
//! Promise: time at most the text's length times the pattern's, whatever both are; letters count by their case.

/// Whether a text is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// Whether a text fits a pattern; a pattern without `*` fits only itself.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('*').map_or(("", rest), |(middle, last)| (middle, last));
    let Some(mut inner) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else {
        return false;
    };
    // The earliest place of each part leaves the most for those after it.
    for part in middle.split('*') {
        let Some((_, after)) = inner.split_once(part) else { return false };
        inner = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stand_for_any_text() {
        let cases = [
            ("foo", "foo", true),
            ("foo", "foo1", false),
            ("*", "", true),
            ("*", "anything", true),
            ("f*", "f", true),
            ("f*", "F1", false),
            ("*o", "foo", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*b*c", "abbc", true),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("a**b", "ab", true),
            ("a*bc*bc", "abcbc", true),
            ("a*bc*bc", "abc", false),
            ("f*", "f*", true),
            ("ü*ö", "üxö", true),
        ];
        for (pattern, text, fit) in cases {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }
}
