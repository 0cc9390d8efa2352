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

-- The last answers of one agent, and its last change of state, without a walk through everybody's.
CREATE INDEX answer_agent ON answer (agent, n);
CREATE INDEX session_agent ON session (agent);
