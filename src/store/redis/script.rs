//! The scripts, one a file, and the names by which Redis knows them.
//!
//! Scripts are static text: nothing of a request ever becomes code.
//!
//! A name is made from the text. So a script need not be loaded before its first call, and while two versions
//! of quotad share a Redis each runs its own.

use fred::bytes_utils::Str;
use fred::util::sha1_hash;

/// The line that reads the clock; a test may put another in its place. It must stand to the letter in each
/// script that a test times, comment and all, or the replacement would silently do nothing.
const CLOCK: &str = "local time = redis.call('TIME') -- the store's clock";

/// One script. A clone copies no text.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Its text, sent only when Redis does not know the name.
    pub(super) source: Str,
    /// Its name: the SHA-1 of the text in 40 hexadecimal digits. Redis chose the hash; nothing secret hangs on
    /// it.
    pub(super) sha: Str,
}

impl Script {
    /// With `clock_key`, time is the list of seconds and microseconds under that key, the shape that `TIME`
    /// has.
    fn new(source: &str, clock_key: Option<&str>) -> Self {
        let source = match clock_key {
            None => source.to_owned(),
            Some(key) => source.replace(CLOCK, &format!("local time = redis.call('LRANGE', '{key}', 0, 1)")),
        };
        Self { sha: sha1_hash(&source).into(), source: source.into() }
    }
}

/// All of them. Each decides by one reading of Redis's clock.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    /// A single ask on one counter: the call of a server that is not busy.
    pub(super) one: Script,
    /// Everything else that charges.
    pub(super) take: Script,
    /// Leases, many at once. It may run in a full Redis: a connection must not end because memory did.
    pub(super) renew: Script,
    /// One settlement.
    pub(super) settle: Script,
    /// One lease given back. It may run in a full Redis, for it makes room.
    pub(super) release: Script,
    /// One revocation. In a full Redis it fails, and the caller is told so.
    pub(super) revoke: Script,
    /// Who shares this Redis; it may run in a full one.
    pub(super) heartbeat: Script,
    /// Whether scripts run at all. It writes nothing.
    pub(super) probe: Script,
}

impl Scripts {
    /// The last two keep the real clock in tests as well: replicas live by it, and the probe is there to read
    /// it.
    pub(super) fn new(clock_key: Option<&str>) -> Self {
        Self {
            one: Script::new(include_str!("one.lua"), clock_key),
            take: Script::new(include_str!("take.lua"), clock_key),
            renew: Script::new(include_str!("renew.lua"), clock_key),
            settle: Script::new(include_str!("settle.lua"), clock_key),
            release: Script::new(include_str!("release.lua"), clock_key),
            revoke: Script::new(include_str!("revoke.lua"), clock_key),
            heartbeat: Script::new(include_str!("heartbeat.lua"), None),
            probe: Script::new(include_str!("probe.lua"), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::CLOCK_JUMP;

    #[test]
    fn the_scripts_and_the_engine_agree_on_what_is_a_jump() {
        let scripts = Scripts::new(None);
        let line = format!("local CLOCK_JUMP = {} -- of engine/units.rs\n", CLOCK_JUMP.0);
        for script in [&scripts.one, &scripts.take, &scripts.settle, &scripts.renew, &scripts.release] {
            assert_eq!(script.source.matches(&line).count(), 1);
        }
    }

    #[test]
    fn the_scripts_and_the_engine_agree_on_the_largest_debt() {
        let line = format!("local MAX_DEBT = {} -- of engine/bucket.rs\n", crate::engine::bucket::MAX_DEBT);
        assert_eq!(Scripts::new(None).settle.source.matches(&line).count(), 1);
    }

    #[test]
    fn every_script_of_the_store_reads_the_clock_once_and_declares_itself() {
        let real = Scripts::new(None);
        let tested = Scripts::new(Some("clock"));
        for (script, tested) in [
            (&real.one, &tested.one),
            (&real.take, &tested.take),
            (&real.renew, &tested.renew),
            (&real.settle, &tested.settle),
            (&real.release, &tested.release),
            (&real.revoke, &tested.revoke),
        ] {
            assert!(script.source.starts_with("#!lua"));
            assert_eq!(script.source.matches("'TIME'").count(), 1);
            assert_eq!(tested.source.matches("'TIME'").count(), 0);
            assert_eq!(script.sha.len(), 40);
        }
    }
}
