"""PgBouncer in transaction mode, where it is installed (Debian: apt install pgbouncer)."""
import contextlib
import os
import shutil
import socket
import subprocess

import psycopg

from jobs import until


def find():
    """The program; Debian has it where not everybody looks."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextlib.contextmanager
def running(db, pool_size):
    """A pooler before a database: yields what opens a connection to it. Statements have no names: PgBouncer 1.18 does not
    know on which of its connections a named one was prepared."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = db.server.dir
    conf, log = folder / "pgbouncer.ini", open(folder / "pgbouncer.log", "w")
    conf.write_text(f"""[databases]
{db.name} = host={folder} port=5432 dbname={db.name} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
""")
    pooler = subprocess.Popen([*db.server.as_user, find(), str(conf)], stdout=log, stderr=subprocess.STDOUT)

    def connect():
        return psycopg.connect(host="127.0.0.1", port=port, dbname=db.name, user="postgres", autocommit=True,
                               prepare_threshold=None)

    def answers():
        assert pooler.poll() is None, (folder / "pgbouncer.log").read_text()
        try:
            connect().close()
            return True
        except psycopg.OperationalError:
            return False

    try:
        until(answers, 30, "PgBouncer answers")
        yield connect
    finally:
        pooler.terminate()
        pooler.wait(30)
        log.close()
