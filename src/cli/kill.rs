//! `kill`.

use super::quick::Words;
use crate::container::Context;
use crate::container::id::ContainerId;
use crate::container::kill::{Whom, kill, signal_number};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal every process of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// A signal's name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    signal: String,
}

impl Args {
    /// Reads a plain command line.
    pub fn plain(words: &mut Words<'_>) -> Option<Args> {
        let mut all = false;
        while let Some(flag) = words.flag() {
            match flag {
                "--all" | "-a" => all = true,
                _ => return None,
            }
        }
        let operands = words.operands()?;
        let (id, signal) = match operands.as_slice() {
            [id] => (*id, "SIGTERM"),
            [id, signal] => (*id, *signal),
            _ => return None,
        };
        Some(Args { all, id: id.to_owned(), signal: signal.to_owned() })
    }

    #[inline(never)]
    pub fn kill(&self, context: &Context) -> Result<()> {
        let whom = if self.all { Whom::All } else { Whom::Init };
        kill(context, &ContainerId::new(&self.id)?, signal_number(&self.signal)?, whom)
    }
}
