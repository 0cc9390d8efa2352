-- Schema 7. `docs/ledger.md` explains each table.

-- What a decider said of a request. `question` names what it was asked: the rule and the request's text.
CREATE TABLE told (
    n        INTEGER PRIMARY KEY,
    request  INTEGER NOT NULL REFERENCES request (n),
    decider  TEXT NOT NULL CHECK (length(decider) BETWEEN 1 AND 64),
    rule     TEXT NOT NULL CHECK (length(rule) BETWEEN 1 AND 64),
    question TEXT NOT NULL CHECK (length(question) = 64),
    verdict  TEXT NOT NULL CHECK (verdict IN ('approve', 'reject', 'defer')),
    reason   TEXT CHECK (length(reason) <= 500),
    took_ms  INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX told_request ON told (request);
