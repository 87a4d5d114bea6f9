"""CALL qflow.wait: other sessions see what it holds while it waits (nothing), what ends it, and how soon."""
import os
import signal
import socket
import threading
import time

import psycopg
import pytest

from jobs import FORK, ack, at_most, fetch, load, until
from waits import (
    LONG, Waiter, by_copy, by_enqueue, by_insert, by_release, by_requeue, in_block, plain, waiting,
)


@pytest.fixture
def queue(db):
    """A database with a queue `jobs`, looked at every 100 ms."""
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    return db


# ---- what it holds


def prepared(c):
    c.execute("CALL qflow.wait(%s, %s, %s)", ("jobs", LONG, None), prepare=True)


def prepared_in_block(c):
    with c.transaction():
        c.execute("CALL qflow.wait(%s, %s, %s)", ("jobs", LONG, None), prepare=True)


def after_a_select_in_block(c):
    with c.transaction():
        c.execute("SELECT count(*) FROM pg_class")
        c.execute("CALL qflow.wait('jobs', %s)", (LONG,))


def at_a_savepoint(c):
    with c.transaction(), c.transaction():
        c.execute("CALL qflow.wait('jobs', %s)", (LONG,))


def several_in_one_message(c):
    c.execute(f"SELECT 1; CALL qflow.wait('jobs', {LONG})", prepare=False)


def repeatable_read(c):
    c.execute("SET default_transaction_isolation = 'repeatable read'")
    c.execute("CALL qflow.wait('jobs', %s)", (LONG,))


def serializable(c):
    c.execute("SET default_transaction_isolation = 'serializable'")
    c.execute("CALL qflow.wait('jobs', %s)", (LONG,))


def in_procedure(c):
    c.execute(f"DO $$ BEGIN CALL qflow.wait('jobs', {LONG}); END $$")


def in_procedure_with_cursor(c):
    c.execute(
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM pg_class LOOP"
        f" CALL qflow.wait('jobs', {LONG}); EXIT; END LOOP; END $$"
    )


def held(c, pid):
    """What a session waits for, its snapshot, its transaction, and its locks on relations of ours."""
    return c.execute(
        """SELECT a.wait_event_type, a.backend_xmin::text, a.backend_xid::text,
            ARRAY(SELECT l.relation::regclass::text || ' ' || l.mode FROM pg_locks AS l
                WHERE l.pid = a.pid AND l.relation IN ('jobs'::regclass, 'qflow.queue'::regclass, 'qflow.workflow'::regclass))
        FROM pg_stat_activity AS a WHERE a.pid = %s""",
        (pid,),
    ).fetchone()


WAYS = [plain, prepared, in_block, prepared_in_block, after_a_select_in_block, at_a_savepoint, several_in_one_message,
        repeatable_read, serializable, in_procedure, in_procedure_with_cursor]


@pytest.mark.every_version
@pytest.mark.parametrize("call", WAYS, ids=lambda call: call.__name__)
def test_it_holds_nothing(queue, call):
    """Looked at 50 times: between two looks neither snapshot nor transaction id, nor a lock on any relation of ours."""
    with waiting(queue, call) as waiter, queue.connect() as c:
        for _ in range(50):
            # the server reads snapshots before it reads what is waited for: a look that just ended is told as a wait, once
            states = [held(c, waiter.pid) for _ in range(3)]
            if all(state[0] == "Extension" for state in states):  # else it is looking
                assert ("Extension", None, None, []) in states
            time.sleep(0.007)  # the pace of looking on, out of step with its looks
        load(c, "jobs", 1)
        assert waiter.join().error is None
        assert waiter.connection.execute("SELECT 1").fetchone() == (1,), "the session goes on"


def test_dead_rows_do_not_outlive_it(queue):
    """VACUUM removes what died after a wait began."""
    with queue.connect() as c:
        c.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 100) AS n")
        with waiting(queue, plain), waiting(queue, in_block):
            c.execute("DELETE FROM t")
            # each of them may be looking while VACUUM begins
            until(lambda: c.execute("VACUUM t") and not c.execute("SELECT pg_relation_size('t')").fetchone()[0],
                  what="the dead rows are gone")


