-- Smaller keys of charges and contacts. `docs/ledger.md` explains each table.
SET LOCAL search_path = doorman;

-- By time first, which is how they are read: an index by time beside the key held all columns once more. The charges of one request
-- lie between the times of its answer.
DROP INDEX charge_time;
ALTER TABLE charge DROP CONSTRAINT charge_pkey, ADD PRIMARY KEY (agent, at, request, rule, bucket);

-- In the order that is asked for. With the handle, an entry was twice as long and had to be sorted.
DROP INDEX contact_since;
CREATE INDEX contact_since ON contact ((coalesce(inserted_at, added_at)), n) WHERE removed_at IS NULL;
