-- Where a person wants an agent. `docs/fleet.md` says what comes of it.
SET LOCAL search_path = doorman;

ALTER TABLE lease
    -- The name of a doorman.
    ADD COLUMN wanted    text COLLATE "C" CHECK (length(wanted) BETWEEN 1 AND 100),
    ADD COLUMN wanted_by text CHECK (length(wanted_by) <= 510),
    -- How often that changed: those who look at the leases see it, and read them again.
    ADD COLUMN wishes    bigint NOT NULL DEFAULT 0;
