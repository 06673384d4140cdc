-- The whole present schema, for Postgres. sql/schema/sqlite.sql says the same for SQLite.
--
-- Instants are nanoseconds since the epoch, UTC. Decimals are finite, at most 38 digits, 18 of them
-- fraction: no statement compares, sorts or sums them, because on SQLite they are text.
-- Columns have the names of the model's fields.

CREATE TABLE schema_migration (
    number bigint NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied_time_ns bigint NOT NULL,
    -- The oldest release that may run on the schema once this is applied.
    oldest_release text NOT NULL
);

CREATE TABLE venue (
    venue text NOT NULL PRIMARY KEY,
    -- Empty until an account of the venue is stored.
    plugin text NOT NULL
);

CREATE TABLE account (
    account_id uuid NOT NULL PRIMARY KEY,
    account text NOT NULL UNIQUE,
    venue text NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    -- What the account was bound to when it first connected. Empty until the venue said.
    venue_account_id text NOT NULL,
    environment text NOT NULL,
    instance_id text NOT NULL,
    created_time_ns bigint NOT NULL
);

CREATE TABLE instrument (
    venue text NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    symbol text NOT NULL,
    venue_symbol text NOT NULL,
    base_asset text NOT NULL,
    quote_asset text NOT NULL,
    settle_asset text,
    tick_size numeric NOT NULL,
    step_size numeric NOT NULL,
    qty_min numeric NOT NULL,
    qty_max numeric NOT NULL,
    notional_min numeric NOT NULL,
    notional_max numeric NOT NULL,
    contract_size numeric NOT NULL,
    status text NOT NULL CHECK (status IN ('TRADING', 'CANCEL_ONLY', 'HALTED')),
    updated_time_ns bigint NOT NULL,
    PRIMARY KEY (venue, symbol)
);

-- An order as it stands. Everything here follows from order_event; `verify` proves it.
CREATE TABLE orders (
    order_id uuid NOT NULL PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    venue text NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    ord_type text NOT NULL CHECK (ord_type IN (
        'MARKET', 'LIMIT', 'STOP', 'STOP_LIMIT', 'TAKE_PROFIT', 'TAKE_PROFIT_LIMIT',
        'TRAILING_STOP'
    )),
    time_in_force text NOT NULL CHECK (time_in_force IN ('GTC', 'IOC', 'FOK', 'GTD', 'DAY')),
    order_qty numeric,
    quote_qty numeric,
    price numeric,
    trigger_price numeric,
    trigger_by text CHECK (trigger_by IN ('LAST', 'MARK', 'INDEX')),
    trailing_offset numeric,
    expire_time_ns bigint,
    post_only boolean NOT NULL,
    reduce_only boolean NOT NULL,
    max_slippage_bps numeric,
    client_order_id text,
    idempotency_key text,
    -- JSON object of texts.
    tags text NOT NULL,
    ord_status text NOT NULL CHECK (ord_status IN (
        'PENDING_NEW', 'NEW', 'PARTIALLY_FILLED', 'FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE',
        'CANCELED', 'REJECTED', 'EXPIRED'
    )),
    -- JSON array of {command, since_ns, why}.
    in_doubt text NOT NULL,
    reason text NOT NULL,
    text text NOT NULL,
    cum_qty numeric NOT NULL,
    leaves_qty numeric NOT NULL,
    cum_quote numeric NOT NULL,
    avg_px numeric,
    origin text NOT NULL CHECK (origin IN ('GATEWAY', 'EXTERNAL')),
    triggered boolean NOT NULL,
    generation bigint NOT NULL,
    acknowledged boolean NOT NULL,
    closed_by text CHECK (closed_by IN (
        'VENUE_REPORT', 'FILL', 'ABSENT_AFTER_EXPIRY', 'EXPIRY_PASSED', 'NOT_SENT',
        'IDEMPOTENT_RESEND', 'OPERATOR'
    )),
    pending text CHECK (pending IN ('NEW', 'CANCEL', 'REPLACE')),
    -- JSON object of the terms that a pending replace asked for.
    pending_terms text,
    -- Whether its placement, or its pending cancel, waits here and the venue has not been asked.
    queued boolean NOT NULL,
    venue_order_id text,
    venue_client_order_id text,
    send_by_ns bigint NOT NULL,
    created_time_ns bigint NOT NULL,
    updated_time_ns bigint NOT NULL,
    closed_time_ns bigint,
    seq bigint NOT NULL,
    UNIQUE (account_id, client_order_id)
);

