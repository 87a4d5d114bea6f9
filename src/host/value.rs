//! Datums of the handful of types that qflow passes around, to Rust and back.

use pgrx::{pg_sys, FromDatum, IntoDatum};

use super::encoding;
use crate::error::{Error, Result};

/// A value on its way into SQL: `None` is NULL.
pub type Arg = Option<pg_sys::Datum>;

/// `bigint`.
pub fn bigint(value: i64) -> Arg {
    value.into_datum()
}

/// A number of rows as `bigint`.
pub fn count(value: usize) -> Arg {
    bigint(i64::try_from(value).unwrap_or(i64::MAX))
}

/// `boolean`.
pub fn boolean(value: bool) -> Arg {
    value.into_datum()
}

/// `oid` and its aliases.
pub fn oid(value: pg_sys::Oid) -> Arg {
    value.into_datum()
}

/// `timestamptz`, microseconds since 2000-01-01 UTC.
pub fn timestamp(micros: i64) -> Arg {
    micros.into_datum()
}

/// `text` in the database's encoding.
pub fn text(value: &str) -> Arg {
    // SAFETY: the pointer and length describe `value`; the conversion copies when it changes anything, and
    // `cstring_to_text_with_len` copies in any case.
    unsafe {
        let source = value.as_ptr().cast_mut().cast();
        let len = value.len() as i32;
        let converted = pg_sys::pg_any_to_server(source, len, pg_sys::pg_enc::PG_UTF8 as i32);
        let converted_len = if std::ptr::eq(converted, source) { len } else { libc_strlen(converted) };
        let stored = pg_sys::cstring_to_text_with_len(converted, converted_len);
        Some(pg_sys::Datum::from(stored))
    }
}

/// `text` for people to read: what the database's encoding lacks becomes a question mark.
pub fn text_for_people(value: &str) -> Arg {
    let bytes = encoding::to_server(value);
    // SAFETY: the pointer and length describe `bytes`, which are copied.
    let stored = unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32) };
    Some(pg_sys::Datum::from(stored))
}

/// `text`, or NULL.
pub fn opt_text(value: Option<&str>) -> Arg {
    value.and_then(text)
}

/// `bigint[]` without NULLs.
pub fn bigints(values: &[i64]) -> Arg {
    let mut datums: Vec<pg_sys::Datum> = values.iter().map(|value| pg_sys::Datum::from(*value)).collect();
    // SAFETY: the vector has so many elements and outlives the call, which copies them: eight bytes each, passed by value.
    let built = unsafe {
        pg_sys::construct_array(datums.as_mut_ptr(), datums.len() as i32, pg_sys::INT8OID, 8, true, b'd' as _)
    };
    Some(pg_sys::Datum::from(built))
}

/// `text[]` in which NULLs may stand, from datums of `text`.
pub fn text_array(values: &[Arg]) -> Arg {
    array(values, pg_sys::TEXTOID, -1, false, b'i')
}

/// A one-dimensional array of `element`.
fn array(values: &[Arg], element: pg_sys::Oid, len: i32, by_value: bool, align: u8) -> Arg {
    let mut datums: Vec<pg_sys::Datum> = Vec::with_capacity(values.len());
    let mut nulls: Vec<bool> = Vec::with_capacity(values.len());
    for value in values {
        datums.push(value.unwrap_or(pg_sys::Datum::from(0usize)));
        nulls.push(value.is_none());
    }
    let mut dims = [values.len() as i32];
    let mut lower = [1i32];
    // SAFETY: the vectors have `dims[0]` elements each and outlive the call, which copies them.
    let built = unsafe {
        pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            dims.as_mut_ptr(),
            lower.as_mut_ptr(),
            element,
            len,
            by_value,
            align as std::ffi::c_char,
        )
    };
    Some(pg_sys::Datum::from(built))
}

/// A text in the database's encoding, as C takes it; nothing when it holds a NUL byte.
pub fn server_text(value: &str) -> Option<std::ffi::CString> {
    if value.contains('\0') {
        return None;
    }
    let datum = text(value)?;
    // SAFETY: `datum` is a text made just now; the copy ends in NUL.
    let owned = unsafe { std::ffi::CStr::from_ptr(pg_sys::text_to_cstring(datum.cast_mut_ptr())).to_owned() };
    Some(owned)
}

/// A name as the server keeps it, for people to read.
pub fn from_server(name: &std::ffi::CStr) -> String {
    encoding::from_server(name.to_bytes())
}

