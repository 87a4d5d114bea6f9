//! Which rights a producer, a consumer and a monitor need on a queue, and GRANT and REVOKE of exactly these. They run as
//! the caller, so PostgreSQL decides who may. What PostgreSQL only warns about is an error here: afterwards the role has
//! the rights, or the call has failed.

use pgrx::pg_sys;

use super::name::quoted;
use super::registry::{self, QueueRow};
use super::settings::OnComplete;
use crate::error::{self, Error, Result};
use crate::host::lock::{self, What};
use crate::host::spi::{connected, once, once_latest};
use crate::host::{relation, value};

/// What a role does with a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Inserts jobs.
    Producer,
    /// Fetches and settles them.
    Consumer,
    /// Looks on, without the payload.
    Monitor,
}

/// What a producer may set: the rest is filled by defaults.
const PRODUCED: [&str; 6] = ["id", "data", "metadata", "status", "priority", "available_at"];
/// What a monitor must not see.
const PAYLOAD: [&str; 2] = ["data", "metadata"];

/// A role to grant to, or everyone.
pub struct Role {
    /// Its oid; that of everyone is invalid, as in access lists.
    oid: pg_sys::Oid,
    /// As SQL writes it.
    sql: String,
    /// As `has_schema_privilege` and people write it.
    name: String,
}

/// PostgreSQL lets no role have this name.
const EVERYONE: &str = "public";

const ROLE: &str = "SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) $1";

impl Role {
    /// The role with this very name, unfolded, as PostgreSQL's own functions take it. 42704 when there is none.
    pub fn named(name: &str) -> Result<Self> {
        if name == EVERYONE {
            return Ok(Self { oid: pg_sys::InvalidOid, sql: "PUBLIC".into(), name: name.into() });
        }
        let args = [(pg_sys::TEXTOID, value::text(name))];
        let oid = connected(|spi| Ok(once_latest(spi, ROLE, &args)?.first().and_then(|row| row.oid(1))))?;
        let oid = oid.ok_or_else(|| {
            let shown: String = name.chars().take(63).collect();
            Error::unknown(format!("role \"{shown}\" does not exist"))
                .hint("Write its name exactly as pg_roles shows it, without quotes; public stands for everyone.")
        })?;
        Ok(Self { oid, sql: quoted(name), name: name.into() })
    }

    /// Its oid; everyone's is 0 and not NULL.
    fn datum(&self) -> value::Arg {
        Some(pg_sys::Datum::from(self.oid.to_u32()))
    }
}

/// One privilege on a table, on some of its columns, or on a sequence.
struct Right {
    object: pg_sys::Oid,
    /// TABLE or SEQUENCE.
    what: &'static str,
    privilege: &'static str,
    /// Empty: on the whole object.
    columns: Vec<String>,
}

impl Right {
    fn on_table(table: pg_sys::Oid, privilege: &'static str) -> Self {
        Self { object: table, what: "TABLE", privilege, columns: Vec::new() }
    }

    /// Nothing for no columns: without a list it would be a right on the whole table.
    fn on_columns(table: pg_sys::Oid, privilege: &'static str, columns: Vec<String>) -> Option<Self> {
        (!columns.is_empty()).then_some(Self { object: table, what: "TABLE", privilege, columns })
    }

    fn on_sequence(sequence: pg_sys::Oid) -> Self {
        Self { object: sequence, what: "SEQUENCE", privilege: "USAGE", columns: Vec::new() }
    }

    /// `INSERT ("id", "data") ON TABLE public.q`.
    fn sql(&self) -> Result<String> {
        let object = relation::qualified_name(self.object)?.unwrap_or_default();
        let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        Ok(format!("{}{list} ON {} {object}", self.privilege, self.what))
    }

    /// Its entries in access lists.
    fn entries(&self) -> Vec<(Option<&str>, &str)> {
        match self.columns.is_empty() {
            true => vec![(None, self.privilege)],
            false => self.columns.iter().map(|column| (Some(column.as_str()), self.privilege)).collect(),
        }
    }
}

/// An entry that names a role in an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    column: Option<String>,
    privilege: String,
    grantable: bool,
    grantor: String,
}

impl Held {
    fn is(&self, (column, privilege): (Option<&str>, &str)) -> bool {
        self.column.as_deref() == column && self.privilege == privilege
    }
}

