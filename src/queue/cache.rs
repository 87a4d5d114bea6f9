//! What a session remembers of queues and workflows, plans included, until the registry or the table changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::catalog::Facts;
use super::effective::Effective;
use super::name::QueueName;
use super::path;
use super::registry::{self, QueueRow};
use crate::error::{Error, Result};
use crate::host::{identity, relation};
use crate::job::table::JobTable;
use crate::resource::catalog::{self, Resource};
use crate::resource::hints::{self, Hints};
use crate::shmem::queue::Slot;
use crate::shmem::{self, at_commit};

/// A queue, ready for use.
pub struct Queue {
    /// Its registry row.
    pub row: QueueRow,
    /// `schema.table`, quoted where needed.
    pub name: String,
    /// The table's owner.
    pub owner: pg_sys::Oid,
    /// Whether a trigger or foreign key of the table does its work at commit.
    has_deferred_triggers: bool,
    /// All access to its jobs.
    pub jobs: JobTable,
    /// Its place in shared memory.
    pub slot: Rc<Slot>,
}

impl Queue {
    /// Looks at jobs on nobody's behalf: as the table's owner, from whom nothing is hidden. An owner who may not enter
    /// the table's schema cannot: then as the caller, who must be one that changes jobs himself. Planning runs what the
    /// owner put into his indexes.
    pub fn look<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        match relation::owner_may_enter(self.row.table) {
            true => identity::restricted_as(self.owner, work),
            false => as_caller(work),
        }
    }

    /// Changes jobs on nobody's behalf: as the table's owner, restricted. Where that cannot be done, as the caller; who
    /// must not run the owner's triggers as himself asks `can_be_kept_up` first.
    pub fn keep_up<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        match self.can_be_kept_up() {
            true => identity::restricted_as(self.owner, work),
            false => as_caller(work),
        }
    }

    /// Whether jobs can be changed as the table's owner, restricted.
    pub fn can_be_kept_up(&self) -> bool {
        relation::owner_may_enter(self.row.table) && !self.has_deferred_triggers
    }
}

thread_local! {
    /// Whether what is done now is done for nobody: then it is never done as the caller.
    static IS_FOR_NOBODY: Cell<bool> = const { Cell::new(false) };
}

fn as_caller<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    match IS_FOR_NOBODY.get() {
        true => Err(only_consumers()),
        false => work(),
    }
}

/// 55000 for a table that its owner cannot keep up.
pub fn only_consumers() -> Error {
    Error::not_ready("only its consumers' fetches can, qflow.verify says why")
}

/// While this lives, jobs are looked at and changed as their table's owner, or not at all. Whoever works for nobody may be
/// a superuser, and what he does may run the owner's triggers: one of them could revoke the very right that lets the
/// owner's identity be used, and have the next statement run as the superuser.
pub struct ForNobody {
    before: bool,
}

impl ForNobody {
    /// From now on.
    pub fn begin() -> Self {
        Self { before: IS_FOR_NOBODY.replace(true) }
    }
}

impl Drop for ForNobody {
    fn drop(&mut self) {
        IS_FOR_NOBODY.set(self.before);
    }
}

/// A workflow, ready for use.
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Its queue.
    pub queue: Rc<Queue>,
    /// True when it or its queue is paused.
    pub paused: bool,
    /// Hints of every fetch, below those of the call.
    pub hints: Hints,
    /// Its settings, and its queue's.
    pub settings: Effective,
}

/// What a table is looked up for: how much it is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Jobs are to be changed: ROW EXCLUSIVE.
    Jobs,
    /// Only looked at: ACCESS SHARE.
    Look,
}

#[derive(Default)]
struct Cache {
    queues: HashMap<pg_sys::Oid, Rc<Queue>>,
    workflows: HashMap<String, Rc<Workflow>>,
    resources: Option<Rc<Vec<Resource>>>,
    registry: Vec<pg_sys::Oid>,
    extension: Option<pg_sys::Oid>,
}

/// How often a look-up is repeated while what it found changes under it.
const ROUNDS: usize = 10;

