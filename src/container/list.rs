//! `list`: all containers below `--root`.

use super::Context;
use super::state::{State, describe};
use super::status::Status;
use super::store::NotFound;
use crate::error::{Result, one_line};

/// The state of every container; damaged ones are warned about.
///
/// # Errors
/// When the root cannot be read.
pub fn list(context: &Context) -> Result<Vec<State>> {
    let mut all = Vec::new();
    for id in context.store.ids()? {
        match context.store.record(&id) {
            Ok(record) => all.push(describe(&record, Status::of(&record, &context.store.dir(&id)))),
            // Deleted while the list was made.
            Err(error) if error.is::<NotFound>() => {}
            Err(error) => context.log.warn(&format!("{id}: {}", one_line(&error))),
        }
    }
    Ok(all)
}

/// runc's table.
pub fn table(states: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: &State| {
        let State { id, pid, status, bundle, created, owner, .. } = state;
        [
            id.clone(),
            pid.to_string(),
            (*status).to_owned(),
            bundle.display().to_string(),
            created.clone(),
            owner.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(states.iter().map(row)).collect();
    let mut table = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            table.push_str(cell);
            if column + 1 < row.len() {
                let widest = rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
                let width = (widest + 3).max(12);
                table.extend(std::iter::repeat_n(' ', width - cell.len()));
            }
        }
        table.push('\n');
    }
    table
}
