-- Schema 8. `docs/ledger.md` explains each table.

-- For how long an approval lets in, in microseconds; null: for good.
ALTER TABLE answer ADD COLUMN lasts INTEGER CHECK (lasts > 0);

-- An approval for a time that was carried out. `contact`: the one that it made, as far as is known; `doubt`: why that is not
-- certain. `over`: it has no end to wait for any more.
CREATE TABLE guest (
    n          INTEGER PRIMARY KEY,
    agent      INTEGER NOT NULL REFERENCES agent (n),
    request    INTEGER NOT NULL REFERENCES request (n),
    ends_at    INTEGER NOT NULL,
    made_from  INTEGER NOT NULL,
    made_until INTEGER NOT NULL,
    contact    TEXT CHECK (length(contact) BETWEEN 1 AND 128),
    doubt      TEXT CHECK (doubt IN ('presumed', 'another-time', 'no-time')),
    over       TEXT CHECK (over IN ('expired', 'removed', 'unseen', 'again')),
    over_at    INTEGER
) STRICT;
CREATE INDEX guest_open ON guest (agent, ends_at) WHERE over IS NULL;
CREATE INDEX guest_request ON guest (request);
CREATE INDEX guest_contact ON guest (agent, contact) WHERE contact IS NOT NULL AND over IS NULL;

-- Contacts that doorman removes: for a person, or because their end has come. In place of `revocation`, which had only what was
-- removed for people.
CREATE TABLE removal (
    n          INTEGER PRIMARY KEY,
    agent      INTEGER NOT NULL REFERENCES agent (n),
    contact    TEXT NOT NULL CHECK (length(contact) BETWEEN 1 AND 128),
    request    INTEGER REFERENCES request (n),
    "by"       TEXT NOT NULL CHECK (length("by") <= 510),
    at         INTEGER NOT NULL,
    note       TEXT CHECK (length(note) <= 500),
    attempts   INTEGER NOT NULL CHECK (attempts >= 1),
    last_at    INTEGER NOT NULL,
    outcome    TEXT CHECK (outcome IN ('removed', 'gone', 'refused', 'unknown')),
    outcome_at INTEGER,
    detail     TEXT CHECK (length(detail) <= 500)
) STRICT;
INSERT INTO removal (n, agent, contact, request, "by", at, note, attempts, last_at, outcome, outcome_at)
    SELECT n, agent, contact, request, 'person:' || person, at, note, 1, at, 'removed', at FROM revocation;
DROP TABLE revocation;
CREATE INDEX removal_request ON removal (request) WHERE request IS NOT NULL;
CREATE INDEX removal_time ON removal (agent, at);
CREATE INDEX removal_open ON removal (agent, contact) WHERE outcome IS NULL OR outcome IN ('refused', 'unknown');

-- Whether a removal was the end of the contact, which counts for nobody.
ALTER TABLE contact ADD COLUMN expired INTEGER NOT NULL DEFAULT 0 CHECK (expired IN (0, 1));
ALTER TABLE contact_removal ADD COLUMN expired INTEGER NOT NULL DEFAULT 0 CHECK (expired IN (0, 1));

-- Which answer made a contact, also where it is gone: one that has met its contact waits for no other.
DROP INDEX contact_ours;
CREATE INDEX contact_request ON contact (request) WHERE request IS NOT NULL;
