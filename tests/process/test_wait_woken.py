"""CALL qflow.wait where qflow is preloaded: who is woken, how soon, and who does not stand in the way."""
import contextlib
import time

import pytest

from jobs import ack, fetch, go_through, load
from waits import LONG, by_copy, by_enqueue, by_insert, by_release, by_requeue, in_block, plain, waiting


@pytest.fixture
def woken(make_server):
    """A database with a queue `jobs` on a server with qflow preloaded. Sessions look by themselves once a second only."""
    db = make_server("shared_preload_libraries = 'qflow'").create_database("w")
    db.execute("SELECT qflow.create_queue('jobs')")
    db.execute("SELECT qflow.alter_workflow('jobs', retry_delay_ms => 0)")
    db.execute("ALTER DATABASE w SET qflow.poll_interval_ms = 60000")
    return db


@pytest.mark.every_version
def test_woken(woken):
    """Much sooner than the second after which each would look by himself."""
    with woken.connect() as c, woken.connect() as other:
        took = []
        for cause in 10 * [by_insert, by_copy, by_enqueue, by_release, by_requeue]:
            rows = []
            if cause in (by_release, by_requeue):
                load(c, "jobs", 1)
                rows = fetch(c, "jobs", 1)
            with waiting(woken, plain) as waiter:
                begin = time.monotonic()
                cause(c, rows)
                assert waiter.join(10).error is None
                took.append(waiter.ended - begin - (0.3 if cause is by_requeue else 0))
            rows = fetch(other, "jobs", 10)
            assert len(rows) == 1 and ack(other, "jobs", rows) == 1
        took.sort()
        print(f"until the wait returned: p50 {1000 * took[25]:.1f} ms, p98 {1000 * took[48]:.1f} ms")
        assert took[25] < 0.1


def test_all_who_can_get_a_job_are_woken(woken):
    """Ten wait, ten jobs come in one insert: the first is woken, and each fetch wakes the next."""

    def take(c):
        c.execute("CALL qflow.wait('jobs', %s)", (LONG,))
        assert len(fetch(c, "jobs", 1)) == 1

    with contextlib.ExitStack() as stack, woken.connect() as c:
        waiters = [stack.enter_context(waiting(woken, take)) for _ in range(10)]
        begin = time.monotonic()
        load(c, "jobs", 10)
        for waiter in waiters:
            assert waiter.join().error is None
        took = max(waiter.ended for waiter in waiters) - begin
        print(f"ten consumers had their job after {1000 * took:.0f} ms")
        assert took < 5


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_who_is_ended_does_not_stand_in_the_way(woken, how):
    """The first in the line is ended at the moment of an insert: the next is woken, or sees the job."""
    with woken.connect() as c:
        for _ in range(5):
            with waiting(woken, plain) as first, waiting(woken, in_block) as second:
                c.execute(f"SELECT {how}(%s)", (first.pid,))
                load(c, "jobs", 1)
                begin = time.monotonic()
                assert second.join().error is None
                assert second.ended - begin < 5
                first.join()
            assert len(fetch(c, "jobs", 10)) == 1


@pytest.mark.parametrize("what", ["workflow", "queue"])
def test_who_is_paused_does_not_stand_in_the_way(woken, what):
    """A waiter of a paused workflow takes no waking from one of another workflow of the queue."""
    woken.execute("ALTER DATABASE w SET qflow.poll_interval_ms = 100")
    woken.execute("SELECT qflow.create_workflow('other', 'jobs')")
    took = []
    with woken.connect() as c:
        for _ in range(3):
            with waiting(woken, plain), waiting(woken, lambda w: w.execute("CALL qflow.wait('other', %s)", (LONG,))) as other:
                c.execute(f"SELECT qflow.pause_{what}('jobs')")
                time.sleep(1.3)  # both look again within a second, which nothing shows
                if what == "queue":
                    load(c, "jobs", 1)
                begin = time.monotonic()
                c.execute("SELECT qflow.resume_queue('jobs')") if what == "queue" else load(c, "jobs", 1)
                assert other.join().error is None
                took.append(other.ended - begin)
            c.execute("SELECT qflow.resume_workflow('jobs'), qflow.resume_queue('jobs')")
            go_through(c, "jobs")
    print(f"returned after {1000 * max(took):.0f} ms at most")
    # woken at once; out of the line where the queue is paused, and so at the next look, every 100 ms
    assert sorted(took)[1] < (0.1 if what == "workflow" else 1)
