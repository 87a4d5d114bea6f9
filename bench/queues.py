"""What is measured: qflow, its peers through their own recommended batch calls, and ceilings that no queue can go beyond.

Each is filled with jobs, and then takes and finishes a batch of them per call of `step`. `step` yields (name, seconds) of
each statement.
"""
import os
import pathlib
import time


def timed(c, statement, args):
    """Rows of a prepared statement, and how long it took, in seconds."""
    begin = time.perf_counter()
    cursor = c.execute(statement, args, prepare=True)
    rows = cursor.fetchall() if cursor.description else None
    return rows, time.perf_counter() - begin


# About so many bytes that do not compress.
FILL = """SELECT jsonb_build_object('n', n, 'pad', left(
    (SELECT string_agg(md5(piece || random()::text || n), '') FROM generate_series(0, %s / 32) AS piece), %s)) FROM generate_series(1, %s) AS n"""


def filling(jobs, size):
    """The arguments of FILL."""
    return size, size, jobs


class Qflow:
    """fetch, ack; completed jobs are kept in the table, as by default."""

    name, history = "qflow fetch + ack", "kept in the table"

    def create(self, c):
        c.execute("SELECT qflow.create_queue('bench_qflow')")

    def fill(self, c, jobs, size):
        c.execute(f"INSERT INTO bench_qflow (data) {FILL}", filling(jobs, size))

    def step(self, c, batch):
        rows, took = timed(c, "SELECT id, lease, data, attempt FROM qflow.fetch('bench_qflow', %s)", (batch,))
        yield "take", took
        ids, leases = [row[0] for row in rows], [row[1] for row in rows]
        (done,), took = timed(c, "SELECT qflow.ack('bench_qflow', %s, %s)", (ids, leases))
        assert done[0] == len(rows) == batch
        yield "finish", took


class Pgmq:
    """read, then archive or delete, by the arrays of its SQL interface; a visibility timeout of a minute."""

    def __init__(self, end):
        self.end, self.queue = end, f"bench_{end}"
        self.name = f"pgmq read + {end}"
        self.history = {"archive": "moved to its archive", "delete": "none"}[end]

    @staticmethod
    def sql():
        """The text of its installation, from the crate that carries it; None where it was not fetched."""
        cargo = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
        found = sorted(cargo.glob("registry/src/*/pgmq-0.34.0-alpha.7/src/install/embedded/sql/pgmq.sql"))
        return found[0].read_text() if found else None

    def create(self, c):
        c.execute("SELECT pgmq.create(%s)", (self.queue,))

    def fill(self, c, jobs, size):
        c.execute(f"SELECT count(*) FROM pgmq.send_batch(%s, ARRAY({FILL}))", (self.queue, *filling(jobs, size)))

    def step(self, c, batch):
        rows, took = timed(c, "SELECT msg_id, message FROM pgmq.read(%s, 60, %s)", (self.queue, batch))
        yield "take", took
        ids = [row[0] for row in rows]
        done, took = timed(c, f"SELECT pgmq.{self.end}(%s, %s::bigint[])", (self.queue, ids))
        assert len(done) == len(rows) == batch
        yield "finish", took


class ByKey:
    """A ceiling: two statements by primary key, for a table with nothing else."""

    name, history = "ceiling: two UPDATEs by key", "kept in the table"

    def create(self, c):
        c.execute("CREATE TABLE bench_by_key (id bigserial PRIMARY KEY, data jsonb NOT NULL, status text NOT NULL DEFAULT 'pending')")
        self.next = 1

    def fill(self, c, jobs, size):
        c.execute(f"INSERT INTO bench_by_key (data) {FILL}", filling(jobs, size))

    def step(self, c, batch):
        ids = list(range(self.next, self.next + batch))
        self.next += batch
        change = "UPDATE bench_by_key SET status = %s WHERE id = ANY (%s) RETURNING id, data"
        rows, took = timed(c, change, ("in_progress", ids))
        assert len(rows) == batch
        yield "take", took
        _, took = timed(c, "UPDATE bench_by_key SET status = %s WHERE id = ANY (%s)", ("completed", ids))
        yield "finish", took


class Insert:
    """A ceiling: the same rows put into a queue's table by one prepared INSERT."""

    name, history = "ceiling: INSERT into the queue", "kept in the table"

    def create(self, c):
        c.execute("SELECT qflow.create_queue('bench_insert')")

    def fill(self, c, jobs, size):
        self.row = '{"n": 1, "pad": "' + os.urandom(size // 2).hex() + '"}'

    def step(self, c, batch):
        _, took = timed(c, "INSERT INTO bench_insert (data) SELECT unnest(%s::jsonb[])", ([self.row] * batch,))
        yield "take", took


class Copy:
    """A ceiling: the same rows by COPY."""

    name, history = "ceiling: COPY into the queue", "kept in the table"

    def create(self, c):
        c.execute("SELECT qflow.create_queue('bench_copy')")

    fill = Insert.fill

    def step(self, c, batch):
        begin = time.perf_counter()
        with c.cursor() as cursor, cursor.copy("COPY bench_copy (data) FROM STDIN") as rows:
            for _ in range(batch):
                rows.write_row((self.row,))
        yield "take", time.perf_counter() - begin
