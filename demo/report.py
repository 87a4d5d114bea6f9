"""What the demo shows: a progress bar (lines, when not on a terminal), the table at the end, the findings."""
import shutil
import sys
import time

from database import QUEUE

BAR_SECONDS, LINE_SECONDS = 0.1, 2.0
SHOWN = 8  # of a list that may be long

FIGURES = f"""
SELECT sum(attempt),
       count(*) FILTER (WHERE status = 'completed' AND attempt = 1)
           / nullif(extract(epoch FROM max(updated_at) FILTER (WHERE status = 'completed' AND attempt = 1)
                                     - min(updated_at) FILTER (WHERE status = 'completed' AND attempt = 1)), 0)
FROM {QUEUE}"""
FAILED = f"""
SELECT data->>'document', data->>'paragraph', attempt, failure_reason
FROM {QUEUE} WHERE status = 'failed' ORDER BY 1, 2"""


class Screen:
    """Lines of text, with a progress bar that stays below them while there is one."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.bar = ""
        self.shown_at = 0.0

    def say(self, label, text):
        self._clear()
        print(f"{label:<12}{text}" if label else text, flush=True)
        self._draw()

    def progress(self, expected, totals, now=False):
        interval = BAR_SECONDS if self.terminal else LINE_SECONDS
        if not now and time.monotonic() - self.shown_at < interval:
            return
        self.shown_at = time.monotonic()
        text = f"{totals.ended:,} of {expected:,} done, {totals.in_progress:,} in progress, {totals.failed:,} failed"
        if self.terminal:
            width = max(10, min(40, shutil.get_terminal_size().columns - len(text) - 18))
            full = width * totals.ended // max(1, expected)
            self._clear()
            self.bar = f"{'progress':<12}[{'#' * full}{'.' * (width - full)}] {text}"
            self._draw()
        else:
            self.say("progress", f"{100 * totals.ended // max(1, expected):3d} %  {text}")

    def finish(self):
        """The bar stays as it is, above what comes next."""
        if self.bar:
            print(flush=True)
        self.bar = ""

    def _clear(self):
        if self.bar:
            print("\r\x1b[K", end="")

    def _draw(self):
        if self.bar:
            print(self.bar, end="", flush=True)


def table(screen, db, totals, enqueued, returned, lost):
    attempts, rate = db.execute(FIGURES).fetchone()
    vectors = db.execute("SELECT count(*) FROM vectors").fetchone()[0]
    failed = db.execute(FAILED).fetchall()
    jobs = totals.ended + totals.pending + totals.in_progress
    lines = [
        ("jobs", jobs, enqueued),
        ("completed", totals.completed, ""),
        ("failed", totals.failed, ""),
        *(("", None, f"{document}, paragraph {number}, {attempt} attempts: {reason}")
          for document, number, attempt, reason in failed[:SHOWN]),
        *([("", None, f"and {len(failed) - SHOWN} more")] if len(failed) > SHOWN else []),
        ("attempts", attempts or 0, f"{(attempts or 0) - jobs} of them a job's second or later"),
        ("vectors", vectors, ""),
        ("jobs a second", round(rate or 0), "first attempts, from the first ack to the last"),
        ("returned", returned[0], returned[1]),
    ]
    if lost:
        lines.append(("lost leases", lost, "jobs whose consumer was slower than the lease; others did them"))
    rule = "-" * 78
    print(f"\n{rule}")
    for label, number, note in lines:
        if number is None:
            print(f"    {note}")
        else:
            print(f"{label:<15}{number:>10,}" + (f"   {note}" if note else ""))
    print(rule, flush=True)


def findings(found):
    """Prints them; True when all is well."""
    print()
    for finding in found:
        print(f"{'ok' if finding.ok else 'FAILED':<8}{finding.rule}")
        for fault in finding.faults[:SHOWN]:
            print(f"        {fault}")
        if len(finding.faults) > SHOWN:
            print(f"        and {len(finding.faults) - SHOWN} more")
    print(flush=True)
    return all(finding.ok for finding in found)
