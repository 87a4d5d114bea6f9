//! Where new ids come from.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::identity::{Settings, PINNED_PATH};
use crate::host::spi::{connected, once};
use crate::host::value;

/// The default of the column `id`, ready to be evaluated.
pub struct IdDefault {
    /// As SQL; for an identity column the call that draws from its sequence.
    pub sql: String,
    /// Whether it has to be read under the search_path that it was printed for.
    pub needs_pinned_path: bool,
}

/// The default of a table's column `id`. 55000 when it has none.
pub fn of(table: pg_sys::Oid) -> Result<IdDefault> {
    const ID_EXPRESSION: &str = "SELECT CASE WHEN a.attidentity OPERATOR(pg_catalog.<>) ''::\"char\"
            THEN pg_catalog.format('pg_catalog.nextval(%L::pg_catalog.regclass)', s.objid::pg_catalog.regclass::pg_catalog.text)
            ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
            AND d.adnum OPERATOR(pg_catalog.=) a.attnum
        LEFT JOIN pg_catalog.pg_depend s ON s.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
            AND s.refobjid OPERATOR(pg_catalog.=) a.attrelid AND s.refobjsubid OPERATOR(pg_catalog.=) a.attnum
            AND s.deptype OPERATOR(pg_catalog.=) 'i'::\"char\"
            AND s.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) 'id'::pg_catalog.name
            AND NOT a.attisdropped";
    let _pinned = Settings::change(&[PINNED_PATH]);
    let found = connected(|spi| match once(spi, ID_EXPRESSION, &[(pg_sys::OIDOID, value::oid(table))])?.first() {
        Some(row) => row.text(1),
        None => Ok(None),
    })?;
    let found = found.ok_or_else(|| {
        Error::not_ready("the queue's column id has no default")
            .hint("Run qflow.verify on the queue: it says what to do.")
    })?;
    Ok(match sequence_in(&found) {
        Some(sequence) => {
            IdDefault { sql: format!("pg_catalog.nextval({sequence}::pg_catalog.regclass)"), needs_pinned_path: false }
        }
        None => IdDefault { needs_pinned_path: !found.starts_with("pg_catalog."), sql: found },
    })
}

/// The quoted name of the sequence, where a default is what `serial` makes of a column.
fn sequence_in(default: &str) -> Option<&str> {
    let name = default.strip_prefix("nextval(")?.strip_suffix("::regclass)")?;
    let inner = name.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.replace("''", "").contains('\'')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::sequence_in;

    #[test]
    fn only_a_plain_nextval_is_one() {
        assert_eq!(sequence_in("nextval('public.jobs_id_seq'::regclass)"), Some("'public.jobs_id_seq'"));
        assert_eq!(sequence_in("nextval('\"a''b\"'::regclass)"), Some("'\"a''b\"'"));
        assert_eq!(sequence_in("nextval('a'::regclass) + nextval('b'::regclass)"), None);
        assert_eq!(sequence_in("public.my_id()"), None);
    }
}
