//! `kill`.

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
    pub fn kill(&self, context: &Context) -> Result<()> {
        let whom = if self.all { Whom::All } else { Whom::Init };
        kill(context, &ContainerId::new(&self.id)?, signal_number(&self.signal)?, whom)
    }
}
