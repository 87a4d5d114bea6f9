//! What `verify` and `readiness` answer with.

/// One thing looked at.
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it: statements, where there are any.
    pub remedy: Option<String>,
}

impl Check {
    /// All is well.
    pub fn well(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), remedy: None }
    }

    /// Something is to be done.
    pub fn gap(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}
