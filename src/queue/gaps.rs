//! What a table lacks to be a queue, and the statements that supply it. Adoption runs them, `verify` shows them.

use super::catalog;
use super::definition::{
    self, Column, Constraint, Filling, Index, Trigger, COLUMNS, CONSTRAINTS, EMPTIED_BY_JOBS, INDEXES, STORAGE,
    TRIGGERS,
};
use crate::host::relation;
use pgrx::pg_sys;

mod naive;

/// A column that is not as a queue needs it.
pub struct Misfit {
    /// The column.
    pub column: &'static Column,
    /// What it is: a verb and what follows.
    pub fault: String,
    /// What to do.
    pub remedy: String,
}

/// Columns that are not there.
pub fn missing_columns(found: &[catalog::Column]) -> Vec<&'static Column> {
    COLUMNS.iter().filter(|column| fact(found, column.name).is_none()).collect()
}

/// Columns that are there, but not as they must be.
pub fn wrong_columns(found: &[catalog::Column], table: &str) -> Vec<Misfit> {
    let wrong = |column: &'static Column| {
        let fact = fact(found, column.name)?;
        wrong_type(column, fact).or_else(|| refuses_null(column, fact, table))
    };
    COLUMNS.iter().filter_map(wrong).collect()
}

fn wrong_type(column: &'static Column, fact: &catalog::Column) -> Option<Misfit> {
    // 'in_progress' has to fit.
    let is_short = column.name == "status" && fact.max_length.is_some_and(|most| most < 11);
    let note = if fact.is_generated { "generated, " } else { "" };
    let is_wrong = !column.types.contains(&fact.type_oid) || fact.is_generated || is_short;
    is_wrong.then(|| Misfit {
        column,
        fault: format!("is of type {note}{}", fact.type_name),
        remedy: format!("Rename or change column {}: a queue needs {}.", column.name, column.definition),
    })
}

/// A claim, or a settle, sets it to NULL.
fn refuses_null(column: &'static Column, fact: &catalog::Column, table: &str) -> Option<Misfit> {
    (fact.is_not_null && EMPTIED_BY_JOBS.contains(&column.name)).then(|| Misfit {
        column,
        fault: "is NOT NULL".to_owned(),
        remedy: format!("ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL;", column.name),
    })
}

/// Something that the key of a table lacks, and what to do.
pub struct KeyFault {
    /// What it is.
    pub fault: &'static str,
    /// What to do.
    pub remedy: String,
}

/// What the key of a table lacks; nothing when `id` is unique, never NULL and has a default.
pub fn key_faults(columns: &[catalog::Column], indexes: &[catalog::Index], table: &str) -> Vec<KeyFault> {
    let id = fact(columns, "id");
    let is_key =
        |index: &catalog::Index| index.is_unique && index.is_plain && index.predicate.is_none() && index.keys == ["id"];
    let mut faults = Vec::new();
    let mut missing = |is_there: bool, fault: &'static str, remedy: String| {
        if !is_there {
            faults.push(KeyFault { fault, remedy });
        }
    };
    missing(
        indexes.iter().any(is_key),
        "id is not unique",
        format!("CREATE UNIQUE INDEX CONCURRENTLY ON {table} (id);"),
    );
    missing(
        id.is_some_and(|id| id.is_not_null),
        "id may be NULL",
        format!("ALTER TABLE {table} ALTER COLUMN id SET NOT NULL;"),
    );
    missing(
        id.is_some_and(|id| id.default.is_some() || id.is_identity),
        "id has no default",
        "Give id a default from a sequence that starts above the ids that are there.".to_owned(),
    );
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
    /// Whether adoption sets it unasked: a default of the owner's own making is only reported.
    pub is_set_by_adoption: bool,
}

/// Defaults to be set. `zone`: what a timestamp without time zone means.
pub fn defaults(found: &[catalog::Column], filling: &Filling, zone: &str) -> Vec<DefaultGap> {
    let gap = |column: &Column| {
        let fact = fact(found, column.name)?;
        let wanted = column.default?;
        let is_naive = fact.type_oid == pg_sys::TIMESTAMPOID;
        let (expression, is_set_by_adoption) = match fact.default.as_deref() {
            None if is_naive => (naive::at_zone("now()", zone), true),
            None => (filling.fill(wanted), true),
            Some(default) if is_naive && !naive::is_sound(default) => {
                (naive::replacement(default, zone), naive::reads_clock(default))
            }
            Some(other) if column.name == "enqueued_xid" && !is_our_counter(other, filling.number) => {
                (filling.fill(wanted), true)
            }
            Some(_) => return None,
        };
        let ddl = format!("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {expression}", filling.table, column.name);
        Some(DefaultGap { column: column.name, found: fact.default.clone(), ddl, is_set_by_adoption })
    };
    COLUMNS.iter().filter_map(gap).collect()
}

/// Whether a default is qflow's, for this queue.
fn is_our_counter(default: &str, number: i64) -> bool {
    counter(default) == Some(number)
}

