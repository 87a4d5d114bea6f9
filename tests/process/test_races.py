"""Many consumers at once: no job twice, none lost, no lease left behind, no deadlock."""
import itertools
import random
import threading
import time

import pytest

from jobs import ack, at_most, drain, fetch, load, outcomes, processes, sized, statuses, until


def consume(number, db, workflow):
    """Fetches and acks until all jobs are done; answers (id, attempt) of each job claimed."""
    rng = random.Random(number)
    claimed = []
    with db.connect() as c:
        while True:
            rows = fetch(c, workflow, rng.randint(1, 50))
            claimed += [(row.id, row.attempt) for row in rows]
            assert ack(c, workflow, rows) == len(rows)
            if not rows and not c.execute("SELECT 1 FROM jobs WHERE status <> 'completed' LIMIT 1").fetchone():
                return claimed


@pytest.mark.every_version
@pytest.mark.parametrize("direct", ["on", "off"])
def test_no_job_is_claimed_twice_or_lost(db, direct):
    """Whether jobs are reached directly or through the executor."""
    count = sized(20_000, 200_000)
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute(f"ALTER DATABASE qflow_test SET qflow.direct_access = {direct}")
    db.execute("ALTER DATABASE qflow_test SET qflow.sweep = off")
    with db.connect() as c:
        ids = load(c, "jobs", count)
    claimed = list(itertools.chain(*processes(8, consume, db, "jobs", seconds=sized(200, 2000))))
    assert len(claimed) == count
    assert {id for id, _ in claimed} == set(ids)
    assert {attempt for _, attempt in claimed} == {1}
    assert db.execute("SELECT count(*) FROM qflow.lease") == [(0,)]


def produce_and_consume(number, db, count):
    """Half of them insert, in transactions of different length; the others consume."""
    if number % 2:
        return consume(number, db, "jobs")
    rng = random.Random(number)
    with db.connect() as c:
        done = 0
        while done < count:
            with c.transaction(force_rollback=rng.random() < 0.1) as transaction:
                inserted = 0
                for _ in range(rng.randint(1, 5)):
                    load(c, "jobs", 7)
                    inserted += 7
                c.execute("SELECT id FROM jobs WHERE status = 'pending' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED")
            done += 0 if transaction.force_rollback else inserted
        c.execute("INSERT INTO finished VALUES (%s)", (done,))
    return []


def test_no_job_is_lost_while_producers_write(db):
    """With the sweep off: the floor passes transactions that are still running, and rows that somebody locked."""
    count = sized(3_000, 50_000)
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("CREATE TABLE finished (jobs int)")
    db.execute("ALTER DATABASE qflow_test SET qflow.sweep = off")
    with db.connect() as c:
        load(c, "jobs", 1_000)
    claimed = list(itertools.chain(*processes(8, produce_and_consume, db, count, seconds=sized(200, 2000))))
    with db.connect() as c:
        claimed += [(row.id, row.attempt) for row in drain(c, "jobs", "jobs")]
        expected = 1_000 + c.execute("SELECT sum(jobs) FROM finished").fetchone()[0]
    assert len(claimed) == len({id for id, _ in claimed}) == expected
    assert {attempt for _, attempt in claimed} == {1}


def at_once(work):
    """Runs functions in threads that start together; raises what one of them raised."""
    barrier = threading.Barrier(len(work))
    faults, answers = [], [None] * len(work)

    def run(at, function):
        try:
            barrier.wait(30)
            answers[at] = function()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=entry, daemon=True) for entry in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "hangs"
    if faults:
        raise faults[0]
    return answers


@pytest.mark.every_version
def test_a_lease_settled_from_four_connections_leaves_nothing(db):
    rounds = sized(100, 1_000)
    db.execute("SELECT qflow.create_queue('jobs', retries => 1000000)")
    connections = [db.connect() for _ in range(4)]
    rng = random.Random(4)
    with db.connect() as c, at_most(sized(60, 600), f"{rounds} rounds"):
        for at in range(rounds):
            load(c, "jobs", 16)
            rows = fetch(c, "jobs", 16)
            assert len(rows) == 16
            rng.shuffle(rows)
            outcome = "ack" if at % 2 else rng.choice(["ack", "requeue", "fail", "release"])
            parts = [rows[i * 4 : i * 4 + 4] for i in range(4)]
            verdicts = at_once(
                [lambda own=own, part=part: outcomes(own, "jobs", part, outcome) for own, part in zip(connections, parts)]
            )
            assert {verdict for part in verdicts for verdict in part.values()} == {outcome.rstrip("e") + "ed"}
            left = c.execute("SELECT count(*) FROM qflow.lease").fetchone()[0]
            assert left == 0, f"round {at}: {left} leases left after {outcome}"
            c.execute("TRUNCATE jobs")
    for connection in connections:
        connection.close()


