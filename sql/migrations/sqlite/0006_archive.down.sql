-- Older releases know nothing of archives: they would find a chain without a beginning. Where events are
-- archived, this fails: a number is never NULL.
INSERT INTO schema_migration (number, name, applied_time_ns, oldest_release)
SELECT NULL, 'archive', 0, '' FROM chain_checkpoint;

ALTER TABLE unmatched_fill RENAME TO unmatched_fill_after;

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
    UNIQUE (account_id, seq),
    FOREIGN KEY (account_id, seq) REFERENCES order_event (account_id, seq) ON DELETE RESTRICT
) STRICT;

INSERT INTO unmatched_fill SELECT * FROM unmatched_fill_after;
DROP TABLE unmatched_fill_after;

ALTER TABLE fill RENAME TO fill_after;

CREATE TABLE fill (
    account_id TEXT NOT NULL,
    order_id TEXT NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    -- Unique within one order alone: venues reuse trade ids across symbols, and for both sides of
    -- a self-trade.
    trade_id TEXT NOT NULL,
    -- The event that brought it.
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
    UNIQUE (account_id, seq),
    FOREIGN KEY (account_id, seq) REFERENCES order_event (account_id, seq) ON DELETE RESTRICT
) STRICT;

INSERT INTO fill SELECT * FROM fill_after;
DROP TABLE fill_after;

CREATE INDEX fill_newest ON fill (transact_time_ns, account_id, seq);

CREATE TRIGGER fill_is_never_updated BEFORE UPDATE ON fill
BEGIN
    SELECT RAISE(ABORT, 'fill is append-only');
END;

CREATE TRIGGER fill_is_never_deleted BEFORE DELETE ON fill
BEGIN
    SELECT RAISE(ABORT, 'fill is append-only');
END;

DROP TRIGGER order_event_is_never_deleted;

CREATE TRIGGER order_event_is_never_deleted BEFORE DELETE ON order_event
BEGIN
    SELECT RAISE(ABORT, 'order_event is append-only');
END;

DROP TABLE archived_fill;
DROP TABLE chain_checkpoint;
DROP INDEX venue_order_ref_named;
