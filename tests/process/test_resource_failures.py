"""Whatever ends a fetch or a settle in the midst: no lock and no row is left behind, and no deadlock on the way."""
import contextlib
import json
import random
import threading
import time

import psycopg
import pytest

import pgbouncer
from jobs import ack, at_most, fetch, load, processes, sized, statuses, until
from resources import a_database, assert_free, faults, holders, locks, make, until_free


def test_opposite_orders(make_server):
    """Two resources, asked for in opposite orders by two consumers: no deadlock."""
    rounds = sized(500, 10_000)
    db = a_database(make_server)
    make(db)
    db.execute("SELECT qflow.create_resource('alpha', 1), qflow.create_resource('omega', 1)")
    with db.connect() as c:
        load(c, "jobs", 2 * rounds)

    def consume(number):
        hints = [{"alpha": 1, "omega": 1}, {"omega": 1, "alpha": 1}][number]
        done = 0
        with db.connect() as c:
            while done < rounds:
                rows = fetch(c, "jobs", 1, hints={**hints, "gpu": False, "wait_ms": 1_000})
                done += len(rows)
                ack(c, "jobs", rows)
        return done

    assert processes(2, consume, seconds=sized(100, 1_000)) == [rounds, rounds]
    with db.connect() as c:
        assert_free(c)
    assert "deadlock" not in db.server.log()


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no-preload"])
def test_an_open_fetch_holds_up_no_other_lease(make_server, preload):
    """A worker's open fetch has its slot locked. Its earlier lease, expired meanwhile, is left for later: the leases of
    others are taken back, by the worker or by the next fetch, and nobody waits."""
    db = a_database(make_server, preload=preload)
    make(db)
    hints = {"worker": "w", "timeout_ms": 200}
    with db.connect() as c, db.connect() as open_one, db.connect() as other:
        load(c, "jobs", 10)
        first = fetch(c, "jobs", 1, hints=hints)
        with open_one.transaction():
            last = fetch(open_one, "jobs", 1, hints={**hints, "timeout_ms": 600_000})
            assert last[0].resources == first[0].resources == {"gpu": [0]}
            others = fetch(c, "jobs", 1, hints={"gpu": False, "timeout_ms": 200})
            other.execute("SET statement_timeout = '50s'")
            with at_most(50, "the other lease ended"):
                until(lambda: is_over(other, others), 50)
            assert not is_over(other, first)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="open transaction"):
                other.execute("SELECT qflow.break_lease(%s)", (first[0].lease,))
        until(lambda: is_over(other, first), 50, "the first lease ended")
        assert holders(other) == [(0, 1)]
        assert ack(c, "jobs", last, strict=True) == 1
        assert_free(other)


def is_over(c, rows):
    """Whether a lease has ended; without a worker a fetch of nothing much looks after the queue."""
    ack(c, "jobs", fetch(c, "jobs", 1, hints={"gpu": False}))
    return c.execute("SELECT count(*) FROM qflow.lease WHERE id = %s", (rows[0].lease,)).fetchone() == (0,)


def test_opposite_orders_in_one_transaction(make_server):
    """The same taken one after the other, by two fetches of one transaction: busy, and not a deadlock."""
    db = a_database(make_server)
    make(db)
    db.execute("SELECT qflow.create_resource('alpha', 1), qflow.create_resource('omega', 1)")
    with db.connect() as c:
        load(c, "jobs", 10_000)

    def consume(number):
        order = [("alpha", "omega"), ("omega", "alpha")][number]
        both = 0
        with db.connect() as c:
            for _ in range(sized(30, 300)):
                with c.transaction():
                    got = [fetch(c, "jobs", 1, hints={name: 1, "gpu": False, "wait_ms": 20}) for name in order]
                    for rows in got:
                        ack(c, "jobs", rows)
                    both += all(got)
        return both

    print("both at a time:", processes(2, consume, seconds=sized(100, 600)))
    with db.connect() as c:
        assert_free(c)
    assert "deadlock" not in db.server.log()


@pytest.mark.parametrize("hold", ["lease", "session"])
def test_cancelled_anywhere(make_server, hold):
    """Cancel and statement_timeout at random points of fetches that wait, take and claim; savepoints rolled back."""
    db = a_database(make_server)
    make(db)
    db.execute("SELECT qflow.create_resource('memory', 10, 'units')")
    rng = random.Random(3)
    hints = {"gpu": 1, "memory": 6, "hold": hold, "wait_ms": 5}
    with db.connect() as c, db.connect() as watch:
        load(c, "jobs", 5_000)
        stop = threading.Event()

        def cancel():
            rng = random.Random(4)
            with db.connect() as other:
                while not stop.wait(rng.random() * 0.004):
                    other.execute("SELECT pg_cancel_backend(%s)", (c.info.backend_pid,))

        canceller = threading.Thread(target=cancel)
        canceller.start()
        ended = {"cancelled": 0, "rolled back": 0, "fetched": 0}
        try:
            for _ in range(sized(300, 1_000)):
                try:
                    c.execute(f"SET statement_timeout = '{rng.choice([0, 1, 2, 3])}ms'")
                    with c.transaction():
                        try:
                            with c.transaction(force_rollback=rng.random() < 0.3) as inner:
                                rows = fetch(c, "jobs", 2, hints=hints)
                        except psycopg.errors.QueryCanceled:
                            ended["cancelled"] += 1
                            rows = []
                        if rows and not inner.force_rollback:
                            ended["fetched"] += 1
                            ack(c, "jobs", rows)
                        elif rows:
                            ended["rolled back"] += 1
                except psycopg.errors.QueryCanceled:
                    ended["cancelled"] += 1
                    if c.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                        c.rollback()
        finally:
            stop.set()
            canceller.join()
        print(ended)
        assert ended["cancelled"] > 20 and ended["fetched"] > 20
        c.execute("SET statement_timeout = 0")
        # what a cancelled ack left in its lease is acked now; then all is free
        for id, lease in c.execute("SELECT id, lease FROM jobs WHERE status = 'in_progress'").fetchall():
            c.execute("SELECT qflow.ack('jobs', %s, %s)", ([id], [lease]))
        assert_free(watch)
        assert faults(watch) == []
        assert len(fetch(watch, "jobs", 1, hints=hints)) == 1


