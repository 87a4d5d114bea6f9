//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// Why a call did not do what it was asked to.
///
/// A caller has two questions: is it worth trying again ([`is_retryable`](Error::is_retryable)), and what does the
/// database call it ([`code`](Error::code)). Everything else is for people, and neither a payload nor a connection
/// string is ever part of it.
#[derive(Clone)]
pub struct Error(Arc<Kind>);

enum Kind {
    Postgres(tokio_postgres::Error),
    NoConnection { why: &'static str, retryable: bool },
    Payload { what: &'static str, category: &'static str, line: usize, column: usize },
    Answer { what: &'static str, source: tokio_postgres::Error },
    Configuration(Vec<String>),
    Stopped,
    Lost,
    NotAccepted { verdict: &'static str },
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same call may succeed when it is repeated: the connection was lost, the server starts or stops, a
    /// deadlock or a serialization failure ended the transaction, a limit on connections or locks was hit.
    ///
    /// Inside a transaction of your own it is the transaction that has to be repeated, not the call.
    pub fn is_retryable(&self) -> bool {
        match &*self.0 {
            Kind::Postgres(error) => error.code().map_or_else(|| !is_about_values(error), is_passing),
            Kind::NoConnection { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// The SQLSTATE, five characters, when the database raised the error; `docs/sql-api.md` has a table of those that
    /// qflow raises.
    pub fn code(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Postgres(error) => error.code().map(SqlState::code),
            _ => None,
        }
    }

    /// Whether the error says that a job's lease has ended: what was done for the job must not count.
    pub fn is_lost(&self) -> bool {
        matches!(&*self.0, Kind::Lost | Kind::NotAccepted { .. })
    }

    /// What is wrong with a configuration, one sentence for each fault; empty for other errors.
    pub fn problems(&self) -> &[String] {
        match &*self.0 {
            Kind::Configuration(problems) => problems,
            _ => &[],
        }
    }

    pub(crate) fn configuration(problems: Vec<String>) -> Self {
        Error(Arc::new(Kind::Configuration(problems)))
    }

    pub(crate) fn stopped() -> Self {
        Error(Arc::new(Kind::Stopped))
    }

    pub(crate) fn lost() -> Self {
        Error(Arc::new(Kind::Lost))
    }

    pub(crate) fn not_accepted(verdict: &'static str) -> Self {
        Error(Arc::new(Kind::NotAccepted { verdict }))
    }

    pub(crate) fn answer(what: &'static str, source: tokio_postgres::Error) -> Self {
        Error(Arc::new(Kind::Answer { what, source }))
    }

    pub(crate) fn no_connection(why: &'static str) -> Self {
        Error(Arc::new(Kind::NoConnection { why, retryable: true }))
    }

    /// serde's own message may quote the payload; where it stopped is enough.
    pub(crate) fn payload(what: &'static str, error: &serde_json::Error) -> Self {
        let category = match error.classify() {
            serde_json::error::Category::Io => "input",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "type",
            serde_json::error::Category::Eof => "unexpected end",
        };
        Error(Arc::new(Kind::Payload { what, category, line: error.line(), column: error.column() }))
    }
}

/// Errors without a code are the connection's, except those about a value that could not be sent or read.
fn is_about_values(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    ["error serializing", "error deserializing", "invalid column", "error parsing"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Codes of what passes by itself.
fn is_passing(code: &SqlState) -> bool {
    const CLASSES: [&str; 3] = ["08", "40", "53"];
    const CODES: [&str; 7] = ["25006", "55P03", "55006", "57014", "57P01", "57P02", "57P03"];
    let code = code.code();
    CLASSES.iter().any(|class| code.starts_with(class)) && code != "53400" || CODES.contains(&code)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Postgres(error) => write_postgres(error, f),
            Kind::NoConnection { why, .. } => write!(f, "no connection to the database: {why}"),
            Kind::Payload { what, category, line, column } => {
                write!(f, "{what}: {category} error at line {line} column {column}")
            }
            Kind::Answer { what, .. } => write!(f, "the database answered something unexpected for {what}"),
            Kind::Configuration(problems) => write!(f, "this configuration cannot work: {}", problems.join("; ")),
            Kind::Stopped => write!(f, "the consumer has been stopped"),
            Kind::Lost => write!(f, "the lease of this job has ended"),
            Kind::NotAccepted { verdict } => write!(f, "the job could not be settled: {verdict}"),
        }
    }
}

fn write_postgres(error: &tokio_postgres::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(raised) = error.as_db_error() else {
        write!(f, "{error}")?;
        return match error.source() {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        };
    };
    write!(f, "{} ({})", raised.message(), raised.code().code())?;
    match raised.hint() {
        Some(hint) => write!(f, "; {hint}"),
        None => Ok(()),
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Postgres(error) => error.source(),
            Kind::Answer { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error(Arc::new(Kind::Postgres(error)))
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Error::no_connection("none of the pool was free in time"),
            PoolError::Closed => Error(Arc::new(Kind::NoConnection { why: "the pool is closed", retryable: false })),
            _ => Error::no_connection("the pool could not give one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_retryable_and_what_a_user_did_wrong_is_not() {
        for code in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "25006", "57014"] {
            assert!(is_passing(&SqlState::from_code(code)), "{code}");
        }
        for code in ["22023", "42704", "42501", "25001", "55000", "53400", "XX000"] {
            assert!(!is_passing(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn a_payload_that_does_not_decode_is_not_quoted() {
        let error = serde_json::from_str::<u8>("\"a secret\"").unwrap_err();
        let shown = format!("{0} {0:?}", Error::payload("the payload", &error));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("type error at line 1 column 10"), "{shown}");
    }
}
