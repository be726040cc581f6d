//! `plan`: the dry run.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use crate::container::Context;
use crate::container::create::{Request, new_record, plan_create};
use crate::container::id::ContainerId;
use crate::error::Result;
use crate::process::console::Target;
use crate::spec::Config;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle: a folder with config.json and the root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// The id that the container would have
    #[arg(value_name = "CONTAINER-ID", default_value = "ID")]
    id: String,
}

impl Args {
    #[inline(never)]
    pub fn print(&self, context: &Context) -> Result<()> {
        let id = ContainerId::new(&self.id)?;
        let config = Config::open(&self.bundle)?;
        let has_terminal = config.spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
        let mut request = Request::new(id, self.bundle.clone());
        request.terminal = has_terminal.then_some(Target::Foreground);
        let record = Rc::new(RefCell::new(new_record(&config, &request, &context.host)?));
        let plan = plan_create(&config, &record, &context.store.dir(&request.id), &request, &context.host)?;
        let warnings: String = config.warnings.iter().map(|warning| format!("warning  {warning}\n")).collect();
        super::say(format_args!("{warnings}{plan}"))
    }
}
