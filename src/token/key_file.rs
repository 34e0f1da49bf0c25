//! Files with keys: read within a bound, and a secret made when there is none.
//!
//! Promise: a made secret is readable by its owner only from its first byte on, and a reader sees all of it or no
//! file. Of two processes that start at once, one makes it and both use it.
//!
//! Must never: write over a file that exists.

use super::algorithm::Algorithm;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Reads a whole file of at most `most` bytes.
pub(super) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(bound).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// A secret is the bytes as they are, less one newline that an editor left.
pub(super) fn without_newline(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").filter(|_| line.len() < bytes.len()).unwrap_or(line)
}

/// Makes a secret for `algorithm` at `path`, with the folders above it, unless a file is there by now.
pub(super) fn make(path: &Path, algorithm: Algorithm) -> io::Result<()> {
    let text = secret_text(algorithm)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = draft_of(path)?;
    let written = write_new(&draft, &text).and_then(|()| fs::hard_link(&draft, path));
    // The draft goes in every case; it has the secret in it.
    let removed = fs::remove_file(&draft);
    match written {
        Ok(()) => removed,
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.exists() => Ok(()),
        // A file system without hard links: a reader could see half of the secret, and would refuse it as too short.
        Err(_) => match write_new(path, &text) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            written => written,
        },
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// As many random bytes as the hash is long, as text, so that other programs can take it from an environment
/// variable too.
fn secret_text(algorithm: Algorithm) -> io::Result<String> {
    random_text(algorithm.min_secret_bytes().max(32))
}

fn random_text(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    rand::fill(&mut random).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn draft_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it names no file"))?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}", random_text(9)?));
    Ok(path.with_file_name(draft))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn makes_a_secret_that_only_its_owner_reads_and_leaves_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/token.key");
        make(&path, Algorithm::Hs512).unwrap();
        let made = fs::read(&path).unwrap();
        assert_eq!(made.len(), 86, "64 bytes in base64url");
        assert!(made.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn never_writes_over_a_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token.key");
        fs::write(&path, "mine").unwrap();
        make(&path, Algorithm::Hs256).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn racing_makers_agree_on_one_whole_secret() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token.key");
        let seen: Vec<_> = std::thread::scope(|scope| {
            let maker = || {
                make(&path, Algorithm::Hs256).unwrap();
                fs::read(&path).unwrap()
            };
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(maker)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(seen[0].len(), 43);
        assert!(seen.iter().all(|one| *one == seen[0]));
    }

    #[test]
    fn reads_within_its_bound_and_only_files() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("set.json");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert!(read(home.path(), 4).is_err(), "a folder is no key");
    }

    #[test]
    fn one_newline_is_not_part_of_a_secret() {
        for (text, secret) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a ", "a "),
            ("a\r", "a\r"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_newline(text.as_bytes()), secret.as_bytes(), "{text:?}");
        }
    }
}
