//! What is logged, and how: by environment and flags alone, because logging begins before the file is read.

use super::show;

/// The words for a format.
pub(super) const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines, one object a line.
    Json,
}

/// Logging as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or several `target=level` with commas.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// A filter: `info`, or `info,quotad::store=debug`.
pub(super) fn parse_filter(text: &str) -> Result<String, (String, String)> {
    let hint = "write error, warn, info, debug, trace or off, or with a target: info,quotad::store=debug";
    for part in text.split(',') {
        let (target, level) = part.trim().rsplit_once('=').unwrap_or(("quotad", part.trim()));
        let is_target = target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte));
        let is_level = LEVELS.contains(&level.to_ascii_lowercase().as_str());
        if !is_level || !is_target || target.is_empty() {
            return Err((format!("{} is no level of logging", show(part.trim())), hint.to_owned()));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_with_or_without_a_target() {
        for good in ["info", "DEBUG", "off", "warn,quotad::store=trace", "info, h2=error"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,", "=info", "a b=info", "quotad=7"] {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }
}
