//! What there is once for the whole server: the launcher, and what was said once.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering::Relaxed};

use crate::host::latch::Latch;
use crate::host::shared::Slots;

/// The one slot.
pub static SERVER: Slots<(), Server> = Slots::new(c"qflow server", || 1);

/// Its atomics.
#[derive(Default)]
pub struct Server {
    latch: AtomicUsize,
    pid: AtomicI32,
    /// When the launcher last looked around, microseconds.
    pub heartbeat: AtomicI64,
    /// Since when no worker slot was to be had, microseconds; 0: there are some.
    pub no_worker_slot_since: AtomicI64,
    /// Whether it was said that a kind of slots is used up.
    queues_full: AtomicBool,
    databases_full: AtomicBool,
    resources_full: AtomicBool,
}

/// The server's slot; none without preload.
pub fn server() -> Option<&'static Server> {
    SERVER.atomics(0)
}

impl Server {
    /// The launcher that runs now: its process id, 0 for none.
    pub fn launcher_pid(&self) -> i32 {
        self.pid.load(Relaxed)
    }

    /// Makes the own process known as the launcher.
    pub fn enter(&self, pid: i32) {
        self.latch.store(Latch::own().to_number(), Relaxed);
        self.pid.store(pid, Relaxed);
    }

    /// The opposite.
    pub fn leave(&self) {
        self.latch.store(0, Relaxed);
        self.pid.store(0, Relaxed);
    }

    /// Makes the launcher look which workers are needed.
    pub fn wake_launcher(&self) {
        if let Some(latch) = Latch::from_number(self.latch.load(Relaxed)) {
            latch.set();
        }
    }

    /// True once: there was no slot left for a queue.
    pub fn is_first_queue_left_out(&self) -> bool {
        !self.queues_full.swap(true, Relaxed)
    }

    /// True once: there was no slot left for a resource.
    pub fn is_first_resource_left_out(&self) -> bool {
        !self.resources_full.swap(true, Relaxed)
    }

    /// True once: there was no slot left for a database.
    pub fn is_first_database_left_out(&self) -> bool {
        !self.databases_full.swap(true, Relaxed)
    }
}
