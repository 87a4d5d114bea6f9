//! Reads the `hints` of a fetch and the `resource_hints` of a workflow, and lays one over the other.
//!
//! Size and depth are checked on the bytes before serde sees them. The first thing that is wrong ends the
//! reading, and its JSON path goes into the error's detail. Messages never quote a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use crate::error::Error;
use crate::guc;
use crate::json::{step, Text};

/// The words of hints that are no resources.
pub const RESERVED: [&str; 6] = ["bind", "hold", "on_busy", "timeout_ms", "wait_ms", "worker"];
/// Longest text of hints, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Largest `timeout_ms`: 2^53, which every JSON writer keeps exact and which no timestamp overflows.
pub const MAX_TIMEOUT_MS: i64 = 1 << 53;
/// What a larger `wait_ms` is taken as. Longer waits belong into `wait`.
pub const MAX_WAIT_MS: i64 = 1_000;

/// An object of lists.
const MAX_DEPTH: usize = 2;
const MAX_NAME_BYTES: usize = 63;

const INVALID: &str = "invalid hints";
const AN_OBJECT: &str = "an object";
const A_TIMEOUT: &str = "a whole number of milliseconds, 1 to 9007199254740992";
const A_WAIT: &str = "a whole number of milliseconds, 0 or more";
const ON_BUSY: &str = "\"empty\" or \"error\"";
const A_SCOPE: &str = "\"lease\" or \"session\"";
const A_NAME: &str = "a name of 1 to 63 bytes without control characters";
const AN_ASK: &str = "a whole number (0 or more), true, false, null or a list of slot numbers";
const A_SLOT: &str = "a slot number, 0 or more";
const NOT_EMPTY: &str = "a list with at least one slot number";
const DISTINCT: &str = "a slot number that the list has not named yet";

/// What a fetch does when its resources are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBusy {
    /// Return no rows.
    Empty,
    /// Raise 55P03.
    Error,
}

impl OnBusy {
    fn parse(word: Text) -> Option<Self> {
        match &*word.0 {
            "empty" => Some(Self::Empty),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}

/// What keeps a slot taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The lease alone.
    Lease,
    /// The session too, by an advisory lock.
    Session,
}

impl Hold {
    fn parse(word: Text) -> Option<Self> {
        match &*word.0 {
            "lease" => Some(Self::Lease),
            "session" => Some(Self::Session),
            _ => None,
        }
    }
}

/// What a lease ends with, besides its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// Nothing else.
    Lease,
    /// The session that fetched.
    Session,
}

impl Bind {
    fn parse(word: Text) -> Option<Self> {
        match &*word.0 {
            "lease" => Some(Self::Lease),
            "session" => Some(Self::Session),
            _ => None,
        }
    }
}

/// What is asked of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Nothing; switches off what the workflow asks.
    Nothing,
    /// So many slots or units, 1 or more.
    Amount(i64),
    /// One of these slots: at least one, each 0 or more, none twice, in the order given.
    Slots(Vec<i64>),
}

/// Hints as read. `None`: not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The lease's length in milliseconds, 1 to [`MAX_TIMEOUT_MS`].
    pub timeout_ms: Option<i64>,
    /// How long to wait for resources, in milliseconds, 0 to [`MAX_WAIT_MS`].
    pub wait_ms: Option<i64>,
    /// What to do when they are busy.
    pub on_busy: Option<OnBusy>,
    /// What keeps slots taken.
    pub hold: Option<Hold>,
    /// What the lease ends with.
    pub bind: Option<Bind>,
    /// The consumer's name, 1 to 63 bytes without control characters.
    pub worker: Option<String>,
    /// What is asked, by the resource's name, in sorted order.
    pub resources: BTreeMap<String, Ask>,
}

impl Hints {
    /// Whether the lease ends with the session: bound to it, or holding slots by it.
    pub fn binds_session(&self) -> bool {
        self.bind == Some(Bind::Session) || self.hold == Some(Hold::Session)
    }
}

/// Lays the hints of a call over those of its workflow, key by key. What the call gives wins; its
/// `Ask::Nothing` stays in the result and hides the workflow's claim.
pub fn overlay(call: Hints, workflow: &Hints) -> Hints {
    let mut resources = workflow.resources.clone();
    resources.extend(call.resources);
    Hints {
        timeout_ms: call.timeout_ms.or(workflow.timeout_ms),
        wait_ms: call.wait_ms.or(workflow.wait_ms),
        on_busy: call.on_busy.or(workflow.on_busy),
        hold: call.hold.or(workflow.hold),
        bind: call.bind.or(workflow.bind),
        worker: call.worker.or_else(|| workflow.worker.clone()),
        resources,
    }
}

/// Reads the text of a jsonb object. null for a reserved word is "not given", for a resource nothing; of a
/// repeated key, as in jsonb, the last one counts.
///
/// Errors: 54000 for a text over [`MAX_BYTES`] or more resources than `qflow.max_call_resources`; 22023 for anything
/// else that is wrong: not an object, nested deeper than a list in an object, a wrong type or range, a
/// resource's name that is not 1 to 63 bytes without control characters.
pub fn parse(text: &str) -> Result<Hints, Error> {
    check_size(text)?;
    let mut reader = Reader { expected: AN_OBJECT, ..Reader::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(&mut reader);
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(reader.hints),
        Err(_) => Err(reader.into_error()),
    }
}

