-- Schema 4. `docs/ledger.md` explains each table.

-- What the agent was called last, as the platform says.
ALTER TABLE agent ADD COLUMN handle TEXT CHECK (length(handle) <= 500);

-- What a person noted beside what they said.
ALTER TABLE answer ADD COLUMN note TEXT CHECK (length(note) <= 500);
ALTER TABLE hold ADD COLUMN note TEXT CHECK (length(note) <= 500);
ALTER TABLE pause ADD COLUMN note TEXT CHECK (length(note) <= 500);
ALTER TABLE settlement ADD COLUMN note TEXT CHECK (length(note) <= 500);

-- A contact that a person removed. `request`: the one whose approval had made it.
CREATE TABLE revocation (
    n       INTEGER PRIMARY KEY,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    contact TEXT NOT NULL CHECK (length(contact) BETWEEN 1 AND 128),
    request INTEGER REFERENCES request (n),
    person  TEXT NOT NULL CHECK (length(person) <= 500),
    at      INTEGER NOT NULL,
    note    TEXT CHECK (length(note) <= 500)
) STRICT;
CREATE INDEX revocation_request ON revocation (request) WHERE request IS NOT NULL;
CREATE INDEX revocation_time ON revocation (agent, at);
