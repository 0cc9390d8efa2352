-- Two indexes less. `docs/ledger.md` explains each table.
SET LOCAL search_path = doorman;

-- A charge is found by its request's answer, which has a time and an index by it: one more by the charge's own time took as much as
-- the charge.
DROP INDEX charge_time;

-- Time alone: rows of one moment follow each other by their number, which is the order that is asked for. With the handle, an entry
-- was twice as long and had to be sorted.
DROP INDEX contact_since;
CREATE INDEX contact_since ON contact ((coalesce(inserted_at, added_at)), n) WHERE removed_at IS NULL;