const HELD: &str = "SELECT NULL::pg_catalog.text, e.privilege_type, e.is_grantable,
        pg_catalog.pg_get_userbyid(e.grantor)::pg_catalog.text
    FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS e
    WHERE c.oid OPERATOR(pg_catalog.=) $1 AND e.grantee OPERATOR(pg_catalog.=) $2
    UNION ALL
    SELECT a.attname::pg_catalog.text, e.privilege_type, e.is_grantable,
        pg_catalog.pg_get_userbyid(e.grantor)::pg_catalog.text
    FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS e
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
        AND e.grantee OPERATOR(pg_catalog.=) $2";

/// What was granted to the role itself on a table or sequence and on its columns.
fn held(object: pg_sys::Oid, role: &Role) -> Result<Vec<Held>> {
    let args = [(pg_sys::OIDOID, value::oid(object)), (pg_sys::OIDOID, role.datum())];
    connected(|spi| {
        let rows = once_latest(spi, HELD, &args)?;
        let held = rows.iter().map(|row| {
            Ok(Held {
                column: row.text(1)?,
                privilege: row.text(2)?.unwrap_or_default(),
                grantable: row.flag(3),
                grantor: row.text(4)?.unwrap_or_default(),
            })
        });
        held.collect()
    })
}

const COLUMNS: &str = "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

fn columns(table: pg_sys::Oid) -> Result<Vec<String>> {
    let args = [(pg_sys::OIDOID, value::oid(table))];
    let named: Vec<Option<String>> =
        connected(|spi| once_latest(spi, COLUMNS, &args)?.iter().map(|row| row.text(1)).collect())?;
    Ok(named.into_iter().flatten().collect())
}

/// The sequences that belong to the column id (identity, serial) or that its default names.
const SEQUENCES: &str = "WITH id AS (
        SELECT a.attrelid, a.attnum FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) 'id'::pg_catalog.name
            AND NOT a.attisdropped),
    named AS (
        SELECT d.objid AS oid FROM id JOIN pg_catalog.pg_depend d
            ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
            AND d.refobjid OPERATOR(pg_catalog.=) id.attrelid
            AND d.refobjsubid OPERATOR(pg_catalog.=) id.attnum::pg_catalog.int4
            AND d.classid OPERATOR(pg_catalog.=) d.refclassid
        UNION
        SELECT d.refobjid FROM id JOIN pg_catalog.pg_attrdef f
            ON f.adrelid OPERATOR(pg_catalog.=) id.attrelid AND f.adnum OPERATOR(pg_catalog.=) id.attnum
        JOIN pg_catalog.pg_depend d
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) f.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid)
    SELECT s.oid FROM named n JOIN pg_catalog.pg_class s ON s.oid OPERATOR(pg_catalog.=) n.oid
    WHERE s.relkind OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\" ORDER BY s.oid";

fn sequences(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let args = [(pg_sys::OIDOID, value::oid(table))];
    connected(|spi| Ok(once_latest(spi, SEQUENCES, &args)?.iter().filter_map(|row| row.oid(1)).collect()))
}

/// What a part needs. Only columns that are there.
fn rights_of(part: Part, table: pg_sys::Oid, deletes: bool) -> Result<Vec<Right>> {
    let whole = |privilege| Right::on_table(table, privilege);
    let mut rights: Vec<Right> = Vec::new();
    match part {
        Part::Producer => {
            let set = columns(table)?.into_iter().filter(|column| PRODUCED.contains(&column.as_str())).collect();
            rights.extend(Right::on_columns(table, "INSERT", set));
            rights.extend(sequences(table)?.into_iter().map(Right::on_sequence));
        }
        Part::Consumer => {
            rights.extend([whole("SELECT"), whole("UPDATE")]);
            rights.extend(deletes.then(|| whole("DELETE")));
        }
        Part::Monitor => {
            let seen = columns(table)?.into_iter().filter(|column| !PAYLOAD.contains(&column.as_str())).collect();
            rights.extend(Right::on_columns(table, "SELECT", seen));
        }
    }
    Ok(rights)
}