CREATE INDEX orders_newest ON orders (created_time_ns, order_id);
-- Open orders are few among many; counts by status read this alone.
CREATE INDEX orders_standing ON orders (ord_status, account_id);
CREATE INDEX orders_at_venue ON orders (account_id, venue_order_id)
WHERE venue_order_id IS NOT NULL;

-- The incarnations of an order at its venue.
CREATE TABLE venue_order_ref (
    order_id uuid NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    generation bigint NOT NULL,
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    id_scope text NOT NULL,
    venue_client_order_id text NOT NULL,
    venue_order_id text,
    order_qty numeric,
    valid_until_ns bigint,
    valid_until_height bigint,
    command_valid_until_ns bigint,
    command_valid_until_height bigint,
    digest text NOT NULL,
    PRIMARY KEY (order_id, generation),
    UNIQUE (account_id, id_scope, venue_client_order_id, generation)
);

-- Reports name an order by it, and not by the scope.
CREATE INDEX venue_order_ref_named ON venue_order_ref (account_id, venue_client_order_id);
CREATE INDEX venue_order_ref_at_venue ON venue_order_ref (account_id, venue_order_id)
WHERE venue_order_id IS NOT NULL;

-- Used idempotency keys. They outlive the archiving of their orders, so order_id refers to nothing.
CREATE TABLE command (
    scope text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint text NOT NULL,
    operation text NOT NULL,
    order_id uuid,
    result text NOT NULL,
    created_time_ns bigint NOT NULL,
    PRIMARY KEY (scope, idempotency_key)
);

-- The ledger: append-only, one chain for each account, numbered without gaps. It begins where the account's
-- checkpoint ends: what came before is in an archive.
CREATE TABLE order_event (
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    seq bigint NOT NULL,
    order_id uuid REFERENCES orders (order_id) ON DELETE RESTRICT,
    event_type text NOT NULL CHECK (event_type IN (
        'INTENT', 'SENT_UNANSWERED', 'DOUBT_RESOLVED', 'NEW', 'TRIGGERED', 'TRADE',
        'TRADE_CORRECT', 'FILLED', 'PENDING_CANCEL', 'CANCELED', 'CANCEL_REJECTED',
        'PENDING_REPLACE', 'REPLACED', 'REPLACE_REJECTED', 'REJECTED', 'EXPIRED', 'REVIVED',
        'OVERFILL', 'EXTERNAL', 'ADOPTED', 'UNMATCHED_FILL', 'FILL_ATTACHED', 'HISTORY_GAP',
        'VENUE_RESET', 'DEQUEUED'
    )),
    time_ns bigint NOT NULL,
    payload bytea NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (account_id, seq)
);

CREATE INDEX order_event_story ON order_event (order_id, seq) WHERE order_id IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END;
$$;

-- Where the events of an account begin that are still in `order_event`: number and hash of the last one that
-- was archived. They may be deleted up to there.
CREATE TABLE chain_checkpoint (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    seq bigint NOT NULL CHECK (seq > 0),
    hash bytea NOT NULL,
    -- Name of the newest file.
    archive text NOT NULL,
    archived_time_ns bigint NOT NULL
);

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM chain_checkpoint AS c WHERE c.account_id = OLD.account_id AND c.seq >= OLD.seq
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'order_event is append-only';
END;
$$;

CREATE TRIGGER order_event_is_never_changed BEFORE UPDATE OR DELETE ON order_event
FOR EACH ROW EXECUTE FUNCTION refuse_event_change();

