//! The payload: a paragraph of a document, as the demo's producer made it.

use base64::prelude::{Engine, BASE64_STANDARD};
use qflow_client::Failure;
use serde::Deserialize;

/// What stands in a job's `data`. What is no text travels as base64.
#[derive(Deserialize)]
pub struct Paragraph {
    pub document: String,
    #[serde(rename = "paragraph")]
    pub number: i32,
    text: Option<String>,
    bytes: Option<String>,
}

impl Paragraph {
    /// Its text; a failed attempt when there is none, with the reason that the demo's check expects.
    pub fn text(&self) -> Result<String, Failure> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let bytes = BASE64_STANDARD.decode(self.bytes.as_deref().unwrap_or_default())?;
        let unreadable = |error: std::string::FromUtf8Error| {
            let at = error.utf8_error().valid_up_to();
            let why = match (error.utf8_error().error_len(), error.as_bytes().get(at)) {
                (None, _) => "unexpected end of data",
                (_, Some(0xc2..=0xf4)) => "invalid continuation byte",
                _ => "invalid start byte",
            };
            Failure::new(format!("not UTF-8: {why} at byte {at}"))
        };
        String::from_utf8(bytes).map_err(unreadable)
    }
}
