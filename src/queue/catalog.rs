//! What PostgreSQL's catalog says of a table, as far as it matters for a queue. Read as the caller; nothing is decided
//! here.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::expression;
use crate::host::identity::{Settings, PINNED_PATH};
use crate::host::snapshot::Latest;
use crate::host::spi::{connected, kept, Mode, Row};
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
    /// Whether it has rules.
    pub has_rules: bool,
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
        pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text),
        EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid)
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
    /// Its place in the rows, from 1.
    pub number: usize,
    /// The columns that it is computed from.
    pub computed_from: Vec<String>,
    /// Whether its type is a domain, which may refuse NULL.
    pub is_domain: bool,
}

const COLUMNS: &str = "SELECT a.attname::pg_catalog.text, a.atttypid,
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.atttypid OPERATOR(pg_catalog.=) 'pg_catalog.varchar'::pg_catalog.regtype::pg_catalog.oid
            AND a.atttypmod OPERATOR(pg_catalog.>) 4 THEN a.atttypmod OPERATOR(pg_catalog.-) 4 END,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attidentity OPERATOR(pg_catalog.<>) ''::\"char\",
        a.attgenerated OPERATOR(pg_catalog.<>) ''::\"char\", a.attnotnull, a.attnum::pg_catalog.int8,
        CASE WHEN a.attgenerated OPERATOR(pg_catalog.<>) ''::\"char\" THEN (
            SELECT pg_catalog.array_agg(f.attname::pg_catalog.text) FROM pg_catalog.pg_depend p
            JOIN pg_catalog.pg_attribute f ON f.attrelid OPERATOR(pg_catalog.=) a.attrelid
                AND f.attnum OPERATOR(pg_catalog.=) p.refobjsubid
            WHERE p.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                AND p.refobjid OPERATOR(pg_catalog.=) a.attrelid
                AND (p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid
                        AND p.objid OPERATOR(pg_catalog.=) d.oid
                    OR p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                        AND p.objid OPERATOR(pg_catalog.=) a.attrelid
                        AND p.objsubid OPERATOR(pg_catalog.=) a.attnum)) END,
        EXISTS (SELECT FROM pg_catalog.pg_type y WHERE y.oid OPERATOR(pg_catalog.=) a.atttypid
            AND y.typtype OPERATOR(pg_catalog.=) 'd'::\"char\")
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
    /// Its number in the catalog.
    pub oid: pg_sys::Oid,
    /// Whether it may mention more than the catalog names, such as the whole row.
    pub mentions_more: bool,
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
                AND n.conrelid OPERATOR(pg_catalog.=) i.indrelid LIMIT 1),
        i.indexrelid,
        EXISTS (SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                AND d.objid OPERATOR(pg_catalog.=) i.indexrelid
                AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid AND d.refobjsubid OPERATOR(pg_catalog.=) 0)
            AND pg_catalog.strpos(pg_catalog.concat(pg_catalog.pg_get_expr(i.indexprs, i.indrelid),
                pg_catalog.pg_get_expr(i.indpred, i.indrelid)), '.*') OPERATOR(pg_catalog.>) 0
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
    /// What it acts on: INSERT, UPDATE, DELETE.
    pub events: [bool; 3],
    /// Whether it acts on each row, after it.
    pub is_after_row: bool,
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
    /// Whether that is the table of the trigger.
    pub is_own: bool,
}

const TRIGGERS: &str = "SELECT COALESCE(n.conname, t.tgname)::pg_catalog.text, t.tgenabled::pg_catalog.text,
        t.tginitdeferred,
        t.tgfoid OPERATOR(pg_catalog.=) 'qflow.return_job'::pg_catalog.regproc::pg_catalog.oid,
        CASE WHEN NOT t.tgisinternal THEN pg_catalog.pg_get_triggerdef(t.oid, false) END,
        n.contype::pg_catalog.text, pg_catalog.quote_ident(n.conname::pg_catalog.text),
        n.conrelid::pg_catalog.regclass::pg_catalog.text, n.conrelid OPERATOR(pg_catalog.=) t.tgrelid,
        (t.tgtype OPERATOR(pg_catalog.&) 4::pg_catalog.int2) OPERATOR(pg_catalog.<>) 0,
        (t.tgtype OPERATOR(pg_catalog.&) 16::pg_catalog.int2) OPERATOR(pg_catalog.<>) 0,
        (t.tgtype OPERATOR(pg_catalog.&) 8::pg_catalog.int2) OPERATOR(pg_catalog.<>) 0,
        (t.tgtype OPERATOR(pg_catalog.&) 67::pg_catalog.int2) OPERATOR(pg_catalog.=) 1
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
    /// Whether it mentions more than columns, such as the whole row.
    pub mentions_more: bool,
    /// What it says, as the server prints it.
    pub definition: String,
    /// Whether a row that has passed it passes it as long as what it mentions stays as it is: all rows have passed, and it
    /// asks nothing but the row.
    pub is_lasting: bool,
}

