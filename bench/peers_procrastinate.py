"""procrastinate: its worker's own two statements, one job at a time; it has no batches. bench/requirements.txt pins the wheel,
whose sql/schema.sql and sql/queries.sql are used as they are."""
import os
import pathlib
import re

from queues import Queue
from statements import FILL, filling, timed


def install(c):
    """Its queue, or the reason why there is none."""
    folder = pathlib.Path(os.environ.get("QFLOW_BENCH_PEERS", "")) / "python/procrastinate/sql"
    if not folder.is_dir():
        return [], "procrastinate: its wheel could not be fetched"
    return [Procrastinate(folder)], None


class Procrastinate(Queue):
    name, history_kept, batches = "procrastinate", "kept in the table", False
    note = "procrastinate 3.10.0: fetch_job and finish_job of sql/queries.sql, one job a call; put in by procrastinate_defer_jobs_v1"

    def __init__(self, folder):
        self.schema = (folder / "schema.sql").read_text()
        queries = dict(re.findall(r"^-- (\w+) --$\n(.*?)(?=^-- \w+ --$|\Z)", (folder / "queries.sql").read_text(), re.S | re.M))
        self.fetch, self.finish = queries["fetch_job"], queries["finish_job"]

    def create(self, c):
        c.execute("CREATE SCHEMA procrastinate")
        # Its functions name its tables without a schema.
        c.execute("SET search_path = procrastinate")
        c.execute(self.schema)
        self.worker = c.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()[0]
        c.execute("RESET search_path")

    def drop(self, c):
        c.execute("DROP SCHEMA IF EXISTS procrastinate CASCADE")

    def relations(self, c):
        return ["procrastinate.procrastinate_jobs", "procrastinate.procrastinate_events"]

    def fill(self, c, jobs, size):
        c.execute("SET search_path = procrastinate")
        c.execute(
            f"""SELECT procrastinate_defer_jobs_v1(ARRAY(
                SELECT ('bench', 'job', 0, NULL, NULL, payload, NULL)::procrastinate_job_to_defer_v1
                FROM ({FILL}) AS f (payload)))""", filling(jobs, size))
        c.execute("RESET search_path")

    def step(self, c, batch, failing, mine):
        if "path" not in mine:
            c.execute("SET search_path = procrastinate")
            mine["path"] = True
        (row,), took = timed(c, self.fetch, {"queues": ["bench"], "worker_id": self.worker})
        assert row[0] is not None
        _, finished = timed(c, self.finish, {"job_id": row[0], "status": "succeeded", "delete_job": False})
        return 1, {"take": took, "finish": finished}
