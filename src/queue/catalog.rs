//! What PostgreSQL's catalog says of a table, as far as it matters for a queue. Read as the caller; nothing is decided
//! here.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::identity::{Settings, PINNED_PATH};
use crate::host::spi::{connected, once_latest, Row};
use crate::host::value;

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// `r` for an ordinary one, else as in `pg_class.relkind`.
    pub kind: String,
    /// `p` for a permanent one, `u` unlogged, `t` temporary.
    pub persistence: String,
    /// Whether it is a partition.
    pub is_partition: bool,
    /// Whether others inherit from it.
    pub has_children: bool,
    /// Whether it inherits from others.
    pub has_parents: bool,
    /// Its access method.
    pub method: String,
    /// The extension that it is a member of.
    pub extension: Option<String>,
    /// Whether row security is enabled, and whether it is forced on the owner too.
    pub row_security: (bool, bool),
    /// Its owner's name, quoted where needed.
    pub owner: String,
    /// Its storage settings, each as `name=value`.
    pub options: Vec<String>,
}

const TABLE: &str = "SELECT c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text, c.relispartition,
        EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid),
        EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid),
        (SELECT m.amname::pg_catalog.text FROM pg_catalog.pg_am m WHERE m.oid OPERATOR(pg_catalog.=) c.relam),
        (SELECT e.extname::pg_catalog.text FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
            WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::\"char\"
                AND d.refclassid OPERATOR(pg_catalog.=)
                    'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid LIMIT 1),
        c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
        pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text)
    FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1";

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: pg_sys::Oid,
    /// Its type as SQL writes it.
    pub type_name: String,
    /// Longest text that a varchar takes, in characters.
    pub max_length: Option<i32>,
    /// Its default as the server prints it.
    pub default: Option<String>,
    /// Whether ids come from an identity.
    pub is_identity: bool,
    /// Whether it is computed from others.
    pub is_generated: bool,
    /// Whether it refuses NULL.
    pub is_not_null: bool,
}

const COLUMNS: &str = "SELECT a.attname::pg_catalog.text, a.atttypid,
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.atttypid OPERATOR(pg_catalog.=) 'pg_catalog.varchar'::pg_catalog.regtype::pg_catalog.oid
            AND a.atttypmod OPERATOR(pg_catalog.>) 4 THEN a.atttypmod OPERATOR(pg_catalog.-) 4 END,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attidentity OPERATOR(pg_catalog.<>) ''::\"char\",
        a.attgenerated OPERATOR(pg_catalog.<>) ''::\"char\", a.attnotnull
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
        AND d.adnum OPERATOR(pg_catalog.=) a.attnum
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped";

/// An index.
#[derive(Debug, Clone)]
pub struct Index {
    /// Its qualified name, quoted where needed.
    pub name: String,
    /// Its key columns; expressions are left out.
    pub keys: Vec<String>,
    /// Its predicate as the server prints it.
    pub predicate: Option<String>,
    /// Whether it is a valid B-tree of plain columns in their usual order.
    pub is_plain: bool,
    /// Whether it enforces that its keys are unique.
    pub is_unique: bool,
    /// Every column that it mentions, expressions and predicate included.
    pub mentions: Vec<String>,
    /// Whether a constraint stands on it.
    pub constraint: Option<String>,
}

const INDEXES: &str = "SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text,
        (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.ord)
            FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k (attnum, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                AND a.attnum OPERATOR(pg_catalog.=) k.attnum
            WHERE k.ord OPERATOR(pg_catalog.<=) i.indnkeyatts),
        pg_catalog.pg_get_expr(i.indpred, i.indrelid),
        i.indisvalid AND i.indisready AND i.indexprs IS NULL AND m.amname OPERATOR(pg_catalog.=) 'btree'
            AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indoption) AS o (bits)
                WHERE o.bits OPERATOR(pg_catalog.<>) 0)
            AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indclass) AS u (class)
                JOIN pg_catalog.pg_opclass oc ON oc.oid OPERATOR(pg_catalog.=) u.class WHERE NOT oc.opcdefault),
        i.indisunique,
        (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                AND a.attnum OPERATOR(pg_catalog.>) 0
                AND (EXISTS (SELECT FROM pg_catalog.unnest(i.indkey) AS k (attnum)
                        WHERE k.attnum OPERATOR(pg_catalog.=) a.attnum)
                    OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid OPERATOR(pg_catalog.=)
                                'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                            AND d.objid OPERATOR(pg_catalog.=) i.indexrelid
                            AND d.refclassid OPERATOR(pg_catalog.=)
                                'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                            AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid
                            AND d.refobjsubid OPERATOR(pg_catalog.=) a.attnum))),
        (SELECT pg_catalog.quote_ident(n.conname::pg_catalog.text) FROM pg_catalog.pg_constraint n
            WHERE n.conindid OPERATOR(pg_catalog.=) i.indexrelid
                AND n.conrelid OPERATOR(pg_catalog.=) i.indrelid LIMIT 1)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
    WHERE i.indrelid OPERATOR(pg_catalog.=) $1
    ORDER BY 1";

/// A trigger.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Its name, or that of the constraint that it belongs to.
    pub name: String,
    /// `A` for one that is always enabled, else as in `pg_trigger.tgenabled`.
    pub enabled: String,
    /// Whether its work waits until the transaction ends.
    pub is_deferred: bool,
    /// Whether it calls `qflow.return_job`.
    pub returns_jobs: bool,
    /// What makes it, as the server prints it; nothing of one that the server made for a constraint.
    pub definition: Option<String>,
    /// The constraint that it belongs to.
    pub constraint: Option<TriggerConstraint>,
}

