//! Which modules and crates a file reaches for: its `use` trees and the paths in its code, resolved.

use crate::lexer::Token;
use crate::source::Source;
use std::collections::{HashMap, HashSet};

/// Something that a file names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A path from the root of the package.
    Own(Vec<String>),
    /// A path that begins with a crate.
    Foreign(Vec<String>),
}

/// What the lines outside of tests name: (line, target), each once.
pub(crate) fn targets(source: &Source, crates: &HashSet<String>) -> Vec<(usize, Target)> {
    let mut found: Vec<(usize, Target)> = Vec::new();
    let scan = scan(source);
    for path in scan.paths.iter().filter(|path| !source.test_lines.contains(&path.line)) {
        if let Some(target) = scan.resolve(path, crates, 4)
            && !found.contains(&(path.line, target.clone()))
        {
            found.push((path.line, target));
        }
    }
    found
}

#[derive(Clone, Debug)]
struct Named {
    segments: Vec<String>,
    line: usize,
    /// The module that it stands in.
    module: Vec<String>,
    /// In a `use`: the name that it gets.
    bound: Option<String>,
}

#[derive(Debug, Default)]
struct Scan {
    paths: Vec<Named>,
    /// Modules declared in the file, by the module that declares them and their name.
    children: HashSet<(Vec<String>, String)>,
    /// What the `use` declarations bind.
    bound: HashMap<String, Named>,
}

impl Scan {
    /// Follows `crate`, `self`, `super`, imported names and child modules; none for a plain local name.
    fn resolve(&self, path: &Named, crates: &HashSet<String>, depth: usize) -> Option<Target> {
        let (first, rest) = path.segments.split_first()?;
        let below = |module: &[String], rest: &[String]| Some(Target::Own([module, rest].concat()));
        match first.as_str() {
            "crate" | "quotad" => return below(&[], rest),
            "self" => return below(&path.module, rest),
            "super" => {
                let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
                let kept = path.module.len().checked_sub(ups)?;
                return below(&path.module[..kept], &path.segments[ups..]);
            }
            _ => {}
        }
        if self.children.contains(&(path.module.clone(), first.clone())) {
            return below(&path.module, &path.segments);
        }
        let import =
            self.bound.get(first).filter(|import| depth > 0 && import.segments.first() != Some(first));
        if let Some(import) = import {
            let segments = [import.segments.as_slice(), rest].concat();
            return self.resolve(&Named { segments, ..import.clone() }, crates, depth - 1);
        }
        crates.contains(first).then(|| Target::Foreign(path.segments.clone()))
    }
}

fn scan(source: &Source) -> Scan {
    let tokens = &source.tokens;
    let mut scan = Scan::default();
    // The modules that are open, each with the depth of braces outside it.
    let mut open: Vec<(String, usize)> = Vec::new();
    let (mut braces, mut at) = (0_usize, 0_usize);
    while at < tokens.len() {
        let token = &tokens[at];
        let module = || [source.module(), open.iter().map(|(name, _)| name.clone()).collect()].concat();
        match token.text.as_str() {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                open.retain(|(_, outside)| *outside < braces);
            }
            "mod" if tokens.get(at + 2).is_some_and(|after| after.is(";") || after.is("{")) => {
                let name = tokens[at + 1].text.clone();
                scan.children.insert((module(), name.clone()));
                if tokens[at + 2].is("{") {
                    open.push((name, braces));
                    braces += 1;
                }
                at += 3;
                continue;
            }
            "use" if !tokens.get(at + 1).is_some_and(|after| after.is("<")) => {
                let mut imports = Vec::new();
                at = use_tree(tokens, at + 1, &[], &mut imports);
                for mut import in imports {
                    import.module = module();
                    if let Some(name) = import.bound.clone() {
                        scan.bound.insert(name, import.clone());
                    }
                    scan.paths.push(import);
                }
                continue;
            }
            _ if token.is_word() && !is_keyword(token) && begins_path(tokens, at) => {
                let (segments, after) = plain_path(tokens, at);
                if segments.len() > 1 {
                    scan.paths.push(Named { segments, line: token.line, module: module(), bound: None });
                }
                at = after;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    scan
}

/// Whether it is a word that may stand before a `::` and does not belong to its path.
fn is_keyword(token: &Token) -> bool {
    ["dyn", "impl", "as", "in", "mut", "return", "for", "const"].contains(&token.text.as_str())
}

/// Not the middle of a path, nor a method; `::a` begins one.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|index| &tokens[index]);
    match before(1) {
        Some(token) if token.is(".") => false,
        Some(token) if token.is("::") => {
            !before(2).is_some_and(|token| token.is(">") || token.is_word() && !is_keyword(token))
        }
        _ => true,
    }
}

/// The words joined by `::` from `at`, and the index after them.
fn plain_path(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[at].text.clone()];
    while let Some([separator, word]) = tokens.get(at + 1..at + 3)
        && separator.is("::")
        && word.is_word()
    {
        segments.push(word.text.clone());
        at += 2;
    }
    (segments, at + 1)
}

