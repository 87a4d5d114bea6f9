//! A job that exists exactly if the rest of a transaction commits.
//!
//! `DATABASE_URL=… cargo run --example enqueue_in_transaction`

use qflow_client::{Client, EnqueueOptions, QueueSettings};
use serde::Serialize;

#[derive(Serialize)]
struct Confirmation {
    order: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    client.create_queue("confirmations", &QueueSettings::default(), true, None).await?;
    let mut connection = client.pool().get().await?;
    connection
        .batch_execute("CREATE TABLE IF NOT EXISTS orders (id bigint GENERATED ALWAYS AS IDENTITY, total int)")
        .await?;
    for (total, commits) in [(100, true), (-1, false)] {
        let transaction = connection.transaction().await?;
        let row = transaction.query_one("INSERT INTO orders (total) VALUES ($1) RETURNING id", &[&total]).await?;
        let confirmation = Confirmation { order: row.get(0) };
        Client::on(&transaction).enqueue("confirmations", &confirmation, EnqueueOptions::default()).await?;
        match commits {
            true => transaction.commit().await?,
            false => transaction.rollback().await?, // neither the order nor its job
        }
    }
    let jobs = connection.query("SELECT data::text FROM confirmations ORDER BY id", &[]).await?;
    for job in jobs {
        println!("{}", job.get::<_, String>(0));
    }
    Ok(())
}
