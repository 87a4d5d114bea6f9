"""The worker is not in the way: of databases that are to be dropped, copied or renamed, nor of DROP EXTENSION."""
import threading
import time

import psycopg
import pytest

from jobs import ack, at_most, fetch, load, until
from workers import held, lease_out, lines, preloaded, until_back, worker_of, workers

# Besides a worker's stay, tries that find somebody there wait five seconds themselves.
IDLE = "qflow.worker_idle_ms = 1000"


def persistently(c, statement):
    """Repeats it until nobody is connected to the database; seconds."""
    begin = time.monotonic()

    def done():
        try:
            c.execute(statement)
            return True
        except psycopg.errors.ObjectInUse:
            return False

    until(done, 60, statement)
    return time.monotonic() - begin


@pytest.mark.every_version
def test_a_database_can_be_dropped_copied_and_renamed(make_server):
    db = preloaded(make_server, IDLE)
    with db.connect() as c:
        lease_out(c)
        until_back(c)
        worker_of(c)
    with db.server.connect() as c:
        until(lambda: not workers(c), 30, "the worker has left")
        took = [
            persistently(c, statement)
            for statement in ("CREATE DATABASE copy TEMPLATE jobs", "ALTER DATABASE copy RENAME TO other", "DROP DATABASE other")
        ]
        print(f"copied, renamed, dropped after {[round(t, 1) for t in took]} s (worker_idle_ms 1000)")
        assert max(took) < 20


def test_leaves_out_do_not_keep_the_worker(make_server):
    """A lease that ends in an hour is no reason to stay; the worker is back when it ends, or is needed."""
    db = preloaded(make_server, IDLE)
    with db.connect() as c:
        lease_out(c, hints={"timeout_ms": 4_000})
        lease_out(c, hints={"timeout_ms": 3_600_000})
        until(lambda: not workers(c), 30, "the worker has left")
        until(lambda: c.execute("SELECT count(*) FROM jobs WHERE status = 'pending'").fetchone() == (5,), 30, "back")
    with db.server.connect() as c:
        until(lambda: not workers(c), 30, "the worker has left again")
        with at_most(20, "dropped with a lease out"):
            persistently(c, "DROP DATABASE jobs")
        db.server.databases.remove(db)
        until(lambda: not workers(c), 30)
    assert not lines(db.server, "FATAL")


def test_a_copy_is_looked_after_too(make_server):
    db = preloaded(make_server, IDLE)
    with db.connect() as c:
        lease_out(c, hints={"timeout_ms": 2_000, "bind": "session"})
        load(c, "jobs", 3)
    with db.server.connect() as c:
        until(lambda: not workers(c), 30, "the worker has left")
        persistently(c, "CREATE DATABASE copy TEMPLATE jobs")
    db.server.restart()
    with db.server.connect("copy") as c:
        until(lambda: c.execute("SELECT count(*) FROM jobs WHERE status = 'pending'").fetchone() == (8,), 30, "all back")
        rows = fetch(c, "jobs", 10)
        assert len(rows) == 8 and ack(c, "jobs", rows) == 8


def test_drop_extension_waits_before_it_has_locked_anything(make_server):
    """The worker is at a queue. Producers and readers go on while DROP EXTENSION waits for it; consumers wait as it does."""
    db = preloaded(make_server, queues=("stuck", "jobs"))
    with db.connect() as c, db.connect() as dropper:
        c.execute("""CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN new; END $$;
            CREATE TRIGGER hold BEFORE UPDATE ON stuck FOR EACH ROW WHEN (new.status = 'pending') EXECUTE FUNCTION hold()""")
        lease_out(c, "stuck")
        at_it = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'qflow worker' AND wait_event = 'PgSleep'"
        worker = until(lambda: c.execute(at_it).fetchone(), what="the worker is at it")
        dropping = threading.Thread(target=lambda: dropper.execute("DROP EXTENSION qflow CASCADE"))
        dropping.start()
        until(lambda: c.execute("SELECT true FROM pg_locks WHERE pid = %s AND NOT granted", (dropper.info.backend_pid,)).fetchone())
        c.execute("SET lock_timeout = '1s'")
        load(c, "jobs", 5)
        assert held(c, "stuck") == 5
        c.execute("SELECT pg_terminate_backend(%s)", worker)
        dropping.join()
        assert not lines(db.server, "deadlock")


def test_the_extension_dropped_and_made_again_under_load(make_server):
    """Nobody deadlocks: who uses qflow waits before he has locked anything. The worker does not fill the log."""
    db = preloaded(make_server, IDLE, "deadlock_timeout = 50ms")
    stop, met = threading.Event(), []

    def work():
        with db.connect() as c:
            while not stop.is_set():
                try:
                    load(c, "jobs", 5)
                    rows = fetch(c, "jobs", 5, hints={"timeout_ms": 50})
                    ack(c, "jobs", rows[:3])
                except psycopg.Error as error:
                    met.append(error.sqlstate)

    threads = [threading.Thread(target=work) for _ in range(3)]
    with db.connect() as c:
        c.execute("SET client_min_messages = error")
        for thread in threads:
            thread.start()
        since = len(db.server.log())
        begin = time.monotonic()
        try:
            for _ in range(20):
                until(lambda: c.execute("SELECT count(*) FROM jobs WHERE status = 'completed'").fetchone()[0] > 0)
                c.execute("DROP EXTENSION qflow CASCADE")
                c.execute("DELETE FROM jobs WHERE status = 'completed'")
                c.execute("CREATE EXTENSION qflow")
                c.execute("SELECT qflow.create_queue('jobs', retries => 100, timeout_ms => 1000)")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        told = {state: met.count(state) for state in set(met)}
        worker = [line for line in db.server.log()[since:].splitlines() if "qflow worker" in line or "could not look" in line]
        print(f"20 times in {time.monotonic() - begin:.1f} s; consumers met {told}; the worker's lines: {len(worker)}")
        print("\n".join(worker[:10]))
        assert "40P01" not in told
        assert len(worker) <= 20
        assert not lines(db.server, "PANIC") and not lines(db.server, "terminated by signal")
        # What the last extension does not know of yet.
        until(lambda: not db.faults().strip(), 60, "the table looked through without a call")
        until_back(c)
