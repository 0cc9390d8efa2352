-- Schema 3. `docs/ledger.md` explains each table.

-- An id that the platform gives to another request later, of another sender or another time, names another row. SQLite cannot
-- drop a UNIQUE, so the table is made again. `id_reused`: 0, or the row's own number where a later row has its id.
CREATE TABLE request_3 (
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
    elsewhere   INTEGER CHECK (elsewhere IN (0, 1)),
    id_reused   INTEGER NOT NULL DEFAULT 0 CHECK (id_reused IN (0, n)),
    UNIQUE (agent, id, id_reused)
) STRICT;
INSERT INTO request_3
    (n, agent, id, owner, handle, name, message, inserted_at, first_seen, via, blanked, settled, settled_at, elsewhere)
    SELECT n, agent, id, owner, handle, name, message, inserted_at, first_seen, via, blanked, settled, settled_at,
        -- What only a listing, or somebody else's answer, ended was settled without an answer of ours.
        iif(settled IN ('gone', 'elsewhere'), 1, elsewhere)
    FROM request;
DROP TABLE request;
ALTER TABLE request_3 RENAME TO request;
CREATE INDEX request_time ON request (agent, first_seen);
CREATE INDEX request_open ON request (agent) WHERE settled IS NULL;
CREATE INDEX request_owner ON request (owner);
CREATE INDEX request_elsewhere ON request (agent, settled_at) WHERE elsewhere = 1;

-- A contact that came again under the id of one that was removed: the removal stays on record.
CREATE TABLE contact_removal (
    contact INTEGER NOT NULL REFERENCES contact (n),
    agent   INTEGER NOT NULL REFERENCES agent (n),
    at      INTEGER NOT NULL,
    PRIMARY KEY (contact, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX contact_removal_time ON contact_removal (agent, at);
