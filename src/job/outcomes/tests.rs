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
