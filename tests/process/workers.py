"""Servers that preload qflow, and what one sees of its background processes from outside."""
import contextlib
import os
import signal

from jobs import FORK, fetch, load, until

PRELOAD = "shared_preload_libraries = 'qflow'"
# A lease that nobody will settle.
SHORT = {"timeout_ms": 300}


def preloaded(make_server, *conf, queues=("jobs",), **options):
    """A database with queues, on a server of the test's own that has workers."""
    db = make_server(PRELOAD, *conf, **options).create_database("jobs")
    for queue in queues:
        make_jobs(db, queue)
    return db


def make_jobs(db, queue="jobs"):
    """A queue whose jobs are tried again at once, a hundred times."""
    db.execute("SELECT qflow.create_queue(%s, retries => 100)", (queue,))
    db.execute("SELECT qflow.alter_workflow(%s, retry_delay_ms => 0)", (queue.split(".")[-1],))


def lease_out(c, queue="jobs", count=5, hints=None):
    """New jobs, in a lease that is left alone: it ends soon, unless the hints say something else."""
    load(c, queue, count)
    rows = fetch(c, queue.split(".")[-1], count, hints=SHORT if hints is None else hints)
    assert len(rows) == count
    return rows


def held(c, queue="jobs"):
    """How many jobs are in progress."""
    return c.execute(f"SELECT count(*) FROM {queue} WHERE status = 'in_progress'").fetchone()[0]


def until_back(c, queue="jobs", seconds=30):
    """Waits until a worker has taken back all jobs. Calls nothing of qflow."""
    until(lambda: held(c, queue) == 0, seconds, f"jobs of {queue} back without a call")


def lateness_ms(c, queue="jobs"):
    """How long after its lease's end the last job came back; the lease was SHORT."""
    return c.execute(f"""SELECT (extract(epoch FROM max(updated_at) - max(inserted_at)) * 1000)::int - {SHORT['timeout_ms']}
        FROM {queue} WHERE status = 'pending'""").fetchone()[0]


def workers(c, kind="worker"):
    """{database: process id} of those at work; of the launcher {None: process id}."""
    return dict(c.execute(
        "SELECT datname, pid FROM pg_stat_activity WHERE backend_type = %s", (f"qflow {kind}",)
    ).fetchall())


def worker_of(c, name="jobs", seconds=30):
    """The process id of a database's worker, once there is one."""
    return until(lambda: workers(c).get(name), seconds, f"a worker of {name}")


def lines(server, text, since=0):
    """Lines of the server's log that contain a text."""
    return [line for line in server.log()[since:].splitlines() if text in line]


def client(db, ready, hints, then):
    """Fetches, says what, and never comes to an end."""
    with db.connect() as c:
        rows = fetch(c, "jobs", 5, hints=hints)
        for statement in then:
            c.execute(statement, {"id": rows[0].id} if "%(" in statement else None)
        ready.put((c.info.backend_pid, [row.id for row in rows]))
        signal.pause()


@contextlib.contextmanager
def consumer(db, hints, *then):
    """A client in a process of its own that holds jobs; gives its process, its backend's id and the jobs."""
    ready = FORK.Queue()
    process = FORK.Process(target=client, args=(db, ready, hints, then), daemon=True)
    process.start()
    try:
        yield process, *ready.get(timeout=60)
    finally:
        process.kill()
        process.join()


def kill(pid):
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
