//! Durations as text: a whole number and one of `ms`, `s`, `m`, `h`, `d`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Every unit with its length in ms, longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Prints a duration as the file writes it, in the longest unit that divides it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct DurationText(pub(super) Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        let (unit, unit_ms) = UNITS
            .into_iter()
            .find(|(_, unit_ms)| ms != 0 && ms.is_multiple_of(*unit_ms))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", ms / unit_ms)
    }
}

pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&DurationText(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "{text:?} is not a duration such as 500ms, 10s, 5m, 2h or 30d"
        ))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        for ms in [
            0,
            1,
            500,
            1000,
            1500,
            60_000,
            90_000,
            3_600_000,
            86_400_000,
            172_800_000,
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(
                parse(&DurationText(duration).to_string()),
                Some(duration),
                "{ms}"
            );
        }
        assert_eq!(
            DurationText(Duration::from_secs(30 * 86_400)).to_string(),
            "30d"
        );
    }

    #[test]
    fn a_number_without_unit_and_a_unit_without_number_are_refused() {
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "10x",
            "99999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
