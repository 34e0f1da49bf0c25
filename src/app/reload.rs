//! Policies are reloaded whole: on SIGHUP, and when the file or a key file changes.
//!
//! Promise: a bad file changes nothing and is logged with its line and hint; a good one is swapped in at once, and
//! counters go on, because they follow the policies' names.

use super::health::Health;
use super::rate_limits::{Asked, Directory};
use super::standing::Part;
use super::{AppError, live, located};
use crate::config::{self, Config, Fingerprint, Source};
use crate::service::Live;
use crate::shutdown::{Hangups, Stop, spawn_lasting, spawn_local};
use crate::token::{Keys, Verifier};
use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A change is read when nothing has changed for this long: editors and volume mounts write in several steps.
const SETTLE: Duration = Duration::from_millis(200);
/// Steps of one change that are waited for.
const MOST_STEPS: usize = 20;
/// Files are looked at this often too: some mounts tell nobody of a change.
const POLL: Duration = Duration::from_secs(30);

struct Reloader {
    source: Source,
    config: Config,
    directory: Directory,
    live: Arc<ArcSwap<Live>>,
    stop: Stop,
    health: Health,
    seen: Vec<(PathBuf, Option<Fingerprint>)>,
}

/// Starts watching. Says how many key sets from URLs are fetched, each a part of what has to stand.
pub(super) fn start(
    source: Source,
    (config, directory): (Config, Directory),
    live: Arc<ArcSwap<Live>>,
    (stop, health, part): (&Stop, Health, Part),
) -> Result<usize, AppError> {
    let hangups = Hangups::listen()?;
    let stop = stop.clone();
    let mut reloader = Reloader { source, config, directory, live, stop, health, seen: Vec::new() };
    reloader.seen = reloader.look();
    let key_sets = reloader.refresh_key_sets(Some(&part));
    let stop = reloader.stop.clone();
    spawn_lasting("reload", &stop, reloader.run(hangups));
    Ok(key_sets)
}

impl Reloader {
    async fn run(mut self, mut hangups: Hangups) {
        let (changed, mut changes) = mpsc::channel(1);
        let mut folders = self.folders();
        let mut watcher = watch(&folders, changed);
        self.refresh_directory(Asked::No);
        loop {
            self.health.limits(&self.config, self.directory.limits()).await;
            let asked = tokio::select! {
                () = hangups.next() => Asked::Yes,
                Some(()) = changes.recv() => {
                    settle(&mut changes).await;
                    Asked::No
                }
                () = tokio::time::sleep(POLL) => Asked::No,
            };
            let seen = self.look();
            if asked == Asked::Yes || seen != self.seen {
                self.seen = seen;
                self.reload();
            }
            self.refresh_directory(asked);
            let now = self.folders();
            if watcher.is_none() || folders != now {
                let (changed, again) = mpsc::channel(1);
                changes = again;
                folders = now;
                watcher = watch(&folders, changed);
                // What changed before the new watcher was there has told nobody.
                self.refresh_directory(Asked::No);
            }
        }
    }

    fn refresh_directory(&mut self, asked: Asked) {
        if self.directory.refresh(&self.config, asked) {
            let verifier = Arc::clone(&self.live.load().verifier);
            self.live.store(Arc::new(live(&self.config, verifier, self.directory.limits())));
        }
    }

    fn reload(&mut self) {
        let config = match config::load(&self.source) {
            Ok(config) => config,
            Err(mistakes) => {
                tracing::error!("the configuration was not reloaded; the old one stays\n{mistakes}");
                return;
            }
        };
        let current = self.live.load_full();
        let verifier = if config.issuers == self.config.issuers {
            let reload = current.verifier.reload_files();
            for diagnostic in located(&config, reload.mistakes) {
                tracing::error!("keys were not reloaded; the old ones stay\n{diagnostic}");
            }
            Arc::clone(&current.verifier)
        } else {
            match current.verifier.rebuild(config.issuers.clone(), Keys::Make) {
                Ok(verifier) => Arc::new(verifier),
                Err(mistakes) => {
                    for diagnostic in located(&config, mistakes) {
                        tracing::error!(
                            "the configuration was not reloaded; the old one stays\n{diagnostic}"
                        );
                    }
                    return;
                }
            }
        };
        let rebuilt = !Arc::ptr_eq(&verifier, &current.verifier);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let late = self.config.restart_needed(&config);
        if !late.is_empty() {
            tracing::warn!(keys = late.join(", "), "these take effect at the next start");
        }
        self.live.store(Arc::new(live(&config, verifier, self.directory.limits())));
        tracing::info!("reloaded {}: {}", config.name(), config.summary());
        self.config = config;
        self.seen = self.look();
        if rebuilt {
            self.refresh_key_sets(None);
        }
    }

    /// Key sets from URLs, for as long as their verifier is in force; how many. At the start, each stands when it is here.
    fn refresh_key_sets(&self, part: Option<&Part>) -> usize {
        let verifier: Arc<Verifier> = Arc::clone(&self.live.load().verifier);
        let refreshers = verifier.refreshers();
        let count = refreshers.len();
        for refresher in refreshers {
            let refresher = match part.cloned() {
                Some(part) => refresher.telling(|| part.stands()),
                None => refresher,
            };
            let stop = self.stop.clone();
            spawn_local(async move {
                tokio::select! {
                    () = refresher.run() => {}
                    () = stop.draining() => {}
                }
            });
        }
        count
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let keys = self.live.load().verifier.watched_files();
        self.source.path().map(PathBuf::from).into_iter().chain(keys).collect()
    }

    /// The folders of all files: a file that is replaced is seen in its folder only.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let folder = |file: &PathBuf| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let directory = self.directory.watched();
        // A link that is swapped is another folder under the same name.
        let real = directory.iter().filter_map(|folder| folder.canonicalize().ok());
        self.files().iter().map(folder).chain(real).chain(directory.clone()).collect()
    }

    fn look(&self) -> Vec<(PathBuf, Option<Fingerprint>)> {
        self.files().into_iter().map(|file| (file.clone(), config::fingerprint(&file).ok())).collect()
    }
}

/// Watches folders; without a watcher the poll finds the change.
fn watch(folders: &BTreeSet<PathBuf>, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One that waits already stands for this one too.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told)
        .map_err(|error| tracing::warn!(%error, "files are not watched, only polled"))
        .ok()?;
    for folder in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "not watched, only polled");
        }
    }
    Some(watcher)
}

async fn settle(changes: &mut mpsc::Receiver<()>) {
    // A folder that never comes to rest must not put the reload off for ever.
    for _ in 0..MOST_STEPS {
        if !matches!(tokio::time::timeout(SETTLE, changes.recv()).await, Ok(Some(()))) {
            return;
        }
    }
}