/// 54000 for more resources than one call may name.
pub fn check_count(count: usize) -> Result<(), Error> {
    let most = guc::max_call_resources();
    match count > most {
        true => Err(Error::over_cap(format!("hints name more than {most} resources"))
            .hint("Name fewer, or raise qflow.max_call_resources.")),
        false => Ok(()),
    }
}

fn check_size(text: &str) -> Result<(), Error> {
    if text.len() > MAX_BYTES {
        return Err(Error::over_cap(format!("hints are longer than {MAX_BYTES} bytes")));
    }
    if is_too_deep(text) {
        let detail = "Hints are an object of plain values and lists of numbers.";
        return Err(Error::bad_value("hints are nested too deep").detail(detail));
    }
    Ok(())
}

/// Whether brackets outside of strings are nested deeper than allowed.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

/// Visits the document; knows where it stands and what is expected there.
#[derive(Default)]
struct Reader {
    hints: Hints,
    /// The step of the JSON path to the key that is being read; empty at the top.
    step: String,
    /// The index, from 0, in the list of slots that is being read.
    index: Option<usize>,
    expected: &'static str,
    /// An error other than "must be what is expected".
    refusal: Option<Error>,
}

impl Reader {
    /// Reads the value of one key.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        self.step = step(key);
        match key {
            "timeout_ms" => {
                let in_range = |ms: i64| (1..=MAX_TIMEOUT_MS).contains(&ms).then_some(ms);
                self.hints.timeout_ms = self.value(map, A_TIMEOUT, in_range)?;
            }
            "wait_ms" => {
                let in_range = |ms: i64| (ms >= 0).then_some(ms.min(MAX_WAIT_MS));
                self.hints.wait_ms = self.value(map, A_WAIT, in_range)?;
            }
            "on_busy" => self.hints.on_busy = self.value(map, ON_BUSY, OnBusy::parse)?,
            "hold" => self.hints.hold = self.value(map, A_SCOPE, Hold::parse)?,
            "bind" => self.hints.bind = self.value(map, A_SCOPE, Bind::parse)?,
            "worker" => {
                let named = |name: String| is_name(&name).then_some(name);
                self.hints.worker = self.value(map, A_NAME, named)?;
            }
            resource => self.resource(resource, map)?,
        }
        Ok(())
    }

    /// Reads what is asked of a resource.
    fn resource<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if !is_name(name) {
            let detail = format!("The resource at ${} must have {A_NAME}.", self.step);
            return Err(self.refuse(Error::bad_value(INVALID).detail(detail)));
        }
        self.expected = AN_ASK;
        let ask = map.next_value_seed(AskReader(&mut *self))?;
        self.hints.resources.insert(name.to_owned(), ask);
        check_count(self.hints.resources.len()).map_err(|refusal| self.refuse(refusal))
    }

    /// Reads null (`None`), or a value that `check` accepts.
    fn value<'de, A: MapAccess<'de>, V: Deserialize<'de>, T>(
        &mut self,
        map: &mut A,
        expected: &'static str,
        check: impl FnOnce(V) -> Option<T>,
    ) -> Result<Option<T>, A::Error> {
        self.expected = expected;
        let value: Option<V> = map.next_value()?;
        match value.map(check) {
            None => Ok(None),
            Some(None) => refused(),
            Some(checked) => Ok(checked),
        }
    }

    /// Remembers an error, and returns what makes serde stop.
    fn refuse<E: de::Error>(&mut self, error: Error) -> E {
        self.refusal = Some(error);
        E::custom(INVALID)
    }

    /// The error that ended the reading. What serde says is dropped: it quotes values.
    fn into_error(self) -> Error {
        let index = self.index.map(|index| format!("[{index}]"));
        let path = format!("${}{}", self.step, index.unwrap_or_default());
        let plain = Error::bad_value(INVALID).detail(format!("{path} must be {}.", self.expected));
        self.refusal.unwrap_or(plain)
    }
}

/// Makes serde stop where the value is not what is expected.
fn refused<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom(INVALID))
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            self.field(&key, &mut map)?;
        }
        Ok(())
    }
}

/// Reads what is asked of one resource.
struct AskReader<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for AskReader<'_> {
    type Value = Ask;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Ask, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AskReader<'_> {
    type Value = Ask;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(AN_ASK)
    }

    fn visit_unit<E>(self) -> Result<Ask, E> {
        Ok(Ask::Nothing)
    }

    fn visit_bool<E>(self, asked: bool) -> Result<Ask, E> {
        Ok(if asked { Ask::Amount(1) } else { Ask::Nothing })
    }

    fn visit_i64<E: de::Error>(self, amount: i64) -> Result<Ask, E> {
        match amount {
            0 => Ok(Ask::Nothing),
            1.. => Ok(Ask::Amount(amount)),
            _ => refused(),
        }
    }

    fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Ask, E> {
        i64::try_from(amount).map_or_else(|_| refused(), |amount| self.visit_i64(amount))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ask, A::Error> {
        let reader = self.0;
        let (mut slots, mut named) = (Vec::new(), BTreeSet::new());
        (reader.index, reader.expected) = (Some(0), A_SLOT);
        while let Some(slot) = list.next_element::<i64>()? {
            if slot < 0 {
                return refused();
            }
            if !named.insert(slot) {
                reader.expected = DISTINCT;
                return refused();
            }
            slots.push(slot);
            reader.index = Some(slots.len());
        }
        reader.index = None;
        if slots.is_empty() {
            reader.expected = NOT_EMPTY;
            return refused();
        }
        Ok(Ask::Slots(slots))
    }
}

#[cfg(test)]
mod tests;
