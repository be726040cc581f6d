//! `events`.

use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::container::id::ContainerId;
use crate::container::{Context, events};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often statistics are printed, such as 500ms, 5s or 1m
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: String,
    /// Print the statistics once
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl Args {
    #[inline(never)]
    pub fn events(&self, context: &Context) -> Result<()> {
        let id = ContainerId::new(&self.id)?;
        let interval = duration(&self.interval)?;
        if self.stats {
            return super::say(format_args!("{}\n", events::stats(context, &id)?));
        }
        events::stream(context, &id, interval)
    }
}

/// A length of time as Go writes it, of one unit.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("--interval {text:?} is not a duration such as 500ms, 5s or 1m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if number <= 0.0 {
        bail!("duration interval must be greater than 0");
    }
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        for text in ["", "5", "s", "5d", "0s", "-1s", "1e400h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
