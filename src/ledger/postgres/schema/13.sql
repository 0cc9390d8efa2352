-- Several doormen on one database: who is there, and what each may hold. `docs/fleet.md` says how leases move.

SET LOCAL search_path = doorman;

-- The leases that a doorman may hold, as a list in JSON, by its SHA-256: doormen with the same agents share one row.
CREATE TABLE roster (
    hash  text COLLATE "C" PRIMARY KEY CHECK (length(hash) = 64),
    names text NOT NULL
);

-- One life of one process each. `beat` counts up, and nobody compares clocks: the times are for people.
CREATE TABLE member (
    id         text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 100),
    -- The same for each life in one state directory.
    instance   text COLLATE "C" NOT NULL CHECK (length(instance) BETWEEN 1 AND 100),
    name       text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    version    text COLLATE "C" NOT NULL CHECK (length(version) <= 100),
    beat       bigint NOT NULL DEFAULT 0,
    state      text COLLATE "C" NOT NULL CHECK (state IN ('up', 'draining', 'left', 'dead')),
    weight     bigint NOT NULL CHECK (weight BETWEEN 1 AND 10000),
    agents_max bigint NOT NULL CHECK (agents_max >= 0),
    ttl_ms     bigint NOT NULL CHECK (ttl_ms > 0),
    roster     text COLLATE "C" NOT NULL REFERENCES roster (hash),
    -- How many of its agents have the platform.
    reached    bigint NOT NULL DEFAULT 0,
    joined_at  bigint NOT NULL,
    beat_at    bigint NOT NULL,
    -- Who set the state last, where it was not the member itself, and when.
    set_by     text COLLATE "C" CHECK (length(set_by) <= 500),
    set_at     bigint
) WITH (fillfactor = 50);

-- Only a member holds a lease from now on. A doorman of an earlier version that still runs is fenced.
UPDATE lease SET holder = NULL, epoch = epoch + 1, seq = 0;
CREATE INDEX lease_holder ON lease (holder) WHERE holder IS NOT NULL;