@pytest.mark.every_version
@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
def test_definitions_change_meanwhile(queue, call):
    """Neither ALTER nor a lock on the table waits for a waiter, who goes on; DROP ends him with 42704."""
    with queue.connect() as c:
        c.execute("SET lock_timeout = '10s'")
        with waiting(queue, call) as waiter:
            with at_most(10, "ALTER TABLE and more"):
                c.execute("ALTER TABLE jobs ADD COLUMN note text")
                c.execute("ALTER TABLE jobs RENAME TO tasks")
                c.execute("CREATE INDEX ON tasks (note)")
                c.execute("REINDEX TABLE tasks")
                c.execute("SELECT qflow.alter_workflow('jobs', retries => 7)")
                with c.transaction():
                    c.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            c.execute("INSERT INTO tasks (data) VALUES ('{}')")
            assert waiter.join().error is None
        assert len(fetch(c, "jobs")) == 1
        with waiting(queue, call) as waiter, at_most(10, "DROP TABLE"):
            c.execute("DROP TABLE tasks")
            assert waiter.join().error.sqlstate == "42704"
        assert waiter.connection.closed


@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
def test_drop_workflow_and_queue(queue, call):
    with queue.connect() as c:
        with waiting(queue, call) as waiter, at_most(10, "drop_workflow"):
            c.execute("SELECT qflow.drop_workflow('jobs')")
            assert waiter.join().error.sqlstate == "42704"
        c.execute("SELECT qflow.create_workflow('jobs', 'jobs')")
        with waiting(queue, call) as waiter, at_most(10, "drop_queue"):
            c.execute("SELECT qflow.drop_queue('jobs')")
            assert waiter.join().error.sqlstate == "42704"


@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
def test_drop_extension(queue, call):
    with queue.connect() as c, waiting(queue, call) as waiter:
        with at_most(10, "DROP EXTENSION"):
            c.execute("DROP EXTENSION qflow CASCADE")
            assert waiter.join().error.sqlstate == "55000"
        assert waiter.connection.execute("SELECT 1").fetchone() == (1,)


def test_a_locked_table_does_not_hold_it_up(queue):
    """Nor does the waiter keep a snapshot while the lock is held; the deadline is kept."""
    with queue.connect() as locker:
        with locker.transaction():
            locker.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            begin = time.monotonic()
            with queue.connect() as c:
                c.execute("SET statement_timeout = '10s'")
                c.execute("CALL qflow.wait('jobs', 500)")
            took = time.monotonic() - begin
            assert 0.5 <= took < 5
            locker.execute("INSERT INTO jobs (data) VALUES ('{}')")
            waiter = Waiter(queue, plain)
        assert waiter.join().error is None
        waiter.close()


# ---- what ends it


def by_hand(c, rows):
    c.execute("UPDATE jobs SET status = 'pending'")


def by_rollback_of_a_claim(c, rows):
    load(c, "jobs", 1)
    with pytest.raises(ZeroDivisionError), c.transaction():
        assert len(fetch(c, "jobs")) == 1
        raise ZeroDivisionError


@pytest.mark.every_version
@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
@pytest.mark.parametrize(
    "cause", [by_enqueue, by_insert, by_copy, by_requeue, by_release, by_hand, by_rollback_of_a_claim],
    ids=lambda cause: cause.__name__,
)
def test_it_returns(queue, call, cause):
    """Within the interval of 100 ms (hang guard ten times that, and the requeue's delay)."""
    with queue.connect() as c:
        load(c, "jobs", 1)
        rows = fetch(c, "jobs", 1)
        with waiting(queue, call) as waiter:
            begin = time.monotonic()
            cause(c, rows)
            assert waiter.join().error is None
            print(f"{cause.__name__}: returned after {1000 * (waiter.ended - begin):.0f} ms")
            assert waiter.ended - begin < 1.5


def in_block_that_locked(c):
    with c.transaction():
        c.execute("LOCK TABLE jobs IN ACCESS SHARE MODE")
        c.execute("CALL qflow.wait('jobs', %s)", (LONG,))


@pytest.mark.parametrize("call", [plain, in_block, in_block_that_locked], ids=lambda call: call.__name__)
@pytest.mark.parametrize("what", ["queue", "workflow"])
def test_resumed(queue, what, call):
    """News arrive with locks; also where the block holds its lock already."""
    with queue.connect() as c:
        c.execute(f"SELECT qflow.pause_{what}('jobs')")
        load(c, "jobs", 1)
        with waiting(queue, call) as waiter:
            begin = time.monotonic()
            c.execute(f"SELECT qflow.resume_{what}('jobs')")
            assert waiter.join().error is None
            assert waiter.ended - begin < 1.5


