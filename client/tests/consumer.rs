//! The consumer's promises, against a real server.

mod support;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use qflow_client::{
    Client, ClientOptions, Consumer, ConsumerOptions, Delivery, Hints, QueueSettings, WorkflowSettings,
};
use support::{database, pooler, soon, until, Tested};

fn capacity(capacity: usize) -> ConsumerOptions {
    ConsumerOptions { capacity, ..ConsumerOptions::default() }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon("the next delivery", consumer.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn never_more_jobs_than_the_capacity() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", QueueSettings::default()).await;
    db.jobs("work", 200).await;
    let mut consumer = Consumer::new(&db.client, "work", capacity(7))?;
    let mut seen = HashSet::new();
    let mut held = Vec::new();
    while seen.len() < 200 {
        let delivery = next(&mut consumer).await;
        assert!(seen.insert(delivery.job().id));
        held.push(delivery);
        if held.len() == 7 || seen.len() == 200 {
            assert!(consumer.in_flight() <= 7);
            assert!(db.count("work", "in_progress").await <= 7);
            futures_util::future::try_join_all(held.drain(..).map(Delivery::ack)).await?;
        }
    }
    assert_eq!(consumer.shutdown(Duration::from_secs(60)).await, 0);
    assert_eq!(db.count("work", "completed").await, 200);
    db.verify("work").await;
    Ok(())
}

#[tokio::test]
async fn each_way_to_settle_is_confirmed_when_it_returns() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("ends", QueueSettings::default()).await;
    db.jobs("ends", 6).await;
    let mut consumer = Consumer::new(&db.client, "ends", capacity(6))?;
    let mut deliveries = Vec::new();
    for _ in 0..6 {
        deliveries.push(next(&mut consumer).await);
    }
    consumer.stop();
    let [a, b, c, d, e, f] = <[Delivery; 6]>::try_from(deliveries).unwrap();
    let (dropped, payload) = (f.job().id, f.payload::<u32>()?);
    assert_eq!(payload, 5);
    a.ack().await?;
    b.nack("busy").await?;
    c.retry_in("later", Duration::from_secs(3600)).await?;
    d.fail("never").await?;
    e.release().await?;
    drop(f);
    until("the dropped one is pending", || async { db.count("ends", "pending").await == 4 }).await;
    assert_eq!((db.count("ends", "completed").await, db.count("ends", "failed").await), (1, 1));
    assert_eq!(db.number("SELECT count(*) FROM ends WHERE attempt = 0").await, 1);
    assert_eq!(db.number(&format!("SELECT attempt::int8 FROM ends WHERE id = {dropped}")).await, 1);
    Ok(())
}

#[tokio::test]
async fn what_was_not_taken_goes_back_with_its_attempt() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("unread", QueueSettings::default()).await;
    db.jobs("unread", 10).await;
    let mut consumer = Consumer::new(&db.client, "unread", capacity(10))?;
    let first = next(&mut consumer).await;
    assert_eq!(consumer.in_flight(), 10);
    let acked = first.ack();
    assert!(consumer.shutdown(Duration::ZERO).await > 0);
    acked.await?;
    until("nine are pending", || async { db.count("unread", "pending").await == 9 }).await;
    assert_eq!(db.number("SELECT count(*) FROM unread WHERE attempt <> 0 AND status = 'pending'").await, 0);
    Ok(())
}

#[tokio::test]
async fn a_job_that_comes_wakes_and_an_empty_queue_costs_no_busy_loop() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("quiet", QueueSettings::default()).await;
    let pooler = pooler::start(&db, 10).await;
    let client = Client::open(&pooler.url, ClientOptions { behind_pooler: true, ..ClientOptions::default() })?;
    let mut consumer = Consumer::new(client, "quiet", capacity(10))?;
    db.jobs("quiet", 1).await;
    next(&mut consumer).await.ack().await?;
    let before = pooler.requests.load(Ordering::SeqCst);
    // Ten seconds of nothing are what is measured here.
    assert!(tokio::time::timeout(Duration::from_secs(10), consumer.next()).await.is_err());
    let used = pooler.requests.load(Ordering::SeqCst) - before;
    assert!(used <= 12, "{used} statements in ten idle seconds: a wait and a fetch each five");
    db.jobs("quiet", 1).await;
    next(&mut consumer).await.ack().await?;
    Ok(())
}