/// The text of a datum with what is not UTF-8 replaced: for people to read only.
pub fn to_string_lossy(datum: pg_sys::Datum) -> String {
    // SAFETY: as below.
    from_server(unsafe { std::ffi::CStr::from_ptr(pg_sys::text_to_cstring(datum.cast_mut_ptr())) })
}

/// The text of a datum of type `text`, `varchar` or `name`-as-text, in UTF-8.
pub fn to_string(datum: pg_sys::Datum) -> Result<String> {
    // SAFETY: the caller hands on a datum of a text type; the result is a copy that ends in NUL.
    let owned = unsafe { std::ffi::CStr::from_ptr(pg_sys::text_to_cstring(datum.cast_mut_ptr())) };
    encoding::exactly_from_server(owned.to_bytes()).ok_or_else(not_utf8)
}

/// The text form of a `jsonb` datum, in UTF-8. Only for hints: payload is never read.
pub fn jsonb_to_string(datum: pg_sys::Datum, max_bytes: usize, what: &str) -> Result<String> {
    into_string(jsonb_bytes(datum, max_bytes, what)?)
}

/// The same with what is not UTF-8 replaced, which only a database without an encoding (SQL_ASCII) has. For outcomes: a
/// reason is for people to read, and none is refused.
pub fn jsonb_to_string_lossy(datum: pg_sys::Datum, max_bytes: usize, what: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&jsonb_bytes(datum, max_bytes, what)?).into_owned())
}

fn jsonb_bytes(datum: pg_sys::Datum, max_bytes: usize, what: &str) -> Result<Vec<u8>> {
    // SAFETY: the datum is a jsonb; it is detoasted before its size is read and its root is walked.
    let bytes = unsafe {
        if pg_sys::toast_raw_datum_size(datum) > max_bytes {
            return Err(Error::over_cap(format!("{what} is larger than {max_bytes} bytes")));
        }
        let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let size = pg_sys::toast_raw_datum_size(pg_sys::Datum::from(jsonb)) as i32;
        let root = std::ptr::addr_of_mut!((*jsonb).root);
        let owned = pg_sys::JsonbToCString(std::ptr::null_mut(), root, size);
        utf8_bytes(owned)
    };
    Ok(bytes)
}

/// Bytes that a value takes when it is not compressed; it is not read for that.
pub fn raw_size(datum: pg_sys::Datum) -> usize {
    // SAFETY: only called with datums of varlena types that come from a query's result, or from a row on a pinned page.
    unsafe {
        let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
        match pgrx::varlena::varatt_is_4b_u(stored) {
            true => pgrx::varlena::varsize_4b(stored),
            false => pg_sys::toast_raw_datum_size(datum),
        }
    }
}

/// A `text` datum cut to at most `max_bytes` at a character boundary of the database's encoding.
pub fn clip_text(datum: pg_sys::Datum, max_bytes: usize) -> Arg {
    // SAFETY: the datum is a text; `pg_mbcliplen` never answers more than the length it is given.
    unsafe {
        let full = pg_sys::text_to_cstring(datum.cast_mut_ptr());
        let len = libc_strlen(full);
        let keep = pg_sys::pg_mbcliplen(full, len, max_bytes as i32);
        Some(pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(full, keep)))
    }
}

/// A one-dimensional `bigint[]`: NULL elements are `None`.
pub fn to_bigints(datum: pg_sys::Datum) -> Vec<Option<i64>> {
    // SAFETY: the datum is a bigint[]; its shape was checked where it came from a user.
    unsafe { Vec::<Option<i64>>::from_datum(datum, false) }.unwrap_or_default()
}

/// How many dimensions and elements an array has.
pub fn array_shape(datum: pg_sys::Datum) -> (i32, usize) {
    // SAFETY: the datum is an array; a detoasted array starts with its header.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let dims = array.cast::<u8>().add(std::mem::size_of::<pg_sys::ArrayType>());
        let count = pg_sys::ArrayGetNItems((*array).ndim, dims.cast());
        ((*array).ndim, count.max(0) as usize)
    }
}

/// Whether an array has a NULL among its elements.
pub fn array_has_null(datum: pg_sys::Datum) -> bool {
    // SAFETY: as above.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        pg_sys::array_contains_nulls(array)
    }
}