def test_crossed_acks_do_not_deadlock(db):
    """Each call acks jobs of several leases in random order; the same jobs are acked by several at once."""
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("ALTER DATABASE qflow_test SET deadlock_timeout = '50ms'")
    rounds, seconds = sized(100, 1000), 20
    connections = [db.connect() for _ in range(4)]
    until_when = time.monotonic() + seconds
    done = 0
    with db.connect() as c:
        while done < rounds and time.monotonic() < until_when:
            load(c, "jobs", 60)
            rows = [row for _ in range(6) for row in fetch(c, "jobs", 10)]

            def settle(own, number):
                rng = random.Random(done * 4 + number)
                accepted = 0
                for _ in range(8):
                    accepted += ack(own, "jobs", rng.sample(rows, 30))
                return accepted

            at_once([lambda own=own, number=number: settle(own, number) for number, own in enumerate(connections)])
            ack(c, "jobs", rows)
            done += 1
            assert statuses(c, "jobs") == {"completed": 60 * done}
            assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)
    print(f"{done} rounds")
    assert done >= 10, "too slow to say anything"
    for connection in connections:
        connection.close()


def test_ack_against_reap_one_wins(db):
    """Without retries: a job whose ack was accepted is completed, every other one failed with `lease expired`."""
    rounds = sized(100, 1000)
    db.execute("SELECT qflow.create_queue('jobs', retries => 0)")
    one, two = db.connect(), db.connect()
    acked = reaped = 0
    rng = random.Random(1)
    with db.connect() as c, at_most(sized(60, 600), f"{rounds} rounds"):
        for _ in range(rounds):
            load(c, "jobs", 20)
            rows = fetch(c, "jobs", 20, hints={"timeout_ms": rng.randint(1, 6)})
            rng.shuffle(rows)

            settled = threading.Event()

            def settle():
                verdicts = {}
                for at in range(0, 20, 4):
                    verdicts |= outcomes(one, "jobs", rows[at : at + 4])
                    time.sleep(rng.uniform(0, 0.002))  # somewhere about the deadline
                settled.set()
                return verdicts

            def take_back():
                while not settled.is_set():
                    two.execute("SELECT * FROM qflow.reap()").fetchall()

            verdicts, _ = at_once([settle, take_back])
            until(
                lambda: c.execute("SELECT count(*) FROM qflow.reap()").fetchall() and not c.execute("SELECT FROM qflow.lease").fetchall(),
                what="no lease left",
            )
            found = dict(c.execute("SELECT id, status || coalesce(' ' || failure_reason, '') FROM jobs").fetchall())
            expected = {"acked": "completed", "stale": "failed lease expired"}
            assert {id: expected[verdict] for id, verdict in verdicts.items()} == found
            acked += sum(verdict == "acked" for verdict in verdicts.values())
            reaped += sum(verdict == "stale" for verdict in verdicts.values())
            c.execute("TRUNCATE jobs")
    print(f"{acked} acked, {reaped} reaped")
    assert acked and reaped, "one side always won: nothing was tried"
    one.close()
    two.close()


def test_jobs_pass_through_timeouts_exactly_once(db):
    """Consumers that are often too slow: each job is completed by exactly one accepted ack."""
    count = sized(2_000, 20_000)
    db.execute("SELECT qflow.create_queue('jobs', timeout_ms => 20, retries => 1000000)")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    with db.connect() as c:
        ids = load(c, "jobs", count)

    def run(number):
        rng = random.Random(number)
        accepted = []
        with db.connect() as c:
            while True:
                rows = fetch(c, "jobs", rng.randint(1, 30))
                if rng.random() < 0.2:
                    time.sleep(0.03)  # too slow
                    c.execute("SELECT * FROM qflow.reap()").fetchall()
                accepted += [id for id, verdict in outcomes(c, "jobs", rows).items() if verdict == "acked"]
                if not rows:
                    c.execute("SELECT * FROM qflow.reap()").fetchall()
                    if not c.execute("SELECT 1 FROM jobs WHERE status <> 'completed' LIMIT 1").fetchone():
                        return accepted

    accepted = list(itertools.chain(*processes(4, run, seconds=sized(200, 2000))))
    assert sorted(accepted) == sorted(ids)
    assert db.execute("SELECT max(attempt) > 1 FROM jobs") == [(True,)], "no consumer was too slow"
    assert db.execute("SELECT count(*) FROM qflow.lease") == [(0,)]
