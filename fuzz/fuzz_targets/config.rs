//! Bytes of a configuration file: refused in words, with a place in the file, or accepted and told the same way
//! again. Whatever happens, a secret of the environment is not shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quotad::config::{Config, Environment, Mistakes, Place, Source, load};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, process};

const SECRET: &str = "fuzz-secret-of-more-than-thirty-two-bytes";

fuzz_target!(|bytes: &[u8]| {
    match std::str::from_utf8(bytes) {
        Ok(text) => match loaded(Source::text("fuzz.yaml", text)) {
            Ok(config) => accepted(&config, text),
            Err(mistakes) => refused(&mistakes, text),
        },
        Err(_) => match loaded(broken_file(bytes)) {
            Ok(_) => panic!("a file that is not UTF-8 was accepted"),
            Err(mistakes) => hides_the_secret(&mistakes.to_string()),
        },
    }
});

fn loaded(source: Source) -> Result<Config, Mistakes> {
    let variables = [("SECRET", SECRET), ("QUOTAD_LOG", "info")];
    load(&source.with_environment(Environment::given(variables)))
}

fn accepted(config: &Config, text: &str) {
    let told = config.redacted();
    hides_the_secret(&told);
    hides_the_secret(&format!("{config:?} {}", config.summary()));
    for warning in &config.warnings {
        hides_the_secret(&warning.to_string());
    }
    // A password of the store is not told, so such a file cannot come back whole.
    if text.contains('@') {
        return;
    }
    match loaded(Source::text("told.json", told.as_str())) {
        Ok(again) => assert_eq!(again.redacted(), told, "told twice, and not the same"),
        Err(mistakes) => panic!("what was accepted is refused when it is told again: {mistakes}\n{told}"),
    }
}

fn refused(mistakes: &Mistakes, text: &str) {
    assert!(mistakes.count() > 0, "refused without a mistake");
    hides_the_secret(&mistakes.to_string());
    let lines = text.split(['\n', '\r']).count();
    for diagnostic in mistakes.iter() {
        assert!(!diagnostic.mistake.message.is_empty(), "a mistake without words: {diagnostic:?}");
        if let Place::File { position: Some(position), .. } = &diagnostic.place {
            assert!((1..=lines + 1).contains(&position.line), "line {} of {lines}", position.line);
        }
    }
}

fn hides_the_secret(shown: &str) {
    assert!(!shown.contains(SECRET), "a secret is shown");
}

/// Only a file can hold what is no text. One file a process, written over and over.
fn broken_file(bytes: &[u8]) -> Source {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| env::temp_dir().join(format!("quotad-fuzz-{}.yaml", process::id())));
    fs::write(&*PATH, bytes).expect("the folder for temporary files takes a file");
    Source::file(&*PATH)
}
