//! What files and folders look like from outside: which of them a change would be seen in, without reading a file.
//!
//! Promise: whatever a path leads through is part of how it looks: each link on the way and what it says, each folder by
//! its inode, and at the end a file's inode, size and times, or every entry of a folder, links followed again. So a
//! swapped link, be it the path itself, a parent or one in the middle, a mounted volume's `..data`, a file renamed over
//! another and a folder removed and made again all look different, and so does a file that was written in place.
//!
//! Must never: read what a file holds; go on for ever in a circle of links; be the only word on a change, for two writes
//! within one tick of the file system's clock look the same. Content is compared now and then besides.

use notify::{RecursiveMode, Watcher as _};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use tokio::sync::mpsc;

/// Links that one path is followed through, as many as Linux follows.
const MAX_LINKS: usize = 40;
/// Deepest folder below one that is looked through; links can lead in circles.
const MAX_DEPTH: usize = 16;
/// Entries that are looked at; a directory of rate limits has at most half as many files.
const MAX_ENTRIES: usize = 20_000;
/// Folders whose changes are told; the others are only looked at.
const MAX_TOLD: usize = 1_024;

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subjects {
    /// Files.
    pub(super) files: Vec<PathBuf>,
    /// Folders, with all that is in them.
    pub(super) folders: Vec<PathBuf>,
}

/// How subjects look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    hash: u64,
    /// Every folder in which an entry on the way stands, by its inode: where a change is told.
    folders: BTreeMap<PathBuf, (u64, u64)>,
}

/// The watcher of the folders of a look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    folders: BTreeMap<PathBuf, (u64, u64)>,
    watcher: Option<notify::RecommendedWatcher>,
}

/// How these look now.
pub(super) fn look(subjects: &Subjects) -> Look {
    let mut seen = Seen::default();
    for file in &subjects.files {
        seen.follow(file);
    }
    for folder in &subjects.folders {
        if let Some(real) = seen.follow(folder) {
            seen.list(&real, MAX_DEPTH);
        }
    }
    Look { hash: seen.hasher.finish(), folders: seen.folders }
}

impl Watch {
    /// Watches the folders of a look, anew where they are others or have another inode than before. Whether it did: what
    /// changed meanwhile was told to nobody.
    pub(super) fn arm(&mut self, look: &Look, changed: &mpsc::Sender<()>) -> bool {
        if self.watcher.is_some() && self.folders == look.folders {
            return false;
        }
        self.folders.clone_from(&look.folders);
        self.watcher = watcher(&look.folders, changed.clone());
        self.watcher.is_some()
    }
}

/// Tells of changes in folders; without it only looking finds them.
fn watcher(
    folders: &BTreeMap<PathBuf, (u64, u64)>,
    changed: mpsc::Sender<()>,
) -> Option<notify::RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One that waits already stands for this one too.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told)
        .map_err(|error| tracing::debug!(%error, "files are not watched, only looked at"))
        .ok()?;
    for folder in folders.keys().take(MAX_TOLD) {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, folder = %folder.display(), "not watched, only looked at");
        }
    }
    Some(watcher)
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    hasher: DefaultHasher,
    folders: BTreeMap<PathBuf, (u64, u64)>,
    entries: usize,
}

/// What is left of a path.
#[derive(Default)]
struct Way {
    at: PathBuf,
    /// From the last to the next.
    rest: Vec<OsString>,
    links: usize,
}

