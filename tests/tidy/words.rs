//! Words and calls that do not stand where they would do harm.

use crate::source::Source;

/// Macros that stand for unfinished work.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Unfinished work, in tests too.
pub(crate) fn unfinished(source: &Source) -> Vec<String> {
    let pairs = source.tokens.iter().zip(source.tokens.iter().skip(1));
    let found = pairs.filter(|(name, bang)| bang.is("!") && UNFINISHED.iter().any(|macro_| name.is(macro_)));
    found
        .map(|(name, _)| format!("{}:{}: `{}!` is unfinished work", source.path, name.line, name.text))
        .collect()
}

/// Sleeps in tests without a word why: a comment on the line or right above it, or the reason of a clippy exception
/// of the function.
pub(crate) fn slept_for_luck(source: &Source, all_is_test: bool) -> Vec<String> {
    let comments: Vec<&str> = source.layers.comments.lines().collect();
    let reason = |line: usize| {
        let own = comments.get(line - 1).is_some_and(|comment| comment.contains("//"));
        let above = line.checked_sub(2).and_then(|above| comments.get(above));
        let excepted = source.text.lines().skip(line.saturating_sub(3)).take(2);
        let excepted = excepted.filter(|line| line.contains("disallowed_methods") && line.contains("reason"));
        own || above.is_some_and(|comment| comment.trim_start().starts_with("//")) || excepted.count() > 0
    };
    let calls = source.tokens.windows(2).filter(|pair| pair[1].is("("));
    let sleeps =
        calls.filter(|pair| ["sleep", "sleep_ms", "sleep_until"].iter().any(|name| pair[0].is(name)));
    sleeps
        .map(|pair| pair[0].line)
        .filter(|line| (all_is_test || source.test_lines.contains(line)) && !reason(*line))
        .map(|line| format!("{}:{line}: a test sleeps and does not say why", source.path))
        .collect()
}

/// What a script lacks in its header, and numbers that it would write as floats.
pub(crate) fn script_faults(path: &str, text: &str) -> Vec<String> {
    let comments = text.lines().skip_while(|line| line.starts_with("#!"));
    let header: Vec<&str> = comments.take_while(|line| line.starts_with("--")).collect();
    let header = header.join("\n").to_lowercase();
    let mut found = Vec::new();
    for word in ["KEYS", "ARGV", "reply"] {
        if !header.contains(&word.to_lowercase()) {
            found.push(format!("{path}:1: the header does not explain {word}"));
        }
    }
    for (index, line) in text.lines().enumerate() {
        let code = line.split("--").next().unwrap_or_default();
        if code.contains("tostring(") || code.contains("tostring ") {
            let line = index + 1;
            found.push(format!(
                "{path}:{line}: `tostring` writes large numbers as floats; use string.format('%d')"
            ));
        }
    }
    found
}

/// Words that are not ours (docs of the names they replace): banned, ours.
const BANNED: [(&str, &str); 3] = [("blacklist", "revocation"), ("tenant", "domain"), ("sdk", "adapter")];
/// The key of an application's own revocations, shown as an example: the name is that application's.
const QUOTED: &str = "blacklisted_access_token";

/// Banned words in what users see and write.
pub(crate) fn banned_words(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let lower = line.to_lowercase().replace(QUOTED, "");
        let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
        for (banned, ours) in BANNED {
            if words.iter().any(|word| word.starts_with(banned)) {
                found.push(format!("{path}:{line_number}: `{banned}`: our word is `{ours}`"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("src/a.rs", text)
    }

    #[test]
    fn unfinished_work_is_found_in_code_only() {
        assert_eq!(unfinished(&source("// todo!()\nlet a = \"todo!\";\nlet todo = 1;")), [""; 0]);
        assert_eq!(unfinished(&source("\nfn f() { todo!() }")), ["src/a.rs:2: `todo!` is unfinished work"]);
        assert_eq!(unfinished(&source("dbg!(x); unimplemented!()")).len(), 2);
    }

    #[test]
    fn a_sleep_in_a_test_gives_its_reason() {
        let slept = |text: &str| slept_for_luck(&source(text), true).len();
        assert_eq!(slept("f();\nsleep(a);"), 1);
        assert_eq!(slept("std::thread::sleep(a); // the lease must end"), 0);
        assert_eq!(slept("// The lease must end.\ntokio::time::sleep(a).await;"), 0);
        assert_eq!(
            slept("f(); // something else\nsleep(a);"),
            0,
            "a comment of the line above is taken for one"
        );
        let excepted = "#[expect(clippy::disallowed_methods, reason = \"why\")]\nfn pause() {\n    sleep(a);";
        assert_eq!(slept(excepted), 0);
        assert_eq!(slept_for_luck(&source("sleep(a);"), false).len(), 0, "not in a test");
        assert_eq!(
            slept_for_luck(&source("#[cfg(test)]\nmod tests { fn f() { sleep(a); } }"), false).len(),
            1
        );
    }

    #[test]
    fn a_script_explains_itself_and_keeps_integers() {
        let good = "#!lua\n-- Takes.\n-- KEYS  one\n-- ARGV  none\n-- reply 1\nreturn 1 -- tostring(1)\n";
        assert_eq!(script_faults("src/a.lua", good), [""; 0]);
        let bad = script_faults("src/a.lua", "-- KEYS\nlocal ARGV = 1\nreturn tostring(x)");
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[2].starts_with("src/a.lua:3:"), "{bad:?}");
    }

    #[test]
    fn banned_words_are_found_whole_and_quoted_ones_are_not() {
        assert_eq!(banned_words("config/a.yaml", "revoked_key: \"blacklisted_access_token:{jti}\""), [""; 0]);
        let found = banned_words("proto/a.proto", "x\nstring tenant_id = 1; // the SDK's BlackList");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("proto/a.proto:2: `blacklist`"), "{found:?}");
        assert_eq!(banned_words("proto/a.proto", "lieutenant"), [""; 0]);
    }
}
