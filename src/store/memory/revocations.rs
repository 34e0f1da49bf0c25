//! Revocations of the embedded store: in memory for look-ups, on disk before they are acknowledged.
//!
//! Promise: after `revoke` has answered, the token is refused, whatever happens to the process. A restart must not
//! make a revoked token good again. One process owns a `data_dir` at a time.
//!
//! Must never: let anybody but the process's own user read or write the file.
//!
//! A caller's patience bounds its wait. A revocation whose caller left before its turn at the disk is not written; one
//! that was being written then is in force, and the caller is told that nobody knows.

use super::StoreClock;
use crate::clock;
use crate::engine::revocation::{Keep, Probe, Revocation, Target, subject_revokes};
use crate::engine::units::{Micros, Moment};
use crate::store::StoreError;
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// (issuer, kind, value) as text → (moment, until), in microseconds.
const TABLE: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("revocations-1");
/// Most revocations kept; over it new ones are refused, never dropped.
const MAX_REVOCATIONS: usize = 4_194_304;
/// What is over is kept this long still: a clock that was ahead must not make a revoked token good again.
const MARGIN: Micros = Micros(86_400 * 1_000_000);
/// Expired ones are cleared when the table has grown by this many since the last time.
const CLEAR_EVERY: usize = 4_096;

/// Why `data_dir` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds it.
    #[error("data_dir {0}: another quotad uses it")]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("data_dir {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file in it cannot be opened or read.
    #[error("data_dir {path}: {why}")]
    Database {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When it was said, for subjects.
    moment: Moment,
    /// Kept until then.
    until: Moment,
}

/// All revocations.
#[derive(Debug)]
pub(super) struct Revocations {
    held: Arc<RwLock<HashMap<Box<str>, Entry>>>,
    /// Held while a revocation is written, so that memory and disk change in one order.
    disk: Arc<Mutex<Disk>>,
    durable: bool,
}

/// The file, and when it was last cleared.
#[derive(Debug)]
struct Disk {
    database: Option<Database>,
    cleared_at: usize,
}

impl Revocations {
    /// Opens what `data_dir` holds, or nothing without one. What is over comes along: the clock may have been wrong.
    pub(super) fn open(data_dir: Option<&Path>) -> Result<Self, DataDirError> {
        let (database, held) = match data_dir {
            Some(path) => {
                let (database, held) = load(path)?;
                (Some(database), held)
            }
            None => (None, HashMap::new()),
        };
        Ok(Self {
            durable: database.is_some(),
            disk: Arc::new(Mutex::new(Disk { database, cleared_at: held.len() })),
            held: Arc::new(RwLock::new(held)),
        })
    }

    /// Whether a token is revoked.
    pub(super) fn refuses(&self, token: &Probe, now: Moment) -> bool {
        let held = self.held.read();
        if held.is_empty() {
            return false;
        }
        let find = |kind: &str, value: &str| {
            held.get(name(&token.issuer, kind, value).as_str()).filter(|entry| entry.until > now)
        };
        token.token_id.as_deref().is_some_and(|id| find("id", id).is_some())
            || token
                .subject
                .as_deref()
                .and_then(|subject| find("sub", subject))
                .is_some_and(|entry| subject_revokes(entry.moment, token.issued_at))
    }

    /// Keeps a revocation; false when it was in force already.
    pub(super) async fn revoke(
        &self,
        revocation: Revocation,
        clock: StoreClock,
        patience: Duration,
    ) -> Result<bool, StoreError> {
        let (held, disk) = (Arc::clone(&self.held), Arc::clone(&self.disk));
        if !self.durable {
            return keep(&held, &mut disk.lock(), &revocation, &clock);
        }
        // None: a caller without a deadline waits as long as the disk takes.
        let until = clock::monotonic().checked_add(patience);
        // A commit waits for the disk; the worker's other requests must not.
        let written = tokio::task::spawn_blocking(move || {
            let mut disk = disk.lock();
            if until.is_some_and(|until| clock::monotonic() >= until) {
                return Err(StoreError::Timeout(patience));
            }
            keep(&held, &mut disk, &revocation, &clock)
        });
        match tokio::time::timeout(patience, written).await {
            Ok(written) => written.unwrap_or_else(|error| Err(StoreError::Disk(error.to_string()))),
            Err(_) => Err(StoreError::Timeout(patience)),
        }
    }

    /// What an operator should know at start.
    pub(super) fn warnings(&self) -> Vec<String> {
        if self.durable {
            return Vec::new();
        }
        vec!["Q201 no-data-dir: revocations end with this process; set store.data_dir".to_owned()]
    }
}

