//! Adopting a table that is there: every row, every object of its owner stays; what a queue needs besides is added under
//! one lock, and nothing is rewritten.

use pgrx::pg_sys;

use super::catalog;
use super::create::run_all;
use super::definition::{Filling, TRIGGERS};
use super::{gaps, survey};
use crate::error::{self, Error, Level, Result};
use crate::guc;
use crate::host::spi::{connected, once_latest};
use crate::host::{identity, relation};
use crate::job::lease;

/// Refuses what cannot become a queue: 42501 for a table of somebody else, 42809 for what is no ordinary table or lacks
/// what nobody can add, 42804 for a column of another type, 22023 for a time zone that does not exist where one is
/// needed. Changes and locks nothing.
pub fn inspect(table: pg_sys::Oid) -> Result<()> {
    let name = relation::display_name(table);
    let cannot = |why: &str| Error::not_adoptable(format!("{name} cannot become a queue: {why}"));
    let facts = catalog::table(table)?.ok_or_else(|| Error::not_ready(format!("{name} has just been dropped")))?;
    if let Some((why, hint)) = refusal(&facts) {
        return Err(cannot(&why).hint(hint));
    }
    if !relation::is_owned(table) {
        return Err(Error::denied(format!("must be owner of table {name}"))
            .hint("Its owner can make it a queue. To make a new queue choose another name."));
    }
    if !relation::owner_may_enter(table) || !relation::owner_may_create(table) {
        let schema = relation::display_schema(table);
        return Err(Error::denied(format!("the owner of {name} may not make indexes in its schema")).hint(format!(
            "GRANT USAGE, CREATE ON SCHEMA {schema} to the owner; CREATE can be taken back afterwards."
        )));
    }
    let columns = catalog::columns(table)?;
    let missing = gaps::missing_columns(&columns).into_iter().filter(|column| column.is_required);
    let mut faults: Vec<String> = missing.map(|column| format!("it has no column {}", column.name)).collect();
    if let Some(wrong) = gaps::wrong_columns(&columns, &name).first().filter(|_| faults.is_empty()) {
        return Err(Error::wrong_type(format!(
            "{name} cannot become a queue: its column {} {}",
            wrong.column.name, wrong.fault
        ))
        .hint(wrong.remedy.clone()));
    }
    if columns.iter().any(|column| column.name == "id") {
        faults.extend(
            gaps::key_faults(&columns, &catalog::indexes(table)?, &name).iter().map(|key| key.fault.to_owned()),
        );
    }
    match faults.is_empty() {
        true if gaps::naive_columns(&columns).is_empty() => Ok(()),
        true => survey::check_zone(&guc::naive_timezone()),
        false => Err(cannot(&faults.join(", ")).hint(
            "A queue's table has id (integer or bigint, unique, NOT NULL, with a default), data jsonb and a text status. \
             To make a new queue choose another name.",
        )),
    }
}

/// Why a relation of this kind cannot be a queue, and what to do.
pub fn refusal(table: &catalog::Table) -> Option<(String, &'static str)> {
    const ORDINARY: &str = "Only an ordinary table can be a queue: copy the rows into one.";
    let kind = match table.kind.as_str() {
        "r" => None,
        "v" => Some("it is a view"),
        "m" => Some("it is a materialized view"),
        "p" => Some("it is a partitioned table"),
        "f" => Some("it is a foreign table"),
        "S" => Some("it is a sequence"),
        _ => Some("it is not a table"),
    };
    if let Some(kind) = kind {
        return Some((kind.to_owned(), ORDINARY));
    }
    if table.is_partition {
        return Some(("it is a partition".to_owned(), "Detach it first, or copy its rows into an ordinary table."));
    }
    if table.has_parents || table.has_children {
        let why = if table.has_parents { "it inherits from another table" } else { "other tables inherit from it" };
        return Some((why.to_owned(), "End the inheritance first (ALTER TABLE ... NO INHERIT ...)."));
    }
    match table.persistence.as_str() {
        "u" => return Some(("it is unlogged".to_owned(), "A crash would empty it. ALTER TABLE ... SET LOGGED first.")),
        "t" => return Some(("it is temporary".to_owned(), "Other sessions cannot see it: use a permanent table.")),
        _ => {}
    }
    if table.method != "heap" {
        return Some((format!("its access method is {}", table.method), "A queue needs the access method heap."));
    }
    let extension = table.extension.as_ref()?;
    Some((
        format!("it belongs to extension {extension}"),
        "A dump would leave its rows out. Copy them into a table of your own.",
    ))
}

/// Takes ACCESS EXCLUSIVE on a table that `inspect` has accepted, until the transaction ends, and asks again now that
/// nobody else can change it. 55000 when it is gone.
pub fn lock(table: pg_sys::Oid) -> Result<()> {
    if !relation::lock_to_change(table) {
        return Err(Error::not_ready("the table was dropped meanwhile").hint("Try again."));
    }
    inspect(table)
}

/// Adds what is missing to a table that `lock` holds, and that `filling` names.
pub fn complete(table: pg_sys::Oid, filling: &Filling) -> Result<()> {
    refuse_priorities(table, filling)?;
    outrun_leases(table, filling)?;
    let mut done = add_columns(table, filling)?;
    done.extend(set_defaults(table, filling)?);
    done.extend(add_checks(table, filling)?);
    done.extend(set_storage(table, filling)?);
    done.extend(add_indexes(table, filling)?);
    replace_triggers(table, filling)?;
    error::say(
        Level::Notice,
        format!("table {} is a queue now; added: {}", relation::display_name(table), listed(&done)),
    );
    warn_of_obstacles(table)
}

