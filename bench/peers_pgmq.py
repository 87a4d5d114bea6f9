"""pgmq 1.13: read, then archive or delete, by the arrays of its SQL interface, as its documentation has it for batches; a
visibility timeout of a minute. Its SQL is that of the crate pgmq, which bench/peers pins."""
import os
import pathlib

from queues import Queue
from statements import FILL, filling, timed


def sql():
    """The text of its installation; None where the crate was not fetched."""
    cargo = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    found = sorted(cargo.glob("registry/src/*/pgmq-0.34.0-alpha.7/src/install/embedded/sql/pgmq.sql"))
    return found[0].read_text() if found else None


def install(c):
    """Its queues, or the reason why there are none."""
    if (text := sql()) is None:
        return [], "pgmq: its crate could not be fetched"
    c.execute("CREATE SCHEMA IF NOT EXISTS pgmq")
    c.execute(text)
    return [Pgmq("archive"), Pgmq("delete")], None


class Pgmq(Queue):
    core = fails = True

    def __init__(self, end):
        self.end, self.queue = end, f"bench_{end}"
        self.name = f"pgmq read + {end}"
        self.history_kept = {"archive": "moved to its archive", "delete": "none"}[end]
        self.note = f"pgmq.read, pgmq.{end} with arrays (crate pgmq 0.34.0-alpha.7, pgmq.sql); failed ones by pgmq.set_vt(…, 0)"

    def create(self, c):
        c.execute("SELECT pgmq.create(%s)", (self.queue,))

    def drop(self, c):
        c.execute("SELECT pgmq.drop_queue(%s)", (self.queue,))

    def relations(self, c):
        return [f"pgmq.q_{self.queue}", f"pgmq.a_{self.queue}"]

    def fill(self, c, jobs, size):
        for done in range(0, jobs, 100_000):
            some = min(jobs - done, 100_000)
            c.execute(f"SELECT count(*) FROM pgmq.send_batch(%s, ARRAY({FILL}))", (self.queue, *filling(some, size)))

    def add_history(self, c, jobs):
        if self.end == "archive":
            c.execute(
                f"""INSERT INTO pgmq.a_{self.queue} (msg_id, vt, read_ct, enqueued_at, message)
                SELECT -row_number() OVER (), now(), 1, now(), payload FROM ({FILL}) AS f (payload)""", filling(jobs, 100))

    def take(self, c, batch):
        return timed(c, "SELECT msg_id, message, read_ct FROM pgmq.read(%s, 60, %s)", (self.queue, batch))

    def step(self, c, batch, failing, mine):
        rows, took = self.take(c, batch)
        calls = {"take": took}
        again = [row[0] for row in rows if failing and row[0] % 10 == 0 and row[2] == 1]
        done = [row[0] for row in rows if not (failing and row[0] % 10 == 0 and row[2] == 1)]
        if again:
            back, calls["give back"] = timed(c, "SELECT msg_id FROM pgmq.set_vt(%s, %s::bigint[], 0)", (self.queue, again))
            assert len(back) == len(again)
        if done:
            out, calls["finish"] = timed(c, f"SELECT pgmq.{self.end}(%s, %s::bigint[])", (self.queue, done))
            assert len(out) == len(done)
        return len(done), calls
