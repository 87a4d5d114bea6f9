//! What a table lacks to be a queue, and the statements that supply it. Adoption runs them, `verify` shows them.

use super::catalog;
use super::definition::{self, Check, Column, Filling, Index, CHECKS, COLUMNS, INDEXES, STORAGE, TRIGGERS};
use crate::error::Result;
use crate::host::spi::{connected, once, once_latest};
use crate::host::{identity, relation, value};
use pgrx::pg_sys;

/// Defaults that give the time of the session's zone, as the server prints them.
const CLOCKS: [&str; 6] = [
    "now()",
    "CURRENT_TIMESTAMP",
    "LOCALTIMESTAMP",
    "clock_timestamp()",
    "statement_timestamp()",
    "transaction_timestamp()",
];

/// A column of another type than a queue can work with.
pub struct WrongType {
    /// The column.
    pub column: &'static Column,
    /// What it is.
    pub found: String,
}

/// Columns that are not there.
pub fn missing_columns(found: &[catalog::Column]) -> Vec<&'static Column> {
    COLUMNS.iter().filter(|column| fact(found, column.name).is_none()).collect()
}

/// Columns that are there, but not as they must be.
pub fn wrong_columns(found: &[catalog::Column]) -> Vec<WrongType> {
    let wrong = |column: &'static Column| {
        let fact = fact(found, column.name)?;
        // 'in_progress' has to fit.
        let is_short = column.name == "status" && fact.max_length.is_some_and(|most| most < 11);
        let note = if fact.is_generated { "generated, " } else { "" };
        let is_wrong = !column.types.contains(&fact.type_oid) || fact.is_generated || is_short;
        is_wrong.then(|| WrongType { column, found: format!("{note}{}", fact.type_name) })
    };
    COLUMNS.iter().filter_map(wrong).collect()
}

/// What the key of a table lacks; nothing when `id` is unique and has a default.
pub fn key_faults(columns: &[catalog::Column], indexes: &[catalog::Index]) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if !indexes.iter().any(|index| index.is_unique && index.is_plain && index.predicate.is_none() && index.keys == "id")
    {
        faults.push("id is not unique");
    }
    if !fact(columns, "id").is_some_and(|id| id.default.is_some() || id.is_identity) {
        faults.push("id has no default");
    }
    faults
}

/// A column whose default is missing, or means another time than it says.
pub struct DefaultGap {
    /// The column.
    pub column: &'static str,
    /// What is there.
    pub found: Option<String>,
    /// The statement that sets it.
    pub ddl: String,
}

/// Defaults to be set. `zone`: what a timestamp without time zone means.
pub fn defaults(found: &[catalog::Column], filling: &Filling, zone: &str) -> Vec<DefaultGap> {
    let gap = |column: &Column| {
        let fact = fact(found, column.name)?;
        let wanted = column.default?;
        let is_naive = fact.type_oid == pg_sys::TIMESTAMPOID;
        let current = fact.default.as_deref();
        let expression = match current {
            None if is_naive => at_zone("now()", zone),
            None => filling.fill(wanted),
            Some(clock) if is_naive && CLOCKS.contains(&clock) => at_zone(instant(clock), zone),
            Some(other) if column.name == "enqueued_xid" && !is_our_counter(other, filling.number) => {
                filling.fill(wanted)
            }
            Some(_) => return None,
        };
        let ddl = format!("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {expression}", filling.table, column.name);
        Some(DefaultGap { column: column.name, found: fact.default.clone(), ddl })
    };
    COLUMNS.iter().filter_map(gap).collect()
}

/// A clock as an instant: `LOCALTIMESTAMP` has lost its zone already.
fn instant(clock: &str) -> &str {
    if clock == "LOCALTIMESTAMP" {
        "now()"
    } else {
        clock
    }
}

fn at_zone(instant: &str, zone: &str) -> String {
    format!("timezone('{}', {instant})", zone.replace('\'', "''"))
}

/// Whether a default is qflow's, for this queue, in any of the ways in which the server prints it.
fn is_our_counter(default: &str, number: i64) -> bool {
    let inner = default.strip_prefix("qflow.enqueued_xid(").and_then(|rest| rest.strip_suffix(')'));
    let digits = inner.map(|inner| inner.trim_end_matches("::bigint").trim_matches(['(', ')', '\'']));
    digits == Some(number.to_string().as_str())
}

/// Columns without time zone.
pub fn naive_columns(found: &[catalog::Column]) -> Vec<&str> {
    let naive = |column: &&catalog::Column| {
        column.type_oid == pg_sys::TIMESTAMPOID && definition::column_named(&column.name).is_some()
    };
    found.iter().filter(naive).map(|column| column.name.as_str()).collect()
}

const AT_ZONE: &str = "SELECT pg_catalog.timezone($1, pg_catalog.now())";

