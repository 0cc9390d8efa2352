-- What it costs to look at rows that are certainly there. `docs/ledger.md` explains each table.
SET LOCAL search_path = doorman;

-- Answers of which it is not certain that they were carried out: at a start, the charges of all others are read without a look at
-- their answers.
DROP INDEX answer_void;
CREATE INDEX answer_uncertain ON answer (agent, request) WHERE outcome <> 'approved' AND outcome <> 'rejected';

-- A request and a contact have an agent, and what names them need not check it again. A charge is written with its answer, and an
-- owner with its contact.
ALTER TABLE answer DROP CONSTRAINT answer_agent_fkey;
ALTER TABLE charge DROP CONSTRAINT charge_agent_fkey, DROP CONSTRAINT charge_request_fkey;
ALTER TABLE contact_owner DROP CONSTRAINT contact_owner_agent_fkey, DROP CONSTRAINT contact_owner_contact_fkey;

-- An agent's contacts, by time: one index for what two were for.
DROP INDEX contact_open;
DROP INDEX contact_since;
CREATE INDEX contact_since ON contact (agent, (coalesce(inserted_at, added_at)), n) WHERE removed_at IS NULL;
