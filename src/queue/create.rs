//! Making and dropping queue tables. The DDL runs as the caller, who owns what it makes, with a pinned search_path.

use pgrx::pg_sys;

use super::adopt;
use super::catalog;
use super::definition::{Filling, INDEXES, TRIGGERS};
use super::name::{quoted, QueueName};
use super::registry::{self, Home, QueueRow};
use super::settings::{OnComplete, QueueSettings};
use crate::error::{Error, Result};
use crate::guc;
use crate::host::identity::{Settings, PINNED_PATH};
use crate::host::spi::{connected, once};

const CURRENT_SCHEMA: &str = "SELECT pg_catalog.current_schema()::pg_catalog.text";
/// Conflicts with itself, but with no ordinary change of the registry.
const LOCK_REGISTRY: &str = "LOCK TABLE qflow.queue IN SHARE UPDATE EXCLUSIVE MODE";

/// What `create_queue` is to make.
pub struct Wanted {
    /// Its name.
    pub name: QueueName,
    /// Its settings.
    pub settings: QueueSettings,
    /// What an ack does.
    pub on_complete: OnComplete,
}

/// Keeps other sessions from making queues until this transaction ends: of eight that make the same one at a moment,
/// one makes it and the others find it.
pub fn lock_registry() -> Result<()> {
    registry::as_owner(|| connected(|spi| once(spi, LOCK_REGISTRY, &[]).map(|_| ())))
}

/// The table that is to be adopted, locked, if there is one. 42710 when it is a queue already. Called before the registry
/// is locked: whoever keeps the table busy may himself make a queue.
pub fn lock_table(wanted: &Wanted) -> Result<Option<pg_sys::Oid>> {
    let schema = target_schema(&wanted.name)?;
    refuse_schema(&schema)?;
    let Some(table) = wanted.name.find_in(&schema) else {
        return Ok(None);
    };
    refuse_queue(table, &wanted.name)?;
    adopt::inspect(table)?;
    adopt::lock(table)?;
    Ok(Some(table))
}

/// Makes the table, or adopts the one that `lock_table` found, and registers it; the caller holds the registry's lock and
/// found no such queue.
pub fn create(wanted: &Wanted, existing: Option<pg_sys::Oid>) -> Result<QueueRow> {
    let schema = target_schema(&wanted.name)?;
    let find = || wanted.name.find_in(&schema);
    // While the locks were waited for, it may have been made, renamed or replaced.
    let found = find();
    if let Some(table) = found {
        refuse_queue(table, &wanted.name)?;
    }
    if found != existing {
        return Err(Error::not_ready(format!("\"{}\" is another table than before", wanted.name)).hint("Try again."));
    }
    let number = registry::next_number()?;
    let name = format!("{}.{}", quoted(&schema), quoted(&wanted.name.table));
    let filling = Filling { table: &name, number, max_bytes: guc::max_payload_bytes() };
    match existing {
        Some(table) => adopt::complete(table, &filling)?,
        None => make_table(&filling)?,
    }
    let row = QueueRow {
        number,
        table: find()
            .filter(|found| existing.is_none_or(|table| table == *found))
            .ok_or_else(|| Error::not_ready("the table was moved away meanwhile").hint("Try again."))?,
        adopted: existing.is_some(),
        paused: false,
        settings: wanted.settings.clone(),
        on_complete: wanted.on_complete,
        // What stands in a table that was there may be of another database: it is looked through first.
        home: if existing.is_some() { Home::Adopted } else { Home::Here },
    };
    registry::add_queue(&row)?;
    Ok(row)
}

/// The schema in which a queue of this name is made: the one named, else the current one.
pub fn target_schema(name: &QueueName) -> Result<String> {
    match &name.schema {
        Some(schema) => Ok(schema.clone()),
        None => current_schema(),
    }
}

fn make_table(filling: &Filling) -> Result<()> {
    let indexes = INDEXES.iter().map(|index| filling.create_index(index));
    let triggers = TRIGGERS.iter().flat_map(|trigger| filling.create_trigger(trigger));
    run_all(std::iter::once(filling.create_table()).chain(indexes).chain(triggers))
}

/// Runs statements one after the other, as the caller, with a pinned search_path.
pub fn run_all(statements: impl Iterator<Item = String>) -> Result<()> {
    let _pinned = Settings::change(&[PINNED_PATH]);
    connected(|spi| {
        for sql in statements {
            once(spi, &sql, &[])?;
        }
        Ok(())
    })
}

fn current_schema() -> Result<String> {
    let schema = connected(|spi| match once(spi, CURRENT_SCHEMA, &[])?.first() {
        Some(row) => row.text(1),
        None => Ok(None),
    })?;
    schema.ok_or_else(|| {
        Error::unknown("no schema has been selected to create the queue in")
            .hint("Name a schema (myschema.jobs), or set search_path.")
    })
}

fn refuse_schema(schema: &str) -> Result<()> {
    let system = ["pg_catalog", "information_schema", "pg_toast", "qflow"].contains(&schema)
        || schema.starts_with("pg_temp")
        || schema.starts_with("pg_toast_temp");
    if system {
        return Err(
            Error::not_adoptable(format!("a queue cannot be in schema \"{schema}\"")).hint("Use a schema of your own.")
        );
    }
    Ok(())
}

fn refuse_queue(table: pg_sys::Oid, name: &QueueName) -> Result<()> {
    match registry::queue_of(table)? {
        Some(_) => Err(Error::exists(format!("queue \"{name}\" already exists"))
            .hint("Pass if_not_exists => true to accept it as it is.")),
        None => Ok(()),
    }
}

/// Drops the table of a queue as the caller.
pub fn drop_table(name: &str) -> Result<()> {
    run_all(std::iter::once(format!("DROP TABLE {name}")))
}

/// Takes qflow's triggers and default off a table that stays behind, so that it is an ordinary table again.
pub fn release_table(table: pg_sys::Oid, name: &str) -> Result<()> {
    let found = catalog::triggers(table)?;
    let ours = TRIGGERS.iter().filter(|trigger| found.iter().any(|found| found.name == trigger.name));
    let drop = ours.map(|trigger| format!("DROP TRIGGER {} ON {name}", trigger.name));
    let has_counter = catalog::columns(table)?.iter().any(|column| column.name == "enqueued_xid");
    let reset = has_counter.then(|| format!("ALTER TABLE {name} ALTER COLUMN enqueued_xid DROP DEFAULT"));
    run_all(drop.chain(reset))
}
