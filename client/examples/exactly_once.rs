//! Effects that happen exactly once: what a job does in the database commits together with its ack.
//!
//! `DATABASE_URL=… cargo run --example exactly_once [-- TRANSFERS]`
//!
//! Each job moves one coin to an account. The transfer and the ack are one transaction; with `strict` it cannot commit
//! when the lease has ended. Kill the program or the server at any moment and start it again: in the end there are as
//! many coins as there were jobs. The queue has to keep what is done (`on_complete` is `keep`): a repeated ack finds the
//! row, and is answered with "already".

use std::time::Duration;

use qflow_client::{Client, EnqueueOptions, Failure, Message, Next, Pipeline};
use serde::{Deserialize, Serialize};

const WORKFLOW: &str = "transfers";

#[derive(Serialize, Deserialize)]
struct Transfer {
    account: i64,
}

async fn transfer(client: &Client, message: Message<Transfer>) -> Result<(), Failure> {
    let mut connection = client.pool().get().await?;
    let transaction = connection.transaction().await?;
    let account = message.payload().account;
    transaction.execute("UPDATE accounts SET coins = coins + 1 WHERE id = $1", &[&account]).await?;
    Client::on(&transaction).ack(WORKFLOW, &[message.job().claim()], true).await?;
    transaction.commit().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let on = client.clone();
    let running = Pipeline::builder::<Transfer, ()>(WORKFLOW)
        .source(&client)
        .queue("transfers")
        .producers(4)
        .timeout(Duration::from_secs(5))
        .handle_message(move |message| {
            let client = on.clone();
            async move {
                transfer(&client, message).await?;
                Ok(Next::Done) // acked once more, outside of the transaction: that is "already"
            }
        })
        .build()?
        .start()
        .await?;

    let accounts = "CREATE TABLE IF NOT EXISTS accounts (id bigint PRIMARY KEY, coins bigint NOT NULL);
                    INSERT INTO accounts SELECT n, 0 FROM generate_series(0, 9) AS n ON CONFLICT DO NOTHING";
    client.pool().get().await?.batch_execute(accounts).await?;
    if let Some(number) = std::env::args().nth(1) {
        let transfers: Vec<_> = (0..number.parse()?).map(|n: i64| Transfer { account: n % 10 }).collect();
        client.enqueue_batch("transfers", &transfers, EnqueueOptions::default()).await?;
    }
    let left = "SELECT count(*) FROM transfers WHERE status IN ('pending', 'in_progress')";
    while client.pool().get().await?.query_one(left, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{}", running.drain().await);
    Ok(())
}
