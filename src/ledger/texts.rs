//! The texts of policies: cut into pieces at lines that their content selects, so that one changed line in a list adds
//! one piece. Each piece is stored once, compressed. Texts that nothing needs any more are deleted.
//!
//! A policy is needed as long as it is in force for an agent, or a decision or an answer refers to it.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha2::{Digest as _, Sha256};

use super::sql::{self, Connection, Optional as _, params};
use crate::policy::PolicyHash;
use crate::policy::rules::SourceText;

/// Fewest and most bytes of a piece; the last may be shorter, and a longer line is a piece of its own.
const PIECE_MIN: usize = 2 * 1024;
const PIECE_MAX: usize = 64 * 1024;
/// On average, one line in this many ends a piece.
const LINES: u64 = 256;

/// The pieces of a text, in order.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        end += line.len();
        let ends = end - start >= PIECE_MIN && line_hash(line).is_multiple_of(LINES);
        if ends || end - start >= PIECE_MAX {
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.extend((start < end).then(|| &text[start..end]));
    pieces
}

/// FNV-1a, with a final step that makes the low bits depend on the whole line.
fn line_hash(line: &str) -> u64 {
    let hash = line
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

/// Stores a text if it is not stored yet, and returns its row.
pub fn put(connection: Connection<'_>, text: &str) -> sql::Result<i64> {
    let sha = Sha256::digest(text.as_bytes());
    let known = connection
        .prepare_cached("SELECT n FROM text WHERE sha256 = ?1")?
        .query_row([sha.as_slice()], |row| row.get(0))
        .optional()?;
    if let Some(n) = known {
        return Ok(n);
    }
    let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let n = connection.insert("INSERT INTO text (sha256, bytes) VALUES (?1, ?2)", params![sha.as_slice(), bytes])?;
    fill(connection, n, text)?;
    Ok(n)
}

/// Writes the pieces of the text in this row.
pub fn fill(connection: Connection<'_>, n: i64, text: &str) -> sql::Result<()> {
    let mut find = connection.prepare_cached("SELECT n FROM chunk WHERE sha256 = ?1")?;
    let mut link = connection.prepare_cached("INSERT INTO text_chunk (text, k, chunk) VALUES (?1, ?2, ?3)")?;
    for (k, piece) in (0_i64..).zip(pieces(text)) {
        let sha = Sha256::digest(piece.as_bytes());
        let chunk = match find.query_row([sha.as_slice()], |row| row.get::<_, i64>(0)).optional()? {
            Some(chunk) => chunk,
            None => connection
                .insert("INSERT INTO chunk (sha256, body) VALUES (?1, ?2)", params![sha.as_slice(), packed(piece)?])?,
        };
        link.execute(params![n, k, chunk])?;
    }
    Ok(())
}

fn packed(piece: &str) -> sql::Result<Vec<u8>> {
    // All agents' entries wait meanwhile, and a better compression of handles gains a twentieth at twice the time.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(piece.as_bytes()).and_then(|()| encoder.finish());
    packed.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()).into())
}

