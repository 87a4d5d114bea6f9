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
    let asks = hints.resources.iter().filter(|(_, ask)| **ask != Ask::Nothing);
    asks.map(|(name, ask)| (name.as_str(), ask.clone())).collect()
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
    assert_eq!(read(&naming(32)).resources.len(), 32);
    assert_eq!(parse(&naming(33)).unwrap_err().code(), "54000");

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
