//! What the two readers of JSON arguments (hints and outcomes) share.

use std::borrow::Cow;

use serde::Deserialize;

/// Bytes of a key that a path shows.
const SHOWN_KEY_BYTES: usize = 63;

/// A string, borrowed from the document where it has no escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A key as a step of a JSON path, cut to what a message shows.
pub fn step(key: &str) -> String {
    let name = &key[..key.floor_char_boundary(SHOWN_KEY_BYTES)];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(plain) {
        format!(".{name}")
    } else {
        format!("[{name:?}]")
    }
}
