-- Schema 18. `docs/ledger.md` explains each table.

-- By time first, which is how they are read: an index by time beside the key held all columns once more. The charges of one request
-- lie between the times of its answer.
CREATE TABLE new_charge (
    request INTEGER NOT NULL REFERENCES request (n),
    rule    TEXT NOT NULL,
    bucket  TEXT NOT NULL,
    agent   INTEGER NOT NULL REFERENCES agent (n),
    at      INTEGER NOT NULL,
    PRIMARY KEY (agent, at, request, rule, bucket)
) STRICT, WITHOUT ROWID;
INSERT INTO new_charge (request, rule, bucket, agent, at)
    SELECT request, rule, bucket, agent, at FROM charge ORDER BY agent, at, request, rule, bucket;
DROP TABLE charge;
ALTER TABLE new_charge RENAME TO charge;

-- Time alone: rows of one moment follow each other by their number, which is the order that is asked for. With the handle, an entry
-- was twice as long and had to be sorted.
DROP INDEX contact_since;
CREATE INDEX contact_since ON contact (coalesce(inserted_at, added_at)) WHERE removed_at IS NULL;
