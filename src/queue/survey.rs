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

/// Which of some CHECKs a row that is there breaks: it could not be claimed then. One pass over the rows for all of them.
pub fn broken(owner: pg_sys::Oid, filling: &Filling, checks: &[&Constraint]) -> Result<Vec<bool>> {
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    let each: Vec<String> =
        checks.iter().map(|check| format!("pg_catalog.bool_or(NOT ({}))", check.condition)).collect();
    let sql = filling.fill(&format!("SELECT {} FROM {{q}}", each.join(", ")));
    identity::restricted_as(owner, || {
        connected(|spi| {
            let row = once_latest(spi, &sql, &[])?.first();
            Ok((1..=checks.len()).map(|column| row.is_some_and(|row| row.flag(column as i32))).collect())
        })
    })
}

const AT_ZONE: &str = "SELECT pg_catalog.timezone($1, pg_catalog.now())";

/// Raises 22023 for a time zone that PostgreSQL does not know: as part of a default it would fail every insert.
pub fn check_zone(zone: &str) -> Result<()> {
    connected(|spi| once(spi, AT_ZONE, &[(pg_sys::TEXTOID, value::text(zone))]).map(|_| ()))
}
