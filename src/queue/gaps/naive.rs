//! Defaults of columns without time zone, as the server prints them: which of them depend on the session's zone.

use crate::queue::name::literal;

/// Words that give an instant: what they are to be written in a zone.
const INSTANTS: [&str; 5] =
    ["now()", "CURRENT_TIMESTAMP", "clock_timestamp()", "statement_timestamp()", "transaction_timestamp()"];

/// A clock that has lost its zone already.
const LOCAL: &str = "LOCALTIMESTAMP";

/// Whether a default gives the same whatever the session's zone: a constant, or a clock in a zone that is named. All that
/// is not known is not.
pub fn is_sound(default: &str) -> bool {
    is_constant(default) || is_zoned(default)
}

/// `'2020-01-01 00:00:00'::timestamp without time zone`.
fn is_constant(default: &str) -> bool {
    let Some((value, kind)) = default.strip_prefix('\'').and_then(|rest| rest.split_once("'::")) else {
        return default.starts_with("NULL::timestamp");
    };
    !value.contains('\'')
        && kind.starts_with("timestamp")
        && kind.ends_with("without time zone")
        && !kind.contains('\'')
}

/// `timezone('UTC'::text, now())` or `(now() AT TIME ZONE 'UTC'::text)`.
fn is_zoned(default: &str) -> bool {
    let called = default.strip_prefix("timezone('").and_then(|rest| rest.strip_suffix(')'));
    if let Some((zone, clock)) = called.and_then(|rest| rest.split_once("'::text, ")) {
        return !zone.contains('\'') && is_instant(clock);
    }
    let written = default.strip_prefix('(').and_then(|rest| rest.strip_suffix("'::text)"));
    let parts = written.and_then(|rest| rest.split_once(" AT TIME ZONE '"));
    parts.is_some_and(|(clock, zone)| !zone.contains('\'') && is_instant(clock))
}

/// One of the clocks, `CURRENT_TIMESTAMP` also with a precision.
fn is_instant(text: &str) -> bool {
    let precision = text.strip_prefix("CURRENT_TIMESTAMP(").and_then(|rest| rest.strip_suffix(')'));
    INSTANTS.contains(&text) || precision.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a default asks for the time of day, in whatever way.
pub fn reads_clock(default: &str) -> bool {
    INSTANTS.iter().chain(&[LOCAL]).any(|clock| {
        // A function of the owner's may end in the same letters, or be called the same in his schema.
        let is_word =
            |at: usize| !default[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"'));
        default.match_indices(clock).any(|(at, _)| is_word(at))
    })
}

/// What is to stand there instead.
pub fn replacement(default: &str, zone: &str) -> String {
    at_zone(if is_instant(default) { default } else { "now()" }, zone)
}

/// An instant in a zone.
pub fn at_zone(instant: &str, zone: &str) -> String {
    format!("timezone({}, {instant})", literal(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_named_zones_are_sound() {
        for default in [
            "'2020-01-01 00:00:00'::timestamp without time zone",
            "'infinity'::timestamp without time zone",
            "'2020-01-01 00:00:00'::timestamp(0) without time zone",
            "NULL::timestamp without time zone",
            "timezone('UTC'::text, now())",
            "timezone('utc'::text, CURRENT_TIMESTAMP(0))",
            "(now() AT TIME ZONE 'utc'::text)",
            "(CURRENT_TIMESTAMP AT TIME ZONE 'Europe/Berlin'::text)",
        ] {
            assert!(is_sound(default), "{default}");
        }
    }

    #[test]
    fn whatever_takes_the_zone_of_the_session_is_not() {
        for default in [
            "now()",
            "CURRENT_TIMESTAMP",
            "CURRENT_TIMESTAMP(0)",
            "LOCALTIMESTAMP",
            "LOCALTIMESTAMP(3)",
            "(now())::timestamp without time zone",
            "(CURRENT_TIMESTAMP)::timestamp without time zone",
            "timezone('UTC'::text, LOCALTIMESTAMP)",
            "timezone(current_setting('TimeZone'::text), now())",
            "(clock_timestamp() + '01:00:00'::interval)",
            "date_trunc('second'::text, now())",
        ] {
            assert!(!is_sound(default) && reads_clock(default), "{default}");
        }
        for default in ["my.clock()", "my.now()", "know()", "'2020-01-01 00:00:00+00'::timestamp with time zone"] {
            assert!(!is_sound(default) && !reads_clock(default), "{default}");
        }
    }
}
