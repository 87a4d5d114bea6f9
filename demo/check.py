"""What must hold at the end. The paragraphs as they were read are the truth; the database is what is judged."""
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from database import GPUS, QUEUE, RETRIES, WORKFLOW

DIMENSIONS = 128
JOBS = f"""
SELECT data->>'document', (data->>'paragraph')::int, id, status, attempt, failure_reason
FROM {QUEUE}"""


class Job(NamedTuple):
    status: str
    attempt: int
    reason: str | None

    def __str__(self):
        return f"{self.status} after {self.attempt} attempts" + (f", {self.reason}" if self.reason else "")


@dataclass
class Finding:
    rule: str
    faults: list = field(default_factory=list)

    @property
    def ok(self):
        return not self.faults


def name(key):
    return f"{key[0]}, paragraph {key[1]}"


def counts(expected, found):
    """The faults where something is not there exactly once."""
    found = Counter(found)
    faults = [f"{name(k)}: {found[k]} times" for k in expected if found[k] != 1]
    return faults + [f"{name(k)}: not expected" for k in found.keys() - set(expected)]


def check(db, paragraphs, held):
    """The findings, one a rule; `held` are the ids of the jobs that the killed consumer held."""
    reasons = {p.key: p.expected_reason() for p in paragraphs}
    readable = [key for key, reason in reasons.items() if reason is None]
    unreadable = [key for key, reason in reasons.items() if reason is not None]
    rows = db.execute(JOBS).fetchall()
    jobs = {(document, number): Job(*rest) for document, number, _, *rest in rows}
    by_id = {id: Job(*rest) for _, _, id, *rest in rows}
    vectors = db.execute("SELECT document, paragraph FROM vectors").fetchall()
    misshapen = db.execute(
        "SELECT document, paragraph FROM vectors WHERE cardinality(features) <> %s"
        " OR abs((SELECT sum(x * x) FROM unnest(features) AS x) - 1) > 0.001", (DIMENSIONS,)
    ).fetchall()
    leases = db.execute(
        "SELECT lease, unsettled FROM qflow.lease_status WHERE workflow = %s", (WORKFLOW,)
    ).fetchall()
    gpus = [gpu for (gpu,) in db.execute("SELECT DISTINCT gpu FROM vectors ORDER BY gpu").fetchall()]
    held_gpus = db.execute("SELECT slot, pid FROM qflow.resource_status WHERE resource = 'gpu' AND pid IS NOT NULL").fetchall()
    verified = db.execute("SELECT check_name, detail FROM qflow.verify(%s) WHERE NOT ok", (QUEUE,)).fetchall()

    def wrong_jobs(keys, right):
        return [f"{name(k)}: {jobs.get(k, 'no job')}" for k in keys if k not in jobs or not right(k, jobs[k])]

    return [
        Finding("every paragraph is one job", counts(reasons, ((r[0], r[1]) for r in rows))),
        Finding("every readable paragraph has exactly one vector, no other has one", counts(readable, vectors)),
        Finding(f"every vector has {DIMENSIONS} numbers and length 1", [name(k) for k in misshapen]),
        Finding("every readable paragraph's job is completed",
                wrong_jobs(readable, lambda k, job: job.status == "completed")),
        Finding(f"every unreadable paragraph failed with its reason after exactly {RETRIES + 1} attempts",
                wrong_jobs(unreadable, lambda k, job: job == ("failed", RETRIES + 1, reasons[k]))),
        Finding("every job that the killed consumer held came back and was done by another",
                [f"job {id}: {by_id.get(id, 'no job')}" for id in held
                 if id not in by_id or by_id[id].status not in ("completed", "failed") or by_id[id].attempt < 2]),
        Finding("no lease is left", [f"lease {lease}: {unsettled} jobs" for lease, unsettled in leases]),
        Finding(f"all work was done on GPUs 0 to {GPUS - 1}, and none of them is held",
                [f"vectors of GPU {gpu}" for gpu in gpus if gpu not in range(GPUS)]
                + [f"GPU {slot} by process {pid}" for slot, pid in held_gpus]),
        Finding("qflow.verify() finds nothing", [f"{check}: {detail}" for check, detail in verified]),
    ]
