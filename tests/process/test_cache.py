"""What a session remembers of the registry is never older than what was committed before its call."""
import threading

import pytest

from jobs import fetch, load


@pytest.mark.every_version
def test_a_change_while_a_workflow_is_being_looked_up(db):
    """Several changes in quick succession: the first makes the session look the workflow up anew, the next comes while
    it does. A look-up that began before that one must not be remembered."""
    db.execute("SELECT qflow.create_queue('jobs')")
    with db.connect() as c, db.connect() as admin:
        for number in range(400):
            ready, done = threading.Event(), threading.Event()

            def use():
                while not done.is_set():
                    fetch(c, "jobs", 1)
                    ready.set()

            user = threading.Thread(target=use)
            user.start()
            assert ready.wait(60)
            for retries in (3 * number, 3 * number + 1, 3 * number + 2):
                admin.execute("SELECT qflow.alter_workflow('jobs', retries => %s)", (retries,))
            done.set()
            user.join()
            load(admin, "jobs", 1)
            assert [row.max_attempts for row in fetch(c, "jobs", 1)] == [3 * number + 3], f"round {number}"
