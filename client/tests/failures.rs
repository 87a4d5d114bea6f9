//! What goes wrong in handlers and with leases, against a real server.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qflow_client::{
    BatchOutcome, Batcher, Builder, Cause, EnqueueOptions, Environment, Failure, Message, Next, OnFailure, Pipeline,
    Processors, QueueSettings,
};
use support::{database, soon, until, Database, Tested};
use tokio::sync::Semaphore;

fn pipeline<Out>(db: &Database, workflow: &str) -> Builder<u32, Out> {
    Pipeline::builder(workflow).source(&db.client).environment(Environment::default()).producers(4)
}

const GRACE: Duration = Duration::from_secs(60);

fn retries(retries: u32) -> QueueSettings {
    QueueSettings { retries: Some(retries), ..QueueSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_panics_and_payloads_are_failed_attempts() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("bad", retries(1)).await;
    db.jobs("bad", 6).await;
    db.client.enqueue("bad", "a secret text", EnqueueOptions::default()).await?;
    let heard: Arc<Mutex<Vec<(i64, Cause, bool)>>> = Arc::default();
    let noted = heard.clone();
    let running = pipeline::<()>(&db, "bad")
        .handle_message(|message: Message<u32>| async move {
            match message.payload() {
                0 => Err(std::io::Error::other("disk on fire"))?,
                1 => panic!("out of luck"),
                2 => return Err(Failure::permanent("hopeless")),
                3 if message.job().attempt == 1 => return Err(Failure::retry_in("not yet", Duration::ZERO)),
                _ => {}
            }
            Ok(Next::Done)
        })
        .handle_failed(move |failed| {
            let heard = noted.clone();
            async move {
                heard.lock().unwrap().push((failed.job().id, failed.cause(), failed.is_final()));
            }
        })
        .build()?
        .start()
        .await?;
    until("all have ended", || async {
        db.count("bad", "completed").await == 3 && db.count("bad", "failed").await == 4
    })
    .await;
    let report = running.shutdown(GRACE).await;
    assert_eq!((report.completed, report.failed, report.requeued, report.is_clean()), (3, 4, 3, true));
    let rows = db
        .connect()
        .await
        .query("SELECT attempt::int4, failure_reason FROM bad WHERE status = 'failed' ORDER BY id", &[])
        .await?;
    let failed: Vec<(i32, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let unfit = "the payload does not fit its type: type error at line 1 column 15";
    let expected = [(2, "disk on fire"), (2, "panic: out of luck"), (1, "hopeless"), (1, unfit)];
    assert_eq!(failed.iter().map(|(attempt, reason)| (*attempt, reason.as_str())).collect::<Vec<_>>(), expected);
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 7);
    assert_eq!(heard.iter().filter(|(_, cause, _)| *cause == Cause::Panic).count(), 2);
    assert_eq!(heard.iter().filter(|(.., is_final)| *is_final).count(), 4);
    db.verify("bad").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_fail_whole_in_part_or_by_being_short() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("batches", retries(0)).await;
    db.jobs("batches", 12).await;
    let name = |n: u32| ["short", "error", "panic", "each"][n as usize % 4];
    let batcher = |name: &str| Batcher::new(name).size(3).timeout(Duration::from_secs(600));
    let running = pipeline(&db, "batches")
        .processors(Processors::new(12))
        .batcher(batcher("short"))
        .batcher(batcher("error"))
        .batcher(batcher("panic"))
        .batcher(batcher("each"))
        .on_failure(OnFailure::Fail)
        .handle_message(move |message: Message<u32>| async move { Ok(Next::batch_in(name(*message.payload()), ())) })
        .handle_batch(|batch| async move {
            match batch.batcher() {
                "short" => Ok(BatchOutcome::Each(vec![Ok(())])),
                "error" => Err(Failure::new("no")),
                "panic" => panic!("in a batch"),
                _ => Ok(BatchOutcome::Each(vec![Ok(()), Err(Failure::new("this one")), Ok(())])),
            }
        })
        .build()?
        .start()
        .await?;
    let open = "SELECT count(*) FROM batches WHERE status IN ('pending', 'in_progress')";
    until("all have ended", || async { db.number(open).await == 0 }).await;
    let report = running.shutdown(GRACE).await;
    assert_eq!((report.completed, report.failed, report.is_clean()), (3, 9, true));
    let short = "SELECT count(*) FROM batches WHERE failure_reason = 'the batch handler gave no result for this job'";
    assert_eq!(db.number(short).await, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_handler_is_dropped_and_the_others_keep_their_lease() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue(
        "stuck",
        QueueSettings { timeout: Some(Duration::from_millis(500)), retries: Some(1), ..QueueSettings::default() },
    )
    .await;
    db.jobs("stuck", 2).await;
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counted = dropped.clone();
    let running = pipeline::<()>(&db, "stuck")
        .handler_timeout(Duration::from_secs(2))
        .handle_message(move |message| {
            let noticed = Dropped(counted.clone());
            async move {
                if *message.payload() == 0 {
                    std::future::pending::<()>().await;
                }
                // Three times the lease: only heartbeats keep it.
                tokio::time::sleep(Duration::from_millis(1500)).await;
                drop(noticed);
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    until("both have ended", || async {
        db.count("stuck", "completed").await == 1 && db.count("stuck", "failed").await == 1
    })
    .await;
    let report = running.shutdown(GRACE).await;
    assert_eq!((report.completed, report.requeued, report.failed, report.lost), (1, 1, 1, 0));
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert_eq!(db.number("SELECT attempt::int8 FROM stuck WHERE status = 'completed'").await, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_of_a_lost_lease_is_dropped_and_says_nothing() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("lost", QueueSettings { timeout: Some(Duration::from_millis(600)), ..QueueSettings::default() }).await;
    db.jobs("lost", 1).await;
    let started = Arc::new(Semaphore::new(0));
    let told = started.clone();
    let running = pipeline::<()>(&db, "lost")
        .handle_message(move |message| {
            told.add_permits(1);
            async move {
                if message.job().attempt == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    soon("it has begun", started.acquire()).await?.forget();
    db.connect().await.batch_execute("UPDATE lost SET status = 'pending'").await?;
    until("the second attempt is done", || async { db.count("lost", "completed").await == 1 }).await;
    until("the first has been given up", || async { running.report().lost == 1 }).await;
    let report = running.shutdown(GRACE).await;
    assert_eq!((report.completed, report.lost, report.requeued, report.is_clean()), (1, 1, 0, true));
    Ok(())
}
