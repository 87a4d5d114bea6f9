//! Databases for the tests: each test has one of its own, with qflow, on the server that the environment names.
//!
//! `QFLOW_CLIENT_SERVER` is a connection string without a database (`host=… user=…`). Without it a test says that it is
//! not run. The database is left behind; the server is thrown away.
#![allow(dead_code)] // each test file uses its part

pub mod pgbouncer;
pub mod pooler;
pub mod server;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qflow_client::{Client, ClientOptions, EnqueueOptions, QueueSettings};
use tokio_postgres::NoTls;

pub type Tested = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub struct Database {
    pub url: String,
    pub client: Client,
}

/// The server of the tests, or `None` after saying why the test is not run.
pub fn server() -> Option<String> {
    let server = std::env::var("QFLOW_CLIENT_SERVER").ok();
    if server.is_none() {
        eprintln!("not run: QFLOW_CLIENT_SERVER names no server");
    }
    server
}

/// A database with qflow for a test, on the server of the tests. With `QFLOW_CLIENT_POOLER` its client goes through a pooler
/// in transaction mode.
pub async fn database() -> Option<Database> {
    let mut db = database_on(&server()?).await;
    if std::env::var("QFLOW_CLIENT_POOLER").is_ok() {
        let pooler = pooler::start(&db, 10).await;
        let options = ClientOptions { behind_pooler: true, ..ClientOptions::default() };
        db.client = Client::open(&pooler.url, options).unwrap();
    }
    Some(db)
}

pub async fn database_on(server: &str) -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("client_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    connect(&format!("{server} dbname=postgres"))
        .await
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let url = format!("{server} dbname={name}");
    connect(&url).await.batch_execute("CREATE EXTENSION qflow").await.unwrap();
    let client = Client::open(&url, ClientOptions::default()).unwrap();
    Database { url, client }
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    /// A queue, with a workflow of the same name, whose jobs are tried again at once.
    pub async fn queue(&self, name: &str, settings: QueueSettings) {
        self.client.create_queue(name, &settings, false, None).await.unwrap();
        let at_once = qflow_client::WorkflowSettings {
            retry_delay: Some(Duration::ZERO),
            retry_max_delay: Some(Duration::from_millis(1)),
            ..Default::default()
        };
        self.client.alter_workflow(name, &at_once).await.unwrap();
    }

    /// Jobs with the payloads 0, 1, 2, …
    pub async fn jobs(&self, queue: &str, number: u32) -> Vec<i64> {
        let data: Vec<u32> = (0..number).collect();
        self.client.enqueue_batch(queue, &data, EnqueueOptions::default()).await.unwrap()
    }

    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }

    /// One number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        self.connect().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many jobs have a status.
    pub async fn count(&self, queue: &str, status: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {queue} WHERE status = '{status}'")).await
    }

    /// Fails the test when a queue has a fault.
    pub async fn verify(&self, queue: &str) {
        let faults: Vec<_> = self.client.verify(queue).await.unwrap().into_iter().filter(|check| !check.ok).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

/// Looks until something is so. The bound is no expectation, only the end of a test that hangs.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ends a test that hangs.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("never ended: {what}"),
    }
}
