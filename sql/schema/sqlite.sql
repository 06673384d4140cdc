-- The whole present schema, for SQLite. sql/schema/postgres.sql says the same for Postgres.
--
-- UUIDs are TEXT. Instants are nanoseconds since the epoch, UTC. Decimals are TEXT, plain and
-- without trailing zeros: no statement compares, sorts or sums them. Booleans are 0 and 1.
-- Columns have the names of the model's fields. Enumerations are checked by chains of OR, because
-- SQLite builds a little index for every IN of more than two values, at every insert.

CREATE TABLE schema_migration (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_time_ns INTEGER NOT NULL,
    -- The oldest release that may run on the schema once this is applied.
    oldest_release TEXT NOT NULL
) STRICT;

CREATE TABLE venue (
    venue TEXT NOT NULL PRIMARY KEY,
    -- Empty until an account of the venue is stored.
    plugin TEXT NOT NULL
) STRICT;

CREATE TABLE account (
    account_id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL UNIQUE,
    venue TEXT NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    -- What the account was bound to when it first connected. Empty until the venue said.
    venue_account_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    created_time_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE instrument (
    venue TEXT NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    symbol TEXT NOT NULL,
    venue_symbol TEXT NOT NULL,
    base_asset TEXT NOT NULL,
    quote_asset TEXT NOT NULL,
    settle_asset TEXT,
    tick_size TEXT NOT NULL,
    step_size TEXT NOT NULL,
    qty_min TEXT NOT NULL,
    qty_max TEXT NOT NULL,
    notional_min TEXT NOT NULL,
    notional_max TEXT NOT NULL,
    contract_size TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status = 'TRADING' OR status = 'CANCEL_ONLY' OR status = 'HALTED'
    ),
    updated_time_ns INTEGER NOT NULL,
    PRIMARY KEY (venue, symbol)
) STRICT, WITHOUT ROWID;

-- An order as it stands. Everything here follows from order_event; `verify` proves it.
CREATE TABLE orders (
    order_id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    venue TEXT NOT NULL REFERENCES venue (venue) ON DELETE RESTRICT,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    ord_type TEXT NOT NULL CHECK (
        ord_type = 'MARKET' OR ord_type = 'LIMIT' OR ord_type = 'STOP'
        OR ord_type = 'STOP_LIMIT' OR ord_type = 'TAKE_PROFIT'
        OR ord_type = 'TAKE_PROFIT_LIMIT' OR ord_type = 'TRAILING_STOP'
    ),
    time_in_force TEXT NOT NULL CHECK (
        time_in_force = 'GTC' OR time_in_force = 'IOC' OR time_in_force = 'FOK'
        OR time_in_force = 'GTD' OR time_in_force = 'DAY'
    ),
    order_qty TEXT,
    quote_qty TEXT,
    price TEXT,
    trigger_price TEXT,
    trigger_by TEXT CHECK (
        trigger_by = 'LAST' OR trigger_by = 'MARK' OR trigger_by = 'INDEX'
    ),
    trailing_offset TEXT,
    expire_time_ns INTEGER,
    post_only INTEGER NOT NULL CHECK (post_only IN (0, 1)),
    reduce_only INTEGER NOT NULL CHECK (reduce_only IN (0, 1)),
    max_slippage_bps TEXT,
    client_order_id TEXT,
    idempotency_key TEXT,
    -- JSON object of texts.
    tags TEXT NOT NULL,
    ord_status TEXT NOT NULL CHECK (
        ord_status = 'PENDING_NEW' OR ord_status = 'NEW' OR ord_status = 'PARTIALLY_FILLED'
        OR ord_status = 'FILLED' OR ord_status = 'PENDING_CANCEL'
        OR ord_status = 'PENDING_REPLACE' OR ord_status = 'CANCELED' OR ord_status = 'REJECTED'
        OR ord_status = 'EXPIRED'
    ),
    -- JSON array of {command, since_ns, why}.
    in_doubt TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    cum_qty TEXT NOT NULL,
    leaves_qty TEXT NOT NULL,
    cum_quote TEXT NOT NULL,
    avg_px TEXT,
    origin TEXT NOT NULL CHECK (origin IN ('GATEWAY', 'EXTERNAL')),
    triggered INTEGER NOT NULL CHECK (triggered IN (0, 1)),
    generation INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL CHECK (acknowledged IN (0, 1)),
    closed_by TEXT CHECK (
        closed_by = 'VENUE_REPORT' OR closed_by = 'FILL' OR closed_by = 'ABSENT_AFTER_EXPIRY'
        OR closed_by = 'EXPIRY_PASSED' OR closed_by = 'NOT_SENT'
        OR closed_by = 'IDEMPOTENT_RESEND' OR closed_by = 'OPERATOR'
    ),
    pending TEXT CHECK (
        pending = 'NEW' OR pending = 'CANCEL' OR pending = 'REPLACE'
    ),
    -- JSON object of the terms that a pending replace asked for.
    pending_terms TEXT,
    -- Whether its placement, or its pending cancel, waits here and the venue has not been asked.
    queued INTEGER NOT NULL CHECK (queued IN (0, 1)),
    venue_order_id TEXT,
    venue_client_order_id TEXT,
    send_by_ns INTEGER NOT NULL,
    created_time_ns INTEGER NOT NULL,
    updated_time_ns INTEGER NOT NULL,
    closed_time_ns INTEGER,
    seq INTEGER NOT NULL,
    UNIQUE (account_id, client_order_id)
) STRICT;

