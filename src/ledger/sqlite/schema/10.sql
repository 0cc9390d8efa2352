-- Schema 10. `docs/ledger.md` explains each table.

-- A person gave a guest another end; null: none, the guest stays.
CREATE TABLE guest_end (
    n       INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request (n),
    ends_at INTEGER,
    person  TEXT NOT NULL CHECK (length(person) <= 500),
    at      INTEGER NOT NULL,
    note    TEXT CHECK (length(note) <= 500)
) STRICT;
CREATE INDEX guest_end_request ON guest_end (request);
