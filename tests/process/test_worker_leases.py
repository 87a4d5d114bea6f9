"""With qflow preloaded leases end by themselves: at their deadlines, and with the sessions they are bound to."""
import statistics
import threading
import time

import psycopg
import pytest

from jobs import ack, at_most, fetch, load, statuses, until
from workers import consumer, held, kill, lateness_ms, lease_out, preloaded, until_back, worker_of, workers

BOUND = {"bind": "session"}


def attempts(c):
    return {row[0] for row in c.execute("SELECT attempt FROM jobs").fetchall()}


@pytest.mark.every_version
def test_expired_leases_come_back_without_a_call(make_server):
    db = preloaded(make_server)
    with db.connect() as c:
        late = []
        for _ in range(5):
            c.execute("TRUNCATE jobs")
            lease_out(c)
            until_back(c)
            assert statuses(c, "jobs") == {"pending": 5} and attempts(c) == {1}
            late.append(lateness_ms(c))
        print(f"back after their deadline by {late} ms (hang guard 2000 ms)")
        assert max(late[1:]) < 2_000
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)


def end_of(how, c, process, backend):
    if how == "killed":
        kill(process.pid)
    else:
        c.execute("SELECT pg_terminate_backend(%s)", (backend,))


def back_at_once(db, c, how):
    """Seconds from the end of a session until its jobs are back."""
    c.execute("DELETE FROM jobs")
    load(c, "jobs", 5)
    with consumer(db, BOUND) as (process, backend, ids):
        assert len(ids) == 5
        begin = time.monotonic()
        end_of(how, c, process, backend)
        while held(c):
            assert time.monotonic() - begin < 30, "bound jobs are back when their session has ended"
            time.sleep(0.001)
        took = time.monotonic() - begin
    assert attempts(c) == {1}
    again = fetch(c, "jobs", 10)
    assert {row.attempt for row in again} == {2} and len(again) == 5 and ack(c, "jobs", again) == 5
    return took * 1000


@pytest.mark.parametrize("how", [pytest.param("killed", marks=pytest.mark.every_version), "terminated"])
def test_the_jobs_of_an_ended_session_are_back_at_once(make_server, how):
    db = preloaded(make_server)
    with db.connect() as c:
        took = [back_at_once(db, c, how) for _ in range(20)]
    print(f"client {how}: jobs back after {statistics.median(took):.1f} ms, at most {max(took):.1f} (target 100, guard 1000)")
    assert statistics.median(took) < 1_000


def test_a_closed_connection_ends_its_leases(make_server):
    db = preloaded(make_server)
    with db.connect() as c:
        with db.connect() as other:
            lease_out(other, hints=BOUND)
        until_back(c, seconds=10)
        with db.connect() as other:
            rows = fetch(other, "jobs", 5, hints=BOUND)
            assert ack(other, "jobs", rows[:2]) == 2
        until_back(c, seconds=10)
        assert statuses(c, "jobs") == {"pending": 3, "completed": 2}


