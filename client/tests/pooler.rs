//! The client behind a pooler in transaction mode (see `support/pooler.rs`).

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use qflow_client::{
    BatchOutcome, Batcher, Client, ClientOptions, EnqueueOptions, Environment, Message, Next, OnComplete, Pipeline,
    QueueSettings,
};
use support::{database, pgbouncer, pooler, until, Database, Tested};

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

/// The settle was carried out, its answer got lost: the repeated one is answered "already", and the job counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_cut_between_settle_and_answer() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let pooler = pooler::start(&db, 4).await;
    let client = Client::open(&pooler.url, ClientOptions { behind_pooler: true, ..ClientOptions::default() })?;
    db.queue("work", QueueSettings::default()).await;
    db.queue("gone", QueueSettings { on_complete: Some(OnComplete::Delete), ..QueueSettings::default() }).await;
    for queue in ["work", "gone"] {
        cut_while_at_work(&db, &pooler, &client, queue).await?;
    }
    assert_eq!(db.number("SELECT count(*) FROM work WHERE attempt = 1 AND status = 'completed'").await, 100);
    Ok(())
}

async fn cut_while_at_work(db: &Database, pooler: &pooler::Address, client: &Client, queue: &str) -> Tested {
    db.jobs(queue, 100).await;
    pooler.cuts.store(5, Ordering::SeqCst);
    let running = Pipeline::builder(queue)
        .source(client)
        .environment(Environment::default())
        .producers(4)
        .handle_message(|_: Message<u32>| async move { Ok(Next::<()>::Done) })
        .build()?
        .start()
        .await?;
    let left = format!("SELECT count(*) FROM {queue} WHERE status <> 'completed'");
    until("all are done", || async { db.number(&left).await == 0 }).await;
    until("all answers were lost that should be", || async { pooler.cuts.load(Ordering::SeqCst) == 0 }).await;
    let report = running.shutdown(Duration::from_secs(60)).await;
    assert_eq!((report.completed, report.lost, report.requeued, report.is_clean()), (100, 0, 0, true), "{report}");
    db.verify(queue).await;
    Ok(())
}

/// The same through PgBouncer itself, where it is installed.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_works_through_pgbouncer() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let Some(bouncer) = pgbouncer::start(&db, 3).await else { return Ok(()) };
    let client = Client::open(&bouncer.url, ClientOptions { behind_pooler: true, ..ClientOptions::default() })?;
    db.queue("work", QueueSettings::default()).await;
    let running = Pipeline::builder("work")
        .source(&client)
        .environment(Environment::default())
        .producers(4)
        .batcher(Batcher::new("batch").size(10).timeout(Duration::from_millis(20)))
        .handle_message(|message: Message<u32>| async move { Ok(Next::batch(*message.payload())) })
        .handle_batch(|_| async { Ok(BatchOutcome::Done) })
        .build()?
        .start()
        .await?;
    let data: Vec<u32> = (0..500).collect();
    client.enqueue_batch("work", &data, EnqueueOptions::default()).await?;
    until("all are done", || async { db.count("work", "completed").await == 500 }).await;
    db.jobs("work", 1).await; // wakes the one that waits
    until("one more is done", || async { db.count("work", "completed").await == 501 }).await;
    let report = running.shutdown(Duration::from_secs(60)).await;
    assert_eq!((report.completed, report.lost, report.is_clean()), (501, 0, true), "{report}");
    Ok(())
}
