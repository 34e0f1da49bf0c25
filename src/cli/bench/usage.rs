//! Processor time of another process, from `/proc`.

use std::io;
use std::time::Duration;

/// The kernel reports times to programs in hundredths of a second (USER_HZ), whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);

/// Processor time that all threads of a process have used so far, ended ones included.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat looks strange"))
}

/// The fields `utime` and `stime` (proc(5): 14 and 15). The name in field 2 may hold spaces and brackets.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_user_and_system_time_past_a_hostile_name() {
        let stat = "123 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 8 0 123 456";
        assert_eq!(parse(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse("123 (x) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn sees_this_process_and_no_other() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
    }
}
