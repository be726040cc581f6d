//! `spec`.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::bail;

use crate::error::{Result, Why};
use crate::spec::defaults;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write config.json into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a normal user: with a user namespace
    #[arg(long)]
    rootless: bool,
}

impl Args {
    #[inline(never)]
    pub fn write(&self) -> Result<()> {
        let text = defaults::text(&defaults::spec(self.rootless)?)?;
        let path = self.bundle.join("config.json");
        let mut file = match File::options().write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                bail!("File config.json exists. Remove it first")
            }
            other => other.why(|| format!("--bundle: {path:?}"))?,
        };
        file.write_all(text.as_bytes()).why(|| format!("writing {path:?}"))
    }
}
