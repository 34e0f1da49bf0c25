//! Sizes of files and functions, and how much of them is documentation.

use crate::lexer::{Token, past_closing};
use crate::source::Source;
use crate::{FILE_LINES, FUNCTION_LINES, MEDIAN_LINES, MUCH_DOC, MUCH_DOC_IN, SOME_DOC};
use std::collections::BTreeMap;

/// Files that are too long without their tests.
pub(crate) fn long_files(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.size() > FILE_LINES);
    long.map(|source| {
        format!("{}:1: {} lines without tests, at most {FILE_LINES}", source.path, source.size())
    })
    .collect()
}

/// The median is too high: the longest files, which are those to cut.
pub(crate) fn high_median(sources: &[Source]) -> Vec<String> {
    let mut sizes: Vec<(usize, &str)> = sources
        .iter()
        .map(|source| (source.size(), source.path.as_str()))
        .filter(|(size, _)| *size > 0)
        .collect();
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).map_or(0, |(size, _)| *size);
    if median <= MEDIAN_LINES {
        return Vec::new();
    }
    let longest = sizes.iter().rev().take(5).map(|(size, path)| {
        format!("{path}:1: {size} lines; the median file has {median}, at most {MEDIAN_LINES}")
    });
    longest.collect()
}

/// Functions that are too long. Blank lines and comments are free.
pub(crate) fn long_functions(source: &Source) -> Vec<String> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        if !tokens[at].is("fn") || !tokens[at + 1].is_word() {
            continue;
        }
        let (first, Some(last)) = (tokens[at].line, last_line(tokens, at)) else { continue };
        let lines =
            source.lines().filter(|(line, code, _)| (first..=last).contains(line) && !code.trim().is_empty());
        let count = lines.count();
        if count > FUNCTION_LINES {
            let name = &tokens[at + 1].text;
            found.push(format!(
                "{}:{first}: `{name}` has {count} lines, at most {FUNCTION_LINES}",
                source.path
            ));
        }
    }
    found
}

/// The line of the brace that closes the function at `at`; none for one without a body.
fn last_line(tokens: &[Token], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text.as_str() {
            ";" => return None,
            "{" => return tokens.get(past_closing(tokens, at) - 1).map(|token| token.line),
            "(" | "[" => at = past_closing(tokens, at),
            _ => at += 1,
        }
    }
}

/// Modules with too few doc lines among the lines that are not blank.
pub(crate) fn poor_docs(sources: &[Source]) -> Vec<String> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for source in sources {
        let (docs, lines) = counts.entry(source.top()).or_default();
        for (_, code, comment) in source.lines() {
            let comment = comment.trim();
            *lines += usize::from(!code.trim().is_empty() || !comment.is_empty());
            *docs += usize::from(comment.starts_with("///") || comment.starts_with("//!"));
        }
    }
    let least = |top: &str| if MUCH_DOC_IN.contains(&top) { MUCH_DOC } else { SOME_DOC };
    let poor = counts.iter().filter(|(top, (docs, lines))| docs * 100 < lines * least(top));
    poor.map(|(top, (docs, lines))| {
        format!(
            "src/{top}.rs:1: {docs} of {lines} lines in `{top}` are documentation, at least {} %",
            least(top)
        )
    })
    .collect()
}

/// Files that do not open with what they are for.
pub(crate) fn unopened(sources: &[Source]) -> Vec<String> {
    let silent = sources.iter().filter(|source| !source.text.starts_with("//!"));
    silent.map(|source| format!("{}:1: does not open with `//!`", source.path)).collect()
}

/// Modules in `mod.rs`.
pub(crate) fn mod_files(sources: &[Source]) -> Vec<String> {
    let wrong = sources.iter().filter(|source| source.path.ends_with("/mod.rs"));
    wrong.map(|source| format!("{}:1: name it after the module, beside its folder", source.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, lines: usize) -> Source {
        Source::parse(path, &"f();\n".repeat(lines))
    }

    #[test]
    fn a_file_is_as_long_as_its_code_without_tests() {
        let tested =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "f();\n".repeat(400), "g();\n".repeat(50));
        assert_eq!(long_files(&[Source::parse("src/a.rs", &tested)]), [""; 0]);
        assert!(long_files(&[source("src/b.rs", 401)])[0].contains("src/b.rs:1: 401 lines"));
    }

    #[test]
    fn the_median_file_counts() {
        let short = [source("src/a.rs", 10), source("src/b.rs", 150), source("src/c.rs", 400)];
        assert_eq!(high_median(&short), [""; 0]);
        let long = [source("src/a.rs", 10), source("src/b.rs", 151), source("src/c.rs", 400)];
        assert!(high_median(&long)[0].contains("src/c.rs:1: 400 lines; the median file has 151"));
    }

    #[test]
    fn a_function_is_as_long_as_its_lines_of_code() {
        let of =
            |inner: &str| Source::parse("src/a.rs", &format!("\nfn f(a: [u8; 2]) {{\n{inner}}}\nfn g();"));
        assert_eq!(long_functions(&of(&"x();\n\n// why\n".repeat(68))), [""; 0]);
        let found = long_functions(&of(&"x();\n".repeat(69)));
        assert_eq!(found, ["src/a.rs:2: `f` has 71 lines, at most 70"]);
    }

    #[test]
    fn docs_are_counted_by_module() {
        let text = |docs: usize| format!("{}{}", "/// Why.\n".repeat(docs), "f();\n".repeat(10 - docs));
        let engine = |docs| [Source::parse("src/engine/a.rs", &text(docs))];
        assert_eq!(poor_docs(&engine(2)), [""; 0]);
        assert!(poor_docs(&engine(1))[0].contains("1 of 10 lines in `engine`"));
        assert_eq!(poor_docs(&[Source::parse("src/api.rs", &text(1))]), [""; 0]);
        assert!(poor_docs(&[Source::parse("src/api.rs", &text(0))])[0].contains("at least 5 %"));
    }

    #[test]
    fn a_file_opens_with_its_purpose_and_is_not_mod_rs() {
        let files = [Source::parse("src/a/mod.rs", "use b;\n//! late")];
        assert_eq!((unopened(&files).len(), mod_files(&files).len()), (1, 1));
        assert!(unopened(&[Source::parse("src/a.rs", "//! What for.\n")]).is_empty());
    }
}
