"""The sweep finds nothing where nothing is lost, however busy the queue is."""
import threading
import time

import pytest

from jobs import ack, fetch, sized


@pytest.mark.every_version
def test_no_false_alarm(db):
    """Producers, a consumer and passes all at once: what has just been inserted is not taken for out of reach. `verify`,
    which runs beside it, says so too."""
    # Few rows stay, so that each pass meets the newest.
    db.execute("SELECT qflow.create_queue('jobs', on_complete => 'delete')")
    stop, failures = threading.Event(), []

    def until_stopped(work):
        try:
            with db.connect() as c:
                while not stop.is_set():
                    work(c)
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    def produce(c):
        c.execute("INSERT INTO jobs (data) VALUES ('1')")

    def look(c):
        wrong = c.execute("SELECT detail FROM qflow.verify('jobs') WHERE check_name IN ('floor', 'sweep') AND NOT ok").fetchall()
        assert not wrong, wrong

    works = [produce] * 4 + [lambda c: c.execute("SELECT * FROM qflow.reap()")] * 2 + [look]
    works.append(lambda c: ack(c, "jobs", fetch(c, "jobs", 100)))
    threads = [threading.Thread(target=until_stopped, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(sized(3, 30))  # how long it runs, not what it waits for
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
