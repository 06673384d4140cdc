-- oldest-release: 0.1.0
CREATE TABLE thing (
    thing_id TEXT NOT NULL PRIMARY KEY,
    amount TEXT NOT NULL,
    name TEXT NOT NULL,
    flag INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    payload BLOB NOT NULL,
    maybe_id TEXT,
    maybe_amount TEXT,
    maybe_name TEXT,
    maybe_flag INTEGER,
    maybe_at_ns INTEGER
) STRICT;
