//! Settings. Each is read through a function; docs/settings.md lists them.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

macro_rules! numbers {
    ($($(#[$doc:meta])* $function:ident: $type:ty => $static:ident, $guc:literal = $default:expr, $least:expr, $most:expr, $context:ident, $short:literal;)*) => {
        $(
            static $static: GucSetting<i32> = GucSetting::<i32>::new($default);
            $(#[$doc])* pub fn $function() -> $type { $static.get() as $type }
        )*
        fn register_numbers() {
            $(GucRegistry::define_int_guc(
                $guc, $short, c"", &$static, $least, $most, GucContext::$context, GucFlags::default(),
            );)*
        }
    };
}

macro_rules! switches {
    ($($(#[$doc:meta])* $function:ident => $static:ident, $guc:literal = $default:expr, $context:ident, $short:literal;)*) => {
        $(
            static $static: GucSetting<bool> = GucSetting::<bool>::new($default);
            $(#[$doc])* pub fn $function() -> bool { $static.get() }
        )*
        fn register_switches() {
            $(GucRegistry::define_bool_guc($guc, $short, c"", &$static, GucContext::$context, GucFlags::default());)*
        }
    };
}

/// What a `timestamp` without time zone means. Read in SQL, by `current_setting`.
static NAIVE_TIMEZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));

/// The time zone of timestamps without one.
pub fn naive_timezone() -> String {
    NAIVE_TIMEZONE.get().map_or_else(|| "UTC".to_owned(), |zone| zone.to_string_lossy().into_owned())
}

macro_rules! sizes {
    ($($(#[$doc:meta])* $function:ident => $static:ident, $guc:literal = $default:expr, $most:expr, $short:literal;)*) => {
        $(
            static $static: GucSetting<i32> = GucSetting::<i32>::new($default);
            $(#[$doc])* pub fn $function() -> usize { $static.get().max(1) as usize }
        )*
        /// Registers how large shared memory is. The server allows it only while it preloads.
        pub fn register_sizes() {
            $(GucRegistry::define_int_guc(
                $guc, $short, c"", &$static, 1, $most, GucContext::Postmaster, GucFlags::default(),
            );)*
        }
    };
}

sizes! {
    /// Most queues with a place in shared memory.
    max_queues => MAX_QUEUES, c"qflow.max_queues" = 128, 100_000,
        c"Queues of the whole server that have counters, floors and wake-ups in shared memory.";
    /// Most databases with a place in shared memory.
    max_databases => MAX_DATABASES, c"qflow.max_databases" = 64, 10_000,
        c"Databases that a background worker can serve.";
    /// Most resources with a line in shared memory.
    max_resources => MAX_RESOURCES, c"qflow.max_resources" = 64, 10_000,
        c"Resources of the whole server for which consumers can stand in line.";
}

/// Registers all other settings; called once when the library is loaded.
pub fn register() {
    register_numbers();
    register_switches();
    GucRegistry::define_string_guc(
        c"qflow.naive_timezone",
        c"Time zone of inserted_at and updated_at where an adopted table has them as timestamp without time zone.",
        c"",
        &NAIVE_TIMEZONE,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Lease time where nobody says, milliseconds.
pub const USUAL_TIMEOUT_MS: i64 = 300_000;
/// Retries where nobody says.
pub const USUAL_RETRIES: i64 = 3;

numbers! {
    /// Lease time where neither call, workflow nor queue says, milliseconds.
    default_timeout_ms: i64 => DEFAULT_TIMEOUT_MS, c"qflow.default_timeout_ms" = USUAL_TIMEOUT_MS as i32, 1, i32::MAX, Userset,
        c"Time in milliseconds after which fetched jobs are taken back, where neither workflow nor queue says.";
    /// Retries where neither workflow nor queue says.
    default_retries: i64 => DEFAULT_RETRIES, c"qflow.default_retries" = USUAL_RETRIES as i32, 0, 1_000_000, Userset,
        c"How often a job is tried again, where neither workflow nor queue says.";
    /// Batch size where neither call, workflow nor queue says.
    default_batch_size: i64 => DEFAULT_BATCH_SIZE, c"qflow.default_batch_size" = 16, 1, 10_000, Userset,
        c"Jobs in a batch, where neither call, workflow nor queue says.";
    /// Concurrency advised to clients where the workflow does not say.
    default_concurrency: i64 => DEFAULT_CONCURRENCY, c"qflow.default_concurrency" = 10, 1, 1_000_000, Userset,
        c"Number of producers advised to clients, where the workflow does not say.";
    /// First back-off where the workflow does not say, milliseconds.
    default_retry_delay_ms: i64 => DEFAULT_RETRY_DELAY_MS, c"qflow.default_retry_delay_ms" = 1_000, 0, i32::MAX, Userset,
        c"Delay in milliseconds before the first retry, doubled for each further one.";
    /// Longest back-off where the workflow does not say, milliseconds.
    default_retry_max_delay_ms: i64 => DEFAULT_RETRY_MAX_DELAY_MS, c"qflow.default_retry_max_delay_ms" = 300_000, 1, i32::MAX, Userset,
        c"Longest delay in milliseconds before a retry, before jitter.";
    /// Most jobs in one fetch.
    max_demand: i64 => MAX_DEMAND, c"qflow.max_demand" = 10_000, 1, 1_000_000, Suset,
        c"Most jobs that one fetch may ask for.";
    /// Most ids in one call.
    max_ids: usize => MAX_IDS, c"qflow.max_ids" = 100_000, 1, 10_000_000, Suset,
        c"Most ids, leases, outcomes or new jobs in one call.";
    /// Most resources in one call.
    max_call_resources: usize => MAX_CALL_RESOURCES, c"qflow.max_call_resources" = 32, 1, 1_000, Suset,
        c"Most resources that the hints of one call, or of a workflow, may name.";
    /// Most bytes in `data`, and in `metadata`, of a job in a queue made from now on.
    max_payload_bytes: i64 => MAX_PAYLOAD_BYTES, c"qflow.max_payload_bytes" = 1_048_576, 1, i32::MAX, Suset,
        c"Most bytes of data, and of metadata, in a job; becomes a CHECK when a queue is created.";
    /// Most payload bytes in one fetch.
    max_fetch_bytes: usize => MAX_FETCH_BYTES, c"qflow.max_fetch_bytes" = 67_108_864, 1, i32::MAX, Suset,
        c"Most bytes of payload in one fetch; a single larger job still comes, alone.";
    /// Longest wait, milliseconds.
    max_wait_ms: i64 => MAX_WAIT_MS, c"qflow.max_wait_ms" = 86_400_000, 1_000, i32::MAX, Suset,
        c"Longest time in milliseconds that one call of qflow.wait may ask for.";
    /// How often a waiter looks whom nobody wakes, milliseconds.
    poll_interval_ms: i64 => POLL_INTERVAL_MS, c"qflow.poll_interval_ms" = 100, 10, 60_000, Userset,
        c"Time in milliseconds after which qflow.wait looks for jobs again, where qflow is not preloaded.";
    /// How long a holder can go on while others wait, milliseconds.
    slot_turn_ms: i64 => SLOT_TURN_MS, c"qflow.slot_turn_ms" = 5_000, 0, i32::MAX, Suset,
        c"Time in milliseconds that others wait for a resource before its holder's further fetches return nothing.";
    /// Jobs after which a claim floor is saved.
    floor_save_jobs: i64 => FLOOR_SAVE_JOBS, c"qflow.floor_save_jobs" = 1_000, 1, i32::MAX, Suset,
        c"A session saves a queue's claim floor for others after it claimed this many jobs.";
    /// How long a worker stays when it has nothing to do, milliseconds.
    worker_idle_ms: i64 => WORKER_IDLE_MS, c"qflow.worker_idle_ms" = 60_000, 0, i32::MAX, Sighup,
        c"Time in milliseconds after which a background worker with nothing to do leaves its database.";
    /// How long the worker may work on one queue at a time, milliseconds.
    worker_statement_timeout_ms: i64 => WORKER_STATEMENT_TIMEOUT_MS, c"qflow.worker_statement_timeout_ms" = 10_000, 100, i32::MAX, Sighup,
        c"Time in milliseconds that the background worker spends on one queue at most, before it turns to the next.";
    /// How often listeners are told at most, milliseconds; 0: never.
    notify_interval_ms: i64 => NOTIFY_INTERVAL_MS, c"qflow.notify_interval_ms" = 10, 0, 3_600_000, Sighup,
        c"Time in milliseconds between two notifications on channel qflow at least; 0 sends none.";
}

switches! {
    /// Whether workers are started.
    worker => WORKER, c"qflow.worker" = true, Sighup,
        c"Start background workers that take back jobs and wake consumers. Needs qflow in shared_preload_libraries.";
    /// Whether `queue_stats` counts.
    exact_counts => EXACT_COUNTS, c"qflow.exact_counts" = false, Userset,
        c"Have qflow.queue_stats count the jobs of each queue, and correct the numbers that it shows otherwise.";
    /// Whether a job may be settled without its lease.
    allow_unfenced => ALLOW_UNFENCED, c"qflow.allow_unfenced" = false, Userset,
        c"Accept settles without leases. An old consumer can then complete a job that another one runs.";
    /// Whether jobs may be reached without SQL.
    direct_access => DIRECT_ACCESS, c"qflow.direct_access" = true, Suset,
        c"Reach the rows of queues directly where nothing but qflow's own definitions would act on them; off: always by SQL.";
    /// Whether the sweep looks for jobs that nothing else would find.
    sweep => SWEEP, c"qflow.sweep" = true, Suset,
        c"Look through queues, a chunk at a time, for jobs that neither a fetch nor a reap would find.";
}
