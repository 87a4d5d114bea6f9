"""Adopting tables that are in use: how long they are locked, that nothing is lost while producers write, and that jobs
from elsewhere are within reach at once."""
import threading
import time

import pytest

from jobs import SEEDS, ack, fetch, sized

ROWS = sized(200_000, 1_000_000)


def look_through(c):
    """Lets the pass go on that returns what old consumers hold, to its end."""
    while not c.execute("SELECT ok FROM qflow.verify('jobs') WHERE check_name = 'home'").fetchone()[0]:
        for _ in range(100):
            c.execute("SELECT * FROM qflow.reap()")


@pytest.mark.every_version
@pytest.mark.parametrize("seed", SEEDS)
def test_a_large_table(db, seed):
    """Adopted without a rewrite. Prints how long its lock is held; then every job comes, once."""
    db.execute(SEEDS[seed].format("jobs"))
    db.execute(f"INSERT INTO jobs (data) SELECT to_jsonb(n) FROM generate_series(1, {ROWS}) n")
    with db.connect() as c:
        node = c.execute("SELECT pg_relation_filenode('jobs')").fetchone()[0]
        start = time.monotonic()
        c.execute("SELECT qflow.create_queue('jobs')")
        held = time.monotonic() - start
        print(f"{ROWS} rows of {seed}: locked for {held * 1000:.0f} ms")
        assert c.execute("SELECT pg_relation_filenode('jobs')").fetchone()[0] == node, "the table was rewritten"
        assert held < 60, "hang"
        seen = set()
        for _ in range(5):
            rows = fetch(c, "jobs", 1_000)
            seen |= {row.id for row in rows}
            assert ack(c, "jobs", rows) == len(rows)
        assert seen == set(range(1, 5_001))
        look_through(c)


@pytest.mark.parametrize("seed", SEEDS)
def test_while_producers_write(db, seed):
    """Producers insert before, during and after the adoption, some in transactions open all the while: nothing is lost,
    and no error reaches them."""
    db.execute(SEEDS[seed].format("jobs"))
    stop, inserted, failures = threading.Event(), [], []
    under_way = threading.Barrier(5)

    def produce():
        count = 0
        try:
            with db.connect() as c:
                c.execute("INSERT INTO jobs (data) VALUES ('1')")
                count += 1
                under_way.wait()
                while not stop.is_set():
                    with c.transaction():
                        c.execute("INSERT INTO jobs (data) VALUES ('1')")
                        c.execute("INSERT INTO jobs (data) VALUES ('2'), ('3')")
                    count += 3
                    with c.transaction(force_rollback=True):
                        c.execute("INSERT INTO jobs (data) VALUES ('4')")
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)
        inserted.append(count)

    producers = [threading.Thread(target=produce) for _ in range(4)]
    for producer in producers:
        producer.start()
    under_way.wait()
    with db.connect() as c:
        c.execute("SELECT qflow.create_queue('jobs')")
        taken = 0
        for _ in range(20):
            rows = fetch(c, "jobs", 50)
            taken += ack(c, "jobs", rows)
        stop.set()
        for producer in producers:
            producer.join()
        assert not failures, failures
        while rows := fetch(c, "jobs", 1_000):
            taken += ack(c, "jobs", rows)
        look_through(c)
    assert taken == sum(inserted)


def test_a_restored_table_is_within_reach_at_once(db):
    """Pending rows of another cluster, whose transaction ids are still to come here: a consumer that asks again and again
    gets them all, without waiting for anything."""
    rows = 20_000
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        c.execute("ALTER TABLE jobs ALTER enqueued_xid SET DEFAULT '4611686018427387904'")
        c.execute("ALTER TABLE jobs DISABLE TRIGGER ALL")
        c.execute("INSERT INTO jobs (data) SELECT to_jsonb(n) FROM generate_series(1, %s) n", (rows,))
        c.execute("UPDATE jobs SET status = 'completed' WHERE id % 3 > 0")
        c.execute("ALTER TABLE jobs ENABLE ALWAYS TRIGGER qflow_return_insert")
        c.execute("ALTER TABLE jobs ENABLE ALWAYS TRIGGER qflow_return_update")
        c.execute("SELECT qflow.drop_queue('jobs')")
        c.execute("SELECT qflow.create_queue('jobs')")
        taken, start = 0, time.monotonic()
        while batch := fetch(c, "jobs", 500):
            taken += ack(c, "jobs", batch)
        print(f"{taken} jobs of {rows} rows within {time.monotonic() - start:.1f} s")
        assert taken == rows // 3
        look_through(c)
