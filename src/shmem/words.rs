//! Texts of bounded length.

/// An error as it is kept for `health()`.
#[derive(Default)]
pub struct ErrorNote {
    /// When, microseconds; 0: never.
    pub at: i64,
    /// Its SQLSTATE.
    pub sqlstate: heapless::String<5>,
    /// Its message, cut where there is no more room.
    pub message: heapless::String<200>,
}

impl ErrorNote {
    /// Keeps an error.
    pub fn keep(&mut self, at: i64, sqlstate: &str, message: &str) {
        self.at = at;
        self.sqlstate = cut(sqlstate);
        self.message = cut(message);
    }
}

/// A text, as much of it as there is room for.
pub fn cut<const N: usize>(text: &str) -> heapless::String<N> {
    let mut kept = heapless::String::new();
    for character in text.chars() {
        if kept.push(character).is_err() {
            break;
        }
    }
    kept
}
