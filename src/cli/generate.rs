//! Shell completions and the manual page, from the same definition as the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::error::{Result, Why};

#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

impl CompletionArgs {
    pub fn print(&self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "orlop", &mut script);
        super::say(String::from_utf8_lossy(&script))
    }
}

/// Prints the manual page (roff) of orlop and all its commands.
pub fn man() -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).why(|| "rendering the manual page")?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let man = clap_mangen::Man::new(sub.clone());
        man.render_name_section(&mut page).why(|| "rendering the manual page")?;
        man.render_synopsis_section(&mut page).why(|| "rendering the manual page")?;
        man.render_options_section(&mut page).why(|| "rendering the manual page")?;
    }
    super::say(String::from_utf8_lossy(&page))
}
