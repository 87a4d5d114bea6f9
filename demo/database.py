"""What the demo has in the database: one queue with its workflow, one table for the vectors, and the two producers."""
from dataclasses import dataclass

QUEUE, WORKFLOW = "paragraphs", "embedding_producer"
DEMAND, BATCH_SIZE, RETRIES = 64, 16, 3
GPUS = 2  # for four consumers: they have to share them
RETRY_DELAY_MS, RETRY_MAX_DELAY_MS = 100, 1_000  # short: the demo should not wait for its three broken files

# No key on (document, paragraph): that no paragraph gets two vectors has to come from acknowledging them in the
# transaction that stores them, not from an index that refuses the second.
VECTORS = """
CREATE TABLE vectors (
    document  text    NOT NULL,
    paragraph integer NOT NULL,
    features  real[]  NOT NULL,
    consumer  integer NOT NULL,
    gpu       integer NOT NULL
)"""
ROWS_PER_INSERT = 500


@dataclass
class Totals:
    """The jobs of the queue by their status, at one moment."""
    pending: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def ended(self):
        return self.completed + self.failed


def create(db, timeout_ms, consumers):
    db.execute("CREATE EXTENSION IF NOT EXISTS qflow")
    db.execute(
        "SELECT qflow.create_queue(%s, timeout_ms => %s, retries => %s, batch_size => %s, workflow => %s)",
        (QUEUE, timeout_ms, RETRIES, BATCH_SIZE, WORKFLOW),
    )
    db.execute(
        """SELECT qflow.alter_workflow(%s, concurrency => %s, retry_delay_ms => %s, retry_max_delay_ms => %s,
               resource_hints => '{"gpu": true}')""",
        (WORKFLOW, consumers, RETRY_DELAY_MS, RETRY_MAX_DELAY_MS),
    )
    db.execute("SELECT qflow.alter_resource('gpu', %s)", (GPUS,))
    db.execute(VECTORS)


def versions(db):
    """(PostgreSQL's version, qflow's version, is it durable)"""
    return db.execute(
        """SELECT current_setting('server_version'), extversion,
                  current_setting('fsync') = 'on' AND current_setting('synchronous_commit') = 'on'
           FROM pg_extension WHERE extname = 'qflow'"""
    ).fetchone()


def copy(db, paragraphs):
    """Enqueues by plain COPY, in one statement."""
    with db.cursor() as cursor, cursor.copy(f"COPY {QUEUE} (data) FROM STDIN") as rows:
        for paragraph in paragraphs:
            rows.write_row((paragraph.payload(),))


def insert(db, paragraphs):
    """Enqueues by plain INSERT of many rows a statement, each statement a transaction."""
    for start in range(0, len(paragraphs), ROWS_PER_INSERT):
        rows = [p.payload() for p in paragraphs[start:start + ROWS_PER_INSERT]]
        db.execute(f"INSERT INTO {QUEUE} (data) VALUES " + ", ".join(["(%s)"] * len(rows)), rows)


def totals(db):
    return Totals(**dict(db.execute(f"SELECT status, count(*) FROM {QUEUE} GROUP BY status").fetchall()))


def still_held(db, ids, lease):
    """How many of these jobs are in progress under this lease."""
    return db.execute(
        f"SELECT count(*) FROM {QUEUE} WHERE id = ANY (%s) AND status = 'in_progress' AND lease = %s", (ids, lease)
    ).fetchone()[0]
