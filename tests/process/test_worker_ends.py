"""Background processes that are ended, in whatever state: others take their place, and the server stops fast."""
import time

import psycopg
import pytest

from jobs import at_most, until
from workers import held, kill, lease_out, lines, preloaded, until_back, worker_of, workers

# What the worker is in the midst of. The queue `stuck` brings it there.
STATES = {
    "idle": None,
    "waits for a table": "LOCK TABLE stuck",
    "waits for a row": "UPDATE counter SET n = 0",
    "sleeps in a trigger": "INSERT INTO sleep VALUES (600)",
}
PREPARE = """
CREATE TABLE counter (n int); INSERT INTO counter VALUES (0);
CREATE TABLE sleep (seconds int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.status = 'pending' THEN
        PERFORM pg_sleep(seconds) FROM public.sleep;
        UPDATE public.counter SET n = n + 1;
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER note BEFORE UPDATE ON stuck FOR EACH ROW EXECUTE FUNCTION note();
"""


def bring(c, locker, state):
    """Brings the worker into a state; its process id."""
    if STATES[state] is None:
        lease_out(c)
        until_back(c)
        return worker_of(c)
    lease_out(c, "stuck")
    locker.execute("BEGIN")
    locker.execute(STATES[state])
    if state == "sleeps in a trigger":
        locker.execute("COMMIT")
    return stuck(c, state)


def stuck(c, state):
    """The process id of the worker, once it is in a state."""
    waits = "Timeout" if state == "sleeps in a trigger" else "Lock"
    return until(lambda: next(iter(c.execute(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'qflow worker' AND wait_event_type = %s AND state = 'active'",
        (waits,)).fetchall()), (None,))[0], 60, f"the worker {state}")


def let_go(c, locker):
    locker.execute("ROLLBACK")
    c.execute("DELETE FROM sleep")


@pytest.mark.every_version
def test_a_terminated_worker_comes_back(make_server):
    db = preloaded(make_server, queues=("jobs", "stuck"))
    db.execute(PREPARE)
    for state in STATES:
        with db.connect() as c, db.connect() as locker:
            old = bring(c, locker, state)
            # Due while the worker is stuck, and noted by nobody else.
            lease_out(c)
            assert c.execute("SELECT pg_terminate_backend(%s)", (old,)).fetchone() == (True,)
            begin = time.monotonic()
            until(lambda: workers(c).get("jobs") not in (None, old), what=f"another worker ({state})")
            took = time.monotonic() - begin
            until_back(c)
            print(f"terminated while it {state}: another after {took:.1f} s")
            let_go(c, locker)
            until_back(c, "stuck")
    # A queue is not given up for what was done to its worker.
    assert not lines(db.server, "PANIC")


def test_what_a_terminated_worker_had_before_it_is_not_forgotten(make_server):
    """It is stuck with the first queue when it ends, and has not come to the second. Nobody calls anything after that."""
    db = preloaded(make_server, queues=("stuck", "jobs"))
    db.execute(PREPARE)
    with db.connect() as c:
        with c.transaction():
            c.execute(STATES["sleeps in a trigger"])
            lease_out(c, "stuck")
            lease_out(c, "jobs")
        c.execute("SELECT pg_terminate_backend(%s)", (stuck(c, "sleeps in a trigger"),))
        until_back(c, "jobs")
        assert held(c, "stuck") == 5
        c.execute("DELETE FROM sleep")
        until_back(c, "stuck")


def test_the_server_stops_fast_in_every_state(make_server):
    db = preloaded(make_server, queues=("jobs", "stuck"))
    db.execute(PREPARE)
    for state in STATES:
        c, locker = db.connect(), db.connect()
        bring(c, locker, state)
        with at_most(50, f"pg_ctl stop -m fast while the worker {state} (target 5 s)"):
            db.server.stop()
        c.close()
        locker.close()
        db.server.start()
        db.execute("DELETE FROM sleep")
    with db.connect() as c:
        until_back(c, "stuck")
    assert not lines(db.server, "PANIC") and not lines(db.server, "terminated by signal")


def up(db):
    def connected():
        try:
            return db.connect()
        except psycopg.OperationalError:
            return None

    return until(connected, what="the server is up")


@pytest.mark.parametrize("kind", [pytest.param("worker", marks=pytest.mark.every_version), "launcher"])
def test_a_killed_process_comes_back(make_server, kind):
    """SIGKILL makes the server end all sessions and begin anew, with empty shared memory."""
    db = preloaded(make_server)
    with db.connect() as c:
        lease_out(c)
        until_back(c)
        worker_of(c)
        lease_out(c, hints={"timeout_ms": 2_000})
        kill(next(iter(workers(c, kind).values())))
        with pytest.raises(psycopg.OperationalError):
            until(lambda: c.execute("SELECT pg_sleep(0.05)") is None)
    with up(db) as c:
        with at_most(50, f"jobs back after the {kind} was killed"):
            until_back(c)
        lease_out(c)
        until_back(c)


def test_a_terminated_launcher_comes_back(make_server):
    db = preloaded(make_server, "qflow.worker_idle_ms = 0")
    with db.connect() as c:
        old = until(lambda: workers(c, "launcher").get(None), what="a launcher")
        c.execute("SELECT pg_terminate_backend(%s)", (old,))
        until(lambda: workers(c, "launcher").get(None, old) != old, what="another launcher")
        lease_out(c)
        until_back(c)


def test_a_cancelled_process_goes_on(make_server):
    """pg_cancel_backend, also while there is nothing to cancel."""
    db = preloaded(make_server)
    with db.connect() as c:
        lease_out(c)
        until_back(c)
        for kind in ("worker", "launcher"):
            c.execute("SELECT pg_cancel_backend(%s)", (next(iter(workers(c, kind).values())),))
        lease_out(c)
        until_back(c)
        assert held(c) == 0
