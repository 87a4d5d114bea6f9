//! SQL from inside the server: plans prepared once and kept, arguments and results as raw datums.

use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::{pg_sys, FromDatum};

use super::identity::Settings;
use super::snapshot::Latest;
use super::value::{self, Arg};
use crate::error::{Error, Result};

/// What steers the planner towards the indexes while a plan is made: a queue may be empty then and huge a minute later.
const INDEXES_ONLY: &[(&std::ffi::CStr, &std::ffi::CStr)] = &[
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"max_parallel_workers_per_gather", c"0"),
    (c"jit", c"off"),
];

/// A connection to SPI; everything allocated while it is open is freed with it.
pub struct Spi {
    _not_send: PhantomData<*const ()>,
}

/// Opens SPI for the time of `work`.
pub fn connected<R>(work: impl FnOnce(&Spi) -> Result<R>) -> Result<R> {
    // SAFETY: balanced by `SPI_finish` below; when an error unwinds instead, the abort closes it.
    check(unsafe { pg_sys::SPI_connect() }, "SPI_connect")?;
    let outcome = work(&Spi { _not_send: PhantomData });
    // SAFETY: closes what was opened above.
    check(unsafe { pg_sys::SPI_finish() }, "SPI_finish")?;
    outcome
}

/// How a statement sees the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With a snapshot of its own that shows what the transaction did so far; may write.
    Write,
    /// With the active snapshot, whatever that is; cannot write.
    Read,
    /// With the newest snapshot, whatever the isolation level, also showing what the transaction did so far; may write.
    WriteLatest,
}

/// A statement that was parsed once, is planned once (generic), and stays.
pub struct Plan {
    plan: pg_sys::SPIPlanPtr,
    /// For whom and under which search_path it was planned: where either differs, the server plans anew.
    planned_for: RefCell<Option<Surroundings>>,
}

impl Plan {
    /// Parses `sql` with parameters of `types`. Raises what the parser raises.
    pub fn prepare(_spi: &Spi, sql: &str, types: &[pg_sys::Oid]) -> Result<Self> {
        let text = value::server_text(sql).ok_or_else(|| Error::internal("SQL text with a NUL byte"))?;
        let mut types = types.to_vec();
        // SAFETY: the strings and types outlive the call; a NULL plan is an error; `SPI_keepplan` moves the plan to
        // memory that lives until `drop`.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(
                text.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            );
            if plan.is_null() {
                let code = pg_sys::SPI_result;
                return Err(Error::internal(format!("SPI_prepare failed with code {code}")));
            }
            check(pg_sys::SPI_keepplan(plan), "SPI_keepplan")?;
            Ok(Self { plan, planned_for: RefCell::new(None) })
        }
    }

    /// Runs the statement.
    pub fn run<'s>(&self, spi: &'s Spi, args: &[Arg], mode: Mode) -> Result<Rows<'s>> {
        // SAFETY: the plan is kept alive by `self`.
        let is_valid = unsafe { pg_sys::SPI_plan_is_valid(self.plan) };
        let steer = !is_valid || !self.planned_for.borrow().as_ref().is_some_and(Surroundings::are_these);
        let settings = steer.then(|| Settings::change(INDEXES_ONLY));
        let rows = execute(spi, self.plan, args, mode);
        drop(settings);
        if steer {
            *self.planned_for.borrow_mut() = rows.is_ok().then(Surroundings::now);
        }
        rows
    }
}

/// What a plan depends on besides the tables.
struct Surroundings {
    search_path: std::ffi::CString,
    user: pg_sys::Oid,
}

impl Surroundings {
    fn now() -> Self {
        Self { search_path: search_path().to_owned(), user: super::identity::current_user() }
    }

    /// Whether nothing has changed; asked at every run.
    fn are_these(&self) -> bool {
        self.user == super::identity::current_user() && self.search_path.as_c_str() == search_path()
    }
}

/// The setting, until it changes.
fn search_path<'a>() -> &'a std::ffi::CStr {
    // SAFETY: the setting's value is never NULL and ends in NUL; callers let go of it before anything can change it.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::namespace_search_path) }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan is ours; nothing runs it any more.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}

/// Parses, plans and runs a statement that is not worth keeping.
pub fn once<'s>(spi: &'s Spi, sql: &str, args: &[(pg_sys::Oid, Arg)]) -> Result<Rows<'s>> {
    once_in(spi, sql, args, Mode::Write)
}

/// The same for a query that sees the newest state of the database, whatever the isolation level.
pub fn once_latest<'s>(spi: &'s Spi, sql: &str, args: &[(pg_sys::Oid, Arg)]) -> Result<Rows<'s>> {
    let _snapshot = Latest::take();
    once_in(spi, sql, args, Mode::Read)
}

/// The same for a query that sees what the active snapshot shows.
pub fn once_active<'s>(spi: &'s Spi, sql: &str, args: &[(pg_sys::Oid, Arg)]) -> Result<Rows<'s>> {
    once_in(spi, sql, args, Mode::Read)
}

/// The same for a statement that changes what it sees.
pub fn change_latest<'s>(spi: &'s Spi, sql: &str, args: &[(pg_sys::Oid, Arg)]) -> Result<Rows<'s>> {
    once_in(spi, sql, args, Mode::WriteLatest)
}