CREATE INDEX orders_newest ON orders (created_time_ns, order_id);
-- Open orders are few among many; counts by status read this alone.
CREATE INDEX orders_standing ON orders (ord_status, account_id);
CREATE INDEX orders_at_venue ON orders (account_id, venue_order_id)
WHERE venue_order_id IS NOT NULL;

-- The incarnations of an order at its venue.
CREATE TABLE venue_order_ref (
    order_id TEXT NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    generation INTEGER NOT NULL,
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    id_scope TEXT NOT NULL,
    venue_client_order_id TEXT NOT NULL,
    venue_order_id TEXT,
    order_qty TEXT,
    valid_until_ns INTEGER,
    valid_until_height INTEGER,
    command_valid_until_ns INTEGER,
    command_valid_until_height INTEGER,
    digest TEXT NOT NULL,
    PRIMARY KEY (order_id, generation),
    UNIQUE (account_id, id_scope, venue_client_order_id, generation)
) STRICT;

-- Reports name an order by it, and not by the scope.
CREATE INDEX venue_order_ref_named ON venue_order_ref (account_id, venue_client_order_id);
CREATE INDEX venue_order_ref_at_venue ON venue_order_ref (account_id, venue_order_id)
WHERE venue_order_id IS NOT NULL;

-- Used idempotency keys. They outlive the archiving of their orders, so order_id refers to nothing.
CREATE TABLE command (
    scope TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    operation TEXT NOT NULL,
    order_id TEXT,
    result TEXT NOT NULL,
    created_time_ns INTEGER NOT NULL,
    PRIMARY KEY (scope, idempotency_key)
) STRICT, WITHOUT ROWID;

-- The ledger: append-only, one chain for each account, numbered without gaps. It begins where the account's
-- checkpoint ends: what came before is in an archive.
CREATE TABLE order_event (
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    seq INTEGER NOT NULL,
    order_id TEXT REFERENCES orders (order_id) ON DELETE RESTRICT,
    event_type TEXT NOT NULL CHECK (
        event_type = 'INTENT' OR event_type = 'SENT_UNANSWERED'
        OR event_type = 'DOUBT_RESOLVED' OR event_type = 'NEW' OR event_type = 'TRIGGERED'
        OR event_type = 'TRADE' OR event_type = 'TRADE_CORRECT' OR event_type = 'FILLED'
        OR event_type = 'PENDING_CANCEL' OR event_type = 'CANCELED'
        OR event_type = 'CANCEL_REJECTED' OR event_type = 'PENDING_REPLACE'
        OR event_type = 'REPLACED' OR event_type = 'REPLACE_REJECTED'
        OR event_type = 'REJECTED' OR event_type = 'EXPIRED' OR event_type = 'REVIVED'
        OR event_type = 'OVERFILL' OR event_type = 'EXTERNAL' OR event_type = 'ADOPTED'
        OR event_type = 'UNMATCHED_FILL' OR event_type = 'FILL_ATTACHED'
        OR event_type = 'HISTORY_GAP' OR event_type = 'VENUE_RESET'
        OR event_type = 'DEQUEUED'
    ),
    time_ns INTEGER NOT NULL,
    payload BLOB NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (account_id, seq)
) STRICT;

CREATE INDEX order_event_story ON order_event (order_id, seq) WHERE order_id IS NOT NULL;

CREATE TRIGGER order_event_is_never_updated BEFORE UPDATE ON order_event
BEGIN
    SELECT RAISE(ABORT, 'order_event is append-only');
END;

CREATE TRIGGER order_event_is_never_deleted BEFORE DELETE ON order_event
WHEN NOT EXISTS (
    SELECT 1 FROM chain_checkpoint AS c WHERE c.account_id = OLD.account_id AND c.seq >= OLD.seq
)
BEGIN
    SELECT RAISE(ABORT, 'order_event is append-only');
END;

