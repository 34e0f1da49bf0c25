//! What is wrong with a Redis before anything goes wrong: warnings with a code each.
//!
//! | code | means |
//! |---|---|
//! | Q101 | when memory is full, Redis drops counters, and their limits begin anew |
//! | Q102 | older than Redis 7.0: not tested, scripts may not run |
//! | Q103 | a known hole in the server's Lua (CVE-2025-49844) |
//! | Q104 | scripts may not run |
//! | Q105 | Redis's clock and this machine's differ by more than a second |
//!
//! Best effort: what cannot be found out is not warned about.
//!
//! Warnings never keep the process from starting: a limit that may be lost under pressure is better than none.

use crate::engine::units::{Micros, Moment};

/// A second is the grain of `iat` and `exp`: a smaller difference shifts what is refused by one step of them at
/// most.
const MAX_SKEW: Micros = Micros::SECOND;

/// `major.minor.patch`, compared field by field.
type Version = (u64, u64, u64);

/// What `INFO` says. Memory without a bound never evicts, so its policy does not matter; every policy but
/// `noeviction` can drop our keys, for all of them have an expiry.
///
/// Valkey gives the Redis version that it is compatible with as `redis_version`; its own comes first.
pub(super) fn info_warnings(info: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" && field(info, "maxmemory").is_some_and(|bytes| bytes != "0") {
        warnings.push(format!(
            "Q101 eviction: maxmemory-policy is {policy}, so a full Redis drops live counters and their limits begin \
             anew; set maxmemory-policy noeviction"
        ));
    }
    let valkey = field(info, "valkey_version");
    let Some(version) = valkey.or_else(|| field(info, "redis_version")) else { return warnings };
    let Some(number) = parse_version(version) else { return warnings };
    let product = if valkey.is_some() { "Valkey" } else { "Redis" };
    if number < (7, 0, 0) {
        warnings.push(format!("Q102 version: {product} {version} is older than 7.0; upgrade it"));
    }
    if has_lua_hole(number, valkey.is_some()) {
        warnings.push(format!(
            "Q103 lua: {product} {version} has CVE-2025-49844 unless its distributor mended it; upgrade it, and let \
             nobody else run scripts"
        ));
    }
    warnings
}

/// Whether the script that reads the clock ran, and what it read between `before` and `after`. Only what lies
/// outside of that span counts as skew: a slow answer is no wrong clock.
pub(super) fn clock_warning(read: Result<Moment, &str>, before: Moment, after: Moment) -> Option<String> {
    match read {
        Err(why) => Some(format!("Q104 scripts: a script may not run: {why}")),
        Ok(read) => {
            let skew = before.since(read).max(read.since(after));
            (skew > MAX_SKEW).then(|| {
                let seconds = skew.seconds_up();
                format!("Q105 clock: Redis's clock and this machine's differ by {seconds} seconds; synchronise them")
            })
        }
    }
}

/// Mended in Redis 7.2.11, 7.4.6, 8.0.4, 8.2.2 and Valkey 7.2.11, 8.0.6, 8.1.4; 7.0 and older never were.
///
/// Lines from 8 on that are not named count as mended, for they came later; older ones as not: a warning too
/// many costs a look, one too few a server.
fn has_lua_hole(version: Version, valkey: bool) -> bool {
    let (major, minor, patch) = version;
    let mended = match (valkey, major, minor) {
        (_, 7, 2) => 11,
        (false, 7, 4) => 6,
        (false, 8, 0) => 4,
        (false, 8, 2) => 2,
        (true, 8, 0) => 6,
        (true, 8, 1) => 4,
        (_, 8.., _) => 0,
        _ => u64::MAX,
    };
    patch < mended
}

/// One line of `INFO`. The colon belongs to the match, else `maxmemory` would find `maxmemory_policy`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// None without a major and a minor number. A patch that is no number (`0-rc1`) counts as 0, the oldest of its
/// line: rather a warning too many.
fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(info: &str) -> Vec<String> {
        info_warnings(info).iter().map(|warning| warning.chars().take(4).collect()).collect()
    }

    #[test]
    fn warns_of_eviction_only_where_memory_is_bounded() {
        let bounded = "redis_version:8.2.3\r\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(codes(bounded), ["Q101"]);
        assert!(codes(&bounded.replace("allkeys-lru", "noeviction")).is_empty());
        assert!(codes(&bounded.replace("maxmemory:1000", "maxmemory:0")).is_empty());
        assert_eq!(codes(&bounded.replace("allkeys-lru", "volatile-ttl")), ["Q101"]);
    }

    #[test]
    fn warns_of_old_servers_and_known_holes() {
        assert_eq!(codes("redis_version:6.2.5"), ["Q102", "Q103"]);
        assert_eq!(codes("redis_version:7.0.15"), ["Q103"]);
        assert_eq!(codes("redis_version:8.2.1"), ["Q103"]);
        assert!(codes("redis_version:8.2.2").is_empty());
        assert!(codes("redis_version:9.0.0").is_empty());
        assert_eq!(codes("redis_version:7.2.4\r\nvalkey_version:8.1.3"), ["Q103"]);
        assert!(codes("redis_version:7.2.4\r\nvalkey_version:8.1.4").is_empty());
        assert!(codes("nonsense").is_empty());
    }

    #[test]
    fn warns_of_a_clock_that_is_more_than_a_second_off_either_way() {
        let (before, after) = (Moment(10_000_000), Moment(10_500_000));
        assert_eq!(clock_warning(Ok(Moment(10_200_000)), before, after), None);
        assert_eq!(clock_warning(Ok(Moment(9_000_000)), before, after), None);
        assert!(clock_warning(Ok(Moment(8_999_999)), before, after).unwrap().starts_with("Q105"));
        assert!(clock_warning(Ok(Moment(11_500_001)), before, after).unwrap().starts_with("Q105"));
        assert!(clock_warning(Err("NOPERM"), before, after).unwrap().starts_with("Q104"));
    }
}