const CONSTRAINTS: &str = "SELECT n.conname::pg_catalog.text,
        (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid OPERATOR(pg_catalog.=) n.conrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (n.conkey)),
        EXISTS (SELECT FROM pg_catalog.unnest(n.conkey) AS k (attnum) WHERE k.attnum OPERATOR(pg_catalog.<=) 0),
        pg_catalog.pg_get_constraintdef(n.oid), n.convalidated, n.conbin::pg_catalog.text
    FROM pg_catalog.pg_constraint n
    WHERE n.conrelid OPERATOR(pg_catalog.=) $1 AND n.contype OPERATOR(pg_catalog.=) 'c'::\"char\" ORDER BY 1";

/// All of it.
pub struct Facts {
    /// The table itself.
    pub table: Table,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// Its triggers.
    pub triggers: Vec<Trigger>,
    /// Its CHECKs.
    pub constraints: Vec<Constraint>,
}

impl Facts {
    /// Of a table; `None` when it is gone.
    pub fn of(oid: pg_sys::Oid) -> Result<Option<Self>> {
        let Some(table) = table(oid)? else {
            return Ok(None);
        };
        let (columns, indexes) = (columns(oid)?, indexes(oid)?);
        Ok(Some(Self { table, columns, indexes, triggers: triggers(oid)?, constraints: constraints(oid)? }))
    }
}

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
            has_rules: row.flag(12),
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
            number: row.bigint(9).unwrap_or_default() as usize,
            computed_from: list(row, 10),
            is_domain: row.flag(11),
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
            oid: row.oid(8).unwrap_or(pg_sys::InvalidOid),
            mentions_more: row.flag(9),
        })
    })
}

/// Its triggers, those of constraints included.
pub fn triggers(table: pg_sys::Oid) -> Result<Vec<Trigger>> {
    read(TRIGGERS, table, |row| {
        let constraint = row.datum(6).map(|_| TriggerConstraint {
            kind: text(row, 6),
            name: text(row, 7),
            table: text(row, 8),
            is_own: row.flag(9),
        });
        Ok(Trigger {
            name: text(row, 1),
            enabled: text(row, 2),
            is_deferred: row.flag(3),
            returns_jobs: row.flag(4),
            definition: opt_text(row, 5),
            constraint,
            events: [row.flag(10), row.flag(11), row.flag(12)],
            is_after_row: row.flag(13),
        })
    })
}

/// Its CHECKs, in the order of their names.
pub fn constraints(table: pg_sys::Oid) -> Result<Vec<Constraint>> {
    read(CONSTRAINTS, table, |row| {
        Ok(Constraint {
            name: text(row, 1),
            mentions: list(row, 2),
            mentions_more: row.flag(3),
            definition: text(row, 4),
            is_lasting: row.flag(5) && row.datum(6).is_some_and(expression::is_immutable),
        })
    })
}

/// Runs a query on the catalog that takes a table, with the newest snapshot: what an older one shows may be gone. Names in
/// what it prints are qualified: the search_path is pinned.
fn read<T>(sql: &'static str, table: pg_sys::Oid, each: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    let _pinned = Settings::change(&[PINNED_PATH]);
    connected(|spi| {
        let plan = kept(spi, sql, &[pg_sys::OIDOID])?;
        let _snapshot = Latest::take();
        let rows = plan.run(spi, &[value::oid(table)], Mode::Read)?;
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