/// Writes a revocation, to disk first. The lock on the disk makes the order of both the same, and the clock is read under
/// it: a subject's revocation that waited for its turn covers what was issued until it is in force.
fn keep(
    held: &RwLock<HashMap<Box<str>, Entry>>,
    disk: &mut Disk,
    revocation: &Revocation,
    clock: &StoreClock,
) -> Result<bool, StoreError> {
    let now = clock.now();
    let name = match &revocation.target {
        Target::TokenId(id) => name(&revocation.issuer, "id", id),
        Target::Subject(subject) => name(&revocation.issuer, "sub", subject),
    };
    let until = match revocation.keep {
        Keep::Until(until) => until,
        Keep::For(span) => now.plus(span),
    };
    // It is over before it begins, as its token is. Kept, it would come to life when the clock jumps back, and only here.
    if until <= now {
        return Ok(true);
    }
    clear(held, disk, now)?;
    let before = held.read().get(name.as_str()).copied().filter(|entry| entry.until > now);
    if before.is_none() && held.read().len() >= MAX_REVOCATIONS {
        return Err(StoreError::Refused(format!("{MAX_REVOCATIONS} revocations are kept already")));
    }
    let entry = Entry {
        moment: before.map_or(now, |before| before.moment.max(now)),
        until: before.map_or(until, |before| before.until.max(until)),
    };
    let newly = match (&revocation.target, before) {
        (_, None) => true,
        (Target::TokenId(_), Some(_)) => false,
        (Target::Subject(_), Some(before)) => entry.moment.seconds() > before.moment.seconds(),
    };
    if let Some(database) = &disk.database {
        write(database, &name, entry).map_err(|error| StoreError::Disk(error.to_string()))?;
    }
    held.write().insert(name.into(), entry);
    Ok(newly)
}

/// Drops what is over, from memory and disk, once in a while.
fn clear(held: &RwLock<HashMap<Box<str>, Entry>>, disk: &mut Disk, now: Moment) -> Result<(), StoreError> {
    if held.read().len() < disk.cleared_at.saturating_add(CLEAR_EVERY) {
        return Ok(());
    }
    let mut gone = Vec::new();
    held.write().retain(|name, entry| {
        let keep = entry.until.plus(MARGIN) > now;
        if !keep {
            gone.push(name.clone());
        }
        keep
    });
    disk.cleared_at = held.read().len();
    match &disk.database {
        Some(database) => remove(database, &gone).map_err(|error| StoreError::Disk(error.to_string())),
        None => Ok(()),
    }
}

/// The name of an entry, in memory and on disk.
fn name(issuer: &str, kind: &str, value: &str) -> String {
    // The length says where the issuer ends, so no two pairs share a name.
    format!("{}:{issuer}:{kind}:{value}", issuer.len())
}

/// Commits one entry; redb returns when it is on disk.
fn write(database: &Database, name: &str, entry: Entry) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?.insert(name, (entry.moment.0, entry.until.0))?;
    transaction.commit()?;
    Ok(())
}

