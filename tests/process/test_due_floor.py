"""The due-floor in shared memory: what one session could not see is no reason for others not to look."""
import time

from jobs import ack, fetch, load, requeue
from workers import preloaded


def test_who_sees_less_teaches_nothing(make_server):
    """A consumer from whom row security hides the due jobs looks first: the next one finds them all the same."""
    db = preloaded(make_server, "qflow.worker = off")
    with db.connect() as c, db.connect(autocommit=False) as pin:
        c.execute("CREATE ROLE half LOGIN; GRANT SELECT, UPDATE ON jobs TO half; ALTER TABLE jobs ENABLE ROW LEVEL SECURITY")
        c.execute("CREATE POLICY odd ON jobs TO half USING (data = '\"none\"')")
        # Looking from the beginning becomes dear: entries of retried jobs that nobody may remove.
        pin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pin.execute("SELECT count(*) FROM jobs")
        for _ in range(60):
            load(c, "jobs", 100)
            rows = fetch(c, "jobs", 100)
            assert requeue(c, "jobs", rows, delay_ms=0) == 100
            rows = fetch(c, "jobs", 100)
            assert ack(c, "jobs", rows) == len(rows) == 100
        load(c, "jobs", 1)
        assert requeue(c, "jobs", fetch(c, "jobs", 1), delay_ms=0) == 1
        with db.connect(user="half") as half:
            for _ in range(5):
                time.sleep(1.1)  # whoever looks first in a second looks from the beginning
                assert fetch(half, "jobs", 1) == []
                rows = fetch(c, "jobs", 1)
                assert len(rows) == 1
                assert requeue(c, "jobs", rows, delay_ms=0) == 1
