//! How the columns of a queue's table are typed, as far as statements depend on it: adopted tables may keep `timestamp`
//! columns without time zone, and a reason of limited length.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::relation;
use crate::queue::definition::COLUMNS;

/// What a `timestamp` without time zone is read and written as.
const ZONE: &str = " AT TIME ZONE pg_catalog.current_setting('qflow.naive_timezone')";

/// The types that matter, and the table's name.
pub struct Shape {
    name: String,
    inserted_is_naive: bool,
    updated_is_naive: bool,
    reason: String,
}

impl Shape {
    /// What is needed to write statements for a table; columns that are missing are none that any statement reads.
    pub fn of(table: pg_sys::Oid, name: &str) -> Self {
        let is_naive =
            |name| relation::column_type(table, name).is_some_and(|found| found.base == pg_sys::TIMESTAMPOID);
        let limit = relation::column_type(table, "failure_reason").and_then(|found| found.max_length());
        Self {
            name: name.to_owned(),
            inserted_is_naive: is_naive("inserted_at"),
            updated_is_naive: is_naive("updated_at"),
            reason: limit.map_or_else(|| "pg_catalog.text".to_owned(), |most| format!("pg_catalog.varchar({most})")),
        }
    }

    /// The same for a table that is to be used as a queue. 55000 when it is none any more, since a view's functions run as
    /// whoever reads it; and naming the first column that is missing, or is not of a type that it can be read as, since
    /// that would be reading random memory.
    pub fn checked(table: pg_sys::Oid, name: &str) -> Result<Self> {
        if !relation::is_table(table) {
            return Err(Error::not_ready(format!("queue {name} is no longer a table"))
                .hint("Its owner made it a view: drop the queue with qflow.drop_queue."));
        }
        for column in &COLUMNS {
            let fault = match relation::column_type(table, column.name) {
                Some(found) if column.types.contains(&found.base) => continue,
                Some(_) => format!("column \"{}\" of queue {name} is not of the type that qflow gave it", column.name),
                None => format!("queue {name} has no column \"{}\"", column.name),
            };
            return Err(Error::not_ready(fault).hint("Run qflow.verify on the queue: it says what to do."));
        }
        Ok(Self::of(table, name))
    }

    /// A statement for this table. `{q}` is the table; `{inserted_zone}` and `{updated_zone}` stand after what is read
    /// from or written to these columns; `{reason}` is the type of `failure_reason`.
    pub fn fill(&self, sql: &str) -> String {
        let zone = |is_naive: bool| if is_naive { ZONE } else { "" };
        sql.replace("{inserted_zone}", zone(self.inserted_is_naive))
            .replace("{updated_zone}", zone(self.updated_is_naive))
            .replace("{reason}", &self.reason)
            .replace("{q}", &self.name)
    }
}
