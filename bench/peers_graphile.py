"""graphile-worker: its worker's own statements for a batch of jobs without a named queue, as its local queue and its batched
completion send them. bench/peers pins the npm package; its code makes the statements, its migrations the tables."""
import json
import os
import pathlib
import subprocess

from cells import CELLS
from queues import Queue
from statements import FILL, filling, timed

BATCHES = sorted({cell.batch for cell in CELLS})


def install(c):
    """Its queue, or the reason why there is none."""
    folder = pathlib.Path(os.environ.get("QFLOW_BENCH_PEERS", "")) / "node_modules/graphile-worker"
    if not (folder / "sql").is_dir():
        return [], "graphile-worker: its npm package could not be installed"
    script = pathlib.Path(__file__).parent / "peers/graphile.mjs"
    made = subprocess.run(["node", script, folder, *map(str, BATCHES)], capture_output=True, text=True)
    if made.returncode:
        return [], f"graphile-worker: {made.stderr.strip().splitlines()[-1]}"
    version = json.loads((folder / "package.json").read_text())["version"]
    return [Graphile(json.loads(made.stdout), folder, version)], None


class Graphile(Queue):
    name, history_kept = "graphile-worker", "none"

    def __init__(self, statements, folder, version):
        def placeholders(text):
            return text.replace("%", "%%").replace("$1::bigint", "%(ids)s::bigint").replace("$1", "%(worker)s").replace("$2", "%(tasks)s")

        self.takes = {int(batch): placeholders(text) for batch, text in statements["take"].items()}
        self.one, self.many = placeholders(statements["one"]), placeholders(statements["many"])
        self.migrations = sorted((folder / "sql").glob("*.sql"))
        self.note = f"graphile-worker {version}: the statements of dist/sql/getJobs.js and completeJobs.js, put in by add_jobs"

    def create(self, c):
        c.execute("CREATE SCHEMA graphile_worker")
        for file in self.migrations:
            with c.transaction():
                c.execute(file.read_text().replace(":GRAPHILE_WORKER_SCHEMA", "graphile_worker"))
        c.execute("INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('job')")
        self.tasks = [c.execute("SELECT id FROM graphile_worker._private_tasks").fetchone()[0]]

    def drop(self, c):
        c.execute("DROP SCHEMA IF EXISTS graphile_worker CASCADE")

    def relations(self, c):
        return ["graphile_worker._private_jobs", "graphile_worker._private_job_queues"]

    def fill(self, c, jobs, size):
        c.execute(
            f"""SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
                SELECT ('job', payload::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
                FROM ({FILL}) AS f (payload)))""", filling(jobs, size))

    def take(self, c, batch):
        return timed(c, self.takes[batch], {"worker": "bench", "tasks": self.tasks})

    def step(self, c, batch, failing, mine):
        rows, took = self.take(c, batch)
        ids = [row[0] for row in rows]
        _, finished = timed(c, self.one, {"ids": ids[0]}) if len(ids) == 1 else timed(c, self.many, {"ids": ids})
        return len(ids), {"take": took, "finish": finished}
