"""docs/backup.md: recovery to a point in time with the page's own commands, and nothing on the page that no test runs.
Its dumps are run by tests/docs/run.py, its upgrade by test_pg_upgrade.py."""
import re

from conftest import TESTS, Database
from dumps import QUEUE, Filled, goes_on, is_the_same
from jobs import fetch, load, outcomes, until
from pages import blocks

RUN_BY = {"sql", "sh run", "text", "sh basebackup", "sh recover", "sh pg_upgrade"}


def test_every_block_is_run():
    page = (TESTS.parent / "docs/backup.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```(.*)$", page, re.MULTILINE)
    assert set(fences[::2]) <= RUN_BY and set(fences[1::2]) == {""}


def test_point_in_time_recovery(make_server):
    """Back to before a mistake: what was done since has not been done, and what was handed out since is stale."""
    server = make_server("archive_mode = on")
    archive = server.dir / "archive"
    server.run("mkdir", archive)
    server.configure(f"archive_command = 'cp %p {archive}/%f'")
    server.restart()
    recovered = make_server(start=False)
    places = [f"{name}={value}" for name, value in {"BACKUP": recovered.data, "ARCHIVE": archive}.items()]
    recovered.run("rm", "-rf", recovered.data)

    def page_runs(fence):
        for block in blocks("docs/backup.md", fence):
            server.run("env", f"PATH={server.bindir}:/usr/bin:/bin", *places, "bash", "-ec", block)

    page_runs("sh basebackup")

    filled = Filled(server.create_database("jobs"))
    with filled.db.connect() as c:
        c.execute("SELECT pg_create_restore_point('before_the_mistake')")
        load(c, QUEUE, 60)
        after = [row for _ in range(60) for row in fetch(c, "jobs", 1)]  # more ids than the log reserves ahead
        filled.highest = max(row.lease for row in after)
        c.execute("SELECT pg_switch_wal()")
    server.stop()  # archives what is left

    recovered.configure(f"unix_socket_directories = '{recovered.dir}'")
    page_runs("sh recover")
    with recovered.connect() as c:
        until(lambda: not c.execute("SELECT pg_is_in_recovery()").fetchone()[0], what="it has recovered")
    db = Database(recovered, "jobs")
    recovered.databases.append(db)
    is_the_same(db, filled)
    with db.connect() as c:
        assert set(outcomes(c, "jobs", after).values()) <= {"stale", "unknown"}
    goes_on(db, filled, leases_survive=True)
