"""The consumers in examples/ that are no Rust: as programs of their own, against a real server."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jobs import load, statuses, until

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def queue(db):
    db.execute("SELECT qflow.create_queue('mail', retries => 1)")
    db.execute("SELECT qflow.alter_workflow('mail', retry_delay_ms => 0, batch_size => 8, resource_hints => '{\"gpu\": true}')")
    return db


def environment(db):
    return {**os.environ, "PGHOST": str(db.server.dir), "PGUSER": "postgres", "PGDATABASE": db.name, "PGPORT": "5432"}


def test_python(queue):
    """Good jobs are completed, bad ones failed with their reason, and SIGTERM ends it with nothing left."""
    with queue.connect() as c:
        load(c, "mail", 40)
        c.execute("INSERT INTO mail (data) VALUES ('null')")
        program = subprocess.Popen(
            [sys.executable, EXAMPLES / "consumer.py", "mail"], env=environment(queue), stdout=subprocess.PIPE, text=True
        )
        try:
            until(lambda: statuses(c, "mail") == {"completed": 40, "failed": 1}, 60, "all jobs at their end")
            load(c, "mail", 200)
            until(lambda: statuses(c, "mail").get("completed", 0) > 45, 60, "it works again")
            program.send_signal(signal.SIGTERM)
            said = program.communicate(timeout=60)[0]
        finally:
            program.kill()
        assert program.returncode == 0
        assert said.count("job ") >= 42
        reason = c.execute("SELECT failure_reason FROM mail WHERE status = 'failed'").fetchone()
        assert reason == ("ValueError: an empty job",)
        left = statuses(c, "mail")
        print("at the end:", left)
        assert set(left) <= {"completed", "failed", "pending"}
        assert c.execute("SELECT count(*) FROM mail WHERE status = 'pending' AND attempt > 0").fetchone() == (0,)
        assert c.execute("SELECT count(*) FROM qflow.holder").fetchone() == (0,)


def test_psql(queue):
    """Sixteen jobs at a time, and nothing where there are none."""
    with queue.connect() as c:
        load(c, "mail", 20)
        for completed in ("completed: 16", "completed: 4", None):
            run = subprocess.run(
                [queue.server.program("psql"), "-X", "-v", "workflow=mail", "-f", EXAMPLES / "consumer.sql"],
                env=environment(queue), capture_output=True, text=True, timeout=60,
            )
            assert run.returncode == 0 and run.stderr == "", run.stderr
            assert (completed in run.stdout.splitlines()) if completed else run.stdout == ""
        assert statuses(c, "mail") == {"completed": 20}
