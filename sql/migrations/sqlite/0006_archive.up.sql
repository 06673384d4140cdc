-- oldest-release: 0.1.0

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

DROP TRIGGER order_event_is_never_deleted;

CREATE TRIGGER order_event_is_never_deleted BEFORE DELETE ON order_event
WHEN NOT EXISTS (
    SELECT 1 FROM chain_checkpoint AS c WHERE c.account_id = OLD.account_id AND c.seq >= OLD.seq
)
BEGIN
    SELECT RAISE(ABORT, 'order_event is append-only');
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

-- The events that the next two refer to may leave before they do: the same tables, without that foreign key.
ALTER TABLE fill RENAME TO fill_before;

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

INSERT INTO fill SELECT * FROM fill_before;
DROP TABLE fill_before;

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

ALTER TABLE unmatched_fill RENAME TO unmatched_fill_before;

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

INSERT INTO unmatched_fill SELECT * FROM unmatched_fill_before;
DROP TABLE unmatched_fill_before;

-- Reports name an order by it, and not by the scope.
CREATE INDEX venue_order_ref_named ON venue_order_ref (account_id, venue_client_order_id);
