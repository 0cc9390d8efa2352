//! Statements are written once, in words that SQLite and PostgreSQL share. What is left is put into PostgreSQL's words here.

/// A statement in PostgreSQL's words: `?1` is `$1`; the hints that SQLite's planner gets (`INDEXED BY`, `CROSS JOIN … ON`) go;
/// so do its own names for `LIKE` with a fixed beginning and for the elements of a JSON list.
pub fn of_postgres(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['?', '\'', 'I', 'C', 'G', 'j']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('?') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('\'') {
            // A text: as it is.
            let end = inside.find('\'').map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix("INDEXED BY ") {
            rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        } else if let Some(after) = rest.strip_prefix("CROSS JOIN ") {
            out.push_str("JOIN ");
            rest = after;
        } else if let Some((beginning, after)) = rest.strip_prefix("GLOB '").and_then(|after| after.split_once("*'")) {
            out.push_str("LIKE '");
            out.push_str(beginning);
            out.push_str("%'");
            rest = after;
        } else if let Some((list, after)) = rest.strip_prefix("json_each(").and_then(|after| after.split_once(')')) {
            out.push_str(&format!(
                "json_array_elements_text(CAST(CAST({} AS text) AS json)) AS each_one(value)",
                list.replace('?', "$")
            ));
            rest = after;
        } else {
            let one = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..one]);
            rest = &rest[one..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::of_postgres;

    #[test]
    fn only_what_sqlite_alone_understands_is_changed() {
        for (sqlite, postgres) in [
            ("SELECT n FROM a WHERE x = ?1 AND y = ?12", "SELECT n FROM a WHERE x = $1 AND y = $12"),
            ("SELECT 'what?1', 'INDEXED BY x'", "SELECT 'what?1', 'INDEXED BY x'"),
            ("FROM answer w INDEXED BY answer_open WHERE", "FROM answer w  WHERE"),
            ("FROM agent a CROSS JOIN request r ON r.agent = a.n", "FROM agent a JOIN request r ON r.agent = a.n"),
            ("\"by\" GLOB 'person:*' AND Client", "\"by\" LIKE 'person:%' AND Client"),
            (
                "(SELECT value FROM json_each(?1)) x",
                "(SELECT value FROM json_array_elements_text(CAST(CAST($1 AS text) AS json)) AS each_one(value)) x",
            ),
            ("INSERT INTO x VALUES (?1) ON CONFLICT DO NOTHING", "INSERT INTO x VALUES ($1) ON CONFLICT DO NOTHING"),
        ] {
            assert_eq!(of_postgres(sqlite), postgres);
        }
    }

    /// The engines share their statements, and most tests of the ledger run on SQLite alone.
    #[test]
    fn shared_statements_have_no_word_that_only_sqlite_understands() {
        let ledger = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger");
        let mut folders = vec![ledger.clone()];
        let mut looked_at = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let inside = path.strip_prefix(&ledger).unwrap().to_string_lossy().into_owned();
                if ["sqlite", "postgres", "tests", "schema"].iter().any(|own| inside.starts_with(own)) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                looked_at += 1;
                for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                    let plain = line.replace("IS NOT NULL", "").replace("IS NOT DISTINCT FROM", "");
                    for word in ["IS NOT ", "IS ?", "INSERT OR ", "iif(", " rowid", "julianday("] {
                        assert!(
                            !plain.contains(word),
                            "{inside}:{}: PostgreSQL does not know `{word}`: {line}",
                            number + 1
                        );
                    }
                }
            }
        }
        assert!(looked_at > 10, "{looked_at} files");
    }
}
