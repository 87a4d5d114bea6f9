//! The variables that set up a program without changing it.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// What the environment says. A variable that is not set, or empty, is `None`.
///
/// Operators of the Elixir producer set up their workers with these variables, and go on doing so. What a builder sets
/// beats a variable, and a variable beats what the workflow was registered with.
///
/// | variable | meaning |
/// |---|---|
/// | `DATABASE_URL` | the connection string |
/// | `POOL_SIZE` | connections of the pool, 1 or more |
/// | `BROADWAY_CONCURRENCY` | producers of a pipeline, 1 or more |
/// | `BROADWAY_BATCH_SIZE` | size of the batches of a pipeline's batchers, 1 or more |
/// | `PGFLOW_TIMEOUT_MS` | how long a lease holds, 1 or more; at registration, and for each fetch |
/// | `PGFLOW_RETRIES` | how often a job is tried again, 0 or more; at registration only |
/// | `GPU_LOCK_TABLE` | no longer used: one line in the log says where holders are shown now |
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    pub(crate) database_url: Option<String>,
    pub(crate) pool_size: Option<usize>,
    pub(crate) producers: Option<usize>,
    pub(crate) batch_size: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) gpu_lock_table: bool,
}

impl Environment {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// A [configuration](Error::problems) error that names each bad variable and what it should be.
    pub fn read() -> Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere, for tests and for programs that keep their settings elsewhere.
    ///
    /// # Errors
    ///
    /// As [`read`](Environment::read).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut reader = Reader { lookup, problems: Vec::new() };
        let environment = Environment {
            database_url: reader.text("DATABASE_URL"),
            pool_size: reader.number("POOL_SIZE", 1),
            producers: reader.number("BROADWAY_CONCURRENCY", 1),
            batch_size: reader.number("BROADWAY_BATCH_SIZE", 1),
            timeout: reader.number("PGFLOW_TIMEOUT_MS", 1u32).map(|ms| Duration::from_millis(ms.into())),
            retries: reader.number("PGFLOW_RETRIES", 0),
            gpu_lock_table: reader.text("GPU_LOCK_TABLE").is_some(),
        };
        if reader.problems.is_empty() {
            Ok(environment)
        } else {
            Err(Error::configuration(reader.problems))
        }
    }
}

/// The connection string holds a password.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("database_url", &self.database_url.as_ref().map(|_| "set"))
            .field("pool_size", &self.pool_size)
            .field("producers", &self.producers)
            .field("batch_size", &self.batch_size)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

struct Reader<L> {
    lookup: L,
    problems: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn number<T: FromStr + PartialOrd + std::fmt::Display>(&mut self, name: &str, least: T) -> Option<T> {
        let text = self.text(name)?;
        match text.trim().parse::<T>() {
            Ok(number) if number >= least => Some(number),
            _ => {
                self.problems.push(format!("{name} must be a whole number of {least} or more"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Environment> {
        Environment::from_lookup(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_not_set_is_not_given() {
        assert_eq!(from(&[("POOL_SIZE", "")]).unwrap(), Environment::default());
    }

    #[test]
    fn each_bad_variable_is_named() {
        let bad = from(&[
            ("POOL_SIZE", "0"),
            ("BROADWAY_CONCURRENCY", "many"),
            ("PGFLOW_TIMEOUT_MS", "5s"),
            ("PGFLOW_RETRIES", "0"),
        ]);
        let problems = bad.unwrap_err().problems().to_vec();
        assert_eq!(problems.len(), 3, "{problems:?}");
        for name in ["POOL_SIZE", "BROADWAY_CONCURRENCY", "PGFLOW_TIMEOUT_MS"] {
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name} in {problems:?}");
        }
    }

    #[test]
    fn the_connection_string_is_not_shown() {
        let environment = from(&[("DATABASE_URL", "postgres://u:secret@h/d")]).unwrap();
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
