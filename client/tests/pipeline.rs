//! The pipeline's contract, against a real server.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qflow_client::{
    Batch, BatchOutcome, Batcher, Builder, Environment, Failure, Handler, Hints, Message, Next, Pipeline, Processors,
    QueueSettings, Rate,
};
use support::{database, soon, until, Database, Tested};
use tokio::sync::Semaphore;

/// A pipeline of the test's own settings only.
fn pipeline<Out>(db: &Database, workflow: &str) -> Builder<u32, Out> {
    Pipeline::builder(workflow).source(&db.client).environment(Environment::default())
}

const GRACE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn never_more_in_flight_than_can_be_started() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", QueueSettings::default()).await;
    db.jobs("work", 100).await;
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, seen) = (at_once.clone(), most.clone());
    let running = pipeline::<()>(&db, "work")
        .producers(4)
        .processors(Processors::new(4))
        .handle_message(move |_| {
            let (at_once, most) = (counted.clone(), seen.clone());
            async move {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    until("all are done", || async {
        assert!(db.count("work", "in_progress").await <= 4);
        db.count("work", "completed").await == 100
    })
    .await;
    let report = running.shutdown(GRACE).await;
    assert_eq!((report.completed, report.is_clean(), most.load(Ordering::SeqCst)), (100, true, 4));
    assert_eq!(db.number("SELECT max(attempt)::int8 FROM work").await, 1);
    db.verify("work").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn demand_is_coalesced_and_leases_are_limited() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("lots", QueueSettings::default()).await;
    db.jobs("lots", 25).await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let running = pipeline::<()>(&db, "lots")
        .producers(2)
        .processors(Processors::new(10))
        .handle_message(move |_| {
            let gate = opened.clone();
            async move {
                gate.acquire().await?.forget();
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    until("ten have been fetched", || async { db.count("lots", "in_progress").await == 10 }).await;
    assert_eq!(
        db.number("SELECT count(DISTINCT lease) FROM lots WHERE lease IS NOT NULL").await,
        1,
        "ten free processors, one fetch"
    );
    gate.add_permits(3);
    until("three more, one lease more", || async { db.count("lots", "completed").await == 3 }).await;
    until("the second lease", || async { !db.client.lease_status().await.unwrap().is_empty() }).await;
    gate.add_permits(100);
    until("all are done", || async {
        assert!(db.client.lease_status().await.unwrap().len() <= 2);
        db.count("lots", "completed").await == 25
    })
    .await;
    assert!(running.shutdown(GRACE).await.is_clean());
    Ok(())
}

/// Batches as they came: batcher, key and payloads.
type Batches = Arc<Mutex<Vec<(String, Option<String>, Vec<u32>)>>>;

fn note(
    batches: &Batches,
) -> impl Fn(Batch<u32>) -> std::future::Ready<Result<BatchOutcome, Failure>> + Send + Sync + 'static {
    let batches = batches.clone();
    move |batch| {
        let payloads = batch.messages().iter().map(|message| *message.payload()).collect();
        batches.lock().unwrap().push((batch.batcher().to_owned(), batch.key().map(str::to_owned), payloads));
        std::future::ready(Ok(BatchOutcome::Done))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_by_size_by_timeout_by_key_and_at_a_drain() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("gather", QueueSettings::default()).await;
    let batches = Batches::default();
    let long = Duration::from_secs(600);
    let running = pipeline(&db, "gather")
        .producers(20)
        .processors(Processors::new(20))
        .batcher(Batcher::new("by size").size(5).timeout(long))
        .batcher(Batcher::new("by timeout").size(100).timeout(Duration::from_millis(50)))
        .batcher(Batcher::new("by key").size(2).timeout(long))
        .handle_message(|message: Message<u32>| async move {
            let n = *message.payload();
            Ok(match n {
                0..10 => Next::batch(n),
                10..13 => Next::batch_in("by timeout", n),
                _ => Next::batch_in("by key", n).keyed(if n.is_multiple_of(2) { "even" } else { "odd" }),
            })
        })
        .handle_batch(note(&batches))
        .build()?
        .start()
        .await?;
    db.jobs("gather", 19).await;
    until("full and timed out ones are done", || async { db.count("gather", "completed").await == 17 }).await;
    let report = soon("the drain", running.drain()).await;
    assert_eq!((report.completed, report.is_clean()), (19, true));
    let batches = batches.lock().unwrap();
    let of = |name: &str| batches.iter().filter(|(batcher, ..)| batcher == name).collect::<Vec<_>>();
    assert_eq!(of("by size").iter().map(|(.., payloads)| payloads.len()).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(of("by timeout").iter().map(|(.., payloads)| payloads.len()).sum::<usize>(), 3);
    let keyed = of("by key"); // 13 15 17 and 14 16 18: two full ones, two at the drain
    assert_eq!(keyed.len(), 4);
    for (_, key, payloads) in keyed {
        assert!(payloads.iter().all(|n| n.is_multiple_of(2) == (key.as_deref() == Some("even"))));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_key_keep_their_order() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("ordered", QueueSettings::default()).await;
    db.jobs("ordered", 200).await;
    let seen: Arc<Mutex<HashMap<u32, Vec<u32>>>> = Arc::default();
    let noted = seen.clone();
    let running = pipeline::<()>(&db, "ordered")
        .producers(4)
        .processors(Processors::new(4).max_demand(10))
        .partition_by(|message: &Message<u32>| message.payload() % 7)
        .handle_message(move |message| {
            let seen = noted.clone();
            async move {
                tokio::task::yield_now().await;
                seen.lock().unwrap().entry(message.payload() % 7).or_default().push(*message.payload());
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    until("all are done", || async { db.count("ordered", "completed").await == 200 }).await;
    assert!(running.shutdown(GRACE).await.is_clean());
    for of_key in seen.lock().unwrap().values() {
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_holds_no_leased_job_back() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("limited", QueueSettings::default()).await;
    db.jobs("limited", 30).await;
    let start = Instant::now();
    let running = pipeline::<()>(&db, "limited")
        .producers(30)
        .rate_limit(Rate { jobs: 10, per: Duration::from_millis(500) })
        .handle_message(|_| async { Ok(Next::Done) })
        .build()?
        .start()
        .await?;
    until("all are done", || async { db.count("limited", "completed").await == 30 }).await;
    assert!(start.elapsed() > Duration::from_millis(900), "30 jobs at 20 a second, 10 of them at once");
    let longest = "SELECT coalesce(max(extract(epoch FROM updated_at - inserted_at)), 0)::int8 FROM limited";
    assert!(db.number(longest).await < 60);
    assert_eq!(running.shutdown(GRACE).await.completed, 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_releases_what_was_not_started_and_interrupts_what_does_not_end() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("ends", QueueSettings { retries: Some(0), ..QueueSettings::default() }).await;
    db.jobs("ends", 10).await;
    let started = Arc::new(Semaphore::new(0));
    let told = started.clone();
    let running = pipeline::<()>(&db, "ends")
        .producers(2)
        .processors(Processors::new(2).max_demand(4))
        .handle_message(move |_| {
            told.add_permits(1);
            std::future::pending()
        })
        .build()?
        .start()
        .await?;
    soon("two have begun", started.acquire_many(2)).await?.forget();
    let start = Instant::now();
    let report = running.shutdown(Duration::from_secs(2)).await;
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!((report.interrupted, report.released, report.unsettled, report.is_clean()), (2, 6, 0, false));
    assert_eq!(db.count("ends", "pending").await, 10);
    assert_eq!(
        db.number("SELECT count(*) FROM ends WHERE attempt <> 0").await,
        0,
        "no attempt is burned, not even the last"
    );
    db.verify("ends").await;
    Ok(())
}

struct Doubler {
    sum: Arc<AtomicUsize>,
}

impl Handler for Doubler {
    type Input = u32;
    type Output = u32;

    async fn handle_message(&self, message: Message<u32>) -> Result<Next<u32>, Failure> {
        Ok(Next::batch(message.payload() * 2))
    }

    async fn handle_batch(&self, batch: Batch<u32>) -> Result<BatchOutcome, Failure> {
        let sum: u32 = batch.into_messages().into_iter().map(Message::into_payload).sum();
        self.sum.fetch_add(sum as usize, Ordering::SeqCst);
        Ok(BatchOutcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_registers_what_it_names_and_runs_until_a_signal() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let sum = Arc::new(AtomicUsize::new(0));
    let variables = HashMap::from([
        ("BROADWAY_CONCURRENCY", "6"),
        ("BROADWAY_BATCH_SIZE", "4"),
        ("PGFLOW_RETRIES", "5"),
        ("PGFLOW_TIMEOUT_MS", "70000"),
    ]);
    let environment = Environment::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned()))?;
    let build = || {
        Pipeline::builder("doubling")
            .source(&db.client)
            .environment(environment.clone())
            .queue("numbers")
            .batcher(Batcher::new("sum").timeout(Duration::from_millis(20)))
            .handler(Doubler { sum: sum.clone() })
            .build()
    };
    // Several at one moment.
    let all = futures_util::future::try_join_all((0..4).map(|_| async { build()?.start().await })).await?;
    let workflow = &db.client.workflow_status().await?[0];
    let registered =
        (workflow.workflow.as_str(), workflow.concurrency, workflow.batch_size, workflow.retries, workflow.timeout);
    assert_eq!(registered, ("doubling", 6, 4, 5, Duration::from_secs(70)));
    db.jobs("numbers", 50).await;
    let done = || async { db.count("numbers", "completed").await == 50 };
    let all = all.into_iter().map(|running| running.run_until(until("all are done", done), GRACE));
    let reports = futures_util::future::join_all(all).await;
    assert_eq!(reports.iter().map(|report| report.completed).sum::<u64>(), 50);
    assert_eq!(sum.load(Ordering::SeqCst), 50 * 49);
    Ok(())
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let wrong = pipeline::<u32>(&db, "")
        .producers(1)
        .processors(Processors::new(2).max_demand(1).min_demand(1))
        .batcher(Batcher::new("b").size(0))
        .batcher(Batcher::new("b").size(50).timeout(Duration::ZERO))
        .handler_timeout(Duration::ZERO)
        .hints(Hints::default())
        .build()
        .unwrap_err();
    let expected = [
        "a workflow's name",
        "handler_timeout",
        "min_demand",
        "\"b\": size",
        "two batchers",
        "\"b\": timeout",
        "waits for 50 jobs",
        "no handle_message",
        "no handle_batch",
    ];
    for part in expected {
        assert!(wrong.problems().iter().any(|problem| problem.contains(part)), "{part} in {:?}", wrong.problems());
    }
    assert_eq!(wrong.problems().len(), expected.len(), "{:?}", wrong.problems());
    Ok(())
}
