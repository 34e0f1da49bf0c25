//! Where and how a run was made: numbers without it mean nothing.

use crate::Options;

/// One paragraph.
pub(crate) fn describe(options: &Options) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let profile = if cfg!(debug_assertions) { "WITHOUT optimisation, not for the record" } else { "release" };
    format!(
        "{} ({cores} cores), Linux {}, {profile}; {} rounds of {} s, medians; client with {} thread(s) on the same machine.\n",
        model(),
        first_word("/proc/sys/kernel/osrelease"),
        options.rounds,
        options.seconds,
        options.client_threads,
    )
}

fn model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

fn first_word(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().next().unwrap_or("unknown").to_owned()
}
