//! Any bytes at all: an answer, and no panic.

use super::source;
use proptest::prelude::*;
use quotad::config::{Environment, Source, load};

/// Loads from a file, as the server does, and renders whatever comes of it.
fn survive(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    std::fs::write(&path, bytes).unwrap();
    match load(&Source::file(&path).with_environment(Environment::given([]))) {
        Ok(config) => {
            let again = load(&source(&config.redacted()));
            assert!(again.is_ok(), "{}\n{}", config.redacted(), again.unwrap_err());
            assert!(config.warnings.iter().all(|warning| !warning.to_string().is_empty()));
        }
        Err(mistakes) => {
            assert!(mistakes.count() > 0);
            let shown = mistakes.to_string();
            assert!(shown.contains("mistake"), "{shown}");
            let tame = |c: char| c == '\n' || c == '\t' || !c.is_control();
            assert!(shown.replace(&path.display().to_string(), "").chars().all(tame), "{shown:?}");
        }
    }
}

proptest! {
    #[test]
    fn never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn of_yaml_never_panic(text in "[-a-z0-9 :,\\[\\]{}'\"&*<>|?!#%@\\n\\t]{0,200}") {
        survive(text.as_bytes());
    }

    #[test]
    fn in_the_place_of_others_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..6usize, any::<u8>()), 1..6)
    ) {
        let mut bytes = include_bytes!("../../config/quotad.yaml").to_vec();
        for (at, length, byte) in edits {
            let start = at.index(bytes.len());
            let end = (start + length).min(bytes.len());
            // Half of the edits stay within what a keyboard writes.
            let new = if byte % 2 == 0 { byte / 2 } else { byte };
            bytes.splice(start..end, (length % 3 != 0).then_some(new));
        }
        survive(&bytes);
    }

    #[test]
    fn in_any_scalar_never_panic(value in "\\PC{0,40}", line in any::<prop::sample::Index>()) {
        let text = include_str!("../../config/quotad.yaml");
        let places: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
        let at = places[line.index(places.len())];
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        survive(format!("{}{value}{}", &text[..at], &text[end..]).as_bytes());
    }
}
