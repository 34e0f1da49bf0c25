//! How much memory the embedded store may take.
//!
//! Unless configured: a quarter of what there is, which is the machine's memory or, where it is less, the limit of the process's
//! control group or of one above it (version 2 and 1). The other three quarters are for connections, messages and the system.
//!
//! Must never: keep a start from starting. What cannot be read is no limit.

use crate::config::MIN_MEMORY;
use std::fs::read_to_string;
use std::path::Path;

/// Where the system tells nothing: no more than a small machine has.
const UNKNOWN: u64 = 1 << 30;
/// The part of what there is that the store may take.
const PART: u64 = 4;

/// Most bytes of state.
pub(super) fn cap(configured: Option<u64>) -> usize {
    let cap = configured.unwrap_or_else(|| part(there_is(Path::new("/"))));
    usize::try_from(cap).unwrap_or(usize::MAX)
}

fn part(there_is: Option<u64>) -> u64 {
    (there_is.unwrap_or(UNKNOWN) / PART).max(MIN_MEMORY)
}

/// The smallest of all limits below a root of the file system.
fn there_is(root: &Path) -> Option<u64> {
    let groups = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => smallest_up(&root.join("sys/fs/cgroup"), path, "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                smallest_up(&root.join("sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.chain(machine(root)).min()
}

/// The smallest limit of a group and those above it. A container may see its own group as the root while its path is
/// the host's; then only the root is found, and that is the one.
fn smallest_up(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    // `max` stands for none.
    let limit = |group: &Path| read_to_string(mount.join(group).join(file)).ok()?.trim().parse().ok();
    group.ancestors().filter_map(limit).min()
}

/// The machine's memory.
fn machine(root: &Path) -> Option<u64> {
    let text = read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MIB: u64 = 1 << 20;

    /// A file system of these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_of_the_machine_and_every_group_up_the_tree() {
        let machine = ("proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\n");
        let v2 = ("proc/self/cgroup", "0::/pod/quotad\n");
        let v1 = ("proc/self/cgroup", "5:cpu,memory:/pod\n4:pids:/\n");
        for (files, mib) in [
            (vec![machine], 8_192),
            (vec![machine, v2, ("sys/fs/cgroup/pod/quotad/memory.max", "max\n")], 8_192),
            (vec![machine, v2, ("sys/fs/cgroup/pod/quotad/memory.max", "536870912\n")], 512),
            (
                vec![
                    machine,
                    v2,
                    ("sys/fs/cgroup/pod/quotad/memory.max", "max\n"),
                    ("sys/fs/cgroup/pod/memory.max", "1073741824\n"),
                ],
                1_024,
            ),
            (vec![machine, v2, ("sys/fs/cgroup/memory.max", "268435456\n")], 256),
            (vec![machine, v1, ("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "134217728\n")], 128),
            (
                vec![machine, v1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
                8_192,
            ),
        ] {
            assert_eq!(there_is(system(&files).path()), Some(mib * MIB), "{files:?}");
        }
        assert_eq!(there_is(system(&[]).path()), None);
    }

    #[test]
    fn a_quarter_and_never_less_than_can_be_configured() {
        assert_eq!(part(Some(8_192 * MIB)), 2_048 * MIB);
        assert_eq!(part(Some(32 * MIB)), MIN_MEMORY);
        assert_eq!(part(None), UNKNOWN / 4);
        assert_eq!(cap(Some(20 * MIB)), 20 << 20);
    }
}
