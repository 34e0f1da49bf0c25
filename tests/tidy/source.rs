//! The files of the tree, each with its place among the modules and without its tests.

use crate::lexer::{Layers, Token, layers, past_closing, tokens};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the package, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) layers: Layers,
    pub(crate) tokens: Vec<Token>,
    /// Lines (from 1) that exist only in tests.
    pub(crate) test_lines: HashSet<usize>,
    /// Modules that are declared here for tests only.
    test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let layers = layers(text);
        let tokens = tokens(&layers.code);
        let (test_lines, test_modules) = test_parts(&tokens);
        Self { path: path.to_owned(), text: text.to_owned(), layers, tokens, test_lines, test_modules }
    }

    /// `src/store/redis.rs` is `["store", "redis"]`; `src/lib.rs` is empty.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inner.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
    }

    /// The module under `src/` that it belongs to: `store`, or `lib`.
    pub(crate) fn top(&self) -> String {
        self.module().into_iter().next().unwrap_or_else(|| "lib".to_owned())
    }

    /// Lines without the tests, as (number, code, comment).
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let pairs = self.layers.code.lines().zip(self.layers.comments.lines());
        let numbered = pairs.enumerate().map(|(index, (code, comment))| (index + 1, code, comment));
        numbered.filter(|(line, _, _)| !self.test_lines.contains(line))
    }

    /// Lines without the tests, blank ones too.
    pub(crate) fn size(&self) -> usize {
        self.lines().count()
    }
}

/// Lines of items under `#[cfg(test)]`, and the names of modules declared so.
fn test_parts(tokens: &[Token]) -> (HashSet<usize>, Vec<String>) {
    let (mut lines, mut modules) = (HashSet::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let Some(mut end) = test_attribute(&tokens[at..]).map(|length| at + length) else {
            at += 1;
            continue;
        };
        if let Some([keyword, name, semicolon]) = tokens.get(end..end + 3)
            && keyword.is("mod")
            && semicolon.is(";")
        {
            modules.push(name.text.clone());
        }
        while end < tokens.len() && !tokens[end].is(";") && !tokens[end].is("{") {
            end = if matches!(tokens[end].text.as_str(), "(" | "[") {
                past_closing(tokens, end)
            } else {
                end + 1
            };
        }
        end = if tokens.get(end).is_some_and(|token| token.is("{")) {
            past_closing(tokens, end)
        } else {
            end + 1
        };
        let last = tokens[end.min(tokens.len()) - 1].line;
        lines.extend(tokens[at].line..=last);
        at = end;
    }
    (lines, modules)
}

/// Length of `#[cfg(test)]`, `#[cfg(all(test, …))]` or `#[cfg(any(test, …))]`.
fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let starts = |texts: &[&str]| {
        tokens.len() > texts.len() && texts.iter().zip(tokens).all(|(text, token)| token.is(text))
    };
    let found = starts(&["#", "[", "cfg", "(", "test"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
        || starts(&["#", "[", "cfg", "(", "any", "(", "test"]);
    found.then(|| past_closing(tokens, 1))
}

/// The root of the package.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends so, in order; none when there is no such folder.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&folder).expect("a folder is readable") {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                let text = fs::read_to_string(&path).expect("a source is UTF-8");
                found.push((name(&path), text));
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    let inner = path.strip_prefix(root()).expect("below the root");
    inner.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// All of `src/`. A file that its parent declares for tests only is test from end to end.
pub(crate) fn product() -> Vec<Source> {
    let mut sources: Vec<Source> =
        files("src", &[".rs"]).iter().map(|(path, text)| Source::parse(path, text)).collect();
    assert!(sources.len() > 10, "src/ was not found: {} files", sources.len());
    let for_tests: Vec<Vec<String>> = sources
        .iter()
        .flat_map(|source| {
            let parent = source.module();
            source
                .test_modules
                .iter()
                .map(move |name| [parent.as_slice(), std::slice::from_ref(name)].concat())
        })
        .collect();
    for source in &mut sources {
        if for_tests.iter().any(|module| source.module().starts_with(module)) {
            source.test_lines = (1..=source.text.lines().count()).collect();
        }
    }
    sources
}

#[test]
fn what_exists_in_tests_only_is_told_apart() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if x {} }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\n#[cfg(test)]\nuse d::{e};\nfn f() {}";
    let source = Source::parse("src/store/redis.rs", text);
    let lines: Vec<usize> = source.lines().map(|(line, _, _)| line).collect();
    assert_eq!(lines, [1, 6, 11]);
    assert_eq!(source.test_modules, ["more"]);
    assert_eq!(source.module(), ["store", "redis"]);
    assert_eq!((source.top().as_str(), source.size()), ("store", 3));
}

#[test]
fn code_for_other_configurations_is_no_test() {
    let source = Source::parse("src/a.rs", "#[cfg(unix)]\nmod tests {\n}\n#[cfg(not(test))]\nfn f() {}");
    assert_eq!(source.size(), 5);
}
