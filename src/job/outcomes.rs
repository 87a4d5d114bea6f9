//! Reads the `outcomes` argument of `settle`: a list of jobs and what is to become of each.
//!
//! The text is read entry by entry; the first thing that is wrong ends it, and its JSON path goes into the
//! error's detail. Messages never quote a value.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use super::state::Outcome;
use crate::error::Error;
use crate::json::{step, Text};

/// The message for all that is wrong with them.
pub const INVALID: &str = "invalid outcomes";
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

#[cfg(test)]
mod tests;
