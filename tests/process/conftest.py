"""Servers and databases for the tests in this folder, which tools/test.sh runs with pytest.

    def test_it(db):                  a fresh database with qflow, on a server shared by all tests
        with db.connect() as c: ...   psycopg, autocommit
    def test_crash(make_server):      a server of the test's own, with extra configuration lines
        server = make_server("wal_writer_delay = 10s")
        server.crash(); server.start()
        standby = make_server(base=server)      a streaming standby of it; standby.promote()
    def test_latin(make_database):    a database with qflow on the shared server, with options of the test's own

After each test tests/verify_all.sql runs in every database that a fixture made; a fault fails the test.
The environment (set by tools/test.sh) says which PostgreSQL: QFLOW_PG_BINDIR, QFLOW_PG_MAJOR, QFLOW_RUNAS;
QFLOW_FULL=1 on the newest version, QFLOW_SOAK=1 in a soak. QFLOW_TEST_CONF is one more line for all servers.
QFLOW_PG_OTHERS names the other versions, for upgrades: `14=/its/bin` where qflow of this tree is installed, `14:why not`
otherwise, one a line.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile

import psycopg
import pytest

pytest.register_assert_rewrite("dumps")  # its assertions tell what they compared, as those of tests do
TESTS = pathlib.Path(__file__).resolve().parent.parent
BINDIR = pathlib.Path(os.environ["QFLOW_PG_BINDIR"])
MAJOR = int(os.environ["QFLOW_PG_MAJOR"])
BINDIRS, NOT_HERE = {MAJOR: BINDIR}, {}  # by major version; why there is none
for line in os.environ.get("QFLOW_PG_OTHERS", "").splitlines():
    if line[2:3] == "=":
        BINDIRS[int(line[:2])] = pathlib.Path(line[3:])
    else:
        NOT_HERE[int(line[:2])] = line[3:]
SOAK = os.environ.get("QFLOW_SOAK") == "1"
AS_SERVER_USER = ["runuser", "-u", os.environ["QFLOW_RUNAS"], "--"] if os.getuid() == 0 else []


class Server:
    """A throw-away cluster in a short path, run as the user that servers run as. Not durable against power loss."""

    as_user = AS_SERVER_USER

    def __init__(self, *conf, fsync=False, base=None, major=MAJOR, initdb=()):
        self.bindir = BINDIRS[major]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="qflow.", dir="/tmp"))
        self.dir.chmod(0o755)
        if AS_SERVER_USER:
            shutil.chown(self.dir, os.environ["QFLOW_RUNAS"])
        self.data = self.dir / "data"
        self.databases = []
        if base:
            self.run("pg_basebackup", "-h", base.dir, "-D", self.data, "-c", "fast", "--no-sync")
            # not -R: it would write options of its own libpq, which the server's need not know
            (self.data / "standby.signal").touch()
            self.configure(f"primary_conninfo = 'host={base.dir} user=postgres'")
        else:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
                     *initdb)
        self.configure(
            "listen_addresses = ''",
            f"unix_socket_directories = '{self.dir}'",
            f"fsync = {'on' if fsync else 'off'}",
            (TESTS / "postgresql.conf").read_text(),
            os.environ.get("QFLOW_TEST_CONF", ""),
            *conf,
        )

    def configure(self, *lines):
        """Adds configuration lines; start, restart or reload the server to apply them."""
        with open(self.data / "postgresql.conf", "a") as f:
            f.write("".join(line + "\n" for line in lines))

    def program(self, name):
        """One of this PostgreSQL, or else of the system."""
        return self.bindir / name if (self.bindir / name).exists() else name

    def run(self, program, *args, check=True):
        """Runs a program as the server's user."""
        result = subprocess.run(
            [*AS_SERVER_USER, self.program(program), *args],
            cwd=self.dir, env={**os.environ, "HOME": str(self.dir), "PGHOST": str(self.dir), "PGUSER": "postgres"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        if check and result.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{result.stdout}\n{self.log()[-3000:]}")
        return result.stdout

    def start(self):
        # pg_ctl's output goes nowhere: the server would keep a pipe open
        subprocess.run(
            [*AS_SERVER_USER, self.bindir / "pg_ctl", "-D", self.data, "-l", self.dir / "server.log", "-w", "-s", "start"],
            cwd=self.dir, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop")

    def crash(self):
        """What a power cut does to a server whose disk keeps what was synced."""
        self.stop("immediate")

    def promote(self):
        self.run("pg_ctl", "-D", self.data, "-w", "-s", "promote")

    def restart(self):
        self.stop()
        self.start()

    def log(self):
        log = self.dir / "server.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def connect(self, dbname="postgres", autocommit=True, **kwargs):
        return psycopg.connect(
            host=str(self.dir), user=kwargs.pop("user", "postgres"), dbname=dbname, autocommit=autocommit, **kwargs
        )

    def create_database(self, name, options="", extension=True):
        """CREATE DATABASE, with qflow in it; verified after the test."""
        with self.connect() as c:
            c.execute(f'CREATE DATABASE "{name}" {options}')
        if extension:
            with self.connect(name) as c:
                c.execute("CREATE EXTENSION qflow")
        database = Database(self, name)
        self.databases.append(database)
        return database

    def drop(self):
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "-s", "stop", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Database:
    def __init__(self, server, name):
        self.server, self.name = server, name

    def connect(self, **kwargs):
        return self.server.connect(self.name, **kwargs)

    def execute(self, sql, params=None):
        """Runs one statement in a connection of its own; returns its rows, if it has any."""
        with self.connect() as c:
            cursor = c.execute(sql, params)
            return cursor.fetchall() if cursor.description else None

    def faults(self):
        """What tests/verify_all.sql finds: empty when all is well."""
        # psql reads the file on standard input: the server's user may not be able to read this folder
        return subprocess.run(
            [BINDIR / "psql", "-XAtq", "-h", self.server.dir, "-U", "postgres", "-d", self.name],
            stdin=open(TESTS / "verify_all.sql"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",  # the database's encoding may be another
        ).stdout


def verify(databases):
    faults = {d.name: found for d in databases if (found := d.faults().strip())}
    assert not faults, f"qflow.verify() finds faults: {faults}"


@pytest.fixture
def make_server():
    """A function that makes and starts a server of the test's own."""
    servers = []

    def make(*conf, start=True, **kwargs):
        server = Server(*conf, **kwargs)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    try:
        for server in servers:
            if (server.data / "postmaster.pid").exists():
                verify(server.databases)
    finally:
        for server in servers:
            server.drop()


@pytest.fixture(scope="session")
def shared_server():
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.drop()


@pytest.fixture
def make_database(shared_server):
    """A function that makes a database with qflow on the shared server."""
    made, unverified = [], []

    def make(options="", name="qflow_test", extension=True, verified=True):
        made.append(shared_server.create_database(name, options, extension))
        if not verified:
            unverified.append(made[-1])
        return made[-1]

    yield make
    try:
        verify([database for database in made if database not in unverified])
    finally:
        for database in made:
            shared_server.databases.remove(database)
            with shared_server.connect() as c:
                c.execute(f'DROP DATABASE "{database.name}" WITH (FORCE)')


@pytest.fixture
def db(make_database):
    """A fresh database with qflow on the shared server."""
    return make_database()
