//! A call from SQL: its arguments with the contract's rules for NULL, ranges and shapes, and the entry points' macro.

use pgrx::{pg_sys, FromDatum};

use super::passing::{self, End};
use super::value;
use crate::error::{Error, Result};

/// The arguments of a call. NULL means "not given" where a default exists, and is 22004 where none does.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
}

/// An argument: its position from 0 and its name, for messages.
pub type Name = (usize, &'static str);

impl Call {
    /// # Safety
    /// `fcinfo` must be the one that the server passed to the running function.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self { fcinfo }
    }

    /// The server's own structure.
    pub fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    /// The raw value; `None` is NULL.
    pub fn datum(&self, (at, _): Name) -> value::Arg {
        // SAFETY: every position used is below the number of arguments that the SQL declaration has.
        unsafe {
            let arg = (*self.fcinfo).args.as_ptr().add(at);
            (!(*arg).isnull).then(|| (*arg).value)
        }
    }

    /// The raw value of a required argument.
    pub fn required(&self, name: Name) -> Result<pg_sys::Datum> {
        self.datum(name).ok_or_else(|| Error::null_value(format!("{} must not be null", name.1)))
    }

    /// A required text.
    pub fn text(&self, name: Name) -> Result<String> {
        value::to_string(self.required(name)?)
    }

    /// A text that may be left out.
    pub fn opt_text(&self, name: Name) -> Result<Option<String>> {
        self.datum(name).map(value::to_string).transpose()
    }

    /// A boolean; NULL is the default, false.
    pub fn flag(&self, name: Name, default: bool) -> bool {
        // SAFETY: the argument is declared boolean.
        self.datum(name).and_then(|datum| unsafe { bool::from_datum(datum, false) }).unwrap_or(default)
    }

    /// A bigint that may be left out, at least `least`.
    pub fn opt_bigint(&self, name: Name, least: i64) -> Result<Option<i64>> {
        // SAFETY: the argument is declared bigint.
        let value = self.datum(name).and_then(|datum| unsafe { i64::from_datum(datum, false) });
        match value {
            Some(value) if value < least => Err(Error::bad_value(format!("{} must be at least {least}", name.1))
                .detail(format!("The value given is {value}."))),
            other => Ok(other),
        }
    }

    /// A required bigint, not below `least`.
    pub fn required_bigint(&self, name: Name, least: i64) -> Result<i64> {
        self.required(name)?;
        Ok(self.opt_bigint(name, least)?.unwrap_or_default())
    }

    /// A required one-dimensional bigint[] without NULLs, of at most `cap` elements.
    pub fn bigints(&self, name: Name, cap: usize) -> Result<Vec<i64>> {
        let datum = self.required(name)?;
        check_array(datum, name.1, cap)?;
        Ok(value::to_bigints(datum).into_iter().flatten().collect())
    }

    /// The same, where NULL means "not given".
    pub fn opt_bigints(&self, name: Name, cap: usize) -> Result<Option<Vec<i64>>> {
        self.datum(name).map(|_| self.bigints(name, cap)).transpose()
    }

    /// The elements of a one-dimensional array of a varlena type, NULL elements as `None`.
    pub fn elements(&self, name: Name, element: pg_sys::Oid, cap: usize) -> Result<Vec<value::Arg>> {
        let datum = self.required(name)?;
        check_shape(datum, name.1, cap)?;
        Ok(value::varlena_elements(datum, element))
    }
}

fn check_array(datum: pg_sys::Datum, name: &str, cap: usize) -> Result<()> {
    check_shape(datum, name, cap)?;
    if value::array_has_null(datum) {
        return Err(Error::null_value(format!("{name} must not contain nulls")));
    }
    Ok(())
}

fn check_shape(datum: pg_sys::Datum, name: &str, cap: usize) -> Result<()> {
    let (dimensions, count) = value::array_shape(datum);
    if dimensions > 1 {
        return Err(Error::bad_value(format!("{name} must have one dimension")));
    }
    if count > cap {
        return Err(Error::over_cap(format!("{name} has more than {cap} elements"))
            .detail(format!("It has {count}."))
            .hint("Split the call, or raise qflow.max_ids."));
    }
    Ok(())
}

/// Declares C entry points: `symbol => path::to::function`, each `fn(&Call) -> Result<Arg>`.
#[macro_export]
macro_rules! entry_points {
    ($($symbol:ident, $finfo:ident => $function:path;)*) => { $(
        /// The calling convention of the entry point of the same name.
        #[no_mangle]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        /// # Safety
        /// Called by the server only, as a function of calling convention version 1.
        #[no_mangle]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: `fcinfo` comes from the server, for this very call; nothing here is to be dropped.
            unsafe { $crate::host::call::run(fcinfo, $function) }
        }
    )* };
}

/// The body of every entry point.
///
/// # Safety
/// `fcinfo` must be the one that the server passed to the running function, and nothing above may have to be dropped.
pub unsafe fn run(fcinfo: pg_sys::FunctionCallInfo, function: fn(&Call) -> Result<value::Arg>) -> pg_sys::Datum {
    // SAFETY: as demanded; the guard lets no panic out.
    unsafe { pg_sys::panic::pgrx_extern_c_guard(|| passing::through(|| answer(fcinfo, function))).unwrap_or_throw() }
}

fn answer(fcinfo: pg_sys::FunctionCallInfo, function: fn(&Call) -> Result<value::Arg>) -> End {
    // SAFETY: `fcinfo` comes from the server, for this very call.
    let call = unsafe { Call::new(fcinfo) };
    let answer = match function(&call) {
        Ok(answer) => answer,
        Err(error) => return End::Error(error.report().data()),
    };
    // SAFETY: as above.
    unsafe { (*fcinfo).isnull = answer.is_none() };
    End::Answer(answer.unwrap_or(pg_sys::Datum::from(0usize)))
}