/// Forgets entries that are over, in one commit.
fn remove(database: &Database, names: &[Box<str>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for name in names {
            table.remove(&**name)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Makes the folder when it is absent, takes its lock, and reads what it holds.
fn load(path: &Path) -> Result<(Database, HashMap<Box<str>, Entry>), DataDirError> {
    let file = path.join("revocations.redb");
    make_private(path, &file).map_err(|source| DataDirError::Folder { path: path.to_owned(), source })?;
    let database = Database::create(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => DataDirError::InUse(path.to_owned()),
        other => DataDirError::Database { path: path.to_owned(), why: other.to_string() },
    })?;
    let held = read_all(&database)
        .map_err(|error| DataDirError::Database { path: path.to_owned(), why: error.to_string() })?;
    Ok((database, held))
}

/// Makes the file its owner's alone before anything is in it, and one that others may read as well: it names subjects and
/// tokens, and who writes it makes revoked tokens good again. A folder that is there already may hold what others need.
fn make_private(folder: &Path, file: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)?;
    let permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Every entry. The table is made first, so that an empty file reads as no entries.
fn read_all(database: &Database) -> Result<HashMap<Box<str>, Entry>, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    let mut held = HashMap::new();
    for row in database.begin_read()?.open_table(TABLE)?.iter()? {
        let (name, value) = row?;
        let (moment, until) = value.value();
        held.insert(name.value().into(), Entry { moment: Moment(moment), until: Moment(until) });
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_700_000_000_500_000);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn at(now: Moment) -> StoreClock {
        StoreClock::Manual(Arc::new(std::sync::atomic::AtomicU64::new(now.0)))
    }

    fn by_id(id: &str, until: Moment) -> Revocation {
        Revocation { issuer: "iss".into(), target: Target::TokenId(id.into()), keep: Keep::Until(until) }
    }

    fn probe(id: &str, issued_at: Option<u64>) -> Probe {
        Probe {
            issuer: "iss".into(),
            token_id: Some(id.into()),
            subject: Some("alice".into()),
            issued_at,
            foreign_key: None,
        }
    }

    #[tokio::test]
    async fn a_revocation_outlives_the_process_and_ends_with_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let until = NOW.plus(Micros::from_seconds(60));
        {
            let revocations = Revocations::open(Some(folder.path())).unwrap();
            assert!(revocations.revoke(by_id("t1", until), at(NOW), PATIENCE).await.unwrap());
            assert!(!revocations.revoke(by_id("t1", until), at(NOW), PATIENCE).await.unwrap());
            assert!(matches!(Revocations::open(Some(folder.path())), Err(DataDirError::InUse(_))));
        }
        let again = Revocations::open(Some(folder.path())).unwrap();
        assert!(again.refuses(&probe("t1", None), NOW));
        assert!(!again.refuses(&probe("t2", None), NOW));
        assert!(!again.refuses(&probe("t1", None), until));
    }

    #[test]
    fn the_file_is_its_owners_alone_and_a_wider_one_becomes_so() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let data_dir = folder.path().join("made").join("by-us");
        drop(Revocations::open(Some(&data_dir)).unwrap());
        let file = data_dir.join("revocations.redb");
        assert_eq!((mode(&file), mode(&data_dir)), (0o600, 0o700));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(Revocations::open(Some(&data_dir)).unwrap());
        assert_eq!((mode(&file), mode(&data_dir)), (0o600, 0o755));
    }

    #[tokio::test]
    async fn a_subject_revocation_refuses_what_was_issued_up_to_then() {
        let revocations = Revocations::open(None).unwrap();
        let revocation = Revocation {
            issuer: "iss".into(),
            target: Target::Subject("alice".into()),
            keep: Keep::For(Micros::from_seconds(3_600)),
        };
        assert!(revocations.revoke(revocation.clone(), at(NOW), PATIENCE).await.unwrap());
        assert!(revocations.refuses(&probe("x", Some(1_700_000_000)), NOW));
        assert!(!revocations.refuses(&probe("x", Some(1_700_000_001)), NOW));
        assert!(revocations.refuses(&probe("x", None), NOW));
        assert!(
            !revocations.revoke(revocation.clone(), at(NOW.plus(Micros(1))), PATIENCE).await.unwrap(),
            "the same second"
        );
        assert!(revocations.revoke(revocation, at(NOW.plus(Micros::SECOND)), PATIENCE).await.unwrap());
    }

    #[tokio::test]
    async fn a_caller_that_left_before_its_turn_at_the_disk_revokes_nothing_and_waits_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(Some(folder.path())).unwrap();
        let (disk, (release, released)) = (Arc::clone(&revocations.disk), std::sync::mpsc::channel::<()>());
        let (hold, held) = tokio::sync::oneshot::channel();
        let slow = std::thread::spawn(move || {
            let _disk = disk.lock();
            hold.send(()).unwrap();
            released.recv().unwrap();
        });
        held.await.unwrap();
        let until = NOW.plus(Micros::from_seconds(60));
        let short = Duration::from_millis(20);
        let late = revocations.revoke(by_id("late", until), at(NOW), short).await;
        assert_eq!(late, Err(StoreError::Timeout(short)));
        release.send(()).unwrap();
        slow.join().unwrap();
        assert!(revocations.revoke(by_id("next", until), at(NOW), PATIENCE).await.unwrap());
        // The late one's turn has come and gone when nobody else holds the disk.
        let gone = async {
            while Arc::strong_count(&revocations.disk) > 1 {
                // A poll of a condition with a deadline.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        assert!(!revocations.refuses(&probe("late", None), NOW));
        assert!(revocations.refuses(&probe("next", None), NOW));
    }

    #[tokio::test]
    async fn no_patience_at_all_revokes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(Some(folder.path())).unwrap();
        let until = NOW.plus(Micros::from_seconds(60));
        let late = revocations.revoke(by_id("late", until), at(NOW), Duration::ZERO).await;
        assert_eq!(late, Err(StoreError::Timeout(Duration::ZERO)));
        // Without a deadline there is no end to the wait, and no overflow.
        assert!(revocations.revoke(by_id("next", until), at(NOW), Duration::MAX).await.unwrap());
        assert!(!revocations.refuses(&probe("late", None), NOW));
    }
}