def test_an_ended_session_under_load(make_server):
    db = preloaded(make_server)
    make = "SELECT qflow.create_queue('load'), qflow.alter_workflow('load', retry_delay_ms => 0)"
    db.execute(make)
    stop, faults, done = threading.Event(), [], []

    def work():
        try:
            with db.connect() as c:
                while not stop.is_set():
                    load(c, "load", 20)
                    done.append(ack(c, "load", fetch(c, "load", 20)))
        except Exception as error:  # noqa: BLE001 - reported below
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with db.connect() as c:
            took = [back_at_once(db, c, "killed") for _ in range(10)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(f"under load ({sum(done)} jobs): back after {statistics.median(took):.0f} ms, at most {max(took):.0f} (target 1000)")
    assert not faults and max(took) < 10_000


def test_a_session_killed_with_its_jobs_locked(make_server):
    db = preloaded(make_server)
    with db.connect() as c:
        load(c, "jobs", 5)
        with consumer(db, BOUND, "BEGIN", "SELECT FROM jobs WHERE id = %(id)s FOR UPDATE") as (process, _, _ids):
            kill(process.pid)
            with at_most(10, "back although a job was locked"):
                until_back(c)


def test_what_another_session_has_locked_is_left_for_later(make_server):
    db = preloaded(make_server)
    with db.connect() as c, db.connect() as locker:
        load(c, "jobs", 5)
        with consumer(db, BOUND) as (process, _, ids):
            locker.execute("BEGIN")
            locker.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", (ids[2],))
            kill(process.pid)
            until(lambda: held(c) == 1, 10, "all but the locked job back")
            locker.execute("ROLLBACK")
            with at_most(10, "the locked job back"):
                until_back(c)
        assert attempts(c) == {1}


def test_a_rolled_back_fetch_leaves_nothing(make_server):
    """Nor does one whose savepoint is rolled back; and the session is watched all the same."""
    db = preloaded(make_server)
    with db.connect() as c:
        load(c, "jobs", 5)
        with db.connect(autocommit=False) as other:
            other.execute("SAVEPOINT s")
            assert len(fetch(other, "jobs", 5, hints=BOUND)) == 5
            other.execute("ROLLBACK TO s")
            assert len(fetch(other, "jobs", 2, hints=BOUND)) == 2
            other.commit()
            assert held(c) == 2
        until_back(c, seconds=10)
        assert c.execute("SELECT count(*) FROM qflow.lease").fetchone() == (0,)


def test_a_living_sessions_leases_survive_the_worker(make_server):
    """A worker that begins anew holds bound leases against the sessions that there are."""
    db = preloaded(make_server)
    with db.connect() as c, db.connect() as owner:
        rows = lease_out(owner, hints=BOUND)
        for _ in range(3):
            lease_out(c, count=1)
            old = worker_of(c)
            c.execute("SELECT pg_terminate_backend(%s)", (old,))
            until(lambda: held(c) == 5, what="the short lease back, the bound one kept")
            until(lambda: workers(c).get("jobs") not in (None, old), what="another worker")
        assert ack(owner, "jobs", rows, strict=True) == 5


@pytest.mark.parametrize("how", [
    "restart", pytest.param("crash of all sessions", marks=pytest.mark.every_version), "power cut",
])
def test_leases_over_a_restart(make_server, how):
    """Bound ones end at once, others at their deadlines; nothing is lost, nothing twice."""
    db = preloaded(make_server)
    with db.connect() as c:
        bound = lease_out(c, hints=BOUND)
        lease_out(c, hints={"timeout_ms": 4_000})
        long = lease_out(c, hints={"timeout_ms": 600_000})
        end = c.execute("SELECT min(deadline) FROM qflow.lease WHERE NOT bound").fetchone()[0]
        if how == "crash of all sessions":
            with db.connect() as victim:
                kill(victim.info.backend_pid)
                with pytest.raises(psycopg.OperationalError):
                    until(lambda: c.execute("SELECT 1") is None)
        elif how == "power cut":
            db.server.crash()
            db.server.start()
        else:
            db.server.restart()

    def connected():
        try:
            return db.connect()
        except psycopg.OperationalError:
            return None

    with until(connected, what="the server is up") as c:
        ids = [row.id for row in bound]
        with at_most(30, "bound jobs back"):
            until(lambda: statuses(c, "jobs").get("pending", 0) >= 5)
        back = [row[0] for row in c.execute("SELECT id FROM jobs WHERE status = 'pending' ORDER BY id")]
        early = c.execute("SELECT max(updated_at) < %s FROM jobs WHERE status = 'pending'", (end,)).fetchone()[0]
        assert back == ids or not early
        until(lambda: statuses(c, "jobs") == {"pending": 10, "in_progress": 5}, what="the short lease's jobs back")
        assert c.execute("SELECT min(updated_at) >= %s FROM jobs WHERE id > %s AND status = 'pending'",
                         (end, ids[-1])).fetchone() == (True,)
        assert ack(c, "jobs", long, strict=True) == 5
        again = fetch(c, "jobs", 100)
        assert len(again) == 10 and {row.attempt for row in again} == {2} and ack(c, "jobs", again) == 10


def test_without_preload_nothing_can_be_bound(db):
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as raised:
            fetch(c, "jobs", 1, hints=BOUND)
        assert "shared_preload_libraries" in raised.value.diag.message_hint