thread_local! {
    // Never dropped: when a backend exits, the server's memory that plans live in is gone before.
    static CACHE: ManuallyDrop<RefCell<Cache>> = ManuallyDrop::new(RefCell::new(Cache::default()));
    static STALE: Cell<bool> = const { Cell::new(false) };
    /// How many changes that concern us have become known: more than before means that what was read may be old.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// The workflow with a name, its queue locked for a change of jobs. 42704 when either is unknown.
pub fn workflow(name: &str) -> Result<Rc<Workflow>> {
    workflow_for(name, Purpose::Jobs)
}

/// The same for a look that changes nothing.
pub fn workflow_to_look(name: &str) -> Result<Rc<Workflow>> {
    workflow_for(name, Purpose::Look)
}

fn workflow_for(name: &str, purpose: Purpose) -> Result<Rc<Workflow>> {
    for _ in 0..ROUNDS {
        let Some(found) = remembered(|cache| cache.workflows.get(name).cloned(), || load_workflow(name, purpose))?
        else {
            return Err(unknown_workflow(name));
        };
        if is_current(&found.queue, purpose) {
            return Ok(found);
        }
    }
    Err(unsteady())
}

/// The queue of a table, locked for a purpose; `None` when the table is no queue.
pub fn queue_of(table: pg_sys::Oid, purpose: Purpose) -> Result<Option<Rc<Queue>>> {
    for _ in 0..ROUNDS {
        match remembered(|cache| cache.queues.get(&table).cloned(), || load_queue(table))? {
            Some(found) if !is_current(&found, purpose) => {}
            other => return Ok(other),
        }
    }
    Err(unsteady())
}

/// The queue that a user names, locked for a change of jobs. 42704 when there is none.
pub fn queue_named(text: &str) -> Result<Rc<Queue>> {
    let name = QueueName::parse(text)?;
    let found = name.find().map(|table| queue_of(table, Purpose::Jobs)).transpose()?.flatten();
    found.ok_or_else(|| unknown_queue(&name))
}

/// The number of the queue that a user names, without looking at the table's columns.
pub fn registered(text: &str) -> Result<QueueRow> {
    let name = QueueName::parse(text)?;
    let found = name.find().map(registry::queue_of).transpose()?.flatten();
    found.ok_or_else(|| unknown_queue(&name))
}

/// All resources.
pub fn resources() -> Result<Rc<Vec<Resource>>> {
    let found = remembered(
        |cache| cache.resources.clone(),
        || {
            let resources = Rc::new(catalog::read()?);
            CACHE.with(|cache| cache.borrow_mut().resources = Some(resources.clone()));
            Ok(Some(resources))
        },
    )?;
    Ok(found.unwrap_or_default())
}

/// Forgets everything at the next look-up.
pub fn forget() {
    STALE.set(true);
}

fn unsteady() -> Error {
    Error::not_ready("the queue's definition changes all the time").hint("Try again.")
}

/// 42704 for a queue.
fn unknown_queue(name: &QueueName) -> Error {
    Error::unknown(format!("queue \"{name}\" does not exist"))
        .hint("Make it with qflow.create_queue, or check the schema and the search_path.")
}

/// 42704 for a workflow.
pub fn unknown_workflow(name: &str) -> Error {
    Error::unknown(format!("workflow \"{name}\" does not exist")).hint("Make it with qflow.create_workflow.")
}

/// Locks the table, which also brings news of changes; true when none concerned what is remembered.
fn is_current(queue: &Queue, purpose: Purpose) -> bool {
    let exists = match purpose {
        Purpose::Jobs => relation::lock_for_jobs(queue.row.table),
        Purpose::Look => relation::lock_to_look(queue.row.table),
    };
    // A renamed schema sends no news of its tables.
    let is_named_so = || relation::qualified_name(queue.row.table).ok().flatten().as_deref() == Some(&queue.name);
    if !exists || !is_named_so() {
        STALE.set(true);
    }
    !STALE.get()
}

/// DROP EXTENSION locks the extension first, then qflow's tables, then the queues. Who locked a queue and wanted qflow's
/// tables then could deadlock with it: so everybody comes through here first, and waits while he holds nothing.
fn pass_gate() {
    let known = CACHE.with(|cache| cache.borrow().extension);
    if let Some(extension) = known.or_else(|| relation::extension(c"qflow")) {
        relation::lock_extension_again(extension);
        CACHE.with(|cache| cache.borrow_mut().extension = Some(extension));
    }
}

fn remembered<T>(
    look: impl Fn(&Cache) -> Option<Rc<T>>,
    load: impl FnOnce() -> Result<Option<Rc<T>>>,
) -> Result<Option<Rc<T>>> {
    listen();
    pass_gate();
    if STALE.replace(false) {
        let old = CACHE.with(|cache| std::mem::take(&mut *cache.borrow_mut()));
        drop(old);
        pass_gate();
    }
    if let Some(found) = CACHE.with(|cache| look(&cache.borrow())) {
        return Ok(Some(found));
    }
    watch_registry()?;
    load()
}

fn load_workflow(name: &str, purpose: Purpose) -> Result<Option<Rc<Workflow>>> {
    let changes = CHANGES.get();
    let Some(row) = registry::workflow(name)? else {
        return Ok(None);
    };
    let Some(queue_row) = registry::queue_numbered(row.queue)? else {
        return Ok(None);
    };
    let Some(queue) = queue_of(queue_row.table, purpose)? else {
        return Ok(None);
    };
    let hints = row.settings.resource_hints.as_deref().map(hints::parse).transpose()?.unwrap_or_default();
    let workflow = Rc::new(Workflow {
        name: row.name,
        paused: row.paused || queue.row.paused,
        hints,
        settings: Effective { workflow: row.settings, queue: queue.row.settings.clone() },
        queue,
    });
    // Looking up the queue has taken note of whatever came in since the workflow was read, and has forgotten it again.
    if CHANGES.get() != changes {
        STALE.set(true);
    }
    CACHE.with(|cache| cache.borrow_mut().workflows.insert(name.to_owned(), workflow.clone()));
    Ok(Some(workflow))
}

fn load_queue(table: pg_sys::Oid) -> Result<Option<Rc<Queue>>> {
    let Some(row) = registry::queue_of(table)? else {
        return Ok(None);
    };
    let (Some(name), Some(owner)) = (relation::qualified_name(table)?, relation::owner(table)) else {
        return Ok(None);
    };
    // Where the table is being dropped, this waits for it.
    let Some(facts) = Facts::of(table)?.filter(|_| relation::owner(table).is_some()) else {
        return Ok(None);
    };
    let jobs = JobTable::new(table, &name, path::of(&facts).ok())?;
    let has_deferred_triggers = facts.triggers.iter().any(|trigger| trigger.is_deferred);
    let slot = Rc::new(Slot::taken(registry::table()?, row.number));
    make_known(&row);
    let queue = Rc::new(Queue { row, name, owner, has_deferred_triggers, jobs, slot });
    CACHE.with(|cache| cache.borrow_mut().queues.insert(table, queue.clone()));
    Ok(Some(queue))
}

/// From a session's first use of qflow on the database has a worker when there is something to do. A table that was
/// restored, copied or adopted is to be looked through at once: told now, since a session that only looks may roll back
/// what it looked with.
fn make_known(row: &QueueRow) {
    shmem::database::own(true);
    if !row.is_at_home() {
        at_commit::work_now_by(0);
    }
}

/// Notes which relations are the registry, so that the callback can tell.
fn watch_registry() -> Result<()> {
    if CACHE.with(|cache| !cache.borrow().registry.is_empty()) {
        return Ok(());
    }
    let schema = relation::schema("qflow");
    let tables =
        ["queue", "workflow", "resource"].map(|table| schema.and_then(|schema| relation::find(Some(schema), table)));
    let found: Vec<pg_sys::Oid> = tables.into_iter().flatten().collect();
    CACHE.with(|cache| cache.borrow_mut().registry = found);
    Ok(())
}

fn listen() {
    if !LISTENING.replace(true) {
        // SAFETY: the callback stays valid for the life of the process.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_change), pg_sys::Datum::from(0usize)) }
    }
}

/// Called by the server with the relation that changed, or with none for "anything". Must not raise.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_change(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let concerns_us = CACHE.with(|cache| match cache.try_borrow() {
        Ok(cache) => {
            let is_registry = cache.registry.is_empty() || cache.registry.contains(&relation); // empty: not known yet
            relation == pg_sys::InvalidOid || cache.queues.contains_key(&relation) || is_registry
        }
        Err(_) => true,
    });
    if concerns_us {
        STALE.set(true);
        CHANGES.set(CHANGES.get().wrapping_add(1));
    }
}