fn once_in<'s>(spi: &'s Spi, sql: &str, args: &[(pg_sys::Oid, Arg)], mode: Mode) -> Result<Rows<'s>> {
    let types: Vec<pg_sys::Oid> = args.iter().map(|(oid, _)| *oid).collect();
    let values: Vec<Arg> = args.iter().map(|(_, value)| *value).collect();
    let plan = Plan::prepare(spi, sql, &types)?;
    execute(spi, plan.plan, &values, mode)
}

fn execute<'s>(_spi: &'s Spi, plan: pg_sys::SPIPlanPtr, args: &[Arg], mode: Mode) -> Result<Rows<'s>> {
    let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(args.len());
    let mut nulls: Vec<std::ffi::c_char> = Vec::with_capacity(args.len());
    for arg in args {
        values.push(arg.unwrap_or(pg_sys::Datum::from(0usize)));
        nulls.push(if arg.is_some() { b' ' } else { b'n' } as std::ffi::c_char);
    }
    // SAFETY: the arrays have one entry a parameter; the globals are read right after the call that set them.
    unsafe {
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
        let code = match mode {
            Mode::Write => pg_sys::SPI_execute_plan(plan, values, nulls, false, 0),
            Mode::Read => pg_sys::SPI_execute_plan(plan, values, nulls, true, 0),
            Mode::WriteLatest => {
                let (newest, none) = (pg_sys::GetLatestSnapshot(), std::ptr::null_mut());
                pg_sys::SPI_execute_snapshot(plan, values, nulls, newest, none, false, true, 0)
            }
        };
        check(code, "SPI_execute_plan")?;
        Ok(Rows { table: pg_sys::SPI_tuptable, processed: pg_sys::SPI_processed as usize, _spi: PhantomData })
    }
}

fn check(code: i32, call: &str) -> Result<()> {
    if code < 0 {
        return Err(Error::internal(format!("{call} failed with code {code}")));
    }
    Ok(())
}

/// What a statement returned. Valid while SPI is open.
pub struct Rows<'s> {
    table: *mut pg_sys::SPITupleTable,
    processed: usize,
    _spi: PhantomData<&'s Spi>,
}

impl<'s> Rows<'s> {
    /// Rows returned, or changed by a statement without RETURNING.
    pub fn count(&self) -> usize {
        self.processed
    }

    /// The rows one by one; none for a statement that returns none.
    pub fn iter(&self) -> impl Iterator<Item = Row<'s>> + '_ {
        let held = if self.table.is_null() { 0 } else { self.processed };
        (0..held).map(|at| Row { table: self.table, at, _spi: PhantomData })
    }

    /// The first row, if there is one.
    pub fn first(&self) -> Option<Row<'s>> {
        self.iter().next()
    }
}

/// One row of a result; columns count from 1.
#[derive(Clone, Copy)]
pub struct Row<'s> {
    table: *mut pg_sys::SPITupleTable,
    at: usize,
    _spi: PhantomData<&'s Spi>,
}

impl Row<'_> {
    /// The raw value; it points into the result.
    pub fn datum(&self, column: i32) -> Arg {
        let mut is_null = true;
        // SAFETY: `at` is below the number of rows; the server checks the column and sets `is_null`.
        let value = unsafe {
            let tuple = *(*self.table).vals.add(self.at);
            pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, column, &mut is_null)
        };
        (!is_null).then_some(value)
    }

    /// A `bigint`, `timestamptz` or `xid8`.
    pub fn bigint(&self, column: i32) -> Option<i64> {
        // SAFETY: the column is of an 8-byte type, passed by value.
        self.datum(column).and_then(|datum| unsafe { i64::from_datum(datum, false) })
    }

    /// An `integer`.
    pub fn int(&self, column: i32) -> Option<i32> {
        // SAFETY: the column is an int4.
        self.datum(column).and_then(|datum| unsafe { i32::from_datum(datum, false) })
    }

    /// An `oid` or one of its aliases.
    pub fn oid(&self, column: i32) -> Option<pg_sys::Oid> {
        // SAFETY: the column is an oid.
        self.datum(column).and_then(|datum| unsafe { pg_sys::Oid::from_datum(datum, false) })
    }

    /// A `boolean`; NULL is false.
    pub fn flag(&self, column: i32) -> bool {
        // SAFETY: the column is a bool.
        self.datum(column).and_then(|datum| unsafe { bool::from_datum(datum, false) }).unwrap_or(false)
    }

    /// A text.
    pub fn text(&self, column: i32) -> Result<Option<String>> {
        self.datum(column).map(value::to_string).transpose()
    }

    /// A `bigint[]` without NULLs.
    pub fn bigints(&self, column: i32) -> Vec<i64> {
        let values = self.datum(column).map(value::to_bigints).unwrap_or_default();
        values.into_iter().flatten().collect()
    }
}

thread_local! {
    // Never dropped: when a backend exits, the server's memory that plans live in is gone before.
    static KEPT: ManuallyDrop<RefCell<HashMap<usize, Rc<Plan>>>> = ManuallyDrop::new(RefCell::new(HashMap::new()));
}

/// The plan of a constant statement, prepared at its first use in this session.
pub fn kept(spi: &Spi, sql: &'static str, types: &[pg_sys::Oid]) -> Result<Rc<Plan>> {
    let key = sql.as_ptr() as usize;
    if let Some(plan) = KEPT.with(|plans| plans.borrow().get(&key).cloned()) {
        return Ok(plan);
    }
    let plan = Rc::new(Plan::prepare(spi, sql, types)?);
    KEPT.with(|plans| plans.borrow_mut().insert(key, plan.clone()));
    Ok(plan)
}
