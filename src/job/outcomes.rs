//! Reads the `outcomes` argument of `settle`: a list of jobs and what is to become of each.
//!
//! The text is read entry by entry; the first thing that is wrong ends it, and its JSON path goes into the
//! error's detail. Messages never quote a value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use super::state::Outcome;
use crate::error::Error;

/// How many bytes of an unknown key a message shows.
const SHOWN_KEY_BYTES: usize = 63;

const INVALID: &str = "invalid outcomes";
const A_LIST: &str = "an array of objects";
const AN_OBJECT: &str = "an object";
const A_NUMBER: &str = "a whole number of at most 64 bits, or a string with one";
const A_DELAY: &str = "a whole number of milliseconds, 0 or more";
const A_WORD: &str = "one of \"ack\", \"requeue\", \"fail\" and \"release\"";
const A_TEXT: &str = "a string or null";

/// One job and what is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The job.
    pub id: i64,
    /// The lease it was fetched under; `None` only where unfenced settling is allowed.
    pub lease: Option<i64>,
    /// What is to become of it.
    pub outcome: Outcome,
    /// Why, in full; to be cut by whoever stores it.
    pub reason: Option<String>,
    /// Milliseconds until the job is due again, 0 or more; only with a requeue.
    pub delay_ms: Option<i64>,
}

/// Reads the text of a jsonb array into one `Asked` for each distinct (id, lease), in the order of first
/// appearance. Of repeated entries with one outcome the first is kept; of a repeated key, as in jsonb, the last.
///
/// Errors: 22023 for anything of a wrong shape, type or range, an unknown or missing key, a delay without a
/// requeue, or two outcomes for one (id, lease); 22004 for a null id or outcome, and for a lease that is
/// absent or null without `allow_unfenced`; 54000 for more than `max_ids` entries, repeated ones included.
pub fn parse(text: &str, max_ids: usize, allow_unfenced: bool) -> Result<Vec<Asked>, Error> {
    let mut reader = Reader { max_ids, allow_unfenced, expected: A_LIST, ..Reader::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_seq(&mut reader);
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(reader.asked),
        Err(_) => Err(reader.into_error()),
    }
}

/// Visits the list and its entries; knows where it stands and what is expected there.
#[derive(Default)]
struct Reader {
    max_ids: usize,
    allow_unfenced: bool,
    asked: Vec<Asked>,
    /// The outcome and the index of the entry that came first for each (id, lease).
    first: HashMap<(i64, Option<i64>), (Outcome, usize)>,
    /// The index, from 0, of the entry that is being read; `None` before the first.
    index: Option<usize>,
    /// The key that is being read.
    key: Option<&'static str>,
    expected: &'static str,
    draft: Draft,
    /// An error other than "must be what is expected".
    refusal: Option<Error>,
}

/// An entry as far as it was read.
#[derive(Default)]
struct Draft {
    id: Option<i64>,
    lease: Option<i64>,
    outcome: Option<Outcome>,
    reason: Option<String>,
    delay_ms: Option<i64>,
}

impl Reader {
    /// The JSON path of what is being read.
    fn path(&self) -> String {
        let index = self.index.map(|index| format!("[{index}]"));
        let key = self.key.map(|key| format!(".{key}"));
        format!("${}{}", index.unwrap_or_default(), key.unwrap_or_default())
    }

    /// Steps into the next entry.
    fn enter(&mut self) -> Result<(), Error> {
        let index = self.index.map_or(0, |last| last + 1);
        if index >= self.max_ids {
            let message = format!("more than {} outcomes in one call", self.max_ids);
            return Err(Error::over_cap(message).hint("Settle them in several calls."));
        }
        self.index = Some(index);
        self.key = None;
        self.expected = AN_OBJECT;
        Ok(())
    }

    /// Takes up what the entry asked for, unless an earlier one asked the same.
    fn leave(&mut self) -> Result<(), Error> {
        self.key = None;
        let asked = self.finish()?;
        let index = self.index.unwrap_or_default();
        let first = self.first.entry((asked.id, asked.lease));
        let (outcome, earlier) = *first.or_insert((asked.outcome, index));
        if outcome != asked.outcome {
            return Err(Error::bad_value(INVALID)
                .detail(format!("$[{earlier}] and $[{index}] give different outcomes for the same id and lease.")));
        }
        if earlier == index {
            self.asked.push(asked);
        }
        Ok(())
    }

