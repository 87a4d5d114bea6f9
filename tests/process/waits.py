"""Sessions in CALL qflow.wait, the ways into it, and what ends it."""
import contextlib
import threading
import time

from jobs import copy, load, requeue, until

LONG = 600_000  # no test waits until then


class Waiter:
    """A session in `wait`, called in a thread. `call` runs the CALL on a connection."""

    def __init__(self, db, call, **kwargs):
        self.connection = db.connect(**kwargs)
        self.pid = self.connection.info.backend_pid
        self.db, self.error, self.ended = db, None, None
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.thread.start()
        until(lambda: self.state() and self.state()[0] == "Extension", what="it waits")

    def run(self, call):
        try:
            call(self.connection)
        except Exception as error:  # told to the test
            self.error = error
        self.ended = time.monotonic()

    def state(self):
        """(wait event's type, xmin, xid) in pg_stat_activity."""
        found = self.db.execute(
            "SELECT wait_event_type, backend_xmin::text, backend_xid::text FROM pg_stat_activity WHERE pid = %s", (self.pid,)
        )
        return found[0] if found else None

    def join(self, seconds=60):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "it still waits"
        return self

    def close(self):
        if self.thread.is_alive():
            self.db.execute("SELECT pg_terminate_backend(%s)", (self.pid,))
        self.join()
        self.connection.close()


@contextlib.contextmanager
def waiting(db, call=None, timeout_ms=LONG, **kwargs):
    waiter = Waiter(db, call or (lambda c: c.execute("CALL qflow.wait('jobs', %s)", (timeout_ms,))), **kwargs)
    try:
        yield waiter
    finally:
        waiter.close()


def plain(c):
    c.execute(f"CALL qflow.wait('jobs', {LONG})", prepare=False)


def in_block(c):
    with c.transaction():
        c.execute(f"CALL qflow.wait('jobs', {LONG})", prepare=False)


def by_enqueue(c, rows):
    c.execute("SELECT qflow.enqueue('jobs', '{}')")


def by_insert(c, rows):
    load(c, "jobs", 1)


def by_copy(c, rows):
    copy(c, "jobs", 1)


def by_requeue(c, rows):
    assert requeue(c, "jobs", rows, delay_ms=300) == 1


def by_release(c, rows):
    c.execute("SELECT qflow.release('jobs', %s, %s)", ([rows[0].id], [rows[0].lease]))
