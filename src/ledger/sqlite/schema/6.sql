-- Schema 6. `docs/ledger.md` explains each table.

-- Messages to the targets of `[[notify]]`. One is under way for each; its text goes when it has ended.
CREATE TABLE delivery (
    n        INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
    target   TEXT NOT NULL CHECK (length(target) BETWEEN 1 AND 32),
    body     TEXT CHECK (json_valid(body)),
    at       INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at  INTEGER NOT NULL,
    ended_at INTEGER,
    result   TEXT CHECK (result IN ('delivered', 'gave-up', 'stopped')),
    why      TEXT CHECK (length(why) <= 500),
    CHECK ((ended_at IS NULL) = (result IS NULL)),
    CHECK ((ended_at IS NULL) = (body IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX delivery_open ON delivery (target) WHERE ended_at IS NULL;
CREATE INDEX delivery_target ON delivery (target, n);

-- How far each target was told: the newest decision, the newest overdue notice, and which conditions.
CREATE TABLE notify_mark (
    target     TEXT PRIMARY KEY,
    decision   INTEGER NOT NULL,
    overdue    INTEGER NOT NULL,
    conditions TEXT NOT NULL CHECK (json_valid(conditions))
) STRICT, WITHOUT ROWID;

-- Overdue notices in their order.
CREATE TABLE notice_6 (
    n       INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request (n),
    overdue TEXT NOT NULL,
    at      INTEGER NOT NULL,
    UNIQUE (request, overdue)
) STRICT;
INSERT INTO notice_6 (request, overdue, at) SELECT request, overdue, at FROM notice ORDER BY at;
DROP TABLE notice;
ALTER TABLE notice_6 RENAME TO notice;
