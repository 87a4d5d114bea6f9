//! Names as users write them. A queue is named as PostgreSQL reads a table name: `Foo` is foo, `"Foo"` is Foo, `s.jobs`
//! has a schema. Workflows and resources have plain names.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::relation;

/// Longest name in bytes: PostgreSQL's own limit for identifiers.
const MAX_BYTES: usize = 63;

/// A queue's name, taken apart and folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName {
    /// The schema, if one was given.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl QueueName {
    /// Reads a name. 22023 when it is not one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = split(text)?;
        let table = parts.pop().unwrap_or_default();
        let schema = parts.pop();
        if !parts.is_empty() {
            return Err(invalid(text).detail("It has more than two parts."));
        }
        Ok(Self { schema, table })
    }

    /// The table of this name: in its schema, else along the search_path.
    pub fn find(&self) -> Option<pg_sys::Oid> {
        match &self.schema {
            Some(schema) => relation::find(Some(relation::schema(schema)?), &self.table),
            None => relation::find(None, &self.table),
        }
    }
}

impl QueueName {
    /// The table of this name in a schema, whatever schema the name says.
    pub fn find_in(&self, schema: &str) -> Option<pg_sys::Oid> {
        relation::schema(schema).and_then(|oid| relation::find(Some(oid), &self.table))
    }
}

impl std::fmt::Display for QueueName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => write!(f, "{}", self.table),
        }
    }
}

/// Checks a plain name: 1–63 bytes, no control characters. `what` names it in the message.
pub fn check_plain(name: &str, what: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_BYTES || name.chars().any(char::is_control) {
        return Err(Error::bad_value(format!("invalid {what} name"))
            .detail("A name has 1 to 63 bytes and no control characters."));
    }
    Ok(())
}

/// An identifier as SQL writes it, always quoted.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text as SQL writes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn invalid(text: &str) -> Error {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(MAX_BYTES).collect();
    Error::bad_value(format!("invalid queue name: \"{shown}\""))
        .hint("Write it as a table name in SQL: jobs, myschema.jobs, \"Jobs\".")
}

fn split(text: &str) -> Result<Vec<String>> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    loop {
        let (part, after) = if let Some(inner) = rest.strip_prefix('"') { quoted_part(inner) } else { bare_part(rest) }
            .ok_or_else(|| invalid(text))?;
        if part.is_empty() || part.len() > MAX_BYTES || part.chars().any(char::is_control) {
            return Err(invalid(text).detail("Each part has 1 to 63 bytes and no control characters."));
        }
        parts.push(part);
        let after = after.trim_start();
        match after.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if after.is_empty() => return Ok(parts),
            None => return Err(invalid(text)),
        }
    }
}

/// What stands before the closing quote, with doubled quotes undone, and what follows it.
fn quoted_part(inner: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = inner;
    loop {
        let at = rest.find('"')?;
        part.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, rest)),
        }
    }
}

/// An unquoted identifier in lower case, and what follows it.
fn bare_part(text: &str) -> Option<(String, &str)> {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let goes_on = |c: char| starts(c) || c.is_ascii_digit() || c == '$';
    if !text.chars().next().is_some_and(starts) {
        return None;
    }
    let end = text.find(|c| !goes_on(c)).unwrap_or(text.len());
    Some((text[..end].to_ascii_lowercase(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(Option<String>, String)> {
        QueueName::parse(text).ok().map(|name| (name.schema, name.table))
    }

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let table = |name: &str| Some((None, name.to_owned()));
        assert_eq!(parsed("Foo"), table("foo"));
        assert_eq!(parsed("\"Foo\""), table("Foo"));
        assert_eq!(parsed("\"a\"\"b\""), table("a\"b"));
        assert_eq!(parsed(" s . Jobs "), Some((Some("s".into()), "jobs".into())));
        assert_eq!(parsed("\"a.b\""), table("a.b"));
        assert_eq!(parsed("größe"), table("größe"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", " ", ".", "a.", ".a", "a.b.c", "1a", "a b", "\"a", "\"\"", "a-b", "a\u{0}b", "a\"b\"", "a;b"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
        assert!(parsed(&"x".repeat(63)).is_some());
        assert_eq!(parsed(&"x".repeat(64)), None);
    }
}
