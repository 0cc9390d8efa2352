-- Agents that people gave to all doormen of the database, and doormen without the platform. `docs/fleet.md` says what comes of it.
SET LOCAL search_path = doorman;

-- What was called a roster is a lease set from now on: the leases that a member may hold.
ALTER TABLE roster RENAME TO lease_set;
ALTER TABLE member RENAME COLUMN roster TO lease_set;

-- The roster: agents that people gave to the fleet. No key is in it.
CREATE TABLE fleet_agent (
    agent    text COLLATE "C" PRIMARY KEY CHECK (length(agent) = 36),
    -- The name of pushed rules.
    rules    text COLLATE "C" NOT NULL CHECK (length(rules) BETWEEN 1 AND 64),
    name     text COLLATE "C" UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    added_by text NOT NULL CHECK (length(added_by) <= 510),
    added_at bigint NOT NULL,
    note     text CHECK (length(note) <= 500)
);

-- Counts the changes of the roster: who looks at it reads the roster only then.
ALTER TABLE meta ADD COLUMN roster_changes bigint NOT NULL DEFAULT 0;

-- 1: it does not reach the platform, and takes no agents.
ALTER TABLE member ADD COLUMN away bigint NOT NULL DEFAULT 0 CHECK (away IN (0, 1));
