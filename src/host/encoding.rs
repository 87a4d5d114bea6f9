//! Text between the server's encoding and others for people to read. Nothing here raises: each character that the other
//! encoding lacks becomes a question mark.

use pgrx::pg_sys;

const LOST: u8 = b'?';
const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const NO_ENCODING: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;
/// Bytes converted at a time, and what the server says they become at most.
const AT_ONCE: usize = 65_536;
const GROWTH: usize = pg_sys::MAX_CONVERSION_GROWTH as usize;

/// A text in the server's encoding. It has no NUL byte.
pub fn to_server(text: &str) -> Vec<u8> {
    convert(text.as_bytes(), UTF8, server()).target
}

/// A text of the server's in UTF-8. Bytes that are no text, which only a database without an encoding (SQL_ASCII) has,
/// become U+FFFD.
pub fn from_server(text: &[u8]) -> String {
    let server = server();
    if server == UTF8 || server == NO_ENCODING {
        return String::from_utf8_lossy(text).into_owned();
    }
    String::from_utf8_lossy(&convert(text, server, UTF8).target).into_owned()
}

/// The same where nothing may be replaced: none when something would have to be.
pub fn exactly_from_server(text: &[u8]) -> Option<String> {
    let server = server();
    if server == UTF8 || server == NO_ENCODING {
        return String::from_utf8(text.to_vec()).ok();
    }
    let converted = convert(text, server, UTF8);
    String::from_utf8(converted.target).ok().filter(|_| !converted.lost)
}

/// A text of the server's, in the server's encoding, with the characters only that the client's encoding has: the server
/// raises where it is to send others.
pub fn for_client(text: Vec<u8>) -> Vec<u8> {
    // SAFETY: reads the session's state.
    let client = unsafe { pg_sys::pg_get_client_encoding() };
    convert(&text, server(), client).source
}

fn server() -> i32 {
    // SAFETY: reads the session's state.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// A text in two encodings, with question marks for what only the first has.
struct Converted {
    source: Vec<u8>,
    target: Vec<u8>,
    lost: bool,
}

impl Converted {
    fn unchanged(text: Vec<u8>) -> Self {
        Self { source: text.clone(), target: text, lost: false }
    }
}

fn convert(text: &[u8], from: i32, to: i32) -> Converted {
    let text: Vec<u8> = text.iter().map(|byte| if *byte == 0 { LOST } else { *byte }).collect();
    if text.is_ascii() || from == to || to == NO_ENCODING || (from == NO_ENCODING && is_text(&text, to)) {
        return Converted::unchanged(text);
    }
    if from == NO_ENCODING {
        return Converted::unchanged(text.iter().map(|byte| if byte.is_ascii() { *byte } else { LOST }).collect());
    }
    by_server(text, from, to)
}

fn is_text(bytes: &[u8], encoding: i32) -> bool {
    // SAFETY: pointer and length describe the bytes; `true` asks for an answer instead of an error.
    unsafe { pg_sys::pg_verify_mbstr(encoding, bytes.as_ptr().cast(), bytes.len() as i32, true) }
}

/// Lets the server convert up to what it cannot, again and again.
fn by_server(mut text: Vec<u8>, from: i32, to: i32) -> Converted {
    let mut step = Step::new(from, to, text.len());
    let mut converted = Converted::unchanged(Vec::with_capacity(text.len()));
    let (mut at, end) = (0, text.len());
    text.push(0);
    while at < end {
        let (done, made) = step.convert(&mut text[at..end]);
        if done > 0 {
            converted.target.extend_from_slice(made);
            converted.source.extend_from_slice(&text[at..at + done]);
            at += done;
        } else {
            converted.lost = true;
            converted.source.push(LOST);
            converted.target.push(LOST);
            at += character(&text[at..], from).min(end - at);
        }
    }
    converted
}

/// The server's conversion between two encodings, with the room for what it makes.
struct Step {
    conversion: pg_sys::Oid,
    encodings: (i32, i32),
    room: Vec<u8>,
}

impl Step {
    fn new(from: i32, to: i32, length: usize) -> Self {
        // SAFETY: looks into the catalog; answers InvalidOid when there is none.
        let conversion = unsafe { pg_sys::FindDefaultConversionProc(from, to) };
        Self { conversion, encodings: (from, to), room: vec![0; AT_ONCE.min(length) * GROWTH + 1] }
    }

    /// How many bytes of the text could be converted, and what they are then; 0 when not even the first character can.
    fn convert<'a>(&'a mut self, text: &'a mut [u8]) -> (usize, &'a [u8]) {
        if self.conversion == pg_sys::InvalidOid {
            let done = ascii_ahead(text);
            return (done, &text[..done]);
        }
        let (source, length) = (text.as_mut_ptr(), text.len().min(AT_ONCE) as i32);
        let (from, to) = self.encodings;
        let (room, size) = (self.room.as_mut_ptr(), self.room.len() as i32);
        // SAFETY: pointers and lengths describe text and room. The server takes no more of the text than there is room
        // for, ends what it makes with NUL, and raises for nothing in the text.
        let done = unsafe {
            pg_sys::pg_do_encoding_conversion_buf(self.conversion, from, to, source, length, room, size, true)
        };
        let made = self.room.split(|byte| *byte == 0).next().unwrap_or_default();
        (done.clamp(0, length) as usize, made)
    }
}

fn ascii_ahead(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii()).count()
}

/// Bytes of the first character of a text that ends in NUL.
fn character(text: &[u8], encoding: i32) -> usize {
    // SAFETY: the server reads no further than the NUL.
    unsafe { pg_sys::pg_encoding_mblen(encoding, text.as_ptr().cast()) }.max(1) as usize
}
