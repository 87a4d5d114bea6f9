"""Many consumers wait: those that can get a job are woken, the others sleep on, and nobody looks in vain more than he must."""
import contextlib
import threading
import time

from jobs import ack, at_most, fetch, load, sized, until
from workers import preloaded


@contextlib.contextmanager
def consumers(db, count, timeout_ms=600_000):
    """Each waits, fetches one job, acks it and waits again. Yields what they do: [fetches, jobs]."""
    done, lock, stop = [0, 0], threading.Lock(), threading.Event()

    def consume(c):
        with contextlib.suppress(Exception):  # ended below
            while not stop.is_set():
                c.execute("CALL qflow.wait('jobs', %s)", (timeout_ms,))
                rows = fetch(c, "jobs", 1)
                with lock:
                    done[0] += 1
                    done[1] += len(rows)
                if rows:
                    ack(c, "jobs", rows)

    connections = [db.connect() for _ in range(count)]
    threads = [threading.Thread(target=consume, args=(c,), daemon=True) for c in connections]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        with db.connect() as c:
            c.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s)",
                      ([c.info.backend_pid for c in connections],))
        for thread in threads:
            thread.join(30)
        for c in connections:
            c.close()


def waiting(c):
    """How many sleep in wait now."""
    return c.execute("""SELECT count(*) FROM pg_stat_activity
        WHERE query LIKE 'CALL qflow.wait%' AND wait_event_type = 'Extension' AND state = 'active'""").fetchone()[0]


def scans(c):
    """How often the index of fresh jobs was looked into."""
    c.execute("SELECT pg_stat_clear_snapshot()")
    return c.execute("""SELECT idx_scan FROM pg_stat_user_indexes
        WHERE indexrelname = 'jobs_priority_enqueued_xid_id_idx'""").fetchone()[0]


def test_one_insert_wakes_as_many_as_there_are_jobs(make_server):
    db = preloaded(make_server, "max_connections = 200")
    count, jobs = sized(50, 100), 5
    with db.connect() as c, consumers(db, count) as done:
        until(lambda: waiting(c) == count, 60, f"{count} wait")
        for round in range(3):
            before = list(done)
            with at_most(10, f"{jobs} jobs for {count} waiting consumers"):
                load(c, "jobs", jobs)
                until(lambda: done[1] - before[1] == jobs, 60, "all jobs are taken")
                until(lambda: waiting(c) == count, 60, "the others sleep on")
            print(f"round {round}: {done[0] - before[0]} fetches for {jobs} jobs")
            # one for each job, and of those woken in vain: who was woken by the last fetch, or looked by himself
            assert done[0] - before[0] <= 3 * jobs


def test_a_paused_queue_is_left_alone(make_server):
    db = preloaded(make_server)
    with db.connect() as c:
        load(c, "jobs", 10)
        c.execute("SELECT qflow.pause_queue('jobs')")
        with consumers(db, 10, timeout_ms=10_000) as done:
            until(lambda: waiting(c) == 10, 60, "all wait")
            begin, before = time.monotonic(), done[0]
            time.sleep(5)  # the measure: fetches a second
            rate = (done[0] - before) / (time.monotonic() - begin)
            print(f"{rate:.2f} fetches a second by 10 consumers of a paused queue")
            assert rate <= 2
            c.execute("SELECT qflow.resume_queue('jobs')")
            until(lambda: done[1] == 10, 60, "all jobs are taken")
