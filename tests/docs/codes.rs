//! The tables of error codes, close codes and refused handshakes have every code of the program, and no other.

use std::collections::BTreeSet;

use super::page::{codes, files_below, numbers_behind, read, rows, section};

#[test]
fn the_table_of_error_codes_has_every_code_of_the_admin_api() {
    let source = read("src/admin/error.rs");
    let coded = numbers_behind(&source, ": u16 = ");
    assert!(coded.len() > 20, "{coded:?}");
    assert_eq!(codes("docs/operation.md", "## Error codes"), coded);
}

#[test]
fn the_client_knows_the_gateways_code_for_an_unknown_outcome() {
    let source = read("src/admin/error.rs");
    let coded = numbers_behind(&source, "OUTCOME_UNKNOWN: u16 = ");
    let known = u16::try_from(towncrier_client::admin::OUTCOME_UNKNOWN);
    assert_eq!(coded, BTreeSet::from([known.unwrap()]));
}

/// The names of the HTTP statuses that the ports answer with.
const STATUSES: [(&str, u16); 14] = [
    ("OK", 200),
    ("BAD_REQUEST", 400),
    ("FORBIDDEN", 403),
    ("NOT_FOUND", 404),
    ("METHOD_NOT_ALLOWED", 405),
    ("REQUEST_TIMEOUT", 408),
    ("CONFLICT", 409),
    ("PAYLOAD_TOO_LARGE", 413),
    ("UPGRADE_REQUIRED", 426),
    ("TOO_MANY_REQUESTS", 429),
    ("REQUEST_HEADER_FIELDS_TOO_LARGE", 431),
    ("INTERNAL_SERVER_ERROR", 500),
    ("NOT_IMPLEMENTED", 501),
    ("SERVICE_UNAVAILABLE", 503),
];

/// The name in capitals at the begin of a text.
fn word(text: &str) -> String {
    let is_word = |c: &char| c.is_ascii_uppercase() || *c == '_';
    text.chars().take_while(is_word).collect()
}

/// The HTTP status whose name stands at the begin of a text.
fn status(text: &str) -> u16 {
    let name = word(text);
    let known = STATUSES.iter().find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("{text}")).1
}

/// Each refusal of the admin API in its source: errCode, HTTP status, and the seconds in `Retry-After`.
fn verdicts(source: &str) -> BTreeSet<(u16, u16, Option<u16>)> {
    let (codes, rest) = source.split_once("\n}\n").unwrap();
    let number_of = |name: &str| -> u16 {
        let (_, value) = codes.split_once(&format!("const {name}: u16 = ")).unwrap();
        value.split(';').next().unwrap().parse().unwrap()
    };
    let program = rest.split("#[cfg(test)]").next().unwrap();
    let mut found = BTreeSet::new();
    for (at, _) in program.match_indices("code::") {
        let (before, name) = (
            program[..at].trim_end(),
            word(&program[at + "code::".len()..]),
        );
        // A refusal ends where the next one names its code.
        let rest = &program[at..];
        let next = rest[1..].find("code::").map_or(rest.len(), |next| next + 1);
        let call = &rest[..next];
        let (status, retry_after) = if before.ends_with("unavailable(") {
            let arguments = call.split_once('"').unwrap().1.split_once("\",").unwrap().1;
            let digits = arguments.trim_start();
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            (503, digits.parse().ok())
        } else if before.ends_with("bad(") {
            (400, None)
        } else {
            let status = status(before.rsplit_once("::").unwrap().1);
            let arm = call.split("=>").next().unwrap();
            let retry = numbers_behind(arm, ".retry_after(").pop_first();
            (status, retry)
        };
        found.insert((number_of(&name), status, retry_after));
    }
    found
}

