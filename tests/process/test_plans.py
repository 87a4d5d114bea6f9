"""No call reads a whole queue: fetch, settle and reap do no sequential scan of its table."""
import pytest

from jobs import ack, copy, fetch, load, make_queue, outcomes, requeue, sized, table_stats

JOBS = sized(100_000, 1_000_000)


def everything(c):
    """Each way to claim and to end jobs, few and many at a time, often enough for generic plans."""
    for demand in [1, 10, 100] * 4 + [2_500, 1, 1]:
        rows = fetch(c, "jobs", 4 * demand)
        assert len(rows) == 4 * demand
        parts = [rows[at::4] for at in range(4)]
        assert ack(c, "jobs", parts[0]) == demand
        assert requeue(c, "jobs", parts[1], delay_ms=0) == demand
        for name, part in (("fail", parts[2][::2]), ("release", parts[2][1::2])):
            arrays = [row.id for row in part], [row.lease for row in part]
            assert c.execute(f"SELECT qflow.{name}('jobs', %s, %s)", arrays).fetchone()[0] == len(part)
        outcomes(c, "jobs", parts[3])
    for _ in range(8):
        rows = fetch(c, "jobs", 100, hints={"timeout_ms": 1})
        c.execute("SELECT pg_sleep(0.002)")
        c.execute("SELECT * FROM qflow.reap()").fetchall()
        c.execute("SELECT * FROM qflow.extend('jobs', %s)", ([rows[0].lease],)).fetchall()
        c.execute("SELECT qflow.enqueue('jobs', '{}')")
    c.execute("SELECT qflow.enqueue_batch('jobs', array_fill('{}'::jsonb, ARRAY[100]))")


@pytest.mark.parametrize(
    ("known", "made"),
    [
        pytest.param("never analyzed", "created", marks=pytest.mark.every_version),
        ("analyzed when empty", "created"),
        ("analyzed when full", "created"),
        pytest.param("never analyzed", "seed1", marks=pytest.mark.every_version),
        ("analyzed when full", "seed2"),
    ],
)
def test_no_sequential_scan(db, known, made):
    make_queue(db, "jobs", made)
    db.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    with db.connect() as c:
        early = db.connect()  # its plans are made while the table is empty
        if known == "analyzed when empty":
            c.execute("ANALYZE jobs")
        for _ in range(8):
            load(early, "jobs", 20)
            rows = fetch(early, "jobs", 20)
            ack(early, "jobs", rows)
        copy(c, "jobs", JOBS)
        if known == "analyzed when full":
            c.execute("ANALYZE jobs")
    before = table_stats(db, "jobs", "seq_scan, n_tup_ins", lambda row: row.n_tup_ins >= JOBS).seq_scan
    everything(early)
    early.close()
    with db.connect() as c:
        everything(c)
    scanned = table_stats(db, "jobs", "seq_scan, n_tup_upd", lambda row: row.n_tup_upd > 2 * 20_000).seq_scan
    assert scanned == before, f"{scanned - before} sequential scans"