CREATE TABLE fill (
    account_id uuid NOT NULL,
    order_id uuid NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    -- Unique within one order alone: venues reuse trade ids across symbols, and for both sides of
    -- a self-trade.
    trade_id text NOT NULL,
    -- The event that brought it. It may be archived, when the fill has found its order later.
    seq bigint NOT NULL,
    venue text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    last_qty numeric NOT NULL,
    last_px numeric NOT NULL,
    client_order_id text,
    venue_order_id text,
    fee numeric,
    fee_asset text,
    liquidity text NOT NULL CHECK (liquidity IN ('MAKER', 'TAKER', 'UNKNOWN')),
    inferred boolean NOT NULL,
    corrects text,
    transact_time_ns bigint NOT NULL,
    received_time_ns bigint NOT NULL,
    PRIMARY KEY (account_id, order_id, trade_id),
    UNIQUE (account_id, seq)
);

CREATE INDEX fill_newest ON fill (transact_time_ns, account_id, seq);

-- What is left of a fill whose event is archived: its key, so that none counts twice, and what its order's
-- quantities are made of.
CREATE TABLE archived_fill (
    account_id uuid NOT NULL,
    order_id uuid NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    trade_id text NOT NULL,
    seq bigint NOT NULL,
    last_qty numeric NOT NULL,
    last_px numeric NOT NULL,
    inferred boolean NOT NULL,
    corrects text,
    PRIMARY KEY (account_id, order_id, trade_id),
    UNIQUE (account_id, seq)
);

CREATE TRIGGER archived_fill_is_never_changed BEFORE UPDATE OR DELETE ON archived_fill
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_fill_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM archived_fill AS a
        WHERE a.account_id = OLD.account_id AND a.order_id = OLD.order_id AND a.trade_id = OLD.trade_id
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'fill is append-only';
END;
$$;

CREATE TRIGGER fill_is_never_changed BEFORE UPDATE OR DELETE ON fill
FOR EACH ROW EXECUTE FUNCTION refuse_fill_change();

-- Fills that matched no order when they came. They stay when their events are archived.
CREATE TABLE unmatched_fill (
    account_id uuid NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    -- Empty when the venue did not say.
    venue_order_id text NOT NULL,
    trade_id text NOT NULL,
    seq bigint NOT NULL,
    venue text NOT NULL,
    last_qty numeric NOT NULL,
    last_px numeric NOT NULL,
    client_order_id text,
    fee numeric,
    fee_asset text,
    liquidity text NOT NULL CHECK (liquidity IN ('MAKER', 'TAKER', 'UNKNOWN')),
    inferred boolean NOT NULL,
    corrects text,
    transact_time_ns bigint NOT NULL,
    received_time_ns bigint NOT NULL,
    PRIMARY KEY (account_id, symbol, side, venue_order_id, trade_id),
    UNIQUE (account_id, seq)
);

CREATE TABLE balance (
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    asset text NOT NULL,
    free numeric NOT NULL,
    held numeric NOT NULL,
    time_ns bigint NOT NULL,
    PRIMARY KEY (account_id, asset)
);

CREATE TABLE position (
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    symbol text NOT NULL,
    qty numeric NOT NULL,
    entry_px numeric,
    time_ns bigint NOT NULL,
    PRIMARY KEY (account_id, symbol)
);

CREATE TABLE halt (
    -- `*`, `account:NAME`, `venue:NAME` or `symbol:NAME`.
    scope text NOT NULL PRIMARY KEY,
    why text NOT NULL,
    halted_by text NOT NULL,
    since_ns bigint NOT NULL
);

-- The next number of each account that may name an order at a venue. Numbers are taken in blocks, and a
-- block that was taken is never given again.
CREATE TABLE client_number (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    next_number bigint NOT NULL
);

-- Until when the fills of an account and symbol have been read, by the venue's clock. They are asked for
-- again from a little before that.
CREATE TABLE watermark (
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    symbol text NOT NULL,
    read_until_ns bigint NOT NULL,
    PRIMARY KEY (account_id, symbol)
);

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

-- Which gateway serves an account, while several share the store. `token` grows with every holder, and every
-- write of the account is made under the token that is in force. Expiry is by the database's clock; an empty
-- `holder` has released it. Host (with its boot), pid and start of the process tell whether it is gone.
CREATE TABLE lease (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    token bigint NOT NULL CHECK (token >= 0),
    holder text NOT NULL,
    address text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    process_start bigint NOT NULL,
    -- Whether the venue refuses old requests: only then may silence alone take the lease away.
    requests_expire boolean NOT NULL,
    expires_ns bigint NOT NULL
);