/// The elements of an array of a varlena type (`text[]`, `jsonb[]`), unread.
pub fn varlena_elements(datum: pg_sys::Datum, element: pg_sys::Oid) -> Vec<Arg> {
    // SAFETY: the datum is an array of `element`, a varlena type aligned to int; `deconstruct_array` fills both
    // pointers with `count` entries.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let mut values: *mut pg_sys::Datum = std::ptr::null_mut();
        let mut nulls: *mut bool = std::ptr::null_mut();
        let mut count = 0;
        pg_sys::deconstruct_array(
            array,
            element,
            -1,
            false,
            b'i' as std::ffi::c_char,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).map(|at| (!*nulls.add(at)).then(|| *values.add(at))).collect()
    }
}

/// The server's clock now, microseconds since 2000-01-01 UTC.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

unsafe fn libc_strlen(text: *const std::ffi::c_char) -> i32 {
    // SAFETY: the callers pass NUL-terminated strings of the server.
    unsafe { std::ffi::CStr::from_ptr(text).to_bytes().len() as i32 }
}

unsafe fn utf8_bytes(server: *mut std::ffi::c_char) -> Vec<u8> {
    // SAFETY: `server` ends in NUL; the conversion answers it unchanged or a copy that ends in NUL. A database without
    // an encoding holds any bytes: they are taken as they are, since the conversion would raise.
    unsafe {
        if pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_SQL_ASCII as i32 {
            return std::ffi::CStr::from_ptr(server).to_bytes().to_vec();
        }
        let len = libc_strlen(server);
        let utf8 = pg_sys::pg_server_to_any(server, len, pg_sys::pg_enc::PG_UTF8 as i32);
        std::ffi::CStr::from_ptr(utf8).to_bytes().to_vec()
    }
}

fn into_string(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| not_utf8())
}

fn not_utf8() -> Error {
    Error::bad_value("text is not valid UTF-8")
}

/// `xid8[]`.
pub fn xids(values: &[u64]) -> Arg {
    let datums: Vec<Arg> = values.iter().map(|xid| Some(pg_sys::Datum::from(*xid as usize))).collect();
    array(&datums, pg_sys::XID8OID, 8, true, b'd')
}

/// `timestamptz[]` in which NULLs may stand.
pub fn timestamps(values: &[Option<i64>]) -> Arg {
    let datums: Vec<Arg> = values.iter().map(|time| time.and_then(timestamp)).collect();
    array(&datums, pg_sys::TIMESTAMPTZOID, 8, true, b'd')
}

/// `jsonb[]` in which NULLs may stand, from datums of `jsonb`.
pub fn jsonb_array(values: &[Arg]) -> Arg {
    array(values, pg_sys::JSONBOID, -1, false, b'i')
}

/// `integer`.
pub fn int(value: i32) -> Arg {
    value.into_datum()
}

/// A random number from 0 to 1.
pub fn random() -> f64 {
    let mut bytes = [0u8; 4];
    // SAFETY: fills the four bytes that it is given.
    let filled = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    if filled {
        f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
    } else {
        0.5
    }
}

/// `smallint`.
pub fn smallint(value: i16) -> Arg {
    value.into_datum()
}

/// The jsonb `{}`.
pub fn empty_object() -> Arg {
    // SAFETY: calls the server's input function with a constant that it accepts.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(c"{}".as_ptr()))]) }
}

/// `jsonb` from text that came out of one.
pub fn jsonb(text: &str) -> Arg {
    let text = std::ffi::CString::new(text).ok()?;
    // SAFETY: calls the server's input function, which raises on what it does not accept.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text.as_ptr()))]) }
}

/// A `timestamptz`, microseconds, as a `timestamp` in a time zone. Raises where there is no such zone.
pub fn in_zone(micros: i64, zone: &str) -> Arg {
    let args = [text(zone), timestamp(micros)];
    // SAFETY: calls the server's function with what its declaration says.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::timestamptz_zone, &args) }
}

/// A `timestamp` in a time zone as a `timestamptz`, microseconds. Raises where there is no such zone.
pub fn from_zone(naive: i64, zone: &str) -> Option<i64> {
    let args = [text(zone), timestamp(naive)];
    // SAFETY: as above.
    let found = unsafe { pgrx::direct_function_call_as_datum(pg_sys::timestamp_zone, &args) };
    // SAFETY: the function answers a timestamptz.
    found.and_then(|datum| unsafe { i64::from_datum(datum, false) })
}
