"""Consumers that die: their jobs come back, nothing is lost and nothing completed twice."""
import os
import random
import signal
import time

import pytest

from jobs import FORK, ack, at_most, fetch, load, sized, statuses, until


def hold(db, ready):
    """Fetches 5 jobs, says so, and never comes to an end."""
    with db.connect() as c:
        rows = fetch(c, "jobs", 5)
        ack(c, "jobs", rows[:1])
        ready.put([row.id for row in rows])
        signal.pause()


@pytest.mark.every_version
def test_jobs_of_a_killed_consumer_come_back(db):
    """Without a worker: another consumer's fetch brings them, with one attempt charged."""
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 1500)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    with db.connect() as c:
        ids = load(c, "jobs", 10)
        ready = FORK.Queue()
        consumer = FORK.Process(target=hold, args=(db, ready))
        consumer.start()
        held = ready.get(timeout=60)
        os.kill(consumer.pid, signal.SIGKILL)
        consumer.join(60)
        assert held == ids[:5]

        first = fetch(c, "jobs", 10)
        assert [row.id for row in first] == ids[5:], "held jobs are not given to others before the timeout"
        assert ack(c, "jobs", first) == 5
        with at_most(25, "until the jobs were back"):
            second = []

            def all_back():
                second.extend(fetch(c, "jobs", 10))
                return len(second) >= 4

            until(all_back, 25, "jobs come back")
        assert sorted(row.id for row in second) == ids[1:5]
        assert {row.attempt for row in second} == {2}
        assert {row.failure_reason for row in second} == {"lease expired"}
        assert ack(c, "jobs", second) == 4
        assert statuses(c, "jobs") == {"completed": 10}


def consume(db, number):
    """Effects and acks in one transaction, until killed."""
    rng = random.Random(number)
    with db.connect() as c:
        while True:
            rows = fetch(c, "jobs", rng.randint(1, 20))
            with c.transaction():
                for row in rows:
                    c.execute("INSERT INTO effects VALUES (%s)", (row.id,))
                ack(c, "jobs", rows, strict=True)
            if not rows:
                time.sleep(0.01)  # an idle consumer's pause


def test_consumers_killed_at_random(db):
    """A job done twice would violate the key of `effects`: its consumer would end by itself, which fails the test."""
    seconds = sized(10, 60)
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 700, retries => 1000000)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    db.execute("CREATE TABLE effects (id bigint PRIMARY KEY)")
    db.execute("ALTER DATABASE qflow_test SET qflow.sweep = off")
    rng = random.Random(9)
    ids, number, killed = [], 0, 0
    consumers = []

    def start():
        nonlocal number
        number += 1
        process = FORK.Process(target=consume, args=(db, number), daemon=True)
        process.start()
        return process

    try:
        with db.connect() as c:
            consumers = [start() for _ in range(4)]
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.02, 0.2))  # the pace of killing
                ids += load(c, "jobs", 200)
                time.sleep(rng.uniform(0, 0.02))  # while they are at it: 200 jobs keep four consumers busy for longer
                at = rng.randrange(4)
                assert consumers[at].is_alive(), f"a consumer ended by itself: {consumers[at].exitcode}"
                os.kill(consumers[at].pid, signal.SIGKILL)
                consumers[at].join()
                killed += 1
                consumers[at] = start()
            with at_most(60, "until all was done"):
                until(lambda: set(statuses(c, "jobs")) == {"completed"}, 60, "all jobs completed")
            assert all(process.is_alive() for process in consumers)
            effects = [row[0] for row in c.execute("SELECT id FROM effects ORDER BY id")]
            again = c.execute("SELECT count(*) FILTER (WHERE attempt > 1) FROM jobs").fetchone()[0]
    finally:
        for process in consumers:
            process.kill()
            process.join()
    print(f"{killed} consumers killed, {len(ids)} jobs, {again} of them claimed more than once")
    assert effects == sorted(ids)
    assert again > 0, "no consumer was killed with jobs in hand"
