-- Schema 19. `docs/ledger.md` explains each table.

-- Answers of which it is not certain that they were carried out: at a start, the charges of all others are read without a look at
-- their answers.
DROP INDEX answer_void;
CREATE INDEX answer_uncertain ON answer (agent, request) WHERE outcome <> 'approved' AND outcome <> 'rejected';

-- An agent's contacts, by time: one index for what two were for.
DROP INDEX contact_open;
DROP INDEX contact_since;
CREATE INDEX contact_since ON contact (agent, coalesce(inserted_at, added_at)) WHERE removed_at IS NULL;