/// The constraint of a trigger.
#[derive(Debug, Clone)]
pub struct TriggerConstraint {
    /// `f` for a foreign key, `t` for a constraint trigger, else as in `pg_constraint.contype`.
    pub kind: String,
    /// Its name, quoted where needed.
    pub name: String,
    /// The table that it stands on, qualified, quoted where needed: for a foreign key it may be another one.
    pub table: String,
}

const TRIGGERS: &str = "SELECT COALESCE(n.conname, t.tgname)::pg_catalog.text, t.tgenabled::pg_catalog.text,
        t.tginitdeferred,
        t.tgfoid OPERATOR(pg_catalog.=) 'qflow.return_job'::pg_catalog.regproc::pg_catalog.oid,
        CASE WHEN NOT t.tgisinternal THEN pg_catalog.pg_get_triggerdef(t.oid, false) END,
        n.contype::pg_catalog.text, pg_catalog.quote_ident(n.conname::pg_catalog.text),
        n.conrelid::pg_catalog.regclass::pg_catalog.text
    FROM pg_catalog.pg_trigger t
    LEFT JOIN pg_catalog.pg_constraint n ON n.oid OPERATOR(pg_catalog.=) t.tgconstraint
    WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 ORDER BY 1";

/// A CHECK.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// The columns that it mentions.
    pub mentions: Vec<String>,
}

const CONSTRAINTS: &str = "SELECT n.conname::pg_catalog.text,
        (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid OPERATOR(pg_catalog.=) n.conrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (n.conkey))
    FROM pg_catalog.pg_constraint n
    WHERE n.conrelid OPERATOR(pg_catalog.=) $1 AND n.contype OPERATOR(pg_catalog.=) 'c'::\"char\" ORDER BY 1";

/// What kind of table it is; `None` when it is gone.
pub fn table(oid: pg_sys::Oid) -> Result<Option<Table>> {
    let found = read(TABLE, oid, |row| {
        Ok(Table {
            kind: text(row, 1),
            persistence: text(row, 2),
            is_partition: row.flag(3),
            has_children: row.flag(4),
            has_parents: row.flag(5),
            method: text(row, 6),
            extension: opt_text(row, 7),
            row_security: (row.flag(8), row.flag(9)),
            options: list(row, 10),
            owner: text(row, 11),
        })
    })?;
    Ok(found.into_iter().next())
}

/// Its columns.
pub fn columns(table: pg_sys::Oid) -> Result<Vec<Column>> {
    read(COLUMNS, table, |row| {
        Ok(Column {
            name: text(row, 1),
            type_oid: row.oid(2).ok_or_else(|| Error::internal("a column without type"))?,
            type_name: text(row, 3),
            max_length: row.int(4),
            default: opt_text(row, 5),
            is_identity: row.flag(6),
            is_generated: row.flag(7),
            is_not_null: row.flag(8),
        })
    })
}

/// Its indexes, in the order of their names.
pub fn indexes(table: pg_sys::Oid) -> Result<Vec<Index>> {
    read(INDEXES, table, |row| {
        Ok(Index {
            name: text(row, 1),
            keys: list(row, 2),
            predicate: opt_text(row, 3),
            is_plain: row.flag(4),
            is_unique: row.flag(5),
            mentions: list(row, 6),
            constraint: opt_text(row, 7),
        })
    })
}

/// Its triggers, those of constraints included.
pub fn triggers(table: pg_sys::Oid) -> Result<Vec<Trigger>> {
    read(TRIGGERS, table, |row| {
        let constraint =
            row.datum(6).map(|_| TriggerConstraint { kind: text(row, 6), name: text(row, 7), table: text(row, 8) });
        Ok(Trigger {
            name: text(row, 1),
            enabled: text(row, 2),
            is_deferred: row.flag(3),
            returns_jobs: row.flag(4),
            definition: opt_text(row, 5),
            constraint,
        })
    })
}

/// Its CHECKs, in the order of their names.
pub fn constraints(table: pg_sys::Oid) -> Result<Vec<Constraint>> {
    read(CONSTRAINTS, table, |row| Ok(Constraint { name: text(row, 1), mentions: list(row, 2) }))
}

/// Runs a query on the catalog that takes a table, with the newest snapshot: what an older one shows may be gone. Names in
/// what it prints are qualified: the search_path is pinned.
fn read<T>(sql: &str, table: pg_sys::Oid, each: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    let _pinned = Settings::change(&[PINNED_PATH]);
    connected(|spi| {
        let rows = once_latest(spi, sql, &[(pg_sys::OIDOID, value::oid(table))])?;
        let found: Result<Vec<T>> = rows.iter().map(|row| each(&row)).collect();
        found
    })
}

/// A text for people and for comparison with qflow's own names: what is not UTF-8 in it is replaced.
fn text(row: &Row, column: i32) -> String {
    opt_text(row, column).unwrap_or_default()
}

fn opt_text(row: &Row, column: i32) -> Option<String> {
    row.datum(column).map(value::to_string_lossy)
}

/// A `text[]`, as texts of that kind.
fn list(row: &Row, column: i32) -> Vec<String> {
    let elements = row.datum(column).map(|datum| value::varlena_elements(datum, pg_sys::TEXTOID)).unwrap_or_default();
    elements.into_iter().flatten().map(value::to_string_lossy).collect()
}