def test_an_expired_lease(queue):
    """Of another consumer who is gone: a fetch takes it back, so the wait ends; also when another's reap did."""
    queue.execute("SELECT qflow.alter_workflow('jobs', timeout_ms => 700)")
    with queue.connect() as c, queue.connect() as other:
        c.execute("SET statement_timeout = '30s'")
        load(c, "jobs", 1)
        assert len(fetch(other, "jobs")) == 1
        with at_most(15, "an expired lease"):
            c.execute("CALL qflow.wait('jobs', %s)", (LONG,))
            rows = until(lambda: fetch(c, "jobs"), 15)
        assert rows[0].attempt == 2
        c.execute("SELECT count(*) FROM qflow.fetch('jobs')")  # this session has just looked after the queue
        with waiting(queue) as waiter:
            until(lambda: other.execute("SELECT count(*) FROM qflow.reap()").fetchone()[0] or waiter.ended, 15)
            assert waiter.join().error is None


def test_an_uncommitted_insert_is_none(queue):
    with queue.connect() as producer, waiting(queue) as waiter:
        with producer.transaction():
            load(producer, "jobs", 1)
            time.sleep(0.3)  # three looks
            assert waiter.ended is None
        assert waiter.join().error is None


def test_wait_and_fetch_do_not_chase_each_other(queue):
    """A job that another transaction has claimed looks fetchable as long as that is open; a consumer that waits and
    fetches in turn must not spin meanwhile: at most one fetch an interval."""
    queue.execute("ALTER DATABASE qflow_test SET qflow.sweep = off")
    with queue.connect() as holder, queue.connect() as c:
        load(c, "jobs", 1)
        with holder.transaction():
            assert len(fetch(holder, "jobs")) == 1
            rounds, end = 0, time.monotonic() + 2
            while time.monotonic() < end:
                c.execute("CALL qflow.wait('jobs', 10000)")
                assert fetch(c, "jobs") == []
                rounds += 1
            print(f"{rounds} rounds in 2 s")
            assert rounds <= 25
        # once it is free, it is found in time
    with queue.connect() as c, at_most(5, "a job set free"):
        load(c, "jobs", 1)
        c.execute("CALL qflow.wait('jobs', 60000)")
        assert len(fetch(c, "jobs")) == 1


# ---- being ended


@pytest.mark.every_version
@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
def test_cancelled_and_terminated(queue, call):
    with queue.connect() as c:
        with waiting(queue, call) as waiter, at_most(5, "cancel"):
            c.execute("SELECT pg_cancel_backend(%s)", (waiter.pid,))
            assert waiter.join().error.sqlstate == "57014"
            assert waiter.connection.execute("SELECT count(*) FROM qflow.fetch('jobs')").fetchone() == (0,)
        with waiting(queue, call) as waiter, at_most(5, "terminate"):
            c.execute("SELECT pg_terminate_backend(%s)", (waiter.pid,))
            assert waiter.join().error.sqlstate == "57P01"


def test_statement_timeout(queue):
    """Counts from the call on, through all its transactions."""
    with queue.connect() as c, at_most(5, "statement_timeout"):
        c.execute("SET statement_timeout = 500")
        with pytest.raises(psycopg.errors.QueryCanceled):
            c.execute("CALL qflow.wait('jobs', %s)", (LONG,))
        c.execute("RESET statement_timeout")
        c.execute("CALL qflow.wait('jobs', 0)")


def test_lock_timeout_is_no_error(queue):
    """Neither the user's own nor the short one of a look."""
    with queue.connect() as locker, locker.transaction(), queue.connect() as c:
        locker.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        for own in ("1ms", "1h"):
            c.execute(f"SET lock_timeout = '{own}'")
            c.execute("CALL qflow.wait('jobs', 200)")
            assert c.execute("SHOW lock_timeout").fetchone() == (own,)


def killed(db, call, ready):
    with db.connect() as c:
        ready.put(c.info.backend_pid)
        call(c)