/// Gives a role what its part needs on a queue. 42501 unless the caller may grant all of it.
pub fn grant(queue: &QueueRow, part: Part, role: &Role) -> Result<()> {
    lock(queue.table);
    let rights = rights_of(part, queue.table, queue.on_complete == OnComplete::Delete)?;
    require_grant_options(queue, &rights)?;
    lock_sequences(&rights);
    for right in &rights {
        execute(&format!("GRANT {} TO {}", right.sql()?, role.sql))?;
    }
    for right in &rights {
        let held = held(right.object, role)?;
        if right.entries().into_iter().any(|entry| !held.iter().any(|held| held.is(entry))) {
            return Err(not_allowed(queue));
        }
    }
    note_what_is_lacking(queue, part, role, &rights)
}

/// Takes back from a role what its part was given, and nothing else. 42501 unless the caller may revoke all of it.
pub fn revoke(queue: &QueueRow, part: Part, role: &Role) -> Result<()> {
    if relation::owner(queue.table) == Some(role.oid) {
        return Err(Error::bad_value(format!(
            "role \"{}\" owns queue {}",
            role.name,
            relation::display_name(queue.table)
        ))
        .hint("An owner's rights come with the table. REVOKE takes them, if that is meant."));
    }
    lock(queue.table);
    // It was granted while on_complete was 'delete', whatever it is now.
    let deletes = queue.on_complete == OnComplete::Delete
        || held(queue.table, role)?.iter().any(|held| held.is((None, "DELETE")));
    let mut rights = rights_of(part, queue.table, deletes)?;
    require_grant_options(queue, &rights)?;
    lock_sequences(&rights);
    leave_shared_sequences(queue, role, &mut rights)?;
    let before = held(queue.table, role)?;
    let had = remaining(&rights, role)?;
    for right in &rights {
        execute(&format!("REVOKE {} FROM {}", right.sql()?, role.sql))?;
    }
    give_back_column_rights(queue, role, &rights, &before)?;
    report_what_is_left(queue, role, had, &remaining(&rights, role)?)
}

/// REVOKE on a table takes the same privileges on its columns, which another grant gave: these are granted again.
fn give_back_column_rights(queue: &QueueRow, role: &Role, revoked: &[Right], before: &[Held]) -> Result<()> {
    let was_revoked = |had: &Held| revoked.iter().flat_map(Right::entries).any(|entry| had.is(entry));
    let after = held(queue.table, role)?;
    let lost = before.iter().filter(|had| had.column.is_some() && !was_revoked(had) && !after.contains(had));
    let table = relation::qualified_name(queue.table)?.unwrap_or_default();
    for had in lost.clone() {
        let column = quoted(had.column.as_deref().unwrap_or_default());
        let option = if had.grantable { " WITH GRANT OPTION" } else { "" };
        execute(&format!("GRANT {} ({column}) ON TABLE {table} TO {}{option}", had.privilege, role.sql))?;
    }
    let again = held(queue.table, role)?;
    match lost.clone().all(|had| again.contains(had)) {
        true => Ok(()),
        false => Err(not_allowed(queue)),
    }
}

/// A sequence from which another queue draws, to which the role produces as well, is still needed.
fn leave_shared_sequences(queue: &QueueRow, role: &Role, rights: &mut Vec<Right>) -> Result<()> {
    if rights.iter().all(|right| right.what != "SEQUENCE") {
        return Ok(());
    }
    for other in registry::all_queues()?.iter().filter(|other| other.number != queue.number) {
        let drawn = sequences(other.table)?;
        let shares = rights.iter().any(|right| drawn.contains(&right.object));
        if shares && held(other.table, role)?.iter().any(|held| held.is((Some("id"), "INSERT"))) {
            rights.retain(|right| !drawn.contains(&right.object));
        }
    }
    Ok(())
}

/// Which of the rights the role holds, with who granted them.
fn remaining(rights: &[Right], role: &Role) -> Result<Vec<Held>> {
    let mut found = Vec::new();
    for right in rights {
        let entries = right.entries();
        found.extend(held(right.object, role)?.into_iter().filter(|held| entries.iter().any(|entry| held.is(*entry))));
    }
    Ok(found)
}

