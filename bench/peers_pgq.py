"""PgQ: one consumer of its event log. Debian has it for PostgreSQL 15 only, so its server is a second one, of the pinned 15 with
the same settings, beside the first in the same run.

It is another kind of queue: a batch is what came between two ticks, whole, and all of it belongs to the consumer; nothing is
claimed job by job. Its ticker is a background process of its own, here a call while the jobs are put in."""
import os

import psycopg

from queues import Queue
from statements import FILL, filling, timed


def install(c):
    """Its queue, or the reason why there is none."""
    if not (server := os.environ.get("QFLOW_BENCH_PGQ")):
        return [], "PgQ: Debian's package for PostgreSQL 15 could not be fetched"
    queue = PgQ(server)
    with queue.connect() as there:
        for extension in ("pgq", "pg_walinspect"):
            there.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        version = there.execute("SELECT extversion FROM pg_extension WHERE extname = 'pgq'").fetchone()[0]
        major = there.execute("SHOW server_version").fetchone()[0]
        queue.note = (f"PgQ {version} on PostgreSQL {major}: next_batch, get_batch_events, finish_batch, with a tick for each batch; "
                      f"put in by insert_event")
    return [queue], None


class PgQ(Queue):
    name, history_kept = "PgQ (PostgreSQL 15)", "until its tables rotate"

    def __init__(self, server):
        self.server = server

    def connect(self):
        return psycopg.connect(self.server, autocommit=True)

    def create(self, c):
        c.execute("SELECT pgq.create_queue('bench')")
        c.execute("SELECT pgq.set_queue_config('bench', %s, %s)", ("ticker_max_count", "1"))
        c.execute("SELECT pgq.set_queue_config('bench', %s, %s)", ("ticker_max_lag", "0"))
        c.execute("SELECT pgq.register_consumer('bench', 'bench')")

    def drop(self, c):
        c.execute("SELECT pgq.unregister_consumer('bench', 'bench')")
        c.execute("SELECT pgq.drop_queue('bench')")

    def size_batches(self, batch):
        self.batch = batch

    def relations(self, c):
        return [row[0] for row in c.execute("SELECT format('pgq.%I', tablename) FROM pg_tables WHERE schemaname = 'pgq'")]

    def fill(self, c, jobs, size):
        put = f"SELECT count(pgq.insert_event('bench', 'job', payload::text)) FROM ({FILL}) AS f (payload)"
        c.execute("SET synchronous_commit = off")  # two transactions for each batch
        for _ in range(-(-jobs // self.batch)):
            c.execute(put, filling(self.batch, size))
            c.execute("SELECT pgq.ticker('bench')")
        c.execute("RESET synchronous_commit")

    def step(self, c, batch, failing, mine):
        while True:
            (row,), took = timed(c, "SELECT pgq.next_batch('bench', 'bench')")
            assert row[0] is not None
            rows, more = timed(c, "SELECT ev_id, ev_data FROM pgq.get_batch_events(%s)", (row[0],))
            _, finished = timed(c, "SELECT pgq.finish_batch(%s)", (row[0],))
            if rows:  # the tick of create_queue ends a batch of nothing
                assert len(rows) == batch
                return len(rows), {"take": took + more, "finish": finished}
