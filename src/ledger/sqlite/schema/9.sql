-- Schema 9. `docs/ledger.md` explains each table.

-- When all contacts of the agent were read for the first time: whoever was there then was there before doorman. Older ledgers
-- say it as well as they can: the first reading follows the first start, and its pages are written within moments.
ALTER TABLE agent ADD COLUMN contacts_read_at INTEGER;
UPDATE agent SET contacts_read_at = (
    SELECT iif(first <= start + 60000000, first + 10000000, start) FROM (SELECT
        (SELECT min(added_at) FROM contact WHERE contact.agent = agent.n AND request IS NULL AND removed_at IS NULL) AS first,
        (SELECT at FROM session WHERE session.agent = agent.n ORDER BY n LIMIT 1) AS start));

-- What `doorman contacts` looks for: by time, by nobody's answer, by who let them in.
CREATE INDEX contact_since ON contact (coalesce(inserted_at, added_at), agent, handle) WHERE removed_at IS NULL;
CREATE INDEX contact_strange ON contact (agent) WHERE request IS NULL AND removed_at IS NULL;
CREATE INDEX answer_by ON answer ("by") WHERE answer = 'approve';
CREATE INDEX answer_void ON answer (request)
    WHERE answer = 'approve' AND outcome IN ('refused', 'gone', 'withdrawn', 'settled-elsewhere');
