//! PgBouncer in transaction mode, where it is installed (Debian: `apt install pgbouncer`).

use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::server::user_command;
use super::{until, Database};

pub struct PgBouncer {
    pub url: String,
    process: Child,
    conf: PathBuf,
}

fn find() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    std::env::split_paths(&path).map(|folder| folder.join("pgbouncer")).find(|program| program.exists())
}

/// Starts one for a database of the tests, with so many server connections; `None` after saying why not.
pub async fn start(db: &Database, connections: usize) -> Option<PgBouncer> {
    let Some(program) = find() else {
        eprintln!("not run: no pgbouncer");
        return None;
    };
    let part = |name: &str| db.url.split(' ').find_map(|part| part.strip_prefix(name)).unwrap();
    let (directory, database) = (part("host="), part("dbname="));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = std::env::temp_dir().join(format!("qflow-pgbouncer.{}.{port}.ini", std::process::id()));
    let text = format!(
        "[databases]\n{database} = host={directory} port=5432 dbname={database} user=postgres\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
         default_pool_size = {connections}\n"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = user_command(&program.to_string_lossy(), &[&conf.to_string_lossy()]);
    let process = command.stderr(Stdio::null()).spawn().unwrap();
    let url = format!("host=127.0.0.1 port={port} user=postgres dbname={database} sslmode=disable");
    let address = url.clone();
    until("PgBouncer answers", || async { tokio_postgres::connect(&address, tokio_postgres::NoTls).await.is_ok() })
        .await;
    Some(PgBouncer { url, process, conf })
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // By its own signal, since it may run as another user under a program that passes signals on.
        let _ = std::process::Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.conf);
    }
}
