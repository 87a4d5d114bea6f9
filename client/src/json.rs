//! JSON documents as the database has them.

use std::error::Error as StdError;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{to_sql_checked, FromSql, IsNull, ToSql, Type};

use crate::error::{Error, Result};

/// The version byte that goes before a document on the wire.
const JSONB_VERSION: u8 = 1;

/// A JSON document as text, not parsed.
///
/// qflow keeps payloads byte for byte, with numbers of any size and at any depth. Reading one through a JSON tree
/// would change some of them, so this type carries the text from the socket to [`decode`](Json::decode) and back.
/// A decoder may have limits of its own (serde_json's is a depth of 128); [`text`](Json::text) has none.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Writes a value as JSON. Fails when the value's `Serialize` does, or for a map whose keys are no strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value)
            .map(Json)
            .map_err(|error| Error::payload("a value cannot be written as JSON", &error))
    }

    /// Reads the document as a value. The error says where it stopped fitting, and quotes nothing.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| Error::payload("the payload does not fit its type", &error))
    }

    /// A document that is JSON text already. It is not looked at: the database refuses what is none (22P02).
    pub fn from_text(text: impl Into<String>) -> Self {
        Json(text.into())
    }

    /// The text, as `data::text` shows it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Payloads do not get into logs by accident: only the size is shown.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&[JSONB_VERSION]);
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        match raw.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Json(std::str::from_utf8(text)?.to_owned())),
            _ => Err("a version of jsonb that this crate does not know".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_as_it_is() {
        let odd = r#"{"a": 1.0, "b": 100000000000000000000000001, "a ": null}"#;
        assert_eq!(Json::from_text(odd).text(), odd);
    }

    #[test]
    fn what_is_shown_for_debugging_holds_no_payload() {
        assert_eq!(format!("{:?}", Json::from_text("\"secret\"")), "Json(8 bytes)");
    }
}
