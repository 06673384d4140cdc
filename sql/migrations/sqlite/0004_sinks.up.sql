-- oldest-release: 0.1.0

-- How far each sink has confirmed the events of each account.
CREATE TABLE outbox_cursor (
    sink TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    seq INTEGER NOT NULL,
    PRIMARY KEY (sink, account_id)
) STRICT, WITHOUT ROWID;

-- Commands that came as messages and have taken effect, so that none takes effect twice.
CREATE TABLE inbox (
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    -- Of what the message held: another message under a known id is told apart.
    digest TEXT NOT NULL,
    -- The order may be archived, so this refers to nothing.
    order_id TEXT,
    taken_time_ns INTEGER NOT NULL,
    PRIMARY KEY (source, message_id)
) STRICT, WITHOUT ROWID;
