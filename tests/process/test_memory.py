"""What a large fetch costs in memory."""
import pathlib
import re

import pytest

from jobs import at_most, fetch, load

JOBS, SIZE = 10_000, 4_000
PAYLOAD_MB = JOBS * SIZE / 1e6


def peak_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("not run: no /proc/PID/status here")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text()).group(1)) / 1e3


def test_memory_of_a_large_fetch(make_server):
    # VmHWM counts the shared buffers that the process has touched.
    server = make_server("shared_buffers = 16MB")
    db = server.create_database("memory")
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c:
        # no payload that compresses
        load(c, "jobs", JOBS, 20)
        c.execute("ALTER TABLE jobs ALTER data SET STORAGE EXTERNAL")
        c.execute("UPDATE jobs SET data = jsonb_build_object('pad', repeat('x', %s))", (SIZE - 20,))
    with db.connect() as c:
        pid = c.execute("SELECT pg_backend_pid()").fetchone()[0]
        before = peak_mb(pid)
        with at_most(100, f"fetch({JOBS})"):
            rows = fetch(c, "jobs", JOBS)
        after = peak_mb(pid)
    assert len(rows) == JOBS
    print(f"VmHWM of a backend that fetched {JOBS} jobs of {SIZE} bytes ({PAYLOAD_MB:g} MB): {before:.0f} MB before,"
          f" {after:.0f} MB after")
    assert after - before <= 10 * PAYLOAD_MB