    /// The entry, when nothing is missing and its parts go together.
    fn finish(&mut self) -> Result<Asked, Error> {
        let draft = std::mem::take(&mut self.draft);
        let wrong = |what| Error::bad_value(INVALID).detail(format!("{}{what}.", self.path()));
        let id = draft.id.ok_or_else(|| wrong(".id is missing"))?;
        let outcome = draft.outcome;
        let outcome = outcome.ok_or_else(|| wrong(".outcome is missing"))?;
        if draft.lease.is_none() && !self.allow_unfenced {
            return Err(Error::null_value("an outcome needs the lease of its job")
                .detail(format!("{}.lease is absent or null.", self.path()))
                .hint("Pass the lease that came with the job, or set qflow.allow_unfenced = on."));
        }
        if draft.delay_ms.is_some() && outcome != Outcome::Requeue {
            return Err(wrong(".delay_ms goes with the outcome \"requeue\" only"));
        }
        Ok(Asked { id, lease: draft.lease, outcome, reason: draft.reason, delay_ms: draft.delay_ms })
    }

    /// Reads the value of one key of an entry.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "id" => {
                let Number(id) = self.at("id", A_NUMBER, map)?;
                self.draft.id = Some(id.ok_or_else(|| self.null())?);
            }
            "lease" => Number(self.draft.lease) = self.at("lease", A_NUMBER, map)?,
            "outcome" => {
                let word: Option<Text> = self.at("outcome", A_WORD, map)?;
                let Text(word) = word.ok_or_else(|| self.null())?;
                let outcome = Outcome::parse(&word);
                self.draft.outcome = Some(outcome.ok_or_else(|| A::Error::custom(INVALID))?);
            }
            "reason" => self.draft.reason = self.at("reason", A_TEXT, map)?,
            "delay_ms" => {
                Number(self.draft.delay_ms) = self.at("delay_ms", A_DELAY, map)?;
                if self.draft.delay_ms.is_some_and(i64::is_negative) {
                    return Err(A::Error::custom(INVALID));
                }
            }
            unknown => return Err(self.unknown(unknown)),
        }
        Ok(())
    }

    /// Reads a value, having noted where it is and what it must be.
    fn at<'de, A: MapAccess<'de>, V: Deserialize<'de>>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        map: &mut A,
    ) -> Result<V, A::Error> {
        self.key = Some(key);
        self.expected = expected;
        map.next_value()
    }

    fn null<E: de::Error>(&mut self) -> E {
        let detail = format!("{} must not be null.", self.path());
        self.refuse(Error::null_value(INVALID).detail(detail))
    }

    fn unknown<E: de::Error>(&mut self, key: &str) -> E {
        self.key = None;
        let detail = format!("Unknown key {}{}.", self.path(), step(key));
        let hint = "The keys are id, lease, outcome, reason and delay_ms.";
        self.refuse(Error::bad_value(INVALID).detail(detail).hint(hint))
    }

    /// Remembers an error, and returns what makes serde stop.
    fn refuse<E: de::Error>(&mut self, error: Error) -> E {
        self.refusal = Some(error);
        E::custom(INVALID)
    }

    /// The error that ended the reading. What serde says is dropped: it quotes values.
    fn into_error(self) -> Error {
        let detail = format!("{} must be {}.", self.path(), self.expected);
        let plain = Error::bad_value(INVALID).detail(detail);
        self.refusal.unwrap_or(plain)
    }
}

/// One entry of the list.
impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.enter().map_err(|error| self.refuse(error))?;
        json.deserialize_map(&mut *self)?;
        self.leave().map_err(|error| self.refuse(error))
    }
}

/// The list, and each of its entries.
impl<'de> Visitor<'de> for &mut Reader {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            self.field(&key, &mut map)?;
        }
        Ok(())
    }
}

/// A string, borrowed from the document where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A whole number, as a number or in a string; `None` for null.
struct Number(Option<i64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(NumberVisitor).map(Self)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(A_NUMBER)
    }

    fn visit_unit<E>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<i64>, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<i64>, E> {
        i64::try_from(number).map(Some).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, digits: &str) -> Result<Option<i64>, E> {
        if digits.starts_with('+') {
            return Err(E::custom(INVALID));
        }
        digits.parse().map(Some).map_err(E::custom)
    }
}

