-- oldest-release: 0.1.0

-- How far each sink has confirmed the events of each account.
CREATE TABLE outbox_cursor (
    sink text NOT NULL,
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    seq bigint NOT NULL,
    PRIMARY KEY (sink, account_id)
);

-- Commands that came as messages and have taken effect, so that none takes effect twice.
CREATE TABLE inbox (
    source text NOT NULL,
    message_id text NOT NULL,
    -- Of what the message held: another message under a known id is told apart.
    digest text NOT NULL,
    -- The order may be archived, so this refers to nothing.
    order_id uuid,
    taken_time_ns bigint NOT NULL,
    PRIMARY KEY (source, message_id)
);
