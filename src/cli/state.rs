//! `state`.

use crate::container::id::ContainerId;
use crate::container::{Context, state};
use crate::error::Result;

/// Prints the state, indented by two spaces.
#[inline(never)]
pub fn print(context: &Context, id: &ContainerId) -> Result<()> {
    super::say(serde_json::to_string_pretty(&state::state(context, id)?)? + "\n")
}