def test_error_after_the_session_has_its_lock(make_server):
    """A serialization failure comes after qflow was told that the commit begins: the session lets go again."""
    db = a_database(make_server)
    make(db)
    db.execute("CREATE TABLE sums (a int, b int); INSERT INTO sums VALUES (1, 1), (2, 2)")
    failed = 0
    with db.connect() as one, db.connect() as two, db.connect() as watch:
        load(one, "jobs", 100)
        for c in (one, two):
            c.execute("SET default_transaction_isolation = 'serializable'")
        for _ in range(20):
            one.execute("BEGIN")
            two.execute("BEGIN")
            for c, row in ((one, 1), (two, 2)):
                c.execute("SELECT sum(b) FROM sums")
                c.execute("UPDATE sums SET b = b + 1 WHERE a = %s", (row,))
            assert len(fetch(one, "jobs", 1, hints={"gpu": 1, "hold": "session"})) == 1
            two.execute("COMMIT")
            with pytest.raises(psycopg.errors.SerializationFailure):
                one.execute("COMMIT")
            failed += 1
            assert_free(watch)
    print(f"{failed} commits failed")


@pytest.mark.parametrize("size", [16])
def test_four_settle_one_lease(make_server, size):
    """From four connections at once: the slot is free at once, and there is no deadlock."""
    rounds = sized(50, 1_000)
    db = a_database(make_server)
    make(db)
    connections = [db.connect() for _ in range(4)]
    barrier = threading.Barrier(5)
    share, errors = [None] * 4, []

    def settle(number):
        for _ in range(rounds):
            barrier.wait(60)
            try:
                ack(connections[number], "jobs", share[number])
            except psycopg.Error as error:
                errors.append(error)
            barrier.wait(60)

    settlers = [threading.Thread(target=settle, args=(number,)) for number in range(4)]
    for settler in settlers:
        settler.start()
    with db.connect() as c:
        load(c, "jobs", rounds * size)
        with at_most(sized(60, 600), f"{rounds} rounds"):
            for round in range(rounds):
                rows = fetch(c, "jobs", size, hints={"gpu": 1, "worker": "w" if round % 2 else "v"})
                assert len(rows) == size, "the slot is free"
                for number in range(4):
                    share[number] = rows[number::4]
                barrier.wait(60)
                barrier.wait(60)
                assert not errors, errors
        for settler in settlers:
            settler.join(60)
        assert_free(c)
    for connection in connections:
        connection.close()
    assert "deadlock" not in db.server.log()


@pytest.mark.parametrize("pooler", ["simulated", "pgbouncer"])
def test_pooled(make_server, pooler):
    """`hold = "lease"` behind a pooler in transaction mode: every call on any connection of a pool. Nothing depends on the
    session: slots stay while a lease is open, named workers keep theirs, and all is free in the end."""
    if pooler == "pgbouncer" and not pgbouncer.find():
        pytest.skip("not run: no pgbouncer")
    db = a_database(make_server, slots=2)
    make(db)
    count = sized(400, 4_000)
    with db.connect() as c:
        load(c, "jobs", count)
    with contextlib.ExitStack() as stack:
        if pooler == "pgbouncer":
            connect = stack.enter_context(pgbouncer.running(db, pool_size=3))
        else:
            connect = db.connect
        pool = [stack.enter_context(connect()) for _ in range(5)]
        consume_through(pool, count)
    with db.connect() as c:
        assert statuses(c, "jobs") == {"completed": count}
        assert_free(c)


def consume_through(pool, count):
    """Four consumers, who make each call on a connection of the pool that is free just then."""
    busy = [threading.Lock() for _ in pool]
    slots, lock, done, wrong = {}, threading.Lock(), [], []

    def on_any(rng, call):
        while True:
            at = rng.randrange(len(pool))
            if busy[at].acquire(blocking=False):
                try:
                    return call(pool[at])
                finally:
                    busy[at].release()

    def consume(number):
        rng, worker = random.Random(number), f"w{number}"
        hints = {"gpu": 1, "worker": worker} if number % 2 else {"gpu": 1}
        while len(done) < count:
            rows = on_any(rng, lambda c: fetch(c, "jobs", 3, hints=hints))
            if not rows:
                on_any(rng, lambda c: c.execute("CALL qflow.wait('jobs', 100, %s)", (json.dumps(hints),)))
                continue
            (slot,) = rows[0].resources["gpu"]
            with lock:
                if slot in slots:
                    wrong.append((slot, slots[slot], number))
                slots[slot] = number
            for row in rows:
                with lock:
                    if slots.get(slot) != number:
                        wrong.append((slot, "lost", number))
                    if row is rows[-1]:
                        slots.pop(slot, None)
                on_any(rng, lambda c: ack(c, "jobs", [row]))
                done.append(row.id)

    consumers = [threading.Thread(target=consume, args=(number,)) for number in range(4)]
    with at_most(sized(100, 600), "all jobs"):
        for consumer in consumers:
            consumer.start()
        for consumer in consumers:
            consumer.join()
    assert not wrong, wrong[:5]
