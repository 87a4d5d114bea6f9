"""qflow, as what is measured, and what every queue here has in common."""
import psycopg

from statements import FILL, filling, timed


class Queue:
    """A queue is filled with jobs; then `step` takes a batch and finishes it. One consumer has one connection and one `mine`, a
    dict for what it keeps from step to step."""

    name = history_kept = ""
    note = ""  # for the report: what is called, and whose recommendation that is
    core = False  # measured in all cells
    batches = True  # false: it takes jobs one at a time only
    fails = False  # it can give single jobs of a batch back

    def connect(self):
        """An ordinary connection: a transaction for each statement, durable as the server is."""
        return connect()

    def size_batches(self, batch):
        """The batch of the cell, for a queue that has to know it when it is filled."""

    def create(self, c):
        raise NotImplementedError

    def drop(self, c):
        raise NotImplementedError

    def relations(self, c):
        """Its tables, whose growth and updates are counted and which are vacuumed and analysed before each round."""
        raise NotImplementedError

    def fill(self, c, jobs, size):
        raise NotImplementedError

    def add_history(self, c, jobs):
        """Jobs that are done, as many; nothing where none are kept."""

    def step(self, c, batch, failing, mine):
        """(how many jobs it finished, {call: seconds})"""
        raise NotImplementedError

    def leave(self, c, mine):
        """A consumer stops, after the measurement."""

    def look_after(self, c):
        """What has to run now and then."""


class Qflow(Queue):
    name, history_kept, core, fails = "qflow fetch + ack", "kept in the table", True, True
    note = "qflow.fetch, qflow.ack; failed ones by qflow.requeue"
    table = "bench_qflow"

    def create(self, c):
        c.execute("SELECT qflow.create_queue(%s)", (self.table,))

    def drop(self, c):
        c.execute("SELECT qflow.drop_queue(%s, false)", (self.table,))

    def relations(self, c):
        own = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'qflow'::regnamespace AND relkind = 'r'"
        return [self.table, *(row[0] for row in c.execute(own))]

    def fill(self, c, jobs, size):
        c.execute(f"INSERT INTO {self.table} (data) {FILL}", filling(jobs, size))

    def add_history(self, c, jobs):
        c.execute(f"INSERT INTO {self.table} (data, status) SELECT payload, 'completed' FROM ({FILL}) AS f (payload)", filling(jobs, 100))

    def take(self, c, batch):
        return timed(c, f"SELECT id, lease, data, attempt FROM qflow.fetch('{self.table}', %s)", (batch,))

    def step(self, c, batch, failing, mine):
        rows, took = self.take(c, batch)
        calls = {"take": took}
        again = [row for row in rows if failing and row[0] % 10 == 0 and row[3] == 1]
        done = [row for row in rows if row not in again] if again else rows
        if again:
            requeue = f"SELECT qflow.requeue('{self.table}', %s, %s, 'once', 0)"
            (count,), calls["give back"] = timed(c, requeue, self.pairs(again))
            assert count[0] == len(again)
        if done:
            (count,), calls["finish"] = timed(c, f"SELECT qflow.ack('{self.table}', %s, %s)", self.pairs(done))
            assert count[0] == len(done)
        return len(done), calls

    @staticmethod
    def pairs(rows):
        return [row[0] for row in rows], [row[1] for row in rows]

    def look_after(self, c):
        timed(c, "SELECT * FROM qflow.reap()")


class QflowBoth(Qflow):
    """One call that settles the batch before and takes the next."""

    name, core, fails = "qflow ack_and_fetch", True, False
    note = "qflow.ack_and_fetch"
    table = "bench_qflow_both"

    @staticmethod
    def exists(c):
        return c.execute("SELECT to_regproc('qflow.ack_and_fetch') IS NOT NULL").fetchone()[0]

    def step(self, c, batch, failing, mine):
        call = f"SELECT id, lease, data, attempt FROM qflow.ack_and_fetch('{self.table}', %s::bigint[], %s::bigint[], %s)"
        done = mine.get("rows", [])
        mine["rows"], took = timed(c, call, (*self.pairs(done), batch))
        return len(done), {"take": took}

    def leave(self, c, mine):
        if mine.get("rows"):
            c.execute(f"SELECT qflow.ack('{self.table}', %s, %s)", self.pairs(mine["rows"]))


def connect():
    return psycopg.connect(autocommit=True)
