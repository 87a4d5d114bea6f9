//! Tests that run inside a server.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    #[pg_test]
    fn a_job_goes_through() {
        Spi::run("SELECT qflow.create_queue('jobs')").unwrap();
        Spi::run("INSERT INTO jobs (data) SELECT to_jsonb(n) FROM generate_series(1, 3) n").unwrap();
        let acked = Spi::get_one::<i64>(
            "SELECT sum(qflow.ack('jobs', ARRAY[id], ARRAY[lease]))::bigint FROM qflow.fetch('jobs', 10)",
        );
        assert_eq!(acked, Ok(Some(3)));
        let left = Spi::get_one::<i64>("SELECT count(*) FROM jobs WHERE status <> 'completed'");
        assert_eq!(left, Ok(Some(0)));
    }
}
