//! What only a table's rows can tell. Reads them all, as the table's owner: planning a query runs what he put into his
//! indexes.

use pgrx::pg_sys;

use super::definition::{Constraint, Filling};
use crate::error::Result;
use crate::host::spi::{connected, once, once_latest};
use crate::host::{identity, value};

/// Status words named at most.
const MOST_WORDS: i64 = 10;

const WORDS: &str = "WITH odd AS (
        SELECT pg_catalog.left(j.status, 40) AS word, pg_catalog.count(*) AS jobs FROM {q} j
        WHERE (j.status OPERATOR(pg_catalog.=) ANY ('{pending,in_progress,completed,failed}')) IS NOT TRUE
        GROUP BY 1)
    SELECT COALESCE(pg_catalog.sum(odd.jobs), 0)::pg_catalog.int8, pg_catalog.count(*),
        (SELECT pg_catalog.string_agg(f.word, ', ' ORDER BY f.word COLLATE pg_catalog.\"C\")
            FROM (SELECT COALESCE(o.word, 'NULL') AS word FROM odd o
                ORDER BY COALESCE(o.word, 'NULL') COLLATE pg_catalog.\"C\" LIMIT $1) f)
    FROM odd";

/// Status words that no queue knows; no status is one of them.
#[derive(Default)]
pub struct Words {
    /// Rows that have one.
    pub rows: i64,
    /// The first ten, cut to 40 characters each, and how many more there are.
    pub named: String,
}

/// Looks for rows whose status is none of the four words.
pub fn unknown_words(owner: pg_sys::Oid, table: &str) -> Result<Words> {
    identity::restricted_as(owner, || {
        connected(|spi| {
            let sql = WORDS.replace("{q}", table);
            let found = once(spi, &sql, &[(pg_sys::INT8OID, value::bigint(MOST_WORDS))])?.first();
            Ok(found.map_or_else(Words::default, |row| {
                // Whatever its bytes: a database without an encoding has any.
                let named = row.datum(3).map(value::to_string_lossy).unwrap_or_default();
                let more = match row.bigint(2).unwrap_or(0) - MOST_WORDS {
                    more @ 1.. => format!(" and {more} more"),
                    _ => String::new(),
                };
                Words { rows: row.bigint(1).unwrap_or(0), named: named + &more }
            }))
        })
    })
}

const BREAKS: &str = "SELECT EXISTS (SELECT FROM {q} WHERE NOT ({condition}))";

/// Whether a row that is there breaks a CHECK: it could not be claimed then.
pub fn is_broken(owner: pg_sys::Oid, filling: &Filling, check: &Constraint) -> Result<bool> {
    let sql = filling.fill(&BREAKS.replace("{condition}", check.condition));
    identity::restricted_as(owner, || {
        connected(|spi| Ok(once_latest(spi, &sql, &[])?.first().is_some_and(|row| row.flag(1))))
    })
}

const AT_ZONE: &str = "SELECT pg_catalog.timezone($1, pg_catalog.now())";

/// Raises 22023 for a time zone that PostgreSQL does not know: as part of a default it would fail every insert.
pub fn check_zone(zone: &str) -> Result<()> {
    connected(|spi| once(spi, AT_ZONE, &[(pg_sys::TEXTOID, value::text(zone))]).map(|_| ()))
}
