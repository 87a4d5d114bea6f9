"""What the tests in this folder share: filling a queue, going through it, measuring."""
import contextlib
import json
import multiprocessing
import time

from psycopg.rows import namedtuple_row

from conftest import MAJOR, SOAK

FORK = multiprocessing.get_context("fork")


def sized(small, soak):
    """A size that depends on whether this is a soak."""
    return soak if SOAK else small


@contextlib.contextmanager
def at_most(seconds, what):
    """A hang guard: prints how long the block took and fails when that is longer. Give ten times what is expected."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    print(f"{what}: {took:.1f} s (hang guard {seconds:g} s)")
    assert took <= seconds, f"{what} took {took:.1f} s"


def until(condition, seconds=60, what="the condition"):
    """Looks again until it holds; answers what it answered."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not hold within {seconds} s"
        time.sleep(0.02)
    return answer


def caught_up(primary, standby):
    """Waits until a standby has replayed all that its primary has written."""
    with primary.connect() as p, standby.connect() as s:
        end = p.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()[0]
        until(
            lambda: s.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,)).fetchone()[0],
            what="the standby caught up",
        )


def load(c, queue, count, size=100):
    """Inserts jobs of about `size` bytes in one statement; answers their ids."""
    pad = "x" * max(size - 20, 0)
    return [
        row[0]
        for row in c.execute(
            f"INSERT INTO {queue} (data) SELECT jsonb_build_object('pad', %s::text) FROM generate_series(1, %s) RETURNING id",
            (pad, count),
        )
    ]


def copy(c, queue, count, size=100):
    """Loads jobs by one COPY."""
    row = json.dumps({"pad": "x" * max(size - 20, 0)}) + "\n"
    with c.cursor().copy(f"COPY {queue} (data) FROM STDIN") as out:
        left = count
        while left > 0:
            out.write(row * min(left, 1000))
            left -= 1000


def fetch(c, workflow, demand=None, batch_size=None, hints=None):
    """The rows of one fetch."""
    hints = None if hints is None else json.dumps(hints)
    with c.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(
            "SELECT * FROM qflow.fetch(%s, %s, %s, %s)", (workflow, demand, batch_size, hints)
        ).fetchall()


def ack(c, workflow, rows, strict=False):
    """Acks what a fetch returned; answers how many were accepted."""
    ids, leases = [row.id for row in rows], [row.lease for row in rows]
    return c.execute("SELECT qflow.ack(%s, %s, %s, %s)", (workflow, ids, leases, strict)).fetchone()[0]


def requeue(c, workflow, rows, reason=None, delay_ms=None):
    """Requeues what a fetch returned; answers how many were accepted."""
    ids, leases = [row.id for row in rows], [row.lease for row in rows]
    return c.execute(
        "SELECT qflow.requeue(%s, %s, %s, %s, %s)", (workflow, ids, leases, reason, delay_ms)
    ).fetchone()[0]


def outcomes(c, workflow, rows, outcome="ack"):
    """Settles rows through qflow.settle; answers {id: verdict}."""
    wanted = json.dumps([{"id": row.id, "lease": row.lease, "outcome": outcome} for row in rows])
    found = c.execute("SELECT id, outcome FROM qflow.settle(%s, %s)", (workflow, wanted)).fetchall()
    return dict(found)


def go_through(c, workflow, demand=100, at_most_jobs=None):
    """Fetches and acks until nothing comes; answers all rows."""
    done = []
    while (at_most_jobs is None or len(done) < at_most_jobs) and (rows := fetch(c, workflow, demand)):
        assert ack(c, workflow, rows) == len(rows)
        done += rows
    return done


def drain(c, workflow, queue, seconds=60):
    """Fetches and acks until no job is pending or in progress, looking again while some wait; answers all rows."""
    done = []

    def finished():
        done.extend(go_through(c, workflow))
        return not c.execute(
            f"SELECT count(*) FROM {queue} WHERE status IN ('pending', 'in_progress')"
        ).fetchone()[0]

    until(finished, seconds, f"all jobs of {queue} done")
    return done


def statuses(c, queue):
    """{status: jobs}."""
    return dict(c.execute(f"SELECT status, count(*) FROM {queue} GROUP BY status").fetchall())


def buffers_of_fetch(c, workflow, demand=100):
    """Buffers that one fetch touches, whatever they belong to, and its lease as (id, job ids)."""
    buffers = buffers_of(c, "SELECT count(*) FROM qflow.fetch(%s, %s)", (workflow, demand))
    lease = c.execute("SELECT id, job_ids FROM qflow.lease ORDER BY id DESC LIMIT 1").fetchone()
    return buffers, lease


def buffers_of(c, statement, args):
    """Buffers that a statement touches, and what it calls."""
    explained = c.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) {statement}", args, prepare=False)
    plan = explained.fetchone()[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def table_stats(db, queue, columns, ready):
    """Columns of pg_stat_user_tables once `ready(row)`: the sessions counted must have ended. On 14 they arrive late."""
    with db.connect(row_factory=namedtuple_row) as c:

        def look():
            c.execute("SELECT pg_stat_clear_snapshot()")
            row = c.execute(
                f"SELECT {columns} FROM pg_stat_user_tables WHERE relid = %s::regclass", (queue,)
            ).fetchone()
            return row if ready(row) else None

        return until(look, 20, f"statistics of {queue}")


def processes(count, target, *args, seconds):
    """Runs target(number, *args) in processes of their own; answers what they returned. The hang guard is `seconds`."""
    answers = FORK.Queue()

    def run(number):
        try:
            answers.put((number, target(number, *args), None))
        except BaseException as error:  # told to the test
            answers.put((number, None, f"{type(error).__name__}: {error}"))

    started = [FORK.Process(target=run, args=(number,), daemon=True) for number in range(count)]
    begin = time.monotonic()
    for process in started:
        process.start()
    try:
        got = [answers.get(timeout=max(seconds - (time.monotonic() - begin), 0.1)) for _ in started]
    finally:
        for process in started:
            process.kill()
            process.join()
    print(f"{count} processes: {time.monotonic() - begin:.1f} s (hang guard {seconds:g} s)")
    faults = [error for _, _, error in got if error]
    assert not faults, faults
    return [answer for _, answer, _ in sorted(got, key=lambda entry: entry[0])]


# The tables that users of the Elixir package have, before they are adopted.
SEEDS = {
    "seed1": """CREATE TABLE {} (id serial primary key, data jsonb, metadata jsonb default '{{}}',
        status varchar(20) default 'pending', inserted_at timestamp default now(), updated_at timestamp default now(),
        failure_reason text)""",
    "seed2": """CREATE TABLE {} (id bigserial primary key, data jsonb not null, metadata jsonb default '{{}}'::jsonb,
        status varchar(20) default 'pending' not null, inserted_at timestamptz default now(),
        updated_at timestamptz default now(), failure_reason text)""",
}


def make_queue(db, queue, made="created", **settings):
    """A queue on a table of qflow's own ("created"), or on an adopted one of the given form."""
    if made != "created":
        db.execute(SEEDS[made].format(queue))
    given = "".join(f", {name} => {value!r}" for name, value in settings.items())
    db.execute(f"SELECT qflow.create_queue('{queue}'{given})")
