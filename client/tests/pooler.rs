//! The client behind a pooler in transaction mode (see `support/pooler.rs`).

mod support;

use std::time::Duration;

use qflow_client::{
    BatchOutcome, Batcher, Client, ClientOptions, EnqueueOptions, Environment, Message, Next, Pipeline, QueueSettings,
};
use support::{database, pooler, until, Tested};

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_works_through_a_pooler_with_one_setting() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let pooler = pooler::start(&db, 4).await;
    let client = Client::open(&pooler.url, ClientOptions { behind_pooler: true, ..ClientOptions::default() })?;
    db.queue("work", QueueSettings { timeout: Some(Duration::from_millis(900)), ..QueueSettings::default() }).await;
    let running = Pipeline::builder("work")
        .source(&client)
        .environment(Environment::default())
        .producers(4)
        .batcher(Batcher::new("slow").size(10).timeout(Duration::from_millis(50)))
        .handle_message(|message: Message<u32>| async move { Ok(Next::batch(*message.payload())) })
        .handle_batch(|batch| async move {
            if batch.messages().iter().any(|message| *message.payload() == 3) {
                tokio::time::sleep(Duration::from_millis(2500)).await; // longer than the lease: heartbeats come through
            }
            Ok(BatchOutcome::Done)
        })
        .build()?
        .start()
        .await?;
    let data: Vec<u32> = (0..200).collect();
    client.enqueue_batch("work", &data, EnqueueOptions::default()).await?;
    until("all are done", || async { db.count("work", "completed").await == 200 }).await;
    db.jobs("work", 1).await; // wakes the one that waits
    until("one more is done", || async { db.count("work", "completed").await == 201 }).await;
    let report = running.shutdown(Duration::from_secs(60)).await;
    assert_eq!((report.completed, report.lost, report.requeued, report.is_clean()), (201, 0, 0, true));
    let mut connection = client.pool().get().await?;
    let transaction = connection.transaction().await?;
    Client::on(&transaction).enqueue("work", &7, EnqueueOptions::default()).await?;
    transaction.commit().await?;
    assert_eq!(db.count("work", "pending").await, 1);
    Ok(())
}
