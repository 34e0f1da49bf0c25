//! The files of a directory, and their bytes as text.
//!
//! Promise: every file of any ending and depth, dot files too, sorted by path; links are followed. In a folder that
//! Kubernetes has mounted, which is one where `..data` is a link, names that begin with `..` are left out: what they hold is
//! there once more without them. Files, bytes and depth are bounded.

use super::super::diagnostic::{Mistakes, Place, elsewhere, in_file};
use super::super::document::Document;
use super::DotFiles;
use crate::engine::mistake::Mistake;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Most files.
const MAX_FILES: usize = 10_000;
/// Deepest folder; links can lead in circles.
const MAX_DEPTH: usize = 16;
/// The largest file.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most bytes of all files.
const MAX_BYTES: u64 = 64 << 20;

/// The paths of all files, sorted.
///
/// # Errors
/// A folder that cannot be read, or too many files.
pub(super) fn files(folder: &Path, dots: DotFiles) -> Result<Vec<PathBuf>, Mistakes> {
    let mut found = Vec::new();
    walk(folder, dots, MAX_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, dots: DotFiles, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Mistakes> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let is_mounted = folder.join("..data").is_symlink();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (is_mounted && name.starts_with("..")) || (dots == DotFiles::Skipped && name.starts_with('.')) {
            continue;
        }
        let path = entry.path();
        let kind = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !kind.is_dir() {
            found.push(path);
        } else if depth == 0 {
            return Err(whole(&path, "the folders nest too deep", "is there a link that leads in a circle?"));
        } else {
            walk(&path, dots, depth - 1, found)?;
        }
        if found.len() > MAX_FILES {
            let hint = "name the folder of the rate limits alone";
            return Err(whole(folder, &format!("there are more than {MAX_FILES} files"), hint));
        }
    }
    Ok(())
}

/// A mistake of a file or folder as a whole.
pub(super) fn whole(path: &Path, message: &str, hint: &str) -> Mistakes {
    let place = Place::File { name: path.display().to_string(), position: None };
    Mistakes::from(vec![elsewhere(place, Mistake::new("", message, hint))])
}

fn unreadable(path: &Path, error: &io::Error) -> Mistakes {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "make it, or mount it; until then no limit can be answered from it",
        io::ErrorKind::PermissionDenied => "give the user that runs quotad the right to read it",
        _ => "try to read it as the same user",
    };
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        _ => format!("it cannot be read: {error}"),
    };
    whole(path, &message, hint)
}

/// What reading a directory may still read.
pub(super) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_BYTES)
    }
}

/// The bytes of a file.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn bytes(path: &Path, budget: &mut Budget) -> Result<Vec<u8>, Mistakes> {
    let most = budget.0.min(MAX_FILE_BYTES);
    let mut bytes = Vec::new();
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_file() {
        return Err(whole(path, "this is no file", "only files and folders belong here"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    budget.0 = budget.0.saturating_sub(length);
    if length > most {
        let message = format!("the file is larger than {most} bytes, or all files together than {MAX_BYTES}");
        return Err(whole(path, &message, "name the folder of the rate limits alone"));
    }
    Ok(bytes)
}

/// A file as text: UTF-8, or UTF-16 with its mark.
///
/// # Errors
/// Neither, or with characters that YAML does not allow.
pub(super) fn document(path: &Path, bytes: Vec<u8>) -> Result<Document, Mistakes> {
    let name = path.display().to_string();
    let of = |text: String| Document::new(name.clone(), path.parent().unwrap_or(Path::new("")), text);
    let wrong = |document: &Document, at: usize, message: &str| {
        let mistake = Mistake::new("", message, "save the file as UTF-8 text");
        Mistakes::from(vec![in_file(document, "", &(at..at), mistake)])
    };
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            (String::from_utf8_lossy(error.as_bytes()).into_owned(), at)
        }),
    };
    let text = match text {
        Ok(text) => text,
        Err((text, at)) => return Err(wrong(&of(text), at, "yaml: invalid UTF-8 or UTF-16 from here on")),
    };
    let document = of(text);
    match document.text().char_indices().find(|(_, c)| !is_printable(*c)) {
        Some((at, _)) => Err(wrong(&document, at, "yaml: control characters are not allowed")),
        None => Ok(document),
    }
}

/// The text, or as much of it as there is and where it ends.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, (String, usize)> {
    let pairs = bytes.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(unit);
    let mut text = String::new();
    for next in char::decode_utf16(pairs) {
        match next {
            Ok(c) => text.push(c),
            Err(_) => {
                let at = text.len();
                return Err((text, at));
            }
        }
    }
    Ok(text)
}

fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..)
        && !matches!(c, '\u{fffe}' | '\u{ffff}')
}
