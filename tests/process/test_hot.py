"""Claims and acks are HOT updates: no index is written, and a page is cleaned without vacuum."""
import contextlib

import pytest

from jobs import at_most, go_through, load, table_stats


@contextlib.contextmanager
def snapshot_held(db):
    with db.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM jobs")
        yield


def consume(db, pinned):
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        load(c, "jobs", 10_000)
    with snapshot_held(db) if pinned else contextlib.nullcontext():
        with db.connect() as c, at_most(60, "10,000 jobs"):
            assert len(go_through(c, "jobs")) == 10_000
    stats = table_stats(db, "jobs", "n_tup_upd, n_tup_hot_upd", lambda row: row.n_tup_upd >= 20_000)
    print(f"{stats.n_tup_hot_upd} of {stats.n_tup_upd} updates were HOT")
    assert stats.n_tup_upd == 20_000
    assert stats.n_tup_hot_upd >= 0.9 * stats.n_tup_upd


@pytest.mark.every_version
def test_claims_and_acks_are_hot(db):
    consume(db, pinned=False)


@pytest.mark.every_version
def test_claims_and_acks_are_hot_while_a_snapshot_is_held(db):
    consume(db, pinned=True)
