//! Where a call runs: a pool, a connection or a transaction.

use deadpool_postgres::Pool;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::Row;

use crate::error::Result;

/// An argument and its type, so that no statement has to be described first.
pub(crate) type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

/// What calls can run on: a pool of the crate's own, or a connection or transaction of yours.
///
/// With it each call exists once, and a program chooses where it runs: [`Client::on`](crate::Client::on) takes any of
/// these. On a transaction a call is part of it, so that what a job did and its ack commit together.
/// It is implemented here only.
pub trait Connection: sealed::Run {}

impl<C: sealed::Run> Connection for C {}

/// A pool, and how statements are sent through it.
#[derive(Clone, Debug)]
pub struct Pooled {
    pub(crate) pool: Pool,
    pub(crate) prepared: bool,
}

pub(crate) mod sealed {
    use super::*;

    /// Runs one statement and collects its rows.
    pub trait Run: Send + Sync {
        fn run(
            &self,
            sql: &'static str,
            arguments: &[Argument<'_>],
        ) -> impl std::future::Future<Output = Result<Vec<Row>>> + Send;
    }

    impl Run for tokio_postgres::Client {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            Ok(self.query_typed(sql, arguments).await?)
        }
    }

    impl Run for tokio_postgres::Transaction<'_> {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            Ok(self.query_typed(sql, arguments).await?)
        }
    }

    impl Run for deadpool_postgres::Client {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            Ok(self.query_typed(sql, arguments).await?)
        }
    }

    impl Run for deadpool_postgres::Transaction<'_> {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            Ok(self.query_typed(sql, arguments).await?)
        }
    }

    impl<C: Run> Run for &C {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            (**self).run(sql, arguments).await
        }
    }

    impl Run for Pooled {
        async fn run(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
            let connection = self.pool.get().await?;
            if !self.prepared {
                return connection.run(sql, arguments).await;
            }
            let types: Vec<Type> = arguments.iter().map(|(_, ty)| ty.clone()).collect();
            let values: Vec<&(dyn ToSql + Sync)> = arguments.iter().map(|(value, _)| *value).collect();
            let statement = connection.prepare_typed_cached(sql, &types).await?;
            Ok(connection.query(&statement, &values).await?)
        }
    }
}
