-- Schema 11. `docs/ledger.md` explains each table.

-- A start asks for approvals of unknown fate that no contact shows: they are few among all answers.
CREATE INDEX answer_presumed ON answer (agent, outcome_at) WHERE outcome = 'presumed-approved';
