-- Schema 12. `docs/ledger.md` explains each table.

-- SQLite makes a temporary table of an `IN` with more than two words, at each statement that looks at it: a third of what a
-- request cost. So words are compared one by one, here and, in code, in the CHECKs of all tables (`schema.rs`).
DROP INDEX answer_void;
CREATE INDEX answer_void ON answer (request) WHERE answer = 'approve'
    AND (outcome = 'refused' OR outcome = 'gone' OR outcome = 'withdrawn' OR outcome = 'settled-elsewhere');
