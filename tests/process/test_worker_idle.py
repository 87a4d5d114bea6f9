"""What the background processes cost when nothing happens."""
import os
import pathlib
import time

import pytest

from jobs import load, until
from workers import lease_out, preloaded, until_back, worker_of, workers


def cpu_ms(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def switches(pid):
    """How often a process went to sleep of itself."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary")))


def over(seconds, *pids):
    """[(CPU in ms, wake-ups) of each process in that time]."""


    before = [(cpu_ms(pid), switches(pid)) for pid in pids]
    time.sleep(seconds)  # what is measured, not waited for
    after = [(cpu_ms(pid), switches(pid)) for pid in pids]
    return [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after)]


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="not run: no /proc/PID/schedstat here")
def test_an_idle_server(make_server):
    """Ten queues with jobs, nothing due. Without the sweep no process runs; then the worker leaves."""
    queues = [f"q{number}" for number in range(10)]
    db = preloaded(make_server, "qflow.sweep = off", "qflow.worker_idle_ms = 4000", "autovacuum = off", queues=queues)
    with db.connect() as c:
        for queue in queues:
            load(c, queue, 10)
        lease_out(c, "q0")
        until_back(c, "q0")
        pids = worker_of(c), workers(c, "launcher")[None]
        began = "SELECT query_start FROM pg_stat_activity WHERE pid = %s"
        until(lambda: c.execute(began.replace("query_start", "clock_timestamp() - query_start > '500 ms'"), pids[:1]).fetchone()[0])
        before = c.execute(began, pids[:1]).fetchone()
        idle = over(2.5, *pids)
        assert c.execute(began, pids[:1]).fetchone() == before, "the worker does nothing when nothing is due"
        until(lambda: not workers(c), 60, "the worker has left")
    with preloaded(make_server, "autovacuum = off", queues=queues).connect() as c:
        lease_out(c, "q0")
        until_back(c, "q0")
        sweeping, = over(3, worker_of(c))
    text = ", ".join(f"{name} {cpu:.1f} ms CPU, {wakes} wake-ups" for name, (cpu, wakes) in zip(("worker", "launcher"), idle))
    print(f"idle for 2.5 s with 10 queues: {text}; with the sweep, for 3 s: worker {sweeping[0]:.1f} ms, {sweeping[1]} wake-ups")
    assert all(wakes <= 4 for _, wakes in idle)
    assert sweeping[0] < 400