impl Way {
    /// Puts a path before what is left; one from the root begins there.
    fn enter(&mut self, path: &Path) {
        let mut names = Vec::new();
        for part in path.components() {
            match part {
                Component::RootDir => self.at = PathBuf::from("/"),
                Component::Normal(_) | Component::ParentDir => names.push(part.as_os_str().to_owned()),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.rest.extend(names.into_iter().rev());
    }
}

impl Seen {
    /// Notes every step of a path: where it leads in the end, if to anything.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut way = Way::default();
        way.enter(&std::path::absolute(path).ok()?);
        while let Some(name) = way.rest.pop() {
            if name == ".." {
                // Links are followed already, so that the parent is that of the real folder.
                way.at.pop();
                continue;
            }
            self.folder(&way.at);
            let next = way.at.join(&name);
            next.hash(&mut self.hasher);
            let Ok(meta) = fs::symlink_metadata(&next) else {
                "nothing".hash(&mut self.hasher);
                return None;
            };
            if meta.is_symlink() {
                let target = fs::read_link(&next).ok()?;
                target.hash(&mut self.hasher);
                way.links += 1;
                if way.links > MAX_LINKS {
                    return None;
                }
                way.enter(&target);
            } else {
                self.note(&meta);
                way.at = next;
            }
        }
        Some(way.at)
    }

    /// Notes what is in a folder.
    fn list(&mut self, folder: &Path, depth: usize) {
        self.folder(folder);
        let Ok(entries) = fs::read_dir(folder) else { return };
        let left = MAX_ENTRIES.saturating_sub(self.entries);
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).take(left).collect();
        self.entries += paths.len();
        paths.sort();
        for path in paths {
            path.hash(&mut self.hasher);
            let real = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => self.follow(&path),
                Ok(meta) => {
                    self.note(&meta);
                    Some(path)
                }
                Err(_) => None,
            };
            if let Some(real) = real.filter(|real| depth > 0 && real.is_dir()) {
                self.list(&real, depth - 1);
            }
        }
    }

    fn note(&mut self, meta: &Metadata) {
        (meta.dev(), meta.ino()).hash(&mut self.hasher);
        // A folder's own times change with entries that are nobody's concern here.
        if !meta.is_dir() {
            (meta.size(), meta.mtime(), meta.mtime_nsec()).hash(&mut self.hasher);
            (meta.ctime(), meta.ctime_nsec()).hash(&mut self.hasher);
        }
    }

    fn folder(&mut self, path: &Path) {
        if !self.folders.contains_key(path)
            && let Ok(meta) = fs::metadata(path)
        {
            self.folders.insert(path.to_owned(), (meta.dev(), meta.ino()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// `v1` and `v2`, each with a folder `config` and a file in it.
    fn two_versions() -> tempfile::TempDir {
        let base = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            let folder = base.path().join(version).join("config");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("c.yaml"), version).unwrap();
        }
        base
    }

    fn swap(target: &str, link: PathBuf) {
        let new = link.with_file_name("new-link");
        symlink(target, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    /// Whether a folder, and a file in it, look different after a change, and the same when nothing changes.
    fn differs(base: &Path, folder: &str, change: impl FnOnce(&Path)) {
        let folder = base.join(folder);
        let as_folder = Subjects { folders: vec![folder.clone()], ..Subjects::default() };
        let as_file = Subjects { files: vec![folder.join("c.yaml")], ..Subjects::default() };
        let before = (look(&as_folder), look(&as_file));
        assert_eq!((look(&as_folder), look(&as_file)), before);
        change(base);
        assert_ne!(look(&as_folder), before.0, "the folder");
        assert_ne!(look(&as_file), before.1, "the file");
    }

    #[test]
    fn a_swapped_link_anywhere_on_the_way_is_seen() {
        for link in ["current", "a/b"] {
            let base = two_versions();
            fs::create_dir(base.path().join("a")).unwrap();
            symlink("../v1", base.path().join("a/b")).unwrap();
            symlink("a/b", base.path().join("outer")).unwrap();
            symlink("v1", base.path().join("current")).unwrap();
            let (folder, target) = if link == "current" { (link, "v2") } else { ("outer", "../v2") };
            differs(base.path(), &format!("{folder}/config"), |base| swap(target, base.join(link)));
        }
    }

    #[test]
    fn a_mounted_volume_is_seen_when_it_is_swapped() {
        let base = tempfile::tempdir().unwrap();
        let mount = base.path().join("mount");
        for version in ["..1", "..2"] {
            fs::create_dir_all(mount.join(version)).unwrap();
            fs::write(mount.join(version).join("c.yaml"), "the same").unwrap();
        }
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/c.yaml", mount.join("c.yaml")).unwrap();
        differs(base.path(), "mount", |base| swap("..2", base.join("mount/..data")));
    }

    #[test]
    fn a_file_that_is_replaced_or_gone_and_a_folder_made_again_are_seen() {
        let file = |base: &Path| base.join("v1/config/c.yaml");
        differs(two_versions().path(), "v1/config", |base| {
            fs::write(base.join("n"), "v1").unwrap();
            fs::rename(base.join("n"), file(base)).unwrap();
        });
        differs(two_versions().path(), "v1/config", |base| fs::remove_file(file(base)).unwrap());
        differs(two_versions().path(), "v1/config", |base| fs::write(file(base), "longer").unwrap());
        differs(two_versions().path(), "v1/config", |base| {
            fs::rename(base.join("v1"), base.join("old")).unwrap();
            fs::create_dir_all(base.join("v1/config")).unwrap();
            fs::write(file(base), "v1").unwrap();
        });
    }

    #[test]
    fn a_circle_of_links_ends_and_what_is_beside_the_way_is_nobodys_concern() {
        let base = two_versions();
        symlink("loop", base.path().join("loop")).unwrap();
        symlink("../..", base.path().join("v1/config/up")).unwrap();
        let all = Subjects { files: vec![base.path().join("loop")], folders: vec![base.path().join("v1")] };
        assert_eq!(look(&all), look(&all));
        let file = Subjects { files: vec![base.path().join("v1/config/c.yaml")], ..Subjects::default() };
        let before = look(&file);
        fs::write(base.path().join("v1/config/other"), "").unwrap();
        assert_eq!(look(&file), before);
    }
}