const STRANGE_PRIORITY: &str = "SELECT EXISTS (SELECT FROM {q} j WHERE j.priority IS NULL
    OR j.priority OPERATOR(pg_catalog.<) 0 OR j.priority OPERATOR(pg_catalog.>) 9)";

/// A column of this name may have meant something else: no fetch would look for such rows. 42809 then; else the column
/// takes no NULL from now on.
fn refuse_priorities(table: pg_sys::Oid, filling: &Filling) -> Result<()> {
    if relation::column_type(table, "priority").is_none() {
        return Ok(());
    }
    let sql = filling.fill(STRANGE_PRIORITY);
    let is_strange = identity::restricted_as(owner_of(table)?, || {
        connected(|spi| Ok(once_latest(spi, &sql, &[])?.first().is_some_and(|row| row.flag(1))))
    })?;
    if is_strange {
        let name = relation::display_name(table);
        return Err(Error::not_adoptable(format!(
            "{name} cannot become a queue: there are rows whose priority is not 0 to 9"
        ))
        .hint("0 is fetched first, 4 is usual. Change these rows, or rename the column if it means something else."));
    }
    run_all(std::iter::once(filling.fill("ALTER TABLE {q} ALTER COLUMN priority SET NOT NULL")))
}

/// A table that was a queue before, here or elsewhere, names leases: none of them may be given out again.
fn outrun_leases(table: pg_sys::Oid, filling: &Filling) -> Result<()> {
    if relation::column_type(table, "lease").is_none() {
        return Ok(());
    }
    match identity::restricted_as(owner_of(table)?, || lease::newest_in(filling.table))? {
        0 => Ok(()),
        newest => lease::jump(newest),
    }
}

fn owner_of(table: pg_sys::Oid) -> Result<pg_sys::Oid> {
    relation::owner(table).ok_or_else(|| Error::internal("a locked table is gone"))
}

fn add_columns(table: pg_sys::Oid, filling: &Filling) -> Result<Vec<String>> {
    let missing = gaps::missing_columns(&catalog::columns(table)?);
    run_all(missing.iter().map(|column| filling.add_column(column)))?;
    Ok(missing.iter().map(|column| format!("column {}", column.name)).collect())
}

fn set_defaults(table: pg_sys::Oid, filling: &Filling) -> Result<Vec<String>> {
    let zone = guc::naive_timezone();
    let mut gaps = gaps::defaults(&catalog::columns(table)?, filling, &zone);
    gaps.retain(|gap| gap.is_set_by_adoption);
    run_all(gaps.iter().map(|gap| gap.ddl.clone()))?;
    Ok(gaps.iter().map(|gap| format!("default of {}", gap.column)).collect())
}

/// The CHECKs that no row breaks: one that does could not be claimed any more.
fn add_checks(table: pg_sys::Oid, filling: &Filling) -> Result<Vec<String>> {
    let missing = gaps::missing_constraints(&catalog::constraints(table)?);
    let broken = survey::broken(owner_of(table)?, filling, &missing)?;
    let mut done = Vec::new();
    for (check, is_broken) in missing.into_iter().zip(broken) {
        if is_broken {
            say(format!("constraint {} is left out: there are rows that it would refuse", check.name));
            continue;
        }
        run_all(std::iter::once(filling.add_constraint(check)))?;
        done.push(format!("constraint {}", check.name));
    }
    Ok(done)
}

fn set_storage(table: pg_sys::Oid, filling: &Filling) -> Result<Vec<String>> {
    let unset = gaps::unset_storage(&catalog::table(table)?.map(|table| table.options).unwrap_or_default());
    if unset.is_empty() {
        return Ok(Vec::new());
    }
    run_all(std::iter::once(gaps::set_storage(filling.table, &unset)))?;
    Ok(vec!["storage settings".to_owned()])
}

fn add_indexes(table: pg_sys::Oid, filling: &Filling) -> Result<Vec<String>> {
    let missing = gaps::missing_indexes(&catalog::indexes(table)?);
    run_all(missing.iter().map(|index| filling.create_index(index)))?;
    Ok(missing.iter().map(|index| index.name.to_owned()).collect())
}

/// Those that are there may be of an older version, or of another database.
fn replace_triggers(table: pg_sys::Oid, filling: &Filling) -> Result<()> {
    let found = catalog::triggers(table)?;
    let old = TRIGGERS.iter().filter(|trigger| found.iter().any(|found| found.name == trigger.name));
    let drop = old.map(|trigger| filling.drop_trigger(trigger));
    run_all(drop.chain(TRIGGERS.iter().flat_map(|trigger| filling.create_trigger(trigger))))
}

/// Says what works, but not as it could.
fn warn_of_obstacles(table: pg_sys::Oid) -> Result<()> {
    let indexes = catalog::indexes(table)?;
    for (index, changed) in gaps::hindering_indexes(&indexes) {
        let advice = if gaps::is_guarantee(index) { "what it costs" } else { "why to drop it" };
        say(format!("index {} mentions {changed}: qflow.verify says {advice}", index.name));
    }
    let owner = catalog::table(table)?.map(|table| table.owner).unwrap_or_default();
    for (obstacle, _) in gaps::obstacles(table, &owner, &catalog::triggers(table)?) {
        say(format!("{obstacle}: expired jobs are taken back by consumers' fetches only"));
    }
    Ok(())
}

fn say(notice: String) {
    error::say(Level::Notice, notice);
}

fn listed(done: &[String]) -> String {
    match done.is_empty() {
        true => "nothing".to_owned(),
        false => done.join(", "),
    }
}
