//! Servers that die, connections that are cut, programs that end at any moment.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use qflow_client::{
    BatchOutcome, Batcher, Builder, Client, ClientOptions, Environment, Message, Next, Pipeline, QueueSettings,
};
use support::server::Server;
use support::{database, until, Database, Tested};

const GRACE: Duration = Duration::from_secs(60);

fn pipeline(client: &Client) -> Builder<u32, u32> {
    Pipeline::builder("work")
        .source(client)
        .environment(Environment::default())
        .producers(10)
        .batcher(Batcher::new("batch").size(10).timeout(Duration::from_millis(20)))
        .handle_message(|message: Message<u32>| async move { Ok(Next::batch(*message.payload())) })
        .handle_batch(|_| async { Ok(BatchOutcome::Done) })
}

/// A lease that ends soon: an answer to a fetch that got lost leaves jobs that only its end brings back.
fn short_leases() -> QueueSettings {
    QueueSettings { timeout: Some(Duration::from_secs(2)), retries: Some(1000), ..QueueSettings::default() }
}

async fn completed(db: &Database, expected: i64) {
    until("all are completed", || async {
        let all = "SELECT count(*) FROM work WHERE status = 'completed'";
        match db.client.pool().get().await {
            Ok(connection) => connection.query_one(all, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == expected),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_by_itself_when_its_server_was_killed() -> Tested {
    let Some(server) = Server::start().await else { return Ok(()) };
    let db = server.database().await;
    db.queue("work", short_leases()).await;
    db.jobs("work", 3_000).await;
    let running = pipeline(&db.client).build()?.start().await?;
    for part in [300, 900] {
        until("some are done", || async { db.count("work", "completed").await > part }).await;
        server.kill();
        server.up().await;
    }
    completed(&db, 3_000).await;
    let report = running.shutdown(GRACE).await;
    assert!(report.is_clean() && report.failed == 0, "{report}");
    // What the database had confirmed is counted once; what it could not say in time came back and was done again.
    assert!(report.completed <= 3_000 && report.completed + report.lost >= 3_000, "{report}");
    db.verify("work").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_may_be_cut_at_any_moment() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", short_leases()).await;
    db.jobs("work", 2_000).await;
    let running = pipeline(&db.client).build()?.start().await?;
    let over = Arc::new(AtomicBool::new(false));
    let (connection, ends) = (db.connect().await, over.clone());
    let cutter = tokio::spawn(async move {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'qflow-client' ORDER BY random() LIMIT 1) AS one";
        let done = "SELECT count(*) FROM work WHERE status = 'completed'";
        let (mut cuts, mut done_before) = (0, -1);
        while !ends.load(Ordering::SeqCst) {
            // However slow the server is: no faster than the pipeline gets on.
            let now_done = connection.query_one(done, &[]).await.unwrap().get::<_, i64>(0);
            if now_done > done_before {
                cuts += connection.query_one(cut, &[]).await.unwrap().get::<_, i64>(0);
                done_before = now_done;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cuts
    });
    until("half are done", || async { db.count("work", "completed").await >= 1_000 }).await;
    over.store(true, Ordering::SeqCst);
    assert!(cutter.await? > 0);
    completed(&db, 2_000).await;
    let report = running.shutdown(GRACE).await;
    assert!(report.is_clean() && report.failed == 0, "{report}");
    db.verify("work").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_at_any_moment_loses_nothing_and_burns_no_attempt() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", QueueSettings::default()).await;
    let (mut made, mut done) = (0, 0);
    let cycles = if std::env::var("QFLOW_SOAK").as_deref() == Ok("1") { 1_000 } else { 100 };
    for run in 0..cycles {
        made += db.jobs("work", 40).await.len() as i64;
        let client = Client::open(&db.url, ClientOptions::default())?;
        let running = pipeline(&client).build()?.start().await?;
        // The moment is what the test varies.
        tokio::time::sleep(Duration::from_micros(run * 317 % 20_000)).await;
        let report = running.shutdown(GRACE).await;
        assert!(report.is_clean() && report.lost + report.failed + report.requeued == 0, "{report}");
        done += report.completed as i64;
        let in_progress = db.count("work", "in_progress").await;
        assert_eq!((in_progress, db.count("work", "completed").await), (0, done), "{report}");
        assert_eq!(db.count("work", "pending").await, made - done);
    }
    assert_eq!(db.number("SELECT count(*) FROM work WHERE status = 'pending' AND attempt <> 0").await, 0);
    assert!(db.client.lease_status().await?.is_empty());
    drop(db.client.pool().get().await?);
    db.client.pool().close();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'qflow-client'";
    until("no connection is left", || async { db.number(others).await == 0 }).await;
    println!("{cycles} cycles, {done} of {made} jobs done, no connection left");
    Ok(())
}
