//! A server of a test's own, which it may kill.
//!
//! `QFLOW_PG_BINDIR` says which PostgreSQL, `QFLOW_RUNAS` as which user where root runs the tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{database_on, until, Database};

pub struct Server {
    bindir: PathBuf,
    dir: PathBuf,
}

impl Server {
    /// A started server with qflow preloaded, or `None` after saying why the test is not run.
    pub async fn start() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(bindir) = std::env::var("QFLOW_PG_BINDIR") else {
            eprintln!("not run: QFLOW_PG_BINDIR names no PostgreSQL");
            return None;
        };
        let name = format!("qflow-client.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let server = Server { bindir: bindir.into(), dir: std::env::temp_dir().join(name) };
        server.as_server_user("mkdir", &["-p", &server.path("")]);
        server.run(
            "initdb",
            &["-D", &server.path("data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        );
        let conf = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nshared_preload_libraries = 'qflow'\nfsync = off\nlog_min_messages = warning\n{}\n",
            server.path(""),
            std::env::var("QFLOW_TEST_CONF").unwrap_or_default()
        );
        server.as_server_user(
            "sh",
            &["-c", &format!("printf '%s' \"{conf}\" >> {}", server.path("data/postgresql.conf"))],
        );
        server.up().await;
        Some(server)
    }

    pub async fn database(&self) -> Database {
        database_on(&format!("host={} user=postgres", self.path(""))).await
    }

    /// Starts it again. After a crash that succeeds when the last of its processes is gone.
    pub async fn up(&self) {
        until("the server starts", || async {
            self.command("pg_ctl", &["-D", &self.path("data"), "-l", &self.path("server.log"), "-w", "-s", "start"])
                .status()
                .is_ok_and(|status| status.success())
        })
        .await;
    }

    /// What the kernel does when memory runs out.
    pub fn kill(&self) {
        let pid = format!("kill -9 $(head -n 1 {})", self.path("data/postmaster.pid"));
        self.as_server_user("sh", &["-c", &pid]);
    }

    fn path(&self, file: &str) -> String {
        self.dir.join(file).to_string_lossy().trim_end_matches('/').to_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        assert!(self.command(program, arguments).status().unwrap().success(), "{program}");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        user_command(&self.bindir.join(program).to_string_lossy(), arguments)
    }

    fn as_server_user(&self, program: &str, arguments: &[&str]) {
        assert!(user_command(program, arguments).status().unwrap().success(), "{program}");
    }
}

pub fn user_command(program: &str, arguments: &[&str]) -> Command {
    let mut command = match std::env::var("QFLOW_RUNAS") {
        Ok(user) if is_root() => {
            let mut command = Command::new("runuser");
            command.args(["-u", &user, "--", program]);
            command
        }
        _ => Command::new(program),
    };
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["-D", &self.path("data"), "-m", "immediate", "-w", "-s", "stop"]).status();
        let _ = user_command("rm", &["-rf", &self.path("")]).status();
    }
}