#[tokio::test]
async fn leases_are_kept_while_somebody_works_and_lost_when_the_database_says_so() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("slow", QueueSettings { timeout: Some(Duration::from_millis(600)), ..QueueSettings::default() }).await;
    db.jobs("slow", 2).await;
    let mut consumer = Consumer::new(&db.client, "slow", capacity(2))?;
    let (kept, taken) = (next(&mut consumer).await, next(&mut consumer).await);
    let first_until = kept.job().lease_until;
    until("the lease has been renewed past twice its time", || async {
        let leases = db.client.lease_status().await.unwrap();
        leases[0].lease_until > first_until + Duration::from_millis(1200)
    })
    .await;
    db.client.reap().await?;
    assert!(!kept.lease().is_lost());
    kept.extend(Duration::from_secs(1)).await?;
    // An operator takes both back.
    db.connect().await.batch_execute("UPDATE slow SET status = 'pending'").await?;
    soon("the lease is lost", taken.lease().lost()).await;
    assert!(kept.ack().await.unwrap_err().is_lost());
    drop(taken);
    let again = next(&mut consumer).await;
    assert_eq!(again.job().attempt, 2);
    again.ack().await?;
    Ok(())
}

#[tokio::test]
async fn a_fault_is_told_and_its_mending_noticed() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    let mut consumer = Consumer::new(&db.client, "later", capacity(1))?;
    let told = soon("the fault", consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(told.code(), Some("42704"));
    db.queue("later", QueueSettings::default()).await;
    db.jobs("later", 1).await;
    loop {
        if let Some(Ok(delivery)) = soon("the job", consumer.next()).await {
            delivery.ack().await?;
            break;
        }
    }
    let wrong = ConsumerOptions { capacity: 0, max_leases: 0, ..ConsumerOptions::default() };
    assert_eq!(Consumer::new(&db.client, "later", wrong).unwrap_err().problems().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_keeps_a_lease_locked_does_not_cost_the_others() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("locked", QueueSettings { timeout: Some(Duration::from_secs(1)), ..QueueSettings::default() }).await;
    db.jobs("locked", 1).await;
    let mut consumer = Consumer::new(&db.client, "locked", capacity(3))?;
    let first = next(&mut consumer).await;
    let mut connection = db.connect().await;
    let transaction = connection.transaction().await?;
    Client::on(&transaction).ack("locked", &[first.claim()], true).await?;
    db.jobs("locked", 1).await;
    let second = next(&mut consumer).await;
    assert_ne!(first.lease().id(), second.lease().id());
    until("the second lease has been renewed past three times its time", || async {
        let leases = db.client.lease_status().await.unwrap();
        let lease = leases.iter().find(|lease| lease.lease == second.lease().id());
        lease.expect("it is held").lease_until > second.job().lease_until + Duration::from_secs(2)
    })
    .await;
    assert!(!first.lease().is_lost() && !second.lease().is_lost());
    transaction.commit().await?;
    first.ack().await?; // "already"
    second.ack().await?;
    Ok(())
}

/// Two consumers and one GPU: each gets it in turn, and is told which one it is.
#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_share_a_slot() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", QueueSettings::default()).await;
    let gpu = WorkflowSettings { resource_hints: Some(Hints::default().amount("gpu", 1)), ..Default::default() };
    db.client.alter_workflow("work", &gpu).await?;
    db.jobs("work", 60).await;
    let mut shares = Vec::new();
    for number in 0..2 {
        let hints = Hints { worker: Some(format!("w{number}")), ..Hints::default() };
        let options = ConsumerOptions { hints, max_leases: 1, ..capacity(3) };
        let mut consumer = Consumer::new(&db.client, "work", options)?;
        shares.push(tokio::spawn(async move {
            let mut done = 0;
            while done < 15 {
                let delivery = next(&mut consumer).await;
                assert_eq!(delivery.job().slots("gpu").unwrap(), [0]);
                delivery.ack().await.unwrap();
                done += 1;
            }
            assert_eq!(consumer.shutdown(Duration::from_secs(60)).await, 0);
        }));
    }
    for share in shares {
        soon("both have their share", share).await?;
    }
    assert!(db.count("work", "completed").await >= 30);
    until("the GPU is free", || async { db.number("SELECT count(*) FROM qflow.holder").await == 0 }).await;
    db.verify("work").await;
    Ok(())
}

/// Where the database refuses to wait, jobs are looked for from time to time instead.
#[tokio::test]
async fn polls_where_the_database_cannot_wait() -> Tested {
    let Some(db) = database().await else { return Ok(()) };
    db.queue("work", QueueSettings::default()).await;
    let refuses = "CREATE OR REPLACE PROCEDURE qflow.wait(workflow text, timeout_ms bigint = 1000, hints jsonb = NULL)
        LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here' USING ERRCODE = '25001'; END $$";
    db.connect().await.batch_execute(refuses).await?;
    let options = ConsumerOptions { poll_interval: Duration::from_millis(20), ..capacity(2) };
    let mut consumer = Consumer::new(&db.client, "work", options)?;
    for _ in 0..3 {
        db.jobs("work", 1).await;
        next(&mut consumer).await.ack().await?;
    }
    assert_eq!(db.count("work", "completed").await, 3);
    assert_eq!(consumer.shutdown(Duration::from_secs(60)).await, 0);
    Ok(())
}
