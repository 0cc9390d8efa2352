-- Schema 5. `docs/ledger.md` explains each table.

-- Who has a name: an id that a payload told for it. `name`: an owner, or the handle of an agent of theirs. `doubted`: another id
-- was known for the name then, and no person said since whose it is. `basis`, `subject`: the request or contact that told.
CREATE TABLE identity (
    n       INTEGER PRIMARY KEY,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    owner   TEXT NOT NULL,
    name    TEXT NOT NULL CHECK (length(name) <= 500),
    id      TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    doubted INTEGER NOT NULL CHECK (doubted IN (0, 1)),
    basis   TEXT NOT NULL CHECK (basis IN ('other-sender', 'other-contact')),
    subject TEXT NOT NULL CHECK (length(subject) BETWEEN 1 AND 128),
    at      INTEGER NOT NULL,
    UNIQUE (agent, name, id)
) STRICT;
CREATE INDEX identity_doubted ON identity (agent, owner) WHERE doubted = 1;

-- A person may say that whoever has a name is who had it before. SQLite cannot change a CHECK, so the table is made again.
CREATE TABLE settlement_5 (
    n       INTEGER PRIMARY KEY,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    owner   TEXT NOT NULL,
    request INTEGER REFERENCES request (n),
    said    TEXT NOT NULL
        CHECK (said IN ('removed', 'not-removed', 'approved', 'rejected', 'cancelled', 'expired', 'same')),
    person  TEXT NOT NULL CHECK (length(person) <= 500),
    at      INTEGER NOT NULL,
    note    TEXT CHECK (length(note) <= 500)
) STRICT;
INSERT INTO settlement_5 (n, agent, owner, request, said, person, at, note)
    SELECT n, agent, owner, request, said, person, at, note FROM settlement;
DROP TABLE settlement;
ALTER TABLE settlement_5 RENAME TO settlement;
CREATE INDEX settlement_owner ON settlement (agent, owner);