/// Expands the tree at `at`; returns the index after it.
fn use_tree(tokens: &[Token], mut at: usize, above: &[String], found: &mut Vec<Named>) -> usize {
    let mut segments = above.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| !token.is("}")) {
                    at = use_tree(tokens, at, &segments, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.is(",")));
                }
                return at + 1;
            }
            "as" => {
                let name = tokens.get(at + 1).map(|token| token.text.clone());
                found.push(Named { segments, line: token.line, module: Vec::new(), bound: name });
                return at + 2;
            }
            // `use a::b::{self}` binds b.
            "self" if segments.len() > above.len() || !above.is_empty() => {}
            "*" => segments.push("*".to_owned()),
            _ if token.is_word() => segments.push(token.text.clone()),
            _ => break,
        }
        at += 1;
    }
    let line = tokens[at.min(tokens.len()) - 1].line;
    let bound = segments.last().filter(|last| *last != "*").cloned();
    found.push(Named { segments, line, module: Vec::new(), bound });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let crates = ["std", "tokio", "regex", "http"].map(str::to_owned).into();
        let shown = |target| match target {
            Target::Own(path) => path.join("::"),
            Target::Foreign(path) => format!("extern {}", path.join("::")),
        };
        targets(&Source::parse(path, text), &crates).into_iter().map(|(_, target)| shown(target)).collect()
    }

    #[test]
    fn use_trees_are_followed_to_every_leaf() {
        let text =
            "pub use crate::store::{self, memory::{Memory as M, Shard}, *};\nuse super::x;\nuse std::env;";
        let all = found("src/engine/key.rs", text);
        assert_eq!(
            all,
            [
                "store",
                "store::memory::Memory",
                "store::memory::Shard",
                "store::*",
                "engine::x",
                "extern std::env"
            ]
        );
    }

    #[test]
    fn paths_in_code_are_followed_through_imports_and_supers() {
        let text = "use std::env;\nuse super::path;\nfn f() { env::var(\"A\"); path::normalise(super::super::store::X); tokio::spawn(a.regex()); }";
        let all = found("src/engine/key.rs", text);
        for expected in ["extern std::env::var", "engine::path::normalise", "store::X", "extern tokio::spawn"]
        {
            assert!(all.contains(&expected.to_owned()), "{expected} in {all:?}");
        }
        assert!(!all.iter().any(|path| path.contains("regex")), "a method is no crate: {all:?}");
    }

    #[test]
    fn a_module_of_ones_own_hides_the_crate_of_its_name() {
        assert_eq!(
            found("src/engine.rs", "mod http;\nfn f() { http::headers() }"),
            ["engine::http::headers"]
        );
        assert_eq!(found("src/server.rs", "fn f() { http::Uri::new() }"), ["extern http::Uri::new"]);
    }

    #[test]
    fn inline_modules_have_parents_too() {
        let text = "mod a { mod b { use super::super::c; } }\nuse self::d;";
        assert_eq!(found("src/engine.rs", text), ["engine::c", "engine::d"]);
    }

    #[test]
    fn absolute_and_generic_paths_are_paths() {
        let all = found("src/token.rs", "fn f(a: Box<dyn ::regex::Any>) -> Vec<crate::store::Error> {}");
        assert_eq!(all, ["extern regex::Any", "store::Error"]);
    }

    #[test]
    fn what_tests_use_is_their_own_affair() {
        let text = "#[cfg(test)]\nmod tests { use crate::store::X; }\nuse crate::clock;";
        assert_eq!(found("src/engine.rs", text), ["clock"]);
    }

    #[test]
    fn findings_name_the_line() {
        let source = Source::parse("src/engine.rs", "use crate::{\n    clock,\n    store::X,\n};");
        let lines: Vec<usize> = targets(&source, &HashSet::new()).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3]);
    }
}
