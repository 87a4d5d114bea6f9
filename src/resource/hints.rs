//! Reads the `hints` of a fetch and the `resource_hints` of a workflow, and lays one over the other.
//!
//! Size and depth are checked on the bytes before serde sees them. The first thing that is wrong ends the
//! reading, and its JSON path goes into the error's detail. Messages never quote a value.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use crate::error::Error;

/// Resources that every database has.
pub const BUILT_IN: [&str; 3] = ["cpu_cores", "gpu", "memory_gb"];
/// Longest text of hints, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most resources that one document may name.
pub const MAX_RESOURCES: usize = 32;
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
    /// The resources of which something is asked, in sorted order.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &Ask)> {
        let asks = self.resources.iter();
        asks.filter(|(_, ask)| **ask != Ask::Nothing).map(|(name, ask)| (name.as_str(), ask))
    }

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
/// Errors: 54000 for a text over [`MAX_BYTES`] or more than [`MAX_RESOURCES`] resources; 22023 for anything
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
        if self.hints.resources.len() > MAX_RESOURCES {
            let message = format!("hints name more than {MAX_RESOURCES} resources");
            return Err(self.refuse(Error::over_cap(message)));
        }
        Ok(())
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

/// A string, borrowed from the document where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A key as a step of a JSON path, cut to what a message shows.
fn step(key: &str) -> String {
    let name = &key[..key.floor_char_boundary(MAX_NAME_BYTES)];
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

    fn read(text: &str) -> Hints {
        parse(text).unwrap()
    }

    fn assert_refused(text: &str, detail: &str) {
        let error = parse(text).unwrap_err();
        let found = (error.code(), error.detail_text().unwrap_or_default());
        assert_eq!(found, ("22023", detail), "{:.200}", text);
    }

    fn claims(hints: &Hints) -> Vec<(&str, Ask)> {
        hints.claims().map(|(name, ask)| (name, ask.clone())).collect()
    }

    #[test]
    fn reads_every_reserved_word() {
        let hints = read(
            r#"{"timeout_ms": 600000, "wait_ms": 500, "on_busy": "error", "hold": "session",
                "bind": "lease", "worker": "gpü-\"1\""}"#,
        );
        let expected = Hints {
            timeout_ms: Some(600_000),
            wait_ms: Some(500),
            on_busy: Some(OnBusy::Error),
            hold: Some(Hold::Session),
            bind: Some(Bind::Lease),
            worker: Some("gpü-\"1\"".to_owned()),
            resources: BTreeMap::new(),
        };
        assert_eq!(hints, expected);
        let words = r#"{"on_busy":"empty","hold":"lease","bind":"session"}"#;
        let hints = read(words);
        assert_eq!(hints.on_busy, Some(OnBusy::Empty));
        assert_eq!((hints.hold, hints.bind), (Some(Hold::Lease), Some(Bind::Session)));
    }

    #[test]
    fn null_for_a_reserved_word_is_absent() {
        let nulls = r#"{"timeout_ms":null,"wait_ms":null,"on_busy":null,"hold":null,"bind":null,"worker":null}"#;
        assert_eq!(read(nulls), Hints::default());
        assert_eq!(read(" {} "), Hints::default());
    }

    #[test]
    fn reads_every_form_of_an_ask() {
        let hints = read(
            r#"{"a":3,"b":0,"c":true,"d":false,"e":null,"f":[2,0,9223372036854775807],"g":9223372036854775807,
                "memory gb":1}"#,
        );
        let expected = [
            ("a", Ask::Amount(3)),
            ("c", Ask::Amount(1)),
            ("f", Ask::Slots(vec![2, 0, i64::MAX])),
            ("g", Ask::Amount(i64::MAX)),
            ("memory gb", Ask::Amount(1)),
        ];
        assert_eq!(claims(&hints), expected);
        assert_eq!(hints.resources.len(), 8);
        assert_eq!(hints.resources.get("d"), Some(&Ask::Nothing));
    }

    #[test]
    fn numbers_are_held_to_their_range() {
        assert_eq!(read(r#"{"timeout_ms":9007199254740992}"#).timeout_ms, Some(1 << 53));
        assert_eq!(read(r#"{"wait_ms":0}"#).wait_ms, Some(0));
        assert_eq!(read(r#"{"wait_ms":1000}"#).wait_ms, Some(1_000));
        assert_eq!(read(r#"{"wait_ms":9223372036854775807}"#).wait_ms, Some(1_000));
        let huge = format!("1{}", "0".repeat(400));
        let wrong = ["-1", "1.5", "1e400", &huge, "9223372036854775808", "\"1\"", "true", "[1]", "{}"];
        for value in wrong.into_iter().chain(["0", "9007199254740993"]) {
            let text = format!(r#"{{"timeout_ms":{value}}}"#);
            assert_refused(&text, &format!("$.timeout_ms must be {A_TIMEOUT}."));
        }
        for value in wrong {
            let text = format!(r#"{{"wait_ms":{value}}}"#);
            assert_refused(&text, &format!("$.wait_ms must be {A_WAIT}."));
        }
    }

    #[test]
    fn wrong_words_name_their_path() {
        for value in ["\"Error\"", "\"\"", "1", "true", "[]", "{\"error\":null}"] {
            for (key, expected) in [("on_busy", ON_BUSY), ("hold", A_SCOPE), ("bind", A_SCOPE)] {
                let text = format!(r#"{{"gpu":1,"{key}":{value}}}"#);
                assert_refused(&text, &format!("$.{key} must be {expected}."));
            }
        }
        let long = format!("\"{}\"", "ä".repeat(32));
        for value in ["\"\"", "\"a\\nb\"", "\"\\u0000\"", "\"\\u0085\"", "7", "[]", &long] {
            assert_refused(&format!(r#"{{"worker":{value}}}"#), &format!("$.worker must be {A_NAME}."));
        }
        let longest = "w".repeat(63);
        assert_eq!(read(&format!(r#"{{"worker":"{longest}"}}"#)).worker, Some(longest));
    }

    #[test]
    fn wrong_asks_name_their_path() {
        for value in ["-1", "1.5", "1e400", "9223372036854775808", "\"1\"", "{}", "{\"a\":1}"] {
            assert_refused(&format!(r#"{{"gpu":{value}}}"#), &format!("$.gpu must be {AN_ASK}."));
        }
        for slot in ["-1", "1.5", "1e400", "\"1\"", "true", "null"] {
            assert_refused(&format!(r#"{{"gpu":[7,{slot}]}}"#), &format!("$.gpu[1] must be {A_SLOT}."));
        }
        assert_refused(r#"{"gpu":[3,1,3]}"#, &format!("$.gpu[2] must be {DISTINCT}."));
        assert_refused(r#"{"gpu":[]}"#, &format!("$.gpu must be {NOT_EMPTY}."));
        assert_refused(r#"{"gpu":[1],"b c":-1}"#, &format!(r#"$["b c"] must be {AN_ASK}."#));
        for text in ["null", "[]", "1", "\"gpu\"", ""] {
            assert_refused(text, "$ must be an object.");
        }
    }

    #[test]
    fn wrong_names_of_resources_are_shown_cut() {
        let refused = |key: &str, path: &str| {
            let detail = format!("The resource at {path} must have {A_NAME}.");
            assert_refused(&format!(r#"{{"{key}":1}}"#), &detail);
        };
        refused("", r#"$[""]"#);
        refused("a\\tb", r#"$["a\tb"]"#);
        refused(&"x".repeat(64), &format!("$.{}", "x".repeat(63)));
        refused(&"ä".repeat(32), &format!(r#"$["{}"]"#, "ä".repeat(31)));
        assert_eq!(read(&format!(r#"{{"{}":1}}"#, "x".repeat(63))).resources.len(), 1);
    }

    #[test]
    fn size_count_and_depth_are_capped() {
        let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
        assert_eq!(read(&padded(MAX_BYTES)), Hints::default());
        assert_eq!(parse(&padded(MAX_BYTES + 1)).unwrap_err().code(), "54000");

        let naming = |count: usize| {
            let asks: Vec<String> = (0..count).map(|n| format!(r#""r{n}":false"#)).collect();
            format!(r#"{{"timeout_ms":1,{}}}"#, asks.join(","))
        };
        assert_eq!(read(&naming(MAX_RESOURCES)).resources.len(), MAX_RESOURCES);
        assert_eq!(parse(&naming(MAX_RESOURCES + 1)).unwrap_err().code(), "54000");

        let deep = "Hints are an object of plain values and lists of numbers.";
        assert_refused(r#"{"gpu":[[0]]}"#, deep);
        assert_refused(r#"{"gpu":{"a":{}}}"#, deep);
        assert_refused(&"[".repeat(MAX_BYTES), deep);
        assert_eq!(read(r#"{"worker":"[[{{\"[[\\"}"#).worker.as_deref(), Some(r#"[[{{"[[\"#));
    }

    #[test]
    fn the_call_lies_over_the_workflow_key_by_key() {
        let workflow = read(
            r#"{"timeout_ms":1,"wait_ms":2,"on_busy":"error","hold":"session","bind":"session","worker":"w",
                "gpu":1,"cpu_cores":8}"#,
        );
        assert_eq!(overlay(Hints::default(), &workflow), workflow);
        assert_eq!(overlay(workflow.clone(), &Hints::default()), workflow);

        let call = read(
            r#"{"timeout_ms":7,"wait_ms":0,"on_busy":"empty","hold":"lease","worker":"c",
                "gpu":false,"cpu_cores":[1],"memory_gb":16}"#,
        );
        let expected = Hints { bind: Some(Bind::Session), ..call.clone() };
        let laid = overlay(call, &workflow);
        assert_eq!(laid, expected);
        assert_eq!(claims(&laid), [("cpu_cores", Ask::Slots(vec![1])), ("memory_gb", Ask::Amount(16))]);
    }

    #[test]
    fn holding_by_session_binds_to_it() {
        assert!(!Hints::default().binds_session());
        assert!(!read(r#"{"hold":"lease","bind":"lease"}"#).binds_session());
        assert!(read(r#"{"bind":"session"}"#).binds_session());
        assert!(read(r#"{"hold":"session"}"#).binds_session());
        assert!(read(r#"{"hold":"session","bind":"lease"}"#).binds_session());
    }

    #[test]
    fn broken_texts_are_refused_without_quoting_them() {
        let text = r#"{"gpu":[0,1],"on_busy":"empty","worker":"secret\u00e4","memory_gb":16}"#;
        assert_eq!(claims(&read(text)).len(), 2);
        for end in 0..text.len() {
            let error = parse(&text[..end]).unwrap_err();
            assert_eq!(error.code(), "22023", "{end}");
            assert!(!format!("{error:?}").contains("secret"), "{end}");
        }
    }
}
