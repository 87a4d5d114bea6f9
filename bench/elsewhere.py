"""What another session has open while a queue is measured."""
import contextlib


@contextlib.contextmanager
def before_filling(cell, queue):
    """A reader's snapshot or a writing transaction, from before the jobs are put in: nothing that happens to them can be
    cleaned away, and a queue that goes by transaction ids has an old one before all of them."""
    if cell.open not in ("snapshot", "writer"):
        yield
        return
    with queue.connect() as c:
        if cell.open == "snapshot":
            c.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            c.execute("SELECT count(*) FROM bench_elsewhere")
        else:
            c.execute("BEGIN")
            c.execute("INSERT INTO bench_elsewhere VALUES (1)")
        yield
        c.execute("ROLLBACK")


@contextlib.contextmanager
def after_filling(cell, queue):
    """A batch that somebody has fetched and not committed, ahead of all others."""
    if cell.open != "fetch":
        yield
        return
    with queue.connect() as c:
        c.execute("BEGIN")
        queue.take(c, cell.batch)
        yield
        c.execute("ROLLBACK")


def create(c):
    c.execute("CREATE TABLE IF NOT EXISTS bench_elsewhere (n int)")
