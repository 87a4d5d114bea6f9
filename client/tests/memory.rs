//! Pipelines on a queue in memory, and what only it can show: answers that get lost.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use qflow_client::testing::{assert_enqueued, enqueued, MemoryQueue, MemoryStatus};
use qflow_client::{
    BatchOutcome, Batcher, Builder, Client, Consumer, ConsumerOptions, EnqueueOptions, Environment, Failure, Message,
    Next, Pipeline, Processors, QueueSettings, Source,
};
use support::{database, soon, Tested};
use tokio::sync::Semaphore;

fn pipeline<Out>(source: impl Into<Source>) -> Builder<u32, Out> {
    Pipeline::builder("work").source(source).environment(Environment::default())
}

#[tokio::test]
async fn a_settle_whose_answer_got_lost_is_repeated_and_counts_once() -> Tested {
    let queue = MemoryQueue::new();
    for n in 0..20 {
        queue.push(&n)?;
    }
    queue.lose_answers(3);
    let running = pipeline::<()>(&queue).handle_message(|_| async { Ok(Next::Done) }).build()?.start().await?;
    soon("all are done", queue.idle()).await;
    let report = soon("the drain", running.drain()).await;
    assert_eq!((report.completed, report.unsettled, report.lost), (20, 0, 0));
    assert!(queue.jobs().iter().all(|job| job.attempt == 1 && job.status == MemoryStatus::Completed));
    Ok(())
}

#[tokio::test]
async fn retries_end_and_reasons_are_kept() -> Tested {
    let queue = MemoryQueue::new().with_retries(2);
    queue.push(&1)?;
    queue.push("no number")?;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let running = pipeline::<()>(&queue)
        .handle_message(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err(Failure::new("never")) }
        })
        .build()?
        .start()
        .await?;
    soon("both have ended", queue.idle()).await;
    running.drain().await;
    assert_eq!((queue.failed(), calls.load(Ordering::SeqCst)), (vec![1, 2], 3));
    assert_eq!(queue.jobs()[0].failure_reason.as_deref(), Some("never"));
    Ok(())
}

#[tokio::test]
async fn free_processors_make_one_fetch_and_a_partial_one_leaves_the_rest_asked_for() -> Tested {
    let queue = MemoryQueue::new();
    for n in 0..5 {
        queue.push(&n)?;
    }
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (opened, told) = (gate.clone(), started.clone());
    let running = pipeline::<()>(&queue)
        .processors(Processors::new(8))
        .handle_message(move |_| {
            let gate = opened.clone();
            told.add_permits(1);
            async move {
                gate.acquire().await?.forget();
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    soon("five have begun", started.acquire_many(5)).await?.forget();
    assert_eq!(queue.fetches(), 1);
    for n in 5..10 {
        queue.push(&n)?;
    }
    soon("three more have begun", started.acquire_many(3)).await?.forget();
    assert_eq!(running.in_flight(), 8);
    gate.add_permits(100);
    soon("all are done", queue.idle()).await;
    assert_eq!(running.drain().await.completed, 10);
    Ok(())
}

#[tokio::test]
async fn room_in_the_batchers_is_no_reason_to_fetch_what_cannot_be_started() -> Tested {
    let queue = MemoryQueue::new();
    for n in 0..30 {
        queue.push(&n)?;
    }
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (opened, told) = (gate.clone(), started.clone());
    let running = pipeline(&queue)
        .processors(Processors::new(3))
        .batcher(Batcher::new("large").size(10).timeout(Duration::from_millis(5)))
        .handle_message(move |_| {
            let gate = opened.clone();
            told.add_permits(1);
            async move {
                gate.acquire().await?.forget();
                Ok(Next::batch(()))
            }
        })
        .handle_batch(|_| async { Ok(BatchOutcome::Done) })
        .build()?
        .start()
        .await?;
    soon("three have begun", started.acquire_many(3)).await?.forget();
    assert_eq!(running.in_flight(), 3);
    gate.add_permits(100);
    soon("all are done", queue.idle()).await;
    assert_eq!(running.drain().await.completed, 30);
    Ok(())
}

#[tokio::test]
async fn one_producer_has_one_lease_at_a_time() -> Tested {
    let queue = MemoryQueue::new();
    for n in 0..12 {
        queue.push(&n)?;
    }
    let (seen, too_early) = (queue.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = too_early.clone();
    let running = pipeline::<()>(&queue)
        .producers(1)
        .processors(Processors::new(4))
        .handle_message(move |message| {
            let (queue, too_early) = (seen.clone(), counted.clone());
            async move {
                let before = usize::try_from(message.job().lease - 1)? * 4;
                too_early.fetch_add(usize::from(queue.completed().len() < before), Ordering::SeqCst);
                // The jobs of a lease end one after the other.
                tokio::time::sleep(Duration::from_millis(u64::from(*message.payload()) % 4 * 5)).await;
                Ok(Next::Done)
            }
        })
        .build()?
        .start()
        .await?;
    soon("all are done", queue.idle()).await;
    running.drain().await;
    assert_eq!((too_early.load(Ordering::SeqCst), queue.jobs().len()), (0, 12));
    Ok(())
}

#[tokio::test]
async fn room_is_given_back_when_the_end_of_a_job_is_confirmed_and_not_before() -> Tested {
    let queue = MemoryQueue::new();
    queue.push(&1)?;
    queue.push(&2)?;
    let options = ConsumerOptions { capacity: 1, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(&queue, "work", options)?;
    let first = soon("the first", consumer.next()).await.unwrap()?;
    queue.lose_answers(2);
    let mut acked = std::pin::pin!(first.ack());
    tokio::select! {
        biased;
        acked = &mut acked => acked?,
        _ = consumer.next() => panic!("the second came before the first was confirmed"),
    }
    soon("the second", consumer.next()).await.unwrap()?.ack().await?;
    assert_eq!(queue.completed(), [1, 2]);
    Ok(())
}

#[tokio::test]
async fn what_waits_in_a_batch_is_done_at_a_shutdown_too() -> Tested {
    let queue = MemoryQueue::new();
    for n in 0..3 {
        queue.push(&n)?;
    }
    let reached = Arc::new(Semaphore::new(0));
    let told = reached.clone();
    let running = pipeline(&queue)
        .batcher(Batcher::new("all").size(8).timeout(Duration::from_secs(3600)))
        .handle_message(move |message: Message<u32>| {
            told.add_permits(1);
            async move { Ok(Next::batch(*message.payload())) }
        })
        .handle_batch(|_| async { Ok(BatchOutcome::Done) })
        .build()?
        .start()
        .await?;
    soon("three have come", reached.acquire_many(3)).await?.forget();
    let report = soon("the shutdown", running.shutdown(Duration::from_secs(60))).await;
    assert_eq!((report.completed, report.is_clean()), (3, true));
    Ok(())
}

#[tokio::test]
async fn what_was_enqueued_can_be_asserted_and_rolled_back() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("mail", QueueSettings::default()).await;
    let mut connection = db.connect().await;
    let transaction = connection.transaction().await?;
    let on = Client::on(&transaction);
    let data = serde_json::json!({"to": "o'ann", "n": [1, 2]});
    let id = on.enqueue("mail", &data, EnqueueOptions::default()).await?;
    assert_enqueued(&on, "mail", &data).await;
    assert_eq!(enqueued(&on, "mail", &data).await?, [id]);
    transaction.rollback().await?;
    assert!(enqueued(&db.client, "mail", &data).await?.is_empty());
    assert!(enqueued(&db.client, "nowhere", &data).await.is_err());
    Ok(())
}