/// Raises 22023 for a time zone that PostgreSQL does not know: as part of a default it would fail every insert.
pub fn check_zone(zone: &str) -> Result<()> {
    connected(|spi| once(spi, AT_ZONE, &[(pg_sys::TEXTOID, value::text(zone))]).map(|_| ()))
}

/// CHECKs that are not there.
pub fn missing_checks(found: &[String]) -> Vec<&'static Check> {
    CHECKS.iter().filter(|check| !found.iter().any(|name| name == check.name)).collect()
}

/// Indexes that are not there, whatever their name.
pub fn missing_indexes(found: &[catalog::Index]) -> Vec<&'static Index> {
    let is_it = |index: &Index, found: &catalog::Index| {
        found.is_plain && found.keys == index.keys && found.predicate.as_deref() == index.predicate
    };
    INDEXES.iter().filter(|index| !found.iter().any(|found| is_it(index, found))).collect()
}

/// Indexes that mention what every claim and ack changes.
pub fn hindering_indexes(found: &[catalog::Index]) -> Vec<(&catalog::Index, String)> {
    let mentioned = |index: &catalog::Index| {
        let changed = definition::CHANGED_BY_CLAIMS.iter().filter(|name| index.mentions.iter().any(|m| m == *name));
        changed.copied().collect::<Vec<_>>().join(", ")
    };
    found.iter().map(|index| (index, mentioned(index))).filter(|(_, changed)| !changed.is_empty()).collect()
}

/// Storage settings about which the table says nothing.
pub fn unset_storage(options: &[String]) -> Vec<(&'static str, &'static str)> {
    let is_set = |name: &str| options.iter().any(|option| option.split('=').next() == Some(name));
    STORAGE.iter().copied().filter(|(name, _)| !is_set(name)).collect()
}

/// The statement that sets them.
pub fn set_storage(table: &str, settings: &[(&'static str, &'static str)]) -> String {
    format!("ALTER TABLE {table} SET ({})", definition::storage(settings))
}

/// Return triggers that are not there, or not always enabled.
pub fn missing_triggers(found: &[catalog::Trigger]) -> Vec<&'static definition::Trigger> {
    let is_there = |trigger: &definition::Trigger| {
        found.iter().any(|found| found.name == trigger.name && found.returns_jobs && found.enabled == "A")
    };
    TRIGGERS.iter().filter(|trigger| !is_there(trigger)).collect()
}

/// What keeps jobs from being taken back as the table's owner, and what to do about it.
pub fn obstacles(table: pg_sys::Oid, triggers: &[catalog::Trigger]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for trigger in triggers.iter().filter(|trigger| trigger.is_deferred) {
        let (detail, remedy) =
            (format!("{} waits until commit", trigger.name), format!("Make {} INITIALLY IMMEDIATE.", trigger.name));
        // A foreign key has more than one trigger.
        if !found.iter().any(|(known, _)| *known == detail) {
            found.push((detail, remedy));
        }
    }
    if !relation::owner_may_enter(table) {
        let schema = relation::display_schema(table);
        let detail = format!("the owner has no USAGE on schema {schema}");
        found.push((detail, format!("Grant the owner USAGE ON SCHEMA {schema}.")));
    }
    found
}

const WORDS: &str = "SELECT pg_catalog.count(*),
        pg_catalog.string_agg(DISTINCT COALESCE(pg_catalog.left(j.status, 40), 'NULL'), ', ')
    FROM {q} j WHERE (j.status OPERATOR(pg_catalog.=) ANY ('{pending,in_progress,completed,failed}')) IS NOT TRUE";

/// How many rows have a status that is none of the four words, and these words; no status is one of them. Reads the
/// whole table, as its owner.
pub fn unknown_words(owner: pg_sys::Oid, table: &str) -> Result<(i64, String)> {
    identity::restricted_as(owner, || {
        connected(|spi| {
            let rows = once(spi, &WORDS.replace("{q}", table), &[])?;
            let found = rows.first().map(|row| (row.bigint(1).unwrap_or(0), row.text(2)));
            found.map_or(Ok((0, String::new())), |(count, words)| Ok((count, words?.unwrap_or_default())))
        })
    })
}

const BREAKS: &str = "SELECT EXISTS (SELECT FROM {q} WHERE NOT ({condition}))";

/// Whether a row that is there breaks a CHECK: it could not be claimed then. Reads the whole table, as its owner.
pub fn is_broken(owner: pg_sys::Oid, filling: &Filling, check: &Check) -> Result<bool> {
    let sql = filling.fill(&BREAKS.replace("{condition}", check.condition));
    identity::restricted_as(owner, || {
        connected(|spi| Ok(once_latest(spi, &sql, &[])?.first().is_some_and(|row| row.flag(1))))
    })
}

fn fact<'a>(found: &'a [catalog::Column], name: &str) -> Option<&'a catalog::Column> {
    found.iter().find(|column| column.name == name)
}
