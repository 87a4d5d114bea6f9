//! What a fetch asks for besides jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::Result;
use crate::json::Json;
use crate::millis::millis;

/// The hints of a fetch, of a wait or of a workflow: resources that are needed, and how.
///
/// The database lays them over the workflow's hints key by key, so only what differs has to be given. What is `None`
/// is not sent. The database checks names, amounts and combinations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// How long the lease holds, instead of the workflow's timeout.
    pub timeout: Option<Duration>,
    /// How long a fetch may wait for resources, at most one second; longer waits belong into `wait`.
    pub wait: Option<Duration>,
    /// What happens when they stay busy.
    pub on_busy: Option<OnBusy>,
    /// What keeps a slot taken.
    pub hold: Option<Scope>,
    /// What the lease ends with.
    pub bind: Option<Scope>,
    /// A name for this consumer, 1 to 63 bytes. A named consumer that holds a slot gets the same one again.
    pub worker: Option<String>,
    /// What is asked of each resource, by its name.
    pub other: BTreeMap<String, Value>,
}

/// What a fetch answers when its resources are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// No jobs. The default.
    Empty,
    /// An error with code 55P03; a transaction stays usable.
    Error,
}

/// How long something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For as long as the lease, whichever connection settles it. The default, and the one that works behind a pooler.
    Lease,
    /// No longer than the connection that fetched.
    Session,
}

impl Hints {
    /// Asks for an amount of a resource: that many slots, or units.
    pub fn amount(mut self, resource: impl Into<String>, amount: u64) -> Self {
        self.other.insert(resource.into(), Value::from(amount));
        self
    }

    /// Asks for one of these slots of a resource.
    pub fn one_of(mut self, resource: impl Into<String>, slots: impl IntoIterator<Item = u64>) -> Self {
        self.other.insert(resource.into(), slots.into_iter().map(Value::from).collect());
        self
    }

    /// Switches off what the workflow asks of a resource.
    pub fn without(mut self, resource: impl Into<String>) -> Self {
        self.other.insert(resource.into(), Value::Bool(false));
        self
    }

    /// Whether nothing is asked, so that no hints have to be sent.
    pub fn is_empty(&self) -> bool {
        *self == Hints::default()
    }

    pub(crate) fn to_json(&self) -> Result<Option<Json>> {
        if self.is_empty() {
            return Ok(None);
        }
        Json::encode(self).map(Some)
    }
}

impl Serialize for Hints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut put = |key: &str, value: Option<Value>| match value {
            Some(value) => map.serialize_entry(key, &value),
            None => Ok(()),
        };
        put("timeout_ms", self.timeout.map(|timeout| Value::from(millis(timeout))))?;
        put("wait_ms", self.wait.map(|wait| Value::from(millis(wait))))?;
        put("on_busy", self.on_busy.map(|on_busy| Value::from(on_busy.word())))?;
        put("hold", self.hold.map(|hold| Value::from(hold.word())))?;
        put("bind", self.bind.map(|bind| Value::from(bind.word())))?;
        put("worker", self.worker.clone().map(Value::from))?;
        for (resource, ask) in &self.other {
            map.serialize_entry(resource, ask)?;
        }
        map.end()
    }
}

impl OnBusy {
    fn word(self) -> &'static str {
        match self {
            OnBusy::Empty => "empty",
            OnBusy::Error => "error",
        }
    }
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Scope::Lease => "lease",
            Scope::Session => "session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_sent() {
        assert_eq!(Hints::default().to_json().unwrap(), None);
        let hints = Hints { timeout: Some(Duration::from_secs(60)), on_busy: Some(OnBusy::Error), ..Hints::default() };
        let hints = hints.amount("memory_gb", 16).one_of("gpu", [0, 1]).without("cpu_cores");
        let json = hints.to_json().unwrap().unwrap();
        assert_eq!(
            json.text(),
            r#"{"timeout_ms":60000,"on_busy":"error","cpu_cores":false,"gpu":[0,1],"memory_gb":16}"#
        );
    }
}
