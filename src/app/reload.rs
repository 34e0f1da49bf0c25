//! Policies are reloaded whole: on SIGHUP, and when the file, a key file or the directory of rate limits changes.
//!
//! Promise: a bad file changes nothing and is logged with its line and hint; a good one is swapped in at once, and
//! counters go on, because they follow the policies' names. A change is noticed however it is made, by one mechanism for
//! all of them: the system tells of changes in every folder on the way to what was read, all is looked at from outside
//! every [`LOOK`] because telling can be lost (an inode is gone, a mount tells nobody), and content is compared every
//! [`COMPARE`].
//!
//! Must never: take what it saw after reading for what it read. Looks and contents are noted before they are used, so that
//! a change in between is one more change.

use super::health::Health;
use super::rate_limits::{Asked, Directory};
use super::standing::Part;
use super::watch::{self, Look, Subjects, Watch};
use super::{AppError, live, located};
use crate::clock::monotonic;
use crate::config::{self, Config, Fingerprint, Source};
use crate::service::Live;
use crate::shutdown::{Hangups, Stop, spawn_lasting, spawn_local};
use crate::token::{Keys, Verifier};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A change is read when nothing has changed for this long: editors and volume mounts write in several steps.
const SETTLE: Duration = Duration::from_millis(200);
/// Steps of one change that are waited for.
const MOST_STEPS: usize = 20;
/// Files are looked at this often, without reading them: some mounts tell nobody of a change.
const LOOK: Duration = Duration::from_secs(1);
/// What they hold is compared this often: two writes in one tick of a file system's clock look like one.
const COMPARE: Duration = Duration::from_secs(30);
/// After something was told nothing is looked at for so long: a busy folder must not keep this task busy.
const QUIET: Duration = Duration::from_millis(50);
/// Times that the files are read again in a row because a reload named others, or they changed meanwhile.
const MOST_RELOADS: usize = 3;

struct Reloader {
    source: Source,
    config: Config,
    directory: Directory,
    live: Arc<ArcSwap<Live>>,
    stop: Stop,
    health: Health,
    seen: Vec<(PathBuf, Option<Fingerprint>)>,
    /// The configuration read last could not hold together with the directory, so another directory may heal it.
    at_odds: bool,
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
    let mut reloader =
        Reloader { source, config, directory, live, stop, health, seen: Vec::new(), at_odds: false };
    reloader.seen = reloader.contents();
    let key_sets = reloader.refresh_key_sets(Some(&part));
    let stop = reloader.stop.clone();
    spawn_lasting("reload", &stop, reloader.run(hangups));
    Ok(key_sets)
}

impl Reloader {
    async fn run(mut self, mut hangups: Hangups) {
        let (changed, mut changes) = mpsc::channel(1);
        let (mut watch, mut compared) = (Watch::default(), monotonic());
        // What the start has read was not looked at before it was read.
        let mut seen = Look::default();
        loop {
            let look = self.look().await;
            let due = look != seen || compared.elapsed() >= COMPARE;
            // A folder that was made again since is watched anew; what changed before that was told to nobody.
            let again = watch.arm(&look, &changed);
            if due {
                seen = self.settle(look).await;
                compared = monotonic();
                self.read_again(Asked::No);
                self.health.limits(&self.config, self.directory.limits()).await;
            }
            // It may have named other files, or taken so long that there are new changes.
            let pause = if due || again { Duration::ZERO } else { LOOK };
            tokio::select! {
                // First, for a folder that never rests must not keep anybody from asking.
                biased;
                () = hangups.next() => {
                    seen = self.look().await;
                    self.read_again(Asked::Yes);
                    self.health.limits(&self.config, self.directory.limits()).await;
                }
                Some(()) = changes.recv() => tokio::time::sleep(QUIET).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// How everything looks that was read; on a thread of its own, for a slow disk must not stop this one.
    async fn look(&self) -> Look {
        let folders = self.directory.watched().into_iter().collect();
        let subjects = Subjects { files: self.files().into_iter().collect(), folders };
        tokio::task::spawn_blocking(move || watch::look(&subjects)).await.unwrap_or_default()
    }

    /// The look at which all has come to rest.
    async fn settle(&self, mut look: Look) -> Look {
        // A folder that never comes to rest must not put the reload off for ever.
        for _ in 0..MOST_STEPS {
            tokio::time::sleep(SETTLE).await;
            let next = self.look().await;
            if next == look {
                break;
            }
            look = next;
        }
        look
    }

    /// Reads what has another content than before, or all of it when somebody asked.
    fn read_again(&mut self, mut asked: Asked) {
        let directory = asked;
        for _ in 0..MOST_RELOADS {
            let seen = self.contents();
            if asked == Asked::No && seen == self.seen {
                break;
            }
            asked = Asked::No;
            self.seen = seen;
            self.reload();
        }
        self.refresh_directory(directory);
    }

    fn refresh_directory(&mut self, asked: Asked) {
        if !self.directory.refresh(&self.config, asked) {
            return;
        }
        if self.at_odds {
            self.reload();
        }
        let verifier = Arc::clone(&self.live.load().verifier);
        self.live.store(Arc::new(live(&self.config, verifier, self.directory.limits())));
    }

    fn reload(&mut self) {
        self.at_odds = false;
        let config = match config::load(&self.source) {
            Ok(config) => config,
            Err(mistakes) => {
                tracing::error!("the configuration was not reloaded; the old one stays\n{mistakes}");
                return;
            }
        };
        let directory = match self.directory.beside(&config) {
            Ok(directory) => directory,
            Err(mistakes) => {
                self.at_odds = true;
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
        if let Some(changed) = self.config.changed_meaning(&config) {
            tracing::warn!("{changed}");
        }
        let late = self.config.restart_needed(&config);
        if !late.is_empty() {
            tracing::warn!(keys = late.join(", "), "these take effect at the next start");
        }
        self.directory = directory;
        self.live.store(Arc::new(live(&config, verifier, self.directory.limits())));
        tracing::info!("reloaded {}: {}", config.name(), config.summary());
        self.config = config;
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

    fn contents(&self) -> Vec<(PathBuf, Option<Fingerprint>)> {
        self.files().into_iter().map(|file| (file.clone(), config::fingerprint(&file).ok())).collect()
    }
}