-- Where the events of an account begin that are still in `order_event`: number and hash of the last one that
-- was archived. They may be deleted up to there.
CREATE TABLE chain_checkpoint (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    seq INTEGER NOT NULL CHECK (seq > 0),
    hash BLOB NOT NULL,
    -- Name of the newest file.
    archive TEXT NOT NULL,
    archived_time_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE fill (
    account_id TEXT NOT NULL,
    order_id TEXT NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    -- Unique within one order alone: venues reuse trade ids across symbols, and for both sides of
    -- a self-trade.
    trade_id TEXT NOT NULL,
    -- The event that brought it. It may be archived, when the fill has found its order later.
    seq INTEGER NOT NULL,
    venue TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    last_qty TEXT NOT NULL,
    last_px TEXT NOT NULL,
    client_order_id TEXT,
    venue_order_id TEXT,
    fee TEXT,
    fee_asset TEXT,
    liquidity TEXT NOT NULL CHECK (
        liquidity = 'MAKER' OR liquidity = 'TAKER' OR liquidity = 'UNKNOWN'
    ),
    inferred INTEGER NOT NULL CHECK (inferred IN (0, 1)),
    corrects TEXT,
    transact_time_ns INTEGER NOT NULL,
    received_time_ns INTEGER NOT NULL,
    PRIMARY KEY (account_id, order_id, trade_id),
    UNIQUE (account_id, seq)
) STRICT;

CREATE INDEX fill_newest ON fill (transact_time_ns, account_id, seq);

CREATE TRIGGER fill_is_never_updated BEFORE UPDATE ON fill
BEGIN
    SELECT RAISE(ABORT, 'fill is append-only');
END;

CREATE TRIGGER fill_is_never_deleted BEFORE DELETE ON fill
WHEN NOT EXISTS (
    SELECT 1 FROM archived_fill AS a
    WHERE a.account_id = OLD.account_id AND a.order_id = OLD.order_id AND a.trade_id = OLD.trade_id
)
BEGIN
    SELECT RAISE(ABORT, 'fill is append-only');
END;

-- What is left of a fill whose event is archived: its key, so that none counts twice, and what its order's
-- quantities are made of.
CREATE TABLE archived_fill (
    account_id TEXT NOT NULL,
    order_id TEXT NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    trade_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    last_qty TEXT NOT NULL,
    last_px TEXT NOT NULL,
    inferred INTEGER NOT NULL CHECK (inferred IN (0, 1)),
    corrects TEXT,
    PRIMARY KEY (account_id, order_id, trade_id),
    UNIQUE (account_id, seq)
) STRICT;

CREATE TRIGGER archived_fill_is_never_updated BEFORE UPDATE ON archived_fill
BEGIN
    SELECT RAISE(ABORT, 'archived_fill is append-only');
END;

CREATE TRIGGER archived_fill_is_never_deleted BEFORE DELETE ON archived_fill
BEGIN
    SELECT RAISE(ABORT, 'archived_fill is append-only');
END;

-- Fills that matched no order when they came. They stay when their events are archived.
CREATE TABLE unmatched_fill (
    account_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    -- Empty when the venue did not say.
    venue_order_id TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    venue TEXT NOT NULL,
    last_qty TEXT NOT NULL,
    last_px TEXT NOT NULL,
    client_order_id TEXT,
    fee TEXT,
    fee_asset TEXT,
    liquidity TEXT NOT NULL CHECK (
        liquidity = 'MAKER' OR liquidity = 'TAKER' OR liquidity = 'UNKNOWN'
    ),
    inferred INTEGER NOT NULL CHECK (inferred IN (0, 1)),
    corrects TEXT,
    transact_time_ns INTEGER NOT NULL,
    received_time_ns INTEGER NOT NULL,
    PRIMARY KEY (account_id, symbol, side, venue_order_id, trade_id),
    UNIQUE (account_id, seq)
) STRICT;

CREATE TABLE balance (
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    asset TEXT NOT NULL,
    free TEXT NOT NULL,
    held TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    PRIMARY KEY (account_id, asset)
) STRICT, WITHOUT ROWID;

CREATE TABLE position (
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    symbol TEXT NOT NULL,
    qty TEXT NOT NULL,
    entry_px TEXT,
    time_ns INTEGER NOT NULL,
    PRIMARY KEY (account_id, symbol)
) STRICT, WITHOUT ROWID;

CREATE TABLE halt (
    -- `*`, `account:NAME`, `venue:NAME` or `symbol:NAME`.
    scope TEXT NOT NULL PRIMARY KEY,
    why TEXT NOT NULL,
    halted_by TEXT NOT NULL,
    since_ns INTEGER NOT NULL
) STRICT;

-- The next number of each account that may name an order at a venue. Numbers are taken in blocks, and a
-- block that was taken is never given again.
CREATE TABLE client_number (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    next_number INTEGER NOT NULL
) STRICT;

-- Until when the fills of an account and symbol have been read, by the venue's clock. They are asked for
-- again from a little before that.
CREATE TABLE watermark (
    account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    symbol TEXT NOT NULL,
    read_until_ns INTEGER NOT NULL,
    PRIMARY KEY (account_id, symbol)
) STRICT, WITHOUT ROWID;

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

-- Which gateway serves an account, while several share the store. `token` grows with every holder, and every
-- write of the account is made under the token that is in force. Expiry is by the database's clock; an empty
-- `holder` has released it. Host (with its boot), pid and start of the process tell whether it is gone.
CREATE TABLE lease (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    token INTEGER NOT NULL CHECK (token >= 0),
    holder TEXT NOT NULL,
    address TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_start INTEGER NOT NULL,
    -- Whether the venue refuses old requests: only then may silence alone take the lease away.
    requests_expire INTEGER NOT NULL CHECK (requests_expire IN (0, 1)),
    expires_ns INTEGER NOT NULL
) STRICT;