/// REVOKE takes back only what its own grantor gave, and says nothing about the rest.
fn report_what_is_left(queue: &QueueRow, role: &Role, had: Vec<Held>, left: &[Held]) -> Result<()> {
    let Some(one) = left.first() else {
        return Ok(());
    };
    let queue = relation::display_name(queue.table);
    let message = format!("role \"{}\" keeps rights on queue {queue} that role \"{}\" granted", role.name, one.grantor);
    let hint = "Take them back as that role, or take its grant option with REVOKE GRANT OPTION FOR and CASCADE.";
    if left.len() == had.len() {
        return Err(Error::denied(message).hint(hint));
    }
    error::warn(message, hint);
    Ok(())
}

const MAY_GRANT: &str = "SELECT CASE
        WHEN c.relkind OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\" THEN pg_catalog.has_sequence_privilege(c.oid, $2)
        WHEN pg_catalog.cardinality($3::pg_catalog.text[]) OPERATOR(pg_catalog.=) 0
            THEN pg_catalog.has_table_privilege(c.oid, $2)
        ELSE NOT EXISTS (SELECT FROM pg_catalog.unnest($3) AS n (name)
            WHERE NOT pg_catalog.has_column_privilege(c.oid, n.name, $2)) END
    FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1";

/// 42501 unless the caller may pass on all of the rights.
fn require_grant_options(queue: &QueueRow, rights: &[Right]) -> Result<()> {
    for right in rights {
        let columns: Vec<value::Arg> = right.columns.iter().map(|column| value::text(column)).collect();
        let args = [
            (pg_sys::OIDOID, value::oid(right.object)),
            (pg_sys::TEXTOID, value::text(&format!("{} WITH GRANT OPTION", right.privilege))),
            (pg_sys::TEXTARRAYOID, value::text_array(&columns)),
        ];
        if !connected(|spi| Ok(once_latest(spi, MAY_GRANT, &args)?.first().is_some_and(|row| row.flag(1))))? {
            return Err(match right.object == queue.table {
                true => not_allowed(queue),
                false => not_allowed(queue)
                    .detail(format!("Its ids come from sequence {}.", relation::display_name(right.object))),
            });
        }
    }
    Ok(())
}

fn not_allowed(queue: &QueueRow) -> Error {
    Error::denied(format!(
        "permission denied to grant or revoke rights on queue {}",
        relation::display_name(queue.table)
    ))
    .hint("Only the owner, or a role that holds the rights in question with grant option, can do that.")
}

/// Waits for others that change the same access lists: PostgreSQL would fail with "tuple concurrently updated". Whoever
/// may not change them fails right after, and holds up nobody.
fn lock(object: pg_sys::Oid) {
    lock::wait_for_transaction(What::Rights(object));
}

fn lock_sequences(rights: &[Right]) {
    // In ascending order, as they were read.
    rights.iter().filter(|right| right.what == "SEQUENCE").for_each(|right| lock(right.object));
}

fn execute(sql: &str) -> Result<()> {
    connected(|spi| once(spi, sql, &[]).map(|_| ()))
}

const MAY_USE_SCHEMA: &str = "SELECT n.nspname::pg_catalog.text,
        CASE WHEN $2 OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            THEN pg_catalog.has_schema_privilege('public'::pg_catalog.name, n.oid, 'USAGE')
            ELSE pg_catalog.has_schema_privilege($2, n.oid, 'USAGE') END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) $1";

/// Tells of what the role needs besides and qflow does not grant.
fn note_what_is_lacking(queue: &QueueRow, part: Part, role: &Role, rights: &[Right]) -> Result<()> {
    let mut told: Vec<String> = Vec::new();
    for right in rights {
        let args = [(pg_sys::OIDOID, value::oid(right.object)), (pg_sys::OIDOID, role.datum())];
        let schema = connected(|spi| match once_latest(spi, MAY_USE_SCHEMA, &args)?.first() {
            Some(row) if !row.flag(2) => row.text(1),
            _ => Ok(None),
        })?;
        let Some(schema) = schema.filter(|schema| !told.contains(schema)) else {
            continue;
        };
        error::note(
            format!("role \"{}\" has no USAGE on schema \"{schema}\"", role.name),
            format!("GRANT USAGE ON SCHEMA {} TO {};", quoted(&schema), role.sql),
        );
        told.push(schema);
    }
    if part == Part::Producer && rights.iter().all(|right| right.what != "SEQUENCE") {
        error::note(
            format!("the ids of queue {} come from no sequence that qflow knows", relation::display_name(queue.table)),
            "See that the role may evaluate the default of column id.",
        );
    }
    Ok(())
}
