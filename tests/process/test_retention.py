"""Retention by processes that remember and by such that do not: how much a step reads, and that every old job is met."""
import psycopg
import pytest

from jobs import until

KEPT = 200_000


def fill(c, count, status="completed", age="0", queue="jobs"):
    c.execute(
        f"INSERT INTO {queue} (data, status, updated_at) SELECT '{{}}', %s, clock_timestamp() - %s::interval"
        " FROM generate_series(1, %s)",
        (status, age, count),
    )


# Rows met in the table itself, and by its indexes; index entries of rows that are gone are not counted.
COUNTED = """
    SELECT coalesce(sum(CASE r.relkind WHEN 'r' THEN pg_stat_get_xact_tuples_returned(r.oid)
        ELSE pg_stat_get_xact_tuples_fetched(r.oid) END), 0)::bigint FROM pg_class AS r
    WHERE r.oid = 'jobs'::regclass OR r.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'jobs'::regclass)
"""


def rows_read(c):
    """Rows of the table that one reap() read, by any index or none."""
    with c.transaction():
        before = c.execute(COUNTED).fetchone()[0]
        c.execute("SELECT qflow.reap()")
        return c.execute(COUNTED).fetchone()[0] - before


def count(c):
    return c.execute("SELECT count(*) FROM jobs").fetchone()[0]


@pytest.mark.every_version
def test_a_step_reads_no_more_than_its_bound(db):
    db.execute("SELECT qflow.create_queue('jobs', retention_ms => 3600000)")
    db.execute("ALTER DATABASE qflow_test SET qflow.sweep = off")
    with db.connect() as c:
        fill(c, KEPT)
        fill(c, 3_000, age="2 hours")
    figures = []
    for _ in range(10):
        with db.connect() as c:
            figures.append(rows_read(c))
    print(f"rows read by the only step of a session: {figures}")
    assert min(figures) > 0
    # 4,000, the least and the greatest id where it begins, and what it removes twice more.
    assert max(figures) <= 4_000 + 2 + 2 * 1_000
    with db.connect() as c:
        figures = [rows_read(c) for _ in range(120)]
        print(f"rows read by 120 steps of one session: {sum(figures)}, at most {max(figures)}")
        assert max(figures) <= 4_000 + 2 + 2 * 1_000
        assert count(c) == KEPT


def test_sessions_of_one_step_come_to_every_row(db):
    """Many jobs stand before the old ones, and none of them is ever removed."""
    db.execute("SELECT qflow.create_queue('jobs', retention_ms => 3600000)")
    with db.connect() as c:
        fill(c, 20_000, "failed", "2 hours")
        fill(c, 10, age="2 hours")
        fill(c, 10_000, "pending")

        def gone():
            with db.connect() as other:
                other.execute("SELECT qflow.reap()")
            return count(c) == 30_000

        until(gone, what="the old jobs gone")


def test_what_sleeps_for_ever_does_not_hold_up_what_stands_behind(db):
    db.execute("SELECT qflow.create_queue('jobs', retention_ms => 1)")
    db.execute("""
        CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN old; END $$;
        CREATE TRIGGER nap BEFORE DELETE ON jobs FOR EACH ROW WHEN (old.id = 1) EXECUTE FUNCTION nap()
    """)
    with db.connect() as c, db.connect() as other:
        fill(other, 3_000, age="2 hours")
        c.execute("SET statement_timeout = '1s'")

        def gone():
            try:
                c.execute("SELECT qflow.reap()")
            except psycopg.errors.QueryCanceled:
                pass
            return other.execute("SELECT max(id) <= 1000 FROM jobs").fetchone()[0]

        until(gone, what="the jobs behind gone")
        assert other.execute("SELECT min(id) FROM jobs").fetchone() == (1,)
