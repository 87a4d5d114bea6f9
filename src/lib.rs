//! qflow: durable work queues inside PostgreSQL. The architecture is described in `docs/architecture.md`; this file only
//! lists: modules, and SQL files in their order.

// The raw-pointer signatures of entry points are dictated by the server.
#![allow(clippy::missing_safety_doc)]

mod api;
mod compat;
mod error;
mod guc;
mod host;
mod ids;
mod job;
mod json;
mod metrics;
mod queue;
mod resource;
mod shmem;
mod worker;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
pgrx::extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["schema"]);
pgrx::extension_sql_file!("../sql/views.sql", name = "views", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/comments.sql", name = "comments", requires = ["views"]);

/// Called by the server when the library is loaded.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    error::keep_backtraces_out();
    guc::register();
    if host::shared::is_preloading() {
        guc::register_sizes();
        shmem::request();
        worker::register();
    }
}

/// Needed by `cargo pgrx test`.
#[cfg(test)]
pub mod pg_test {
    /// Runs once before the tests.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server; `QFLOW_TEST_CONF` is one more.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        let mut lines = vec!["max_prepared_transactions = 10"];
        lines.extend(std::env::var("QFLOW_TEST_CONF").ok().map(|line| &*line.leak()));
        lines
    }
}
