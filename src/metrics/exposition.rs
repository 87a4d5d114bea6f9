//! The text format that Prometheus reads.

/// What a figure is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until the server starts again.
    Counter,
    /// Values in buckets.
    Histogram,
}

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// A page under construction: families of figures, one after the other.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// Begins a family: what follows are its figures.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One figure.
    pub fn figure(&mut self, name: &str, labels: &[Label], value: &str) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(&format!("{label}=\"{}\"", escaped(text)));
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        self.0.push_str(value);
        self.0.push('\n');
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A label's value between quotation marks.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Millionths as a decimal number: microseconds in seconds.
pub fn millionths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (value.unsigned_abs() / 1_000_000, value.unsigned_abs() % 1_000_000);
    match format!("{rest:06}").trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        rest => format!("{sign}{whole}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("qflow_x", Kind::Gauge, "An x.");
        page.figure("qflow_x", &[("queue", "a\"b\\c\nd"), ("status", "é")], "1");
        page.figure("qflow_y", &[], "2");
        let expected = "# HELP qflow_x An x.\n# TYPE qflow_x gauge\nqflow_x{queue=\"a\\\"b\\\\c\\nd\",status=\"é\"} 1\nqflow_y 2\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn millionths_as_decimals() {
        let written = [0, 1, 10_000, 1_000_000, 1_500_000, 86_400_000_000, -1_250_000].map(millionths);
        assert_eq!(written, ["0", "0.000001", "0.01", "1", "1.5", "86400", "-1.25"]);
    }
}
