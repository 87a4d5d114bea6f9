"""What the server says about itself: CPU time, WAL, sizes, updates."""
import pathlib


def cpu_us(pid):
    """What a process has spent on a processor; to the nanosecond, where /proc/PID/stat counts ticks of 10 ms."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1_000


def wal_position(c):
    return c.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]


def wal_since(c, position):
    """Records, their bytes without full-page images, and the bytes of those images. Read from the WAL itself: the counters of
    pg_stat_wal lag by a second and put the images' bytes and the rest together."""
    end = wal_position(c)
    c.execute("SELECT pg_logical_emit_message(true, 'bench', '')")  # its commit flushes all before it, which can then be read
    return [float(n) for n in c.execute(
        """SELECT coalesce(sum(count), 0), coalesce(sum(record_size), 0), coalesce(sum(fpi_size), 0)
        FROM pg_get_wal_stats(%s, %s)""", (position, end)).fetchone()]


def sizes(c, relations):
    """Bytes of the tables with their TOAST, and of their indexes."""
    return c.execute(
        """SELECT sum(pg_table_size(r::regclass))::float8, sum(pg_indexes_size(r::regclass))::float8
        FROM unnest(%s::text[]) AS r""", (relations,)).fetchone()


def updates(c, relations):
    """Updates so far, and those of them that left the indexes alone (HOT)."""
    return c.execute(
        """SELECT coalesce(sum(n_tup_upd), 0)::float8, coalesce(sum(n_tup_hot_upd), 0)::float8 FROM pg_stat_user_tables
        WHERE relid IN (SELECT r::regclass FROM unnest(%s::text[]) AS r)""", (relations,)).fetchone()


def tidy(c, relations):
    """Before each round, for every queue alike, as autovacuum is off: whoever it hits would pay for all."""
    for relation in relations:
        c.execute(f"VACUUM (ANALYZE) {relation}")
    c.execute("CHECKPOINT")
