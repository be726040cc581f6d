//! `ps`.

use super::list::Format;
use crate::container::id::ContainerId;
use crate::container::{Context, ps};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// The container's id, then options of ps(1)
    #[arg(
        value_name = "CONTAINER-ID [PS OPTIONS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

impl Args {
    #[inline(never)]
    pub fn ps(&self, context: &Context) -> Result<()> {
        let Some((id, options)) = self.words.split_first() else { return Ok(()) };
        let id = ContainerId::new(id)?;
        match self.format {
            Format::Json => super::say(serde_json::to_string(&ps::pids(context, &id)?)?),
            Format::Table => super::say(ps::table(context, &id, options)?),
        }
    }
}
