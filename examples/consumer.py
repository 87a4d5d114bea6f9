"""A consumer in Python: waits, fetches a batch, works, settles; ends well on SIGTERM or Ctrl-C.

    python3 consumer.py WORKFLOW [--worker NAME]

Needs psycopg 3; connects through libpq's environment (PGHOST, PGDATABASE, …). Put your work into `work`.

What to know of psycopg:
- autocommit, always. Without it the first statement opens a transaction that stays open while you work: the fetched rows
  stay locked, CALL qflow.wait() is refused (25001), and VACUUM cannot clean up behind you.
- One connection is for one thread at a time, and here that is the main one: the heartbeat has a connection of its own, as a
  statement that waits would hold it up otherwise.
- Behind PgBouncer in transaction mode pass prepare_threshold=None: a statement that was prepared by name may meet another
  server connection. Hints "bind" and "hold" must then stay "lease", and a worker name says who you are.
- Wait in the database, not in Python: CALL qflow.wait() returns as soon as there is something to fetch. A signal does not
  interrupt a C call, so wait for a second at a time, not for an hour.
- jsonb arrives as Python objects, numbers as floats; where every digit counts select data::text and parse it yourself.
"""
import argparse
import json
import os
import signal
import threading
import time

import psycopg

WAIT_MS = 1_000


def work(job):
    """Your work. What it raises is a failed attempt, with the error as its reason."""
    if not isinstance(job["data"], (dict, list, int, float, str)):
        raise ValueError("an empty job")
    print(f"job {job['id']}, attempt {job['attempt']}", flush=True)


class Consumer:
    def __init__(self, workflow, worker):
        self.workflow, self.hints = workflow, json.dumps({"worker": worker})
        self.stopping = threading.Event()
        self.lease = None  # the one at work, for the heartbeat
        self.lost = threading.Event()

    def run(self):
        with psycopg.connect(autocommit=True, row_factory=psycopg.rows.dict_row) as db:
            (timeout_ms,) = db.execute(
                "SELECT timeout_ms FROM qflow.workflow_status WHERE workflow = %s", (self.workflow,)
            ).fetchone().values()
            threading.Thread(target=self.heartbeat, args=(timeout_ms / 3_000,), daemon=True).start()
            while not self.stopping.is_set():
                db.execute("CALL qflow.wait(%s, %s, %s)", (self.workflow, WAIT_MS, self.hints))
                jobs = db.execute("SELECT * FROM qflow.fetch(%s, hints => %s)", (self.workflow, self.hints)).fetchall()
                if jobs:
                    self.finish(db, jobs)

    def finish(self, db, jobs):
        """Works on the jobs of one fetch, and settles all of them at once."""
        self.lost.clear()
        self.lease = jobs[0]["lease"]
        use_gpus(jobs[0]["resources"])
        outcomes = [{"id": job["id"], "lease": job["lease"], **self.outcome(job)} for job in jobs]
        self.lease = None
        settled = db.execute("SELECT id, outcome FROM qflow.settle(%s, %s)", (self.workflow, json.dumps(outcomes)))
        for answer in settled.fetchall():
            if answer["outcome"] == "stale":  # too slow: others have it now, and what we did must not count
                print(f"job {answer['id']} was lost", flush=True)

    def outcome(self, job):
        if self.stopping.is_set() or self.lost.is_set():
            return {"outcome": "release"}  # not started: its attempt is given back
        try:
            work(job)
            return {"outcome": "ack"}
        except Exception as error:
            return {"outcome": "requeue", "reason": f"{type(error).__name__}: {error}"}

    def heartbeat(self, seconds):
        """Keeps the lease from ending while we work. A lease that `extend` does not return is lost."""
        with psycopg.connect(autocommit=True) as db:
            while True:
                time.sleep(seconds)
                lease = self.lease
                if lease is None:
                    continue
                held = db.execute("SELECT lease FROM qflow.extend(%s, %s)", (self.workflow, [lease])).fetchall()
                if not held and self.lease == lease:  # else it was settled meanwhile
                    self.lost.set()

    def stop(self, *_):
        self.stopping.set()


def use_gpus(resources):
    """The slots that came with the jobs are the devices to use; set before the first call of CUDA."""
    if resources and "gpu" in resources:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, resources["gpu"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workflow")
    parser.add_argument("--worker", default=f"python-{os.getpid()}", help="a name that no other consumer has")
    arguments = parser.parse_args()
    consumer = Consumer(arguments.workflow, arguments.worker)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, consumer.stop)
    consumer.run()


if __name__ == "__main__":
    main()