/// The queue's number in a default that is qflow's, in any of the ways in which the server prints it.
pub fn counter(default: &str) -> Option<i64> {
    let inner = default.strip_prefix("qflow.enqueued_xid(").and_then(|rest| rest.strip_suffix(')'))?;
    inner.trim_end_matches("::bigint").trim_matches(['(', ')', '\'']).parse().ok()
}

/// Columns without time zone.
pub fn naive_columns(found: &[catalog::Column]) -> Vec<&str> {
    let naive = |column: &&catalog::Column| {
        column.type_oid == pg_sys::TIMESTAMPOID && definition::column_named(&column.name).is_some()
    };
    found.iter().filter(naive).map(|column| column.name.as_str()).collect()
}

/// CHECKs that are not there.
pub fn missing_constraints(found: &[catalog::Constraint]) -> Vec<&'static Constraint> {
    CONSTRAINTS.iter().filter(|check| !found.iter().any(|found| found.name == check.name)).collect()
}

/// The owner's CHECKs that mention what claims and settles change, each with what it mentions.
pub fn binding_constraints(found: &[catalog::Constraint]) -> Vec<(&catalog::Constraint, String)> {
    let is_ours = |found: &catalog::Constraint| CONSTRAINTS.iter().any(|check| check.name == found.name);
    let others = found.iter().filter(|found| !is_ours(found));
    let mentioned = others.map(|found| (found, mentioned(&found.mentions, &definition::CHANGED_BY_JOBS)));
    mentioned.filter(|(_, changed)| !changed.is_empty()).collect()
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
    let mentioned = found.iter().map(|index| (index, mentioned(&index.mentions, &definition::CHANGED_BY_CLAIMS)));
    mentioned.filter(|(_, changed)| !changed.is_empty()).collect()
}

/// Whether an index keeps something true of the rows: it is not there for speed alone.
pub fn is_guarantee(index: &catalog::Index) -> bool {
    index.is_unique || index.constraint.is_some()
}

/// Which of `names` are mentioned.
fn mentioned(mentions: &[String], names: &[&str]) -> String {
    let found: Vec<&str> = names.iter().copied().filter(|name| mentions.iter().any(|found| found == name)).collect();
    found.join(", ")
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

/// A return trigger that is not as it should be.
pub struct TriggerGap {
    /// The trigger.
    pub trigger: &'static Trigger,
    /// What is wrong.
    pub fault: &'static str,
    /// The statements that mend it.
    pub ddl: Vec<String>,
}

/// Return triggers that are not there, do something else, or are not always enabled.
pub fn trigger_gaps(found: &[catalog::Trigger], filling: &Filling) -> Vec<TriggerGap> {
    let gap = |trigger: &'static Trigger| {
        let create = filling.create_trigger(trigger).to_vec();
        let (fault, ddl) = match found.iter().find(|found| found.name == trigger.name) {
            None => ("is missing", create),
            Some(found) if !is_ours(trigger, found, filling) => {
                ("is not as qflow makes it", std::iter::once(filling.drop_trigger(trigger)).chain(create).collect())
            }
            Some(found) if found.enabled != "A" => ("is not always enabled", vec![filling.enable_trigger(trigger)]),
            Some(_) => return None,
        };
        Some(TriggerGap { trigger, fault, ddl })
    };
    TRIGGERS.iter().filter_map(gap).collect()
}

fn is_ours(trigger: &Trigger, found: &catalog::Trigger, filling: &Filling) -> bool {
    found.returns_jobs && found.definition.as_deref().is_some_and(|printed| filling.is_ours(trigger, printed))
}

/// What keeps jobs from being taken back as the table's owner, and what to do about it. The same in short, for fetches,
/// is `Queue::can_be_kept_up`.
pub fn obstacles(table: pg_sys::Oid, owner: &str, triggers: &[catalog::Trigger]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for trigger in triggers.iter().filter(|trigger| trigger.is_deferred) {
        let detail = format!("{} waits until commit", trigger.name);
        // A foreign key has more than one trigger.
        if !found.iter().any(|(known, _)| *known == detail) {
            found.push((detail, make_immediate(trigger)));
        }
    }
    if !relation::owner_may_enter(table) {
        let schema = relation::display_schema(table);
        let detail = format!("the owner has no USAGE on schema {schema}");
        found.push((detail, format!("GRANT USAGE ON SCHEMA {schema} TO {owner};")));
    }
    found
}

/// Only a foreign key can be changed in place.
fn make_immediate(trigger: &catalog::Trigger) -> String {
    match &trigger.constraint {
        Some(key) if key.kind == "f" => {
            format!("ALTER TABLE {} ALTER CONSTRAINT {} DEFERRABLE INITIALLY IMMEDIATE;", key.table, key.name)
        }
        Some(other) if other.kind != "t" => {
            format!("Make constraint {} on {} anew, INITIALLY IMMEDIATE.", other.name, other.table)
        }
        _ => format!("Make trigger {} anew, INITIALLY IMMEDIATE.", trigger.name),
    }
}

fn fact<'a>(found: &'a [catalog::Column], name: &str) -> Option<&'a catalog::Column> {
    found.iter().find(|column| column.name == name)
}
