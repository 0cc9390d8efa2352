-- Schema 17. `docs/ledger.md` explains each table.

-- Nothing: the step of this number is for PostgreSQL alone, where several doormen share one record. The engines' numbers stay equal.
