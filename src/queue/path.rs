//! By which path jobs are reached: directly, where all is known that an UPDATE of the executor's would do, or through the
//! executor. The list is of what is known to be harmless; everything else, also what nobody thought of, takes the executor.

use pgrx::pg_sys;

use super::adopt;
use super::catalog::{Column, Constraint, Facts, Index, Trigger};
use super::definition::{column_named, CHANGED_BY_JOBS, COLUMNS, EMPTIED_BY_JOBS, INDEXES, PRINTED_CHECKS};
use super::gaps;
use crate::job::direct::layout::{Columns, Layout};

/// Where things are in a table that can be reached directly; or why it cannot.
pub fn of(facts: &Facts) -> Result<Layout, String> {
    table(facts)?;
    columns(facts)?;
    facts.triggers.iter().find_map(acts_on_changes).map_or(Ok(()), Err)?;
    facts.constraints.iter().find_map(binds).map_or(Ok(()), Err)?;
    facts.indexes.iter().find_map(hinders).map_or(Ok(()), Err)?;
    layout(facts)
}

fn table(facts: &Facts) -> Result<(), String> {
    let table = &facts.table;
    if let Some((why, _)) = adopt::refusal(table) {
        return Err(why);
    }
    if table.has_rules {
        return Err("it has rules".to_owned());
    }
    if table.row_security.0 {
        return Err("row security is enabled".to_owned());
    }
    Ok(())
}

fn columns(facts: &Facts) -> Result<(), String> {
    for column in &facts.columns {
        let reads = column.computed_from.iter().find(|read| CHANGED_BY_JOBS.contains(&read.as_str()));
        if column.is_generated && (reads.is_some() || column.computed_from.is_empty()) {
            return Err(format!("generated column {} may read what claims and settles change", column.name));
        }
        let Some(wanted) = column_named(&column.name) else {
            continue;
        };
        let refuses_null = column.is_not_null && EMPTIED_BY_JOBS.contains(&wanted.name);
        let is_short = column.max_length.is_some_and(|most| match wanted.name {
            "status" => most < 11,
            _ => true,
        });
        // A precision rounds what is written; what stands in inserted_at its default has written, rounded.
        let is_time = [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID].contains(&column.type_oid);
        let is_rounded = is_time && wanted.name != "inserted_at" && column.type_name.contains('(');
        let is_other = !wanted.types.contains(&column.type_oid) || column.is_generated;
        if is_other || is_rounded || refuses_null || is_short {
            return Err(format!("column {} is of another kind than qflow makes it", column.name));
        }
    }
    Ok(())
}

/// A foreign key that refers to the table acts when the key changes, which no claim or settle does. One of the table's own
/// has to look again at a row that its own transaction inserted.
fn acts_on_changes(trigger: &Trigger) -> Option<String> {
    let [_, on_update, _] = trigger.events;
    let is_known = trigger.returns_jobs && trigger.is_after_row
        || trigger.constraint.as_ref().is_some_and(|key| key.kind == "f" && !key.is_own);
    (on_update && !is_known).then(|| format!("trigger {} acts on UPDATE", trigger.name))
}

fn binds(check: &Constraint) -> Option<String> {
    let is_rest = |rest: &str| rest.trim_end_matches(" NOT VALID").chars().all(|c| c.is_ascii_digit() || c == ')');
    let is_ours = |(name, prints): &(&str, &str)| {
        check.name == *name && check.definition.strip_prefix(prints).is_some_and(is_rest)
    };
    if PRINTED_CHECKS.iter().any(is_ours) {
        return None;
    }
    if check.mentions_more || check.mentions.iter().any(|read| CHANGED_BY_JOBS.contains(&read.as_str())) {
        return Some(format!("CHECK {} mentions what claims and settles change", check.name));
    }
    let may_refuse = check.mentions.is_empty() || !check.is_lasting;
    may_refuse.then(|| format!("CHECK {} may refuse a row that is there", check.name))
}

fn hinders(index: &Index) -> Option<String> {
    let reads = index.mentions_more || index.mentions.iter().any(|read| CHANGED_BY_JOBS.contains(&read.as_str()));
    let is_ours = index.keys == INDEXES[1].keys && index.predicate.as_deref() == INDEXES[1].predicate;
    (reads && !is_ours).then(|| format!("index {} mentions what claims and settles change", index.name))
}

/// The queue's number, where nothing but qflow acts on an INSERT: CHECKs, NOT NULLs and defaults are seen to.
fn counts_as(facts: &Facts) -> Option<i64> {
    let acts = |trigger: &Trigger| trigger.events[0] && !(trigger.returns_jobs && trigger.is_after_row);
    let default = facts.columns.iter().find(|column| column.name == "enqueued_xid")?.default.as_deref()?;
    let is_odd = |column: &Column| column.is_generated || column.is_domain;
    let is_plain = !facts.triggers.iter().any(acts) && !facts.columns.iter().any(is_odd);
    is_plain.then(|| gaps::counter(default)).flatten()
}

fn layout(facts: &Facts) -> Result<Layout, String> {
    let number = |name: &'static str| {
        let column = facts.columns.iter().find(|column| column.name == name);
        column.map(|column| column.number).ok_or_else(|| format!("it has no column {name}"))
    };
    let type_of = |name: &str| {
        let column = facts.columns.iter().find(|column| column.name == name);
        column.map_or(pg_sys::InvalidOid, |column| column.type_oid)
    };
    let index = |name: &str, keys: &[&str], predicate: Option<&str>, is_unique: bool| {
        let is_it = |found: &&Index| {
            found.is_plain
                && found.keys == keys
                && found.predicate.as_deref() == predicate
                && (!is_unique || found.is_unique)
        };
        facts.indexes.iter().find(is_it).map(|index| index.oid).ok_or_else(|| format!("it has no usable {name}"))
    };
    let [fresh, due] = &INDEXES;
    Ok(Layout::new(
        Columns {
            id: number(COLUMNS[0].name)?,
            enqueued_xid: number("enqueued_xid")?,
            lease: number("lease")?,
            inserted_at: number("inserted_at")?,
            updated_at: number("updated_at")?,
            available_at: number("available_at")?,
            attempt: number("attempt")?,
            priority: number("priority")?,
            status: number("status")?,
            failure_reason: number("failure_reason")?,
            metadata: number("metadata")?,
            data: number("data")?,
            id_is_int: type_of("id") == pg_sys::INT4OID,
            inserted_is_naive: type_of("inserted_at") == pg_sys::TIMESTAMPOID,
            updated_is_naive: type_of("updated_at") == pg_sys::TIMESTAMPOID,
        },
        counts_as(facts),
        [
            index("index on id", &["id"], None, true)?,
            index(fresh.name, fresh.keys, fresh.predicate, false)?,
            index(due.name, due.keys, due.predicate, false)?,
        ],
    ))
}
