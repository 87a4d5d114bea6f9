//! Which queues somebody may see.

use crate::error::Result;
use crate::host::relation;
use crate::queue::registry::{self, QueueRow};

/// The queues on which the current user may SELECT at least one column, with their names for people to read.
pub fn visible() -> Result<Vec<(QueueRow, String)>> {
    let mut seen = Vec::new();
    for row in registry::all_queues()? {
        if relation::may_read_some_column(row.table) {
            let name = relation::display_name(row.table);
            seen.push((row, name));
        }
    }
    Ok(seen)
}
