//! `list`.

use clap::ValueEnum;

use crate::container::{Context, list};
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    #[inline(never)]
    pub fn list(&self, context: &Context) -> Result<()> {
        if self.quiet {
            let ids = context.store.ids()?;
            return super::say(ids.iter().map(|id| format!("{id}\n")).collect::<String>());
        }
        let states = list::list(context)?;
        match self.format {
            Format::Table => super::say(list::table(&states)),
            // runc prints an empty list as null.
            Format::Json if states.is_empty() => super::say("null"),
            Format::Json => super::say(serde_json::to_string(&states)?),
        }
    }
}
