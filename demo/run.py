"""The whole of qflow on real documents: four consumers, one of them killed, a few documents that nobody can read.

Called by tools/demo.sh with libpq's environment pointing at an empty database of a server that will be thrown away.
Exit status: 0 when every check at the end holds, 1 when not, 2 when there is nothing to work on.
"""
import argparse
import pathlib
import signal
import sys
import threading
import time

import psycopg

import database
import documents
import report
from check import check
from crew import Crew, CrewError

CONSUMERS = 4
VICTIM = CONSUMERS
# Long against the milliseconds that a batch takes, short enough to see the lease end within the demo.
TIMEOUT_MS = 4_000
LOOK_SECONDS = 0.1
STUCK_SECONDS = 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="text files; default: what every Debian machine has")
    parser.add_argument("--limit", type=int, help=f"read no more paragraphs (default input: {documents.DEFAULT_LIMIT})")
    parser.add_argument("--timeout-ms", type=int, default=TIMEOUT_MS, help="how long a lease lasts (%(default)s)")
    parser.add_argument("--spoil", action="store_true", help="lose one vector before the check, to see it fail")
    return parser.parse_args()


class Producer(threading.Thread):
    """Inserts its share while the consumers work, on a connection of its own."""

    def __init__(self, paragraphs):
        super().__init__(daemon=True)
        self.paragraphs, self.error = paragraphs, None

    def run(self):
        try:
            with psycopg.connect(autocommit=True, application_name="producer") as db:
                database.insert(db, self.paragraphs)
        except Exception as error:  # told by the main thread
            self.error = error


class Demo:
    def __init__(self, db, crew, screen, options):
        self.db, self.crew, self.screen, self.options = db, crew, screen, options
        self.held, self.lease, self.killed_at, self.away = [], None, None, None

    def run(self):
        paragraphs = self.read()
        self.create()
        started = time.monotonic()
        producer = self.enqueue(paragraphs)
        self.start(len(paragraphs))
        totals = self.watch(producer, len(paragraphs))
        lost = sum(last["lost"] for last in self.crew.stop())
        self.screen.say("done", f"in {time.monotonic() - started:.1f} s, waiting for the lease of the dead included")
        if self.options.spoil:
            self.db.execute("DELETE FROM vectors WHERE ctid = (SELECT min(ctid) FROM vectors)")
            self.screen.say("spoil", "one vector was deleted: the check below has to fail")
        copied = (len(paragraphs) + 1) // 2
        report.table(
            self.screen, self.db, totals, f"{copied:,} by COPY, {len(paragraphs) - copied:,} by INSERT",
            (len(self.held), f"jobs of the killed consumer, {self.away:.1f} s after its death"), lost,
        )
        return report.findings(check(self.db, paragraphs, self.held))

    def read(self):
        damaged, found = documents.collect(self.options.folder, self.options.limit)
        if not found:
            self.screen.say("", f"no paragraph of text in {self.options.folder or 'the default folders'}")
            raise SystemExit(2)
        size = sum(len(p.raw) for p in found) / 1e6
        self.screen.say("documents", f"{len(found):,} paragraphs, {size:.1f} MB, from {len({p.document for p in found}):,} files")
        by_nature = sum(p.expected_reason() is not None for p in found)
        self.screen.say("", f"            and {len(damaged)} paragraphs in {len(documents.DAMAGED)} damaged files that the demo makes;"
                            f" unreadable: {sum(p.expected_reason() is not None for p in damaged)} of those, {by_nature} of the others")
        return damaged + found

    def create(self):
        timeout = self.options.timeout_ms
        database.create(self.db, timeout, CONSUMERS)
        postgres, qflow, durable = database.versions(self.db)
        self.screen.say("server", f"PostgreSQL {postgres}, qflow {qflow}, {'durable' if durable else 'NOT durable'}")
        self.screen.say("queue", f"{database.QUEUE}, workflow {database.WORKFLOW}: lease {timeout / 1000:g} s, batches of"
                                 f" {database.BATCH_SIZE}, {database.RETRIES} retries from {database.RETRY_DELAY_MS} ms on,"
                                 f" {database.GPUS} GPUs to share")

    def enqueue(self, paragraphs):
        """Half of them before the consumers start, the other half beside them; each document in both ways."""
        start = time.monotonic()
        database.copy(self.db, paragraphs[::2])
        self.screen.say("producer", f"{len(paragraphs[::2]):,} paragraphs by COPY in {time.monotonic() - start:.2f} s;"
                                    f" now {len(paragraphs[1::2]):,} by INSERT of {database.ROWS_PER_INSERT} rows")
        producer = Producer(paragraphs[1::2])
        producer.start()
        return producer

    def start(self, jobs):
        # The one to be killed starts first, and is sent so early into its death that it surely has jobs then.
        hold_at = max(1, min(10, jobs // (CONSUMERS * database.DEMAND * 4)))
        self.crew.start(VICTIM, hold_at)
        self.crew.wait_for("working", timeout=STUCK_SECONDS)
        for number in range(1, CONSUMERS):
            self.crew.start(number)
        self.screen.say("consumers", f"{CONSUMERS} processes, each fetches {database.DEMAND} jobs at a time")

    def watch(self, producer, expected):
        """Until all is done. The numbers come from the queue table itself."""
        before, moved_at = None, time.monotonic()
        while True:
            self.listen()
            self.crew.check()
            if producer.error:
                raise producer.error
            totals = database.totals(self.db)
            if self.killed_at and self.away is None and not database.still_held(self.db, self.held, self.lease):
                self.away = time.monotonic() - self.killed_at
                self.screen.say("returned", f"its {len(self.held)} jobs are free again, {self.away:.1f} s after its death")
            ended = totals.ended == expected and not producer.is_alive()
            self.screen.progress(expected, totals, now=ended)
            if ended:
                self.screen.finish()
                if self.away is None:
                    raise CrewError("the jobs ended before a consumer was killed and its jobs came back")
                return totals
            if totals != before:
                before, moved_at = totals, time.monotonic()
            if time.monotonic() - moved_at > STUCK_SECONDS:
                raise CrewError(f"nothing has moved for {STUCK_SECONDS} s: {totals}")
            time.sleep(LOOK_SECONDS)

    def listen(self):
        while event := self.crew.event():
            if event["event"] != "holding":
                continue
            self.held, self.lease = event["ids"], event["lease"]
            self.crew.kill(VICTIM)
            self.killed_at = time.monotonic()
            holding = database.still_held(self.db, self.held, self.lease)
            if holding != len(self.held):
                raise CrewError(f"the killed consumer was to hold {len(self.held)} jobs, it held {holding}")
            self.screen.say("killed", f"consumer {VICTIM} with SIGKILL: it held {holding} jobs, its vectors were not committed")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    crew, screen = Crew(), report.Screen()
    try:
        with psycopg.connect(autocommit=True, application_name="demo") as db:
            ok = Demo(db, crew, screen, options).run()
    except (CrewError, psycopg.Error) as error:
        screen.finish()
        print(f"error: {error}", file=sys.stderr)
        ok = False
    except KeyboardInterrupt:
        screen.finish()
        return 130
    finally:
        crew.abandon()
    print("All checks hold." if ok else "The demo FAILED.")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
