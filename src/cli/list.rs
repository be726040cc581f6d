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
    pub fn list(&self, context: &Context) -> Result<()> {
        if self.quiet {
            for id in context.store.ids()? {
                println!("{id}");
            }
            return Ok(());
        }
        let states = list::list(context)?;
        match self.format {
            Format::Table => print!("{}", list::table(&states)),
            // runc prints an empty list as null.
            Format::Json if states.is_empty() => print!("null"),
            Format::Json => print!("{}", serde_json::to_string(&states)?),
        }
        Ok(())
    }
}
