-- The ledger, schema 1. Times are microseconds since 1970-01-01T00:00:00Z. `docs/ledger.md` explains each table.

CREATE TABLE agent (
    n  INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE text (
    n      INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE policy (
    n    INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE CHECK (length(hash) <= 128)
) STRICT;

CREATE TABLE policy_part (
    policy INTEGER NOT NULL REFERENCES policy (n),
    k      INTEGER NOT NULL,
    name   TEXT NOT NULL,
    text   INTEGER NOT NULL REFERENCES text (n),
    PRIMARY KEY (policy, k)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_use (
    n      INTEGER PRIMARY KEY,
    agent  INTEGER NOT NULL REFERENCES agent (n),
    policy INTEGER NOT NULL REFERENCES policy (n),
    at     INTEGER NOT NULL
) STRICT;

CREATE TABLE request (
    n           INTEGER PRIMARY KEY,
    agent       INTEGER NOT NULL REFERENCES agent (n),
    id          TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    owner       TEXT,
    handle      TEXT CHECK (length(handle) <= 500),
    name        TEXT CHECK (length(name) <= 500),
    message     TEXT CHECK (length(message) <= 500),
    inserted_at INTEGER,
    first_seen  INTEGER NOT NULL,
    via         TEXT NOT NULL CHECK (via IN ('event', 'listing')),
    blanked     INTEGER NOT NULL DEFAULT 0,
    settled     TEXT,
    settled_at  INTEGER,
    UNIQUE (agent, id)
) STRICT;
CREATE INDEX request_time ON request (agent, first_seen);
CREATE INDEX request_open ON request (agent) WHERE settled IS NULL;

CREATE TABLE decision (
    n       INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request (n),
    at      INTEGER NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('approve', 'reject', 'defer')),
    "by"    TEXT NOT NULL,
    policy  INTEGER NOT NULL REFERENCES policy (n),
    mode    TEXT NOT NULL CHECK (mode IN ('enforce', 'shadow')),
    facts   TEXT NOT NULL CHECK (json_valid(facts))
) STRICT;
CREATE INDEX decision_request ON decision (request);

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
    outcome     TEXT CHECK (outcome IN ('applied', 'presumed-applied', 'settled-elsewhere', 'gone', 'refused', 'unknown', 'withdrawn')),
    outcome_at  INTEGER,
    detail      TEXT CHECK (length(detail) <= 500)
) STRICT;
CREATE INDEX answer_request ON answer (request);
CREATE INDEX answer_time ON answer (agent, outcome_at) WHERE outcome_at IS NOT NULL;
-- One open answer a request: a second, different one cannot even be intended.
CREATE UNIQUE INDEX answer_open ON answer (agent, request) WHERE outcome IS NULL OR outcome = 'unknown';

CREATE TABLE charge (
    request INTEGER NOT NULL REFERENCES request (n),
    rule    TEXT NOT NULL,
    bucket  TEXT NOT NULL,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    at      INTEGER NOT NULL,
    PRIMARY KEY (request, rule, bucket)
) STRICT, WITHOUT ROWID;
CREATE INDEX charge_time ON charge (agent, at);

CREATE TABLE pause (
    n     INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL REFERENCES agent (n),
    paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
    "by"  TEXT NOT NULL,
    at    INTEGER NOT NULL
) STRICT;
CREATE INDEX pause_agent ON pause (agent, paused);

CREATE TABLE hold (
    n        INTEGER PRIMARY KEY,
    agent    INTEGER NOT NULL REFERENCES agent (n),
    request  INTEGER NOT NULL REFERENCES request (n),
    person   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE UNIQUE INDEX hold_open ON hold (agent, request) WHERE ended_at IS NULL;

CREATE TABLE notice (
    request INTEGER NOT NULL REFERENCES request (n),
    overdue TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (request, overdue)
) STRICT, WITHOUT ROWID;

CREATE TABLE contact (
    n           INTEGER PRIMARY KEY,
    agent       INTEGER NOT NULL REFERENCES agent (n),
    id          TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    owner       TEXT,
    handle      TEXT CHECK (length(handle) <= 500),
    name        TEXT CHECK (length(name) <= 500),
    kind        TEXT CHECK (kind IN ('user', 'agent', 'other')),
    inserted_at INTEGER,
    added_at    INTEGER,
    request     INTEGER REFERENCES request (n),
    removed_at  INTEGER,
    UNIQUE (agent, id)
) STRICT;
CREATE INDEX contact_removed ON contact (agent, removed_at) WHERE removed_at IS NOT NULL;
CREATE INDEX contact_ours ON contact (request) WHERE request IS NOT NULL AND removed_at IS NULL;

CREATE TABLE session (
    n     INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL REFERENCES agent (n),
    state TEXT NOT NULL,
    why   TEXT NOT NULL CHECK (length(why) <= 500),
    at    INTEGER NOT NULL
) STRICT;