#[test]
fn the_table_of_error_codes_has_status_and_retry_after_of_each_refusal() {
    let coded = verdicts(&read("src/admin/error.rs"));
    assert!(coded.len() > 20, "{coded:?}");
    let section = section("docs/operation.md", "## Error codes");
    let mut told = BTreeSet::new();
    for row in rows(&section) {
        let Ok(code) = row[0].parse() else { continue };
        for status in row[1].split(", ") {
            told.insert((code, status.parse().unwrap(), row[2].parse().ok()));
        }
    }
    assert_eq!(told, coded);
    for (code, status, retry_after) in coded {
        let may_wait = [429, 503].contains(&status);
        assert_eq!(retry_after.is_some(), may_wait, "{code}");
    }
}

/// The HTTP statuses of a refused handshake in its source, each with `true` if it tells the client how long to wait.
fn refused_handshakes(source: &str) -> BTreeSet<(u16, bool)> {
    let (_, response) = source.split_once("fn response(self)").unwrap();
    let (response, _) = response.split_once("\n    }\n").unwrap();
    let (answers, headers) = response.split_once("};\n").unwrap();
    let waiting = headers.split("Self::").skip(1).filter_map(|arm| {
        let name = arm.split(|c: char| !c.is_alphanumeric()).next()?;
        arm.contains("RETRY_AFTER")
            .then(|| format!("Self::{name}("))
    });
    let waiting: Vec<_> = waiting.collect();
    let (_, arms) = answers.split_once("match self {").unwrap();
    let mut found = BTreeSet::new();
    let mut pattern = arms;
    for (at, mark) in arms.match_indices("StatusCode::") {
        pattern = &pattern[pattern.find("Self::").unwrap()..];
        let begin = arms.len() - pattern.len();
        let has_wait = waiting.iter().any(|name| arms[begin..at].contains(name));
        found.insert((status(&arms[at + mark.len()..]), has_wait));
        pattern = &arms[at..];
    }
    found
}

#[test]
fn the_table_of_refused_handshakes_has_each_status_and_says_which_of_them_tell_how_long_to_wait() {
    let coded = refused_handshakes(&read("src/door/upgrade.rs"));
    assert!(coded.len() > 5, "{coded:?}");
    let section = section("docs/protocol.md", "## Transport");
    let mut told = BTreeSet::new();
    for row in rows(&section) {
        let statuses = row[0].split(", ").filter_map(|status| status.parse().ok());
        told.extend(statuses.map(|status| (status, row[row.len() - 1].contains("Retry-After"))));
    }
    // Only a proxy asks for a sign-on.
    assert!(told.remove(&(401, false)));
    assert_eq!(told, coded);
}

#[test]
fn the_tables_of_close_codes_have_every_code_that_is_sent() {
    let folders = ["src/protocol", "websocket/src"];
    let files = folders.into_iter().flat_map(files_below);
    let closes = files.filter(|path| path.ends_with("close.rs"));
    let mut coded = BTreeSet::new();
    for path in closes {
        let text = read(path);
        // Each arm of a match names a variant and ends in its code.
        for line in text.lines().map(str::trim) {
            let arm = ["Reason::", "Self::"]
                .iter()
                .any(|start| line.starts_with(start));
            if arm {
                coded.extend(numbers_behind(line, "=> "));
            }
        }
    }
    assert!(coded.len() > 10, "{coded:?}");
    assert_eq!(codes("docs/operation.md", "## Close codes"), coded);
    assert_eq!(codes("docs/protocol.md", "## Close codes"), coded);
}

#[test]
fn a_client_stops_at_the_codes_that_the_protocol_says_and_at_no_other() {
    let section = section("docs/protocol.md", "## Close codes");
    let mut told = 0;
    for row in rows(&section) {
        let Ok(code) = row[0].parse::<u16>() else {
            continue;
        };
        told += 1;
        let stops = row[2].starts_with("Stop.");
        assert_eq!(stops, (4000..4500).contains(&code), "{code}");
        assert!(stops || row[2].starts_with("Come back"), "{code}");
    }
    assert!(told > 10, "{told}");
    for (source, rule) in [
        ("client/src/backoff.rs", "!(4000..4500).contains(&code)"),
        ("web/client/src/backoff.ts", "code < 4000 || code >= 4500"),
    ] {
        assert!(read(source).contains(rule), "{source}: {rule}");
    }
}
