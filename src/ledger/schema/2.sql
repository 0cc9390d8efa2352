-- Schema 2. U+0000 in strangers' texts becomes U+FFFD in code (`schema.rs`).

-- The last answers of one agent, and its last change of state, without a walk through everybody's.
CREATE INDEX answer_agent ON answer (agent, n);
CREATE INDEX session_agent ON session (agent);
