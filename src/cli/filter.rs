//! The log filter as the caller writes it: `debug`, `towncrier::log=debug`, or several of these joined by commas.
//!
//! `tracing_subscriber` takes a word that is no level for the name of a module, and then logs nothing from other modules. A
//! misspelt level would therefore switch off the whole log, errors included. So an unknown level is refused here, and
//! modules that the caller does not mention keep the command's own level.

use std::str::FromStr;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// A checked filter. An empty text changes nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter(String);

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Spans and their fields may hold commas. The library parses them.
        if text.contains('[') {
            EnvFilter::try_new(text).map_err(|error| error.to_string())?;
            return Ok(Self(text.into()));
        }
        let parts: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        for part in &parts {
            let level = part.split_once('=').map_or(*part, |(_, level)| level);
            if level.is_empty() || level.parse::<LevelFilter>().is_err() {
                return Err(format!(
                    "{level:?} is no level: say off, error, warn, info, debug or trace, or one of them for a part of the \
                     program, as in towncrier::log=debug"
                ));
            }
        }
        let text = parts.join(",");
        EnvFilter::try_new(&text).map_err(|error| error.to_string())?;
        Ok(Self(text))
    }
}

impl Filter {
    /// The filter, with `level` for all modules that it does not mention.
    pub(super) fn over(&self, level: &str) -> EnvFilter {
        // If two levels name the same module, the later one counts.
        EnvFilter::new(format!("{level},{}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        for (text, named) in [
            ("warning", "warning"),
            ("verbose", "verbose"),
            ("info;debug", "info;debug"),
            ("info debug", "info debug"),
            ("info,towncrier", "towncrier"),
            ("towncrier=loud", "loud"),
            ("towncrier=", ""),
        ] {
            let refused = text.parse::<Filter>().expect_err(text);
            assert!(
                refused.starts_with(&format!("{named:?} is no level")),
                "{refused}"
            );
        }
        assert!("[span{".parse::<Filter>().is_err());
    }

    #[test]
    fn what_a_filter_does_not_mention_keeps_the_commands_level() {
        let over_info = |text: &str| {
            let filter = text.parse::<Filter>().expect(text).over("info").to_string();
            let mut parts: Vec<_> = filter.split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(over_info(""), ["info"]);
        assert_eq!(over_info(" , "), ["info"]);
        assert_eq!(over_info("WARN"), ["warn"]);
        assert_eq!(over_info("off"), ["off"]);
        assert_eq!(
            over_info("towncrier::log=debug"),
            ["info", "towncrier::log=debug"]
        );
        assert_eq!(over_info("error, sled=off"), ["error", "sled=off"]);
    }
}
