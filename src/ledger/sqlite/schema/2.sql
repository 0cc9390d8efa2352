-- Schema 2. `docs/ledger.md` explains each table. U+0000 in strangers' texts becomes U+FFFD in code (`schema.rs`).

-- Every owner that a contact ever had: by its handles, and by the request whose answer made it.
CREATE TABLE contact_owner (
    contact INTEGER NOT NULL REFERENCES contact (n),
    owner   TEXT NOT NULL,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    at      INTEGER NOT NULL,
    PRIMARY KEY (contact, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX contact_owner_owner ON contact_owner (agent, owner);
INSERT OR IGNORE INTO contact_owner (contact, owner, agent, at)
    SELECT n, owner, agent, coalesce(added_at, removed_at, 0) FROM contact WHERE owner IS NOT NULL;
INSERT OR IGNORE INTO contact_owner (contact, owner, agent, at)
    SELECT c.n, r.owner, c.agent, coalesce(c.added_at, c.removed_at, 0)
    FROM contact c JOIN request r ON r.n = c.request WHERE r.owner IS NOT NULL;
CREATE INDEX contact_open ON contact (agent) WHERE removed_at IS NULL;

-- What a person said of a doubt.
CREATE TABLE settlement (
    n       INTEGER PRIMARY KEY,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    owner   TEXT NOT NULL,
    request INTEGER REFERENCES request (n),
    said    TEXT NOT NULL CHECK (said IN ('removed', 'not-removed', 'approved', 'rejected', 'cancelled', 'expired')),
    person  TEXT NOT NULL CHECK (length(person) <= 500),
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX settlement_owner ON settlement (agent, owner);

-- Outcomes are said in the words of the log: `approved` and `rejected` in place of `applied`. SQLite cannot change a CHECK,
-- so the table is made again.
DROP INDEX answer_request;
DROP INDEX answer_time;
DROP INDEX answer_open;
ALTER TABLE answer RENAME TO answer_1;
CREATE TABLE answer (
    n           INTEGER PRIMARY KEY,
    agent       INTEGER NOT NULL REFERENCES agent (n),
    request     INTEGER NOT NULL REFERENCES request (n),
    answer      TEXT NOT NULL CHECK (answer IN ('approve', 'reject')),
    "by"        TEXT NOT NULL,
    policy      INTEGER REFERENCES policy (n),
    counts      INTEGER,
    at          INTEGER NOT NULL,
    attempts    INTEGER NOT NULL CHECK (attempts >= 1),
    reserved_at INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    outcome     TEXT CHECK (outcome IN ('approved', 'rejected', 'presumed-approved', 'presumed-rejected',
                    'settled-elsewhere', 'gone', 'refused', 'unknown', 'withdrawn')),
    outcome_at  INTEGER,
    detail      TEXT CHECK (length(detail) <= 500),
    CHECK (outcome NOT IN ('approved', 'presumed-approved') OR answer = 'approve'),
    CHECK (outcome NOT IN ('rejected', 'presumed-rejected') OR answer = 'reject')
) STRICT;
INSERT INTO answer
SELECT n, agent, request, answer, "by", policy, counts, at, attempts, reserved_at, last_at,
    CASE outcome
        WHEN 'applied' THEN iif(answer = 'approve', 'approved', 'rejected')
        WHEN 'presumed-applied' THEN iif(answer = 'approve', 'presumed-approved', 'presumed-rejected')
        ELSE outcome
    END,
    outcome_at, detail
FROM answer_1;
DROP TABLE answer_1;
CREATE INDEX answer_request ON answer (request);
CREATE INDEX answer_time ON answer (agent, outcome_at) WHERE outcome_at IS NOT NULL;
-- One open answer a request: a second, different one cannot even be intended.
CREATE UNIQUE INDEX answer_open ON answer (agent, request) WHERE outcome IS NULL OR outcome = 'unknown';

-- The last answers of one agent, and its last change of state, without a walk through everybody's.
CREATE INDEX answer_agent ON answer (agent, n);
CREATE INDEX session_agent ON session (agent);

-- Whoever asked, by the comparable owner; and who was settled without an answer of ours, by when.
CREATE INDEX request_owner ON request (owner);
ALTER TABLE request ADD COLUMN elsewhere INTEGER CHECK (elsewhere IN (0, 1));
UPDATE request SET elsewhere = 1 WHERE settled IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM answer w WHERE w.request = request.n AND w.outcome_at = request.settled_at);
CREATE INDEX request_elsewhere ON request (agent, settled_at) WHERE elsewhere = 1;

-- The newest decision when the row was written, which tells what came first where times cannot: answers, pauses and
-- decisions of one step share a microsecond, and a clock may jump. Null in rows of schema 1.
ALTER TABLE answer ADD COLUMN after_decision INTEGER;
ALTER TABLE pause ADD COLUMN after_decision INTEGER;
ALTER TABLE hold ADD COLUMN after_decision INTEGER;
ALTER TABLE hold ADD COLUMN ended_after INTEGER;

-- Contacts that no answer of ours explains.
CREATE INDEX contact_unexplained ON contact (agent, added_at) WHERE request IS NULL AND removed_at IS NULL;

-- The texts of policies in pieces, compressed; `schema.rs` cuts those of schema 1 up and drops `text.body`. `needed`: a
-- decision or an answer names the policy.
CREATE TABLE chunk (
    n      INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    body   BLOB NOT NULL
) STRICT;
CREATE TABLE text_chunk (
    text  INTEGER NOT NULL REFERENCES text (n),
    k     INTEGER NOT NULL,
    chunk INTEGER NOT NULL REFERENCES chunk (n),
    PRIMARY KEY (text, k)
) STRICT, WITHOUT ROWID;
CREATE INDEX text_chunk_chunk ON text_chunk (chunk);
CREATE INDEX policy_part_text ON policy_part (text);
CREATE INDEX policy_use_agent ON policy_use (agent);
CREATE INDEX policy_use_policy ON policy_use (policy);
ALTER TABLE text ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE policy ADD COLUMN needed INTEGER NOT NULL DEFAULT 0 CHECK (needed IN (0, 1));
UPDATE policy SET needed = 1 WHERE n IN (SELECT policy FROM decision) OR n IN (SELECT policy FROM answer);
CREATE INDEX policy_idle ON policy (n) WHERE needed = 0;

-- How the platform refused an answer, in place of a word at the start of its detail.
ALTER TABLE answer ADD COLUMN refused TEXT CHECK (refused IN ('malformed', 'forbidden'));
UPDATE answer SET refused = CASE WHEN detail LIKE 'malformed%' THEN 'malformed' ELSE 'forbidden' END
WHERE outcome = 'refused' OR (outcome = 'unknown' AND detail LIKE 'malformed%');

-- What was known of a request before the platform said something else of it.
CREATE TABLE request_change (
    n       INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request (n),
    at      INTEGER NOT NULL,
    handle  TEXT CHECK (length(handle) <= 500),
    name    TEXT CHECK (length(name) <= 500),
    message TEXT CHECK (length(message) <= 500)
) STRICT;
CREATE INDEX request_change_request ON request_change (request);