/// The texts of a policy, the rules file first; none if they are not on record.
pub fn of_policy(connection: Connection<'_>, hash: &PolicyHash) -> sql::Result<Vec<SourceText>> {
    let parts = connection
        .prepare_cached(
            "SELECT part.name, text.n, text.bytes, text.sha256 FROM policy p
             JOIN policy_part part ON part.policy = p.n JOIN text ON text.n = part.text WHERE p.hash = ?1 ORDER BY part.k",
        )?
        .query_map([hash.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?
        .collect::<sql::Result<Vec<_>>>()?;
    let mut pieces = connection.prepare_cached(
        "SELECT chunk.body FROM text_chunk link JOIN chunk ON chunk.n = link.chunk WHERE link.text = ?1 ORDER BY link.k",
    )?;
    let mut texts = Vec::with_capacity(parts.len());
    for (name, text, bytes, sha) in parts {
        let most = u64::try_from(bytes).unwrap_or(0);
        let mut whole = Vec::new();
        let mut rows = pieces.query([text])?;
        while let Some(row) = rows.next()? {
            // Never more than the stated size of the text, whatever a damaged piece decompresses to.
            let room = (most + 1).saturating_sub(whole.len() as u64);
            let read =
                ZlibDecoder::new(row.get_ref(0)?.as_blob().map_err(|error| sql::Error::damaged(&error.to_string()))?)
                    .take(room)
                    .read_to_end(&mut whole);
            read.map_err(|error| sql::Error::damaged(&error.to_string()))?;
        }
        if Sha256::digest(&whole).as_slice() != sha {
            return Err(sql::Error::damaged("the text of a policy is not what was kept"));
        }
        let text = String::from_utf8(whole).map_err(|error| sql::Error::damaged(&error.to_string()))?;
        texts.push(SourceText { name, text: text.into() });
    }
    Ok(texts)
}

/// The row of the policy with this hash; a row that nothing needs any more is taken for a new one.
pub fn policy(connection: Connection<'_>, hash: &PolicyHash) -> sql::Result<i64> {
    let known = connection
        .prepare_cached("SELECT n FROM policy WHERE hash = ?1")?
        .query_row([hash.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(n) = known {
        return Ok(n);
    }
    let free = connection
        .prepare_cached(
            "SELECT n, hash FROM policy WHERE needed = 0 AND NOT EXISTS (SELECT 1 FROM policy_use WHERE policy = policy.n) LIMIT 1",
        )?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    match free {
        Some((n, before)) => {
            // Another writer of the same database may have taken the row a moment ago.
            let taken = connection
                .prepare_cached("UPDATE policy SET hash = ?2 WHERE n = ?1 AND needed = 0 AND hash = ?3")?
                .execute(params![n, hash.as_str(), before])?;
            if taken > 0 {
                return Ok(n);
            }
            connection.insert("INSERT INTO policy (hash) VALUES (?1)", [hash.as_str()])
        }
        None => connection.insert("INSERT INTO policy (hash) VALUES (?1)", [hash.as_str()]),
    }
}

/// Stores the texts of the policy in this row, if they are not stored yet.
pub fn of_row(connection: Connection<'_>, policy: i64, texts: &[SourceText]) -> sql::Result<()> {
    if connection.prepare_cached("SELECT 1 FROM policy_part WHERE policy = ?1")?.exists([policy])? {
        return Ok(());
    }
    for (k, part) in (0_i64..).zip(texts) {
        let text = put(connection, &part.text)?;
        connection
            .prepare_cached("INSERT INTO policy_part (policy, k, name, text) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![policy, k, part.name, text])?;
    }
    Ok(())
}

/// A policy has just come into force for an agent, by this row of `policy_use`. If the previous policy had the same
/// rules file and other lists, and no decision needs it, the new one replaces it, with the time since when the rules
/// were the same. Then the rest of each unused policy is deleted: its texts, and their pieces.
pub fn let_go(connection: Connection<'_>, agent: i64, used: i64) -> sql::Result<()> {
    let before = connection
        .prepare_cached(
            "SELECT b.n, b.at FROM policy_use u
             JOIN policy_use b ON b.n = (SELECT max(n) FROM policy_use WHERE agent = ?1 AND n < ?2)
             JOIN policy p ON p.n = b.policy AND p.needed = 0
             JOIN policy_part mine ON mine.policy = u.policy AND mine.k = 0
             JOIN policy_part theirs ON theirs.policy = b.policy AND theirs.k = 0 AND theirs.text = mine.text
             WHERE u.n = ?2",
        )?
        .query_row(params![agent, used], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((before, since)) = before else { return Ok(()) };
    connection.prepare_cached("DELETE FROM policy_use WHERE n = ?1")?.execute([before])?;
    connection.prepare_cached("UPDATE policy_use SET at = min(at, ?2) WHERE n = ?1")?.execute(params![used, since])?;
    let numbers = |sql: &str, of: Option<i64>| -> sql::Result<Vec<i64>> {
        let mut statement = connection.prepare_cached(sql)?;
        match of {
            Some(of) => statement.query_map([of], |row| row.get(0))?.collect(),
            None => statement.query_map([], |row| row.get(0))?.collect(),
        }
    };
    let idle = numbers(
        "SELECT p.n FROM policy p WHERE p.needed = 0 AND NOT EXISTS (SELECT 1 FROM policy_use WHERE policy = p.n)
             AND EXISTS (SELECT 1 FROM policy_part WHERE policy = p.n)",
        None,
    )?;
    for policy in idle {
        // Held from here on; left alone if somebody pushed it meanwhile.
        let held =
            connection.prepare_cached("UPDATE policy SET needed = 0 WHERE n = ?1 AND needed = 0")?.execute([policy])?;
        if held == 0 {
            continue;
        }
        for text in numbers("DELETE FROM policy_part WHERE policy = ?1 RETURNING text", Some(policy))? {
            if connection.prepare_cached("SELECT 1 FROM policy_part WHERE text = ?1")?.exists([text])? {
                continue;
            }
            for chunk in numbers("DELETE FROM text_chunk WHERE text = ?1 RETURNING chunk", Some(text))? {
                connection
                    .prepare_cached(
                        "DELETE FROM chunk WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM text_chunk WHERE chunk = ?1)",
                    )?
                    .execute([chunk])?;
            }
            connection.prepare_cached("DELETE FROM text WHERE n = ?1")?.execute([text])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_line_changes_one_piece() {
        let list: Vec<String> = (0..50_000).map(|n| format!("owner-{n}/agent-{}\n", n * 7)).collect();
        let whole = list.concat();
        let before = pieces(&whole);
        assert_eq!(before.concat(), whole);
        assert!((50..1_000).contains(&before.len()), "{}", before.len());
        for at in [0, 25_000, 49_999] {
            let mut changed = list.clone();
            changed.insert(at, "somebody-new\n".to_owned());
            let changed = changed.concat();
            let after = pieces(&changed);
            let new = after.iter().filter(|piece| !before.contains(piece)).count();
            assert!(new <= 2, "{new} pieces for a line at {at}");
        }
    }

    #[test]
    fn pieces_are_bounded_and_nothing_is_lost() {
        for text in ["", "\n", "no end of line", &"x".repeat(PIECE_MAX * 3), &"é\n".repeat(PIECE_MAX)] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
        assert!(pieces(&"é\n".repeat(PIECE_MAX)).iter().all(|piece| piece.len() <= PIECE_MAX + 3));
    }
}
