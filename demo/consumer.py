"""One consumer process: fetches paragraphs, computes their vectors, stores and acknowledges them in one transaction.

    consumer.py NUMBER [HOLD_AT]

Connects through libpq's environment (PGHOST, …) and works until SIGTERM. Says what the demo has to know in lines of
JSON on standard output. With HOLD_AT it stops dead within its HOLD_AT-th fetch, holding jobs, and waits to be killed.
"""
import itertools
import json
import os
import signal
import sys
import time

import psycopg

from database import BATCH_SIZE, DEMAND, WORKFLOW
from documents import text_of, unreadable
from features import features

IDLE_SECONDS = 0.05
HINTS = '{"wait_ms": 1000}'  # for a GPU; that one is wanted at all says the workflow


class LeaseLost(Exception):
    """Some job of this transaction is somebody else's by now."""


class Consumer:
    def __init__(self, db, number, hold_at=None):
        self.db, self.number, self.hold_at = db, number, hold_at
        self.stopping = False
        self.fetches = self.completed = self.requeued = self.lost = 0

    def say(self, event, **facts):
        print(json.dumps({"event": event, "consumer": self.number, **facts}), flush=True)

    def run(self):
        while not self.stopping:
            jobs = self.fetch()
            if not jobs:
                time.sleep(IDLE_SECONDS)
                continue
            self.fetches += 1
            if self.fetches == 1:
                self.say("working")
            self.work(jobs)
        self.say("end", completed=self.completed, requeued=self.requeued, lost=self.lost)

    def fetch(self):
        """A statement of its own, committed at once: from here on a lease holds the jobs, not a transaction."""
        return self.db.execute(
            "SELECT batch_no, id, lease, data, (resources->'gpu'->>0)::int FROM qflow.fetch(%s, %s, %s, %s)",
            (WORKFLOW, DEMAND, BATCH_SIZE, HINTS),
        ).fetchall()

    def work(self, jobs):
        self.gpu = jobs[0][4]
        os.environ["CUDA_VISIBLE_DEVICES"] = str(self.gpu)  # what a model would look at; ours needs none
        batches = [list(batch) for _, batch in itertools.groupby(jobs, key=lambda job: job[0])]
        for n, batch in enumerate(batches):
            left = [job for later in batches[n:] for job in later]
            if self.stopping:
                ids, leases = [job[1] for job in left], [job[2] for job in left]
                self.db.execute("SELECT qflow.release(%s, %s, %s)", (WORKFLOW, ids, leases))
                return
            # Not at the first batch, if there are more: then the killed consumer leaves a lease half settled.
            hold = self.fetches == self.hold_at and n == min(2, len(batches) - 1)
            try:
                self.finish(batch, left if hold else None)
            except (psycopg.errors.ObjectNotInPrerequisiteState, LeaseLost):
                self.lost += len(left)  # too slow: others have these jobs now, and our transaction never happened
                return

    def finish(self, batch, holding=None):
        """Stores the vectors of one batch and settles its jobs: both or nothing."""
        vectors, done, broken = [], [], []
        for _, id, lease, data, _ in batch:
            try:
                vectors.append((data["document"], data["paragraph"], features(text_of(data)), self.number, self.gpu))
                done.append((id, lease))
            except UnicodeDecodeError as error:
                broken.append((id, lease, unreadable(error)))
        with self.db.transaction():
            with self.db.cursor() as cursor, cursor.copy("COPY vectors FROM STDIN") as rows:
                for row in vectors:
                    rows.write_row(row)
            if holding:
                self.hold(holding)
            # strict: an error when a job is no longer ours, and the vectors of this batch are gone with it.
            self.db.execute(
                "SELECT qflow.ack(%s, %s, %s, strict => true)",
                (WORKFLOW, [id for id, _ in done], [lease for _, lease in done]),
            )
            for id, lease, reason in broken:
                applied = self.db.execute(
                    "SELECT qflow.requeue(%s, %s, %s, reason => %s)", (WORKFLOW, [id], [lease], reason)
                ).fetchone()[0]
                if not applied:  # `requeue` has no strict
                    raise LeaseLost
        self.completed += len(done)
        self.requeued += len(broken)

    def hold(self, jobs):
        """The moment to be killed in: jobs fetched, vectors written, nothing committed."""
        self.say("holding", ids=[job[1] for job in jobs], lease=jobs[0][2])
        while True:
            signal.pause()

    def stop(self, *_):
        self.stopping = True


def main():
    number, hold_at = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which then stops its consumers
    with psycopg.connect(autocommit=True, application_name=f"consumer {number}") as db:
        consumer = Consumer(db, number, hold_at)
        signal.signal(signal.SIGTERM, consumer.stop)
        consumer.run()


if __name__ == "__main__":
    main()