@pytest.mark.every_version
@pytest.mark.parametrize("call", [plain, in_block], ids=lambda call: call.__name__)
def test_a_killed_client_is_noticed(queue, call):
    """Without client_connection_check_interval, which is 0 by default."""
    ready = FORK.Queue()
    client = FORK.Process(target=killed, args=(queue, call, ready), daemon=True)
    client.start()
    pid = ready.get(timeout=60)
    with queue.connect() as c:
        look = lambda: c.execute("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        until(lambda: look() == ("Extension",), what="it waits")
        os.kill(client.pid, signal.SIGKILL)
        begin = time.monotonic()
        until(lambda: look() is None, 10, "the session is gone")
        print(f"gone after {1000 * (time.monotonic() - begin):.0f} ms")
        assert time.monotonic() - begin < 2
    client.join(60)


def test_a_client_that_hangs_up(queue):
    """Its end of the connection closed, without a message."""
    connection = queue.connect()
    pid = connection.info.backend_pid
    connection.pgconn.send_query(f"CALL qflow.wait('jobs', {LONG})".encode())
    with queue.connect() as c:
        look = lambda: c.execute("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        until(lambda: look() == ("Extension",), what="it waits")
        end = socket.socket(fileno=os.dup(connection.pgconn.socket))
        end.shutdown(socket.SHUT_RDWR)
        end.close()
        until(lambda: look() is None, 10, "the session is gone")
    connection.close()


def test_the_server_stops(make_server):
    """Fast shutdown, and the death of the postmaster."""
    server = make_server()
    db = server.create_database("w")
    db.execute("SELECT qflow.create_queue('jobs')")
    waiters = [Waiter(db, call) for call in (plain, in_block)]
    with at_most(5, "fast shutdown"):
        server.stop()
    for waiter in waiters:
        assert waiter.join().error is not None
    server.start()
    waiters = [Waiter(db, call) for call in (plain, in_block)]
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    with at_most(5, "death of the postmaster"):
        for waiter in waiters:
            assert waiter.join(5).error is not None
    (server.data / "postmaster.pid").unlink(missing_ok=True)
    server.databases.remove(db)


def test_on_a_standby(make_server):
    primary = make_server()
    db = primary.create_database("w")
    db.execute("SELECT qflow.create_queue('jobs')")
    standby = make_server(base=primary)
    with standby.connect("w") as c, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        c.execute("CALL qflow.wait('jobs', 0)")


# ---- what it costs


def test_waiting_is_quiet(make_server):
    """50 looks write no log and take no transaction id; memory does not grow with them. Nobody else is there to take one."""
    queue = make_server("autovacuum = off").create_database("w")
    queue.execute("SELECT qflow.create_queue('jobs')")
    with queue.connect() as c, queue.connect() as other:
        state = lambda: other.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, (SELECT last_value FROM qflow.lease_id)"
        ).fetchone()
        memory = lambda: sum(
            row[0] for row in c.execute("SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts WHERE name <> 'MessageContext'")
        )
        c.execute("SET qflow.poll_interval_ms = 10")
        for _ in range(3):
            c.execute("CALL qflow.wait('jobs', 300)")
            memory()
        before, used = state(), memory()
        c.execute("CALL qflow.wait('jobs', 2000)")
        assert state() == before
        grown = memory() - used
        print(f"memory grown by {grown} bytes")
        assert grown < 20_000


def test_memory_within_one_call(queue):
    """Seen from outside, while one call looks on and on: its resident memory stays as it is."""
    def resident(pid):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))

    def call(c):
        c.execute("SET qflow.poll_interval_ms = 10")
        c.execute("CALL qflow.wait('jobs', %s)", (LONG,))

    with waiting(queue, call) as waiter:
        time.sleep(1)  # about 90 looks, after which all that is remembered is
        before = resident(waiter.pid)
        time.sleep(6)
        grown = resident(waiter.pid) - before
        print(f"anonymous memory grown by {grown} kB in 6 s")
        assert grown < 300


def test_many_rounds(queue):
    """Insert, a waiting consumer picks up: how long that takes at the shortest interval, and nothing is lost."""
    with queue.connect() as producer, queue.connect() as c:
        c.execute("SET qflow.poll_interval_ms = 10")
        took = []
        for number in range(100):
            begin = time.monotonic()
            thread = threading.Thread(target=load, args=(producer, "jobs", 1))
            thread.start()
            c.execute("CALL qflow.wait('jobs', 60000)")
            rows = fetch(c, "jobs", 10)
            took.append(time.monotonic() - begin)
            thread.join()
            rows += [] if rows else until(lambda: fetch(c, "jobs", 10), what=f"job {number}")
            assert len(rows) == 1 and ack(c, "jobs", rows) == 1
        took.sort()
        print(f"insert to fetched: p50 {1000 * took[50]:.1f} ms, p99 {1000 * took[98]:.1f} ms")