/// A key as a step of a JSON path, cut to what a message shows.
fn step(key: &str) -> String {
    let name = &key[..key.floor_char_boundary(SHOWN_KEY_BYTES)];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(plain) {
        format!(".{name}")
    } else {
        format!("[{name:?}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Asked> {
        parse(text, 100, false).unwrap()
    }

    fn assert_refused(text: &str, code: &str, detail: &str) {
        let error = parse(text, 100, false).unwrap_err();
        let found = (error.code(), error.detail_text().unwrap_or_default());
        assert_eq!(found, (code, detail), "{:.200}", text);
    }

    fn asked(id: i64, lease: i64, outcome: Outcome) -> Asked {
        Asked { id, lease: Some(lease), outcome, reason: None, delay_ms: None }
    }

    #[test]
    fn reads_every_key_and_numbers_in_strings() {
        let text = r#"[{"id": 17, "lease": 5, "outcome": "ack"},
            {"id": "-9223372036854775808", "lease": "9223372036854775807", "outcome": "requeue",
             "reason": "ge\u00e4ndert \"x\"", "delay_ms": "5000"},
            {"outcome": "fail", "lease": 0, "id": -1, "reason": null, "delay_ms": null},
            {"id": 9223372036854775807, "lease": 7, "outcome": "r\u0065lease", "reason": ""}]"#;
        let mut requeued = asked(i64::MIN, i64::MAX, Outcome::Requeue);
        requeued.reason = Some("geändert \"x\"".to_owned());
        requeued.delay_ms = Some(5_000);
        let mut released = asked(i64::MAX, 7, Outcome::Release);
        released.reason = Some(String::new());
        let expected = [asked(17, 5, Outcome::Ack), requeued, asked(-1, 0, Outcome::Fail), released];
        assert_eq!(read(text), expected);
        assert_eq!(read(" [] "), []);
    }

    #[test]
    fn wrong_types_and_values_name_their_path() {
        let number = "a whole number of at most 64 bits, or a string with one.";
        let huge = format!("1{}", "0".repeat(400));
        for wrong in ["1.5", "1e400", "1e3", &huge, "9223372036854775808", "true", "[]", "[[1]]", "{}"] {
            let text = format!(r#"[{{"id":1,"lease":1,"outcome":"ack"}},{{"id":{wrong}}}]"#);
            assert_refused(&text, "22023", &format!("$[1].id must be {number}"));
            let text = format!(r#"[{{"id":1,"lease":{wrong},"outcome":"ack"}}]"#);
            assert_refused(&text, "22023", &format!("$[0].lease must be {number}"));
        }
        for wrong in ["", " 1", "1 ", "+1", "1.0", "0x1", "secret", "-9223372036854775809", "١"] {
            let text = format!(r#"[{{"id":"{wrong}"}}]"#);
            assert_refused(&text, "22023", &format!("$[0].id must be {number}"));
        }
        for wrong in ["-1", "1.5", "\"-1\"", "[1]"] {
            let text = format!(r#"[{{"id":1,"delay_ms":{wrong}}}]"#);
            assert_refused(&text, "22023", &format!("$[0].delay_ms must be {A_DELAY}."));
        }
        for wrong in ["\"Ack\"", "\"\"", "7", "[]", "{\"ack\":null}"] {
            let text = format!(r#"[{{"outcome":{wrong}}}]"#);
            assert_refused(&text, "22023", &format!("$[0].outcome must be {A_WORD}."));
        }
        assert_refused(r#"[{"reason":7}]"#, "22023", "$[0].reason must be a string or null.");
        for wrong in ["null", "7", "\"x\"", "[]"] {
            assert_refused(&format!("[{wrong}]"), "22023", "$[0] must be an object.");
        }
        for wrong in ["null", "7", "\"x\"", "{}", "", "{\"id\":1}"] {
            assert_refused(wrong, "22023", "$ must be an array of objects.");
        }
    }

    #[test]
    fn unknown_and_missing_keys_name_their_path() {
        let good = r#"{"id":1,"lease":1,"outcome":"ack"}"#;
        let text = format!(r#"[{good},{good},{good},{{"id":1,"outcom":"ack"}}]"#);
        assert_refused(&text, "22023", "Unknown key $[3].outcom.");
        assert_refused(r#"[{"a\n b":[[]]}]"#, "22023", r#"Unknown key $[0]["a\n b"]."#);
        assert_refused(r#"[{"":1}]"#, "22023", r#"Unknown key $[0][""]."#);
        let long = "ä".repeat(100);
        let cut = format!(r#"Unknown key $[0]["{}"]."#, "ä".repeat(31));
        assert_refused(&format!(r#"[{{"{long}":1}}]"#), "22023", &cut);
        assert_refused("[{}]", "22023", "$[0].id is missing.");
        assert_refused(r#"[{"id":1,"lease":1}]"#, "22023", "$[0].outcome is missing.");
    }

    #[test]
    fn nulls_and_the_lease() {
        assert_refused(r#"[{"id":null}]"#, "22004", "$[0].id must not be null.");
        assert_refused(r#"[{"outcome":null}]"#, "22004", "$[0].outcome must not be null.");
        for text in [r#"[{"id":1,"outcome":"ack"}]"#, r#"[{"id":1,"outcome":"ack","lease":null}]"#] {
            assert_refused(text, "22004", "$[0].lease is absent or null.");
            let unfenced = parse(text, 100, true).unwrap();
            assert_eq!((unfenced.len(), unfenced[0].lease), (1, None));
        }
    }

    #[test]
    fn a_delay_needs_a_requeue() {
        for outcome in ["ack", "fail", "release"] {
            let text = format!(r#"[{{"delay_ms":0,"id":1,"lease":1,"outcome":"{outcome}"}}]"#);
            let detail = "$[0].delay_ms goes with the outcome \"requeue\" only.";
            assert_refused(&text, "22023", detail);
        }
    }

    #[test]
    fn repeated_pairs_are_one_and_conflicts_are_refused() {
        let text = r#"[{"id":2,"lease":1,"outcome":"fail","reason":"first"},
            {"id":1,"lease":1,"outcome":"ack"}, {"id":2,"lease":2,"outcome":"ack"},
            {"id":"2","lease":1,"outcome":"fail","reason":"second"}]"#;
        let found: Vec<_> = read(text).into_iter().map(|asked| (asked.id, asked.lease, asked.reason)).collect();
        let first = (2, Some(1), Some("first".to_owned()));
        assert_eq!(found, [first, (1, Some(1), None), (2, Some(2), None)]);
        let text = text.replace(r#""fail","reason":"second""#, r#""ack""#);
        let detail = "$[0] and $[3] give different outcomes for the same id and lease.";
        assert_refused(&text, "22023", detail);
    }

    #[test]
    fn entries_are_capped_before_they_are_read() {
        let good = r#"{"id":1,"lease":1,"outcome":"ack"}"#;
        assert_eq!(parse(&format!("[{good},{good}]"), 2, false).unwrap().len(), 1);
        for third in [good, "7"] {
            let error = parse(&format!("[{good},{good},{third}]"), 2, false).unwrap_err();
            assert_eq!(error.code(), "54000");
        }
    }

    #[test]
    fn deep_nesting_ends_at_the_first_wrong_type() {
        assert_refused(&"[".repeat(100_000), "22023", "$[0] must be an object.");
        let text = format!(r#"[{{"id":{}"#, "[".repeat(100_000));
        assert_refused(&text, "22023", &format!("$[0].id must be {A_NUMBER}."));
        let text = format!(r#"[{{"reason":{}"#, r#"{"a":"#.repeat(100_000));
        assert_refused(&text, "22023", "$[0].reason must be a string or null.");
    }

    #[test]
    fn broken_texts_are_refused_without_quoting_them() {
        let text = r#"[{"id":17,"lease":"5","outcome":"requeue","reason":"secret\u00e4","delay_ms":1}]"#;
        assert_eq!(read(text).len(), 1);
        for end in 0..text.len() {
            let error = parse(&text[..end], 100, false).unwrap_err();
            assert_eq!(error.code(), "22023", "{end}");
            assert!(!format!("{error:?}").contains("secret"), "{end}");
        }
    }
}
