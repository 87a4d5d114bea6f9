"""What no queue can go beyond, and qflow's own way in beside plain ways in."""
import json
import os
import time

from queues import Queue
from statements import FILL, filling, timed


class ByKey(Queue):
    """Two statements by primary key, for a table with nothing else."""

    name, history_kept = "ceiling: two UPDATEs by key", "kept in the table"
    note = "a table (id, data, status) with a primary key only; the ids are known beforehand"

    def create(self, c):
        c.execute("CREATE TABLE bench_by_key (id bigserial PRIMARY KEY, data jsonb NOT NULL, status text NOT NULL DEFAULT 'pending')")
        self.next = 1

    def drop(self, c):
        c.execute("DROP TABLE bench_by_key")

    def relations(self, c):
        return ["bench_by_key"]

    def fill(self, c, jobs, size):
        c.execute(f"INSERT INTO bench_by_key (data) {FILL}", filling(jobs, size))

    def step(self, c, batch, failing, mine):
        ids = list(range(self.next, self.next + batch))
        self.next += batch
        change = "UPDATE bench_by_key SET status = %s WHERE id = ANY (%s) RETURNING id, data"
        rows, took = timed(c, change, ("in_progress", ids))
        assert len(rows) == batch
        _, finished = timed(c, "UPDATE bench_by_key SET status = %s WHERE id = ANY (%s)", ("completed", ids))
        return batch, {"take": took, "finish": finished}


class Commits(Queue):
    """What two durable transactions cost that do nothing: the flush of the WAL is in every queue's figures alike."""

    name, history_kept = "floor: two empty commits", "none"
    note = "pg_logical_emit_message, twice: a transaction that writes one record and waits for the disk"

    def create(self, c):
        c.execute("CREATE TABLE bench_commits ()")

    def drop(self, c):
        c.execute("DROP TABLE bench_commits")

    def relations(self, c):
        return ["bench_commits"]

    def fill(self, c, jobs, size):
        pass

    def step(self, c, batch, failing, mine):
        commit = "SELECT pg_logical_emit_message(true, 'bench', '')"
        return batch, {"take": timed(c, commit)[1], "finish": timed(c, commit)[1]}


class Producer(Queue):
    """Puts rows in instead of taking them out."""

    history_kept = "kept in the table"
    table = ""

    def create(self, c):
        c.execute("SELECT qflow.create_queue(%s)", (self.table,))

    def drop(self, c):
        c.execute("SELECT qflow.drop_queue(%s, false)", (self.table,))

    def relations(self, c):
        return [self.table]

    def fill(self, c, jobs, size):
        self.row = json.dumps({"n": 1, "pad": os.urandom(size // 2).hex()})

    def step(self, c, batch, failing, mine):
        return batch, {"put": self.put(c, [self.row] * batch)}


class Insert(Producer):
    name, table = "ceiling: INSERT into the queue", "bench_insert"
    note = "a prepared INSERT … SELECT unnest of the batch into a table that create_queue made"

    def put(self, c, rows):
        return timed(c, f"INSERT INTO {self.table} (data) SELECT unnest(%s::jsonb[])", (rows,))[1]


class InsertSeed(Insert):
    """The table that a program would make for itself: the columns of the Elixir package, one index."""

    name, table = "ceiling: INSERT into a plain table", "bench_seed"
    note = "the same into a table (id, data, status, two timestamps) with its primary key only"

    def create(self, c):
        c.execute("""CREATE TABLE bench_seed (id serial PRIMARY KEY, data jsonb, status text NOT NULL DEFAULT 'pending',
            inserted_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())""")

    def drop(self, c):
        c.execute("DROP TABLE bench_seed")


class EnqueueBatch(Producer):
    name, table = "qflow enqueue_batch", "bench_enqueue"
    note = "qflow.enqueue_batch of the batch"

    def put(self, c, rows):
        return timed(c, f"SELECT qflow.enqueue_batch('{self.table}', %s::jsonb[])", (rows,))[1]


class Copy(Producer):
    name, table = "ceiling: COPY into the queue", "bench_copy"
    note = "COPY … FROM STDIN of the batch"

    def put(self, c, rows):
        begin = time.perf_counter()
        with c.cursor() as cursor, cursor.copy(f"COPY {self.table} (data) FROM STDIN") as out:
            for row in rows:
                out.write_row((row,))
        return time.perf_counter() - begin
