//! The first layer: qflow's SQL functions, typed.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{NoTls, Row};

use crate::connection::{Argument, Connection, Pooled};
use crate::environment::Environment;
use crate::error::{Error, Result};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be without a sign of life.
const SILENCE: Duration = Duration::from_secs(30);

/// qflow's SQL functions with Rust's types.
///
/// A program that only adds jobs needs nothing else; the [`Consumer`](crate::Consumer) and the
/// [`Pipeline`](crate::Pipeline) are built from these calls. The methods have the names of the functions, take
/// [`Duration`]s where those take milliseconds and anything that implements serde's traits where those take `jsonb`.
///
/// A client made by [`open`](Client::open) has a pool and can be cloned freely. One made by [`on`](Client::on) runs on
/// a connection or transaction of yours:
///
/// ```no_run
/// # async fn example(mut connection: tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use qflow_client::{Client, EnqueueOptions};
///
/// let transaction = connection.transaction().await?;
/// transaction.execute("INSERT INTO orders (id) VALUES (7)", &[]).await?;
/// Client::on(&transaction).enqueue("mail", &"order 7 is in", EnqueueOptions::default()).await?;
/// transaction.commit().await?; // the order and its job exist, or neither does
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Each call fails with [`Error::is_retryable`] where the connection was lost or the server said that trying again may
/// help, else with the SQLSTATE that `docs/sql-api.md` gives for the function. Calls repeat nothing by themselves.
#[derive(Clone, Debug)]
pub struct Client<C = Pooled> {
    pub(crate) on: C,
}

/// How a client connects. `ClientOptions::default()` is right for one process that talks to the server directly.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Most connections that the pool opens, 1 or more. A consumer or pipeline uses three of them by itself. Default 10.
    pub pool_size: usize,
    /// Whether a pooler in transaction mode stands between the program and the server. Then no statement is prepared by
    /// name, since the next one may reach another server connection. Default false.
    pub behind_pooler: bool,
    /// How long a call waits for a connection of the pool to become free before it fails, retryable. Default 30 s.
    pub acquire_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { pool_size: 10, behind_pooler: false, acquire_timeout: Duration::from_secs(30) }
    }
}

impl Client {
    /// A client for the database that a connection string names (`postgres://…` or `host=… dbname=…`).
    ///
    /// Connects when the first call needs it, so that a program can start before its server. The connections are not
    /// encrypted; for TLS make a pool of your own and use [`from_pool`](Client::from_pool).
    ///
    /// # Errors
    ///
    /// When the text is no connection string, asks for TLS, or the pool would have no connection. The error does not
    /// repeat the text.
    pub fn open(url: &str, options: ClientOptions) -> Result<Self> {
        let mut problems = Vec::new();
        if options.pool_size == 0 {
            problems.push("a pool needs at least one connection".to_owned());
        }
        let mut config = match url.parse::<tokio_postgres::Config>() {
            Ok(config) => config,
            Err(_) => {
                return Err(Error::configuration(vec!["the database's address is not a connection string".to_owned()]))
            }
        };
        if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
            problems.push("sslmode=require needs a pool with TLS: use Client::from_pool".to_owned());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A server that went away without a word is noticed in a minute, not in hours.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE).keepalives_idle(SILENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("qflow-client");
        }
        if !problems.is_empty() {
            return Err(Error::configuration(problems));
        }
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let timeouts = Timeouts { wait: Some(options.acquire_timeout), create: Some(CONNECT_TIMEOUT), recycle: None };
        let pool =
            Pool::builder(manager).max_size(options.pool_size).timeouts(timeouts).runtime(Runtime::Tokio1).build();
        let pool = pool.map_err(|_| Error::no_connection("the pool could not be made"))?;
        Ok(Client { on: Pooled { pool, prepared: !options.behind_pooler } })
    }

    /// A client from the environment: `DATABASE_URL` (required) and `POOL_SIZE`.
    ///
    /// # Errors
    ///
    /// When a variable is missing or bad; the error names it.
    pub fn from_env() -> Result<Self> {
        let environment = Environment::read()?;
        let Some(url) = &environment.database_url else {
            return Err(Error::configuration(vec!["DATABASE_URL is not set".to_owned()]));
        };
        let mut options = ClientOptions::default();
        if let Some(size) = environment.pool_size {
            options.pool_size = size;
        }
        Client::open(url, options).map_err(|error| Error::configuration(vec![format!("DATABASE_URL: {error}")]))
    }

    /// A client on a pool of yours, with its TLS and its limits.
    ///
    /// `behind_pooler` is as in [`ClientOptions`].
    pub fn from_pool(pool: Pool, behind_pooler: bool) -> Self {
        Client { on: Pooled { pool, prepared: !behind_pooler } }
    }

    /// The pool, for statements of your own: its connections and transactions go into [`Client::on`].
    pub fn pool(&self) -> &Pool {
        &self.on.pool
    }
}

impl<'c, C: Connection> Client<&'c C> {
    /// The same calls on a connection or transaction of yours. Nothing is prepared by name on it.
    pub fn on(connection: &'c C) -> Self {
        Client { on: connection }
    }
}

impl<C: Connection> Client<C> {
    pub(crate) async fn rows(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
        self.on.run(sql, arguments).await
    }

    /// The one value of a function that returns one.
    pub(crate) async fn value<T: FromSqlOwned>(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<T> {
        let rows = self.rows(sql, arguments).await?;
        let row = rows.first().ok_or_else(|| Error::no_connection("a function returned no row"))?;
        column(row, 0)
    }
}

/// A column of an answer; what cannot be read is an error of its own, since repeating the call would not mend it.
pub(crate) fn column<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| Error::answer("a column", error))
}
