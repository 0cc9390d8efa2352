-- Schema 14. `docs/ledger.md` explains each table.

-- Rules that a person pushed under a name, version by version; the newest is the head. Only a doorman on PostgreSQL uses them; they
-- are here so that a record keeps them on its way from one engine to the other.
CREATE TABLE policy_version (
    n       INTEGER PRIMARY KEY,
    name    TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    version INTEGER NOT NULL CHECK (version >= 1),
    policy  INTEGER NOT NULL REFERENCES policy (n),
    "by"    TEXT NOT NULL CHECK (length("by") <= 510),
    at      INTEGER NOT NULL,
    note    TEXT CHECK (length(note) <= 500),
    UNIQUE (name, version)
) STRICT;
