-- name: insert_unmatched_fill :execrows
-- Store one fill that matches no order, once. No row means a replay.
INSERT INTO unmatched_fill (
    account_id, symbol, side, venue_order_id, trade_id, seq, venue, last_qty, last_px,
    client_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
)
VALUES (
    :account_id, :symbol, :side, :venue_order_id, :trade_id, :seq, :venue, :last_qty, :last_px,
    :client_order_id?, :fee?, :fee_asset?, :liquidity, :inferred, :corrects?, :transact_time_ns,
    :received_time_ns
)
ON CONFLICT (account_id, symbol, side, venue_order_id, trade_id) DO NOTHING;

-- name: list_unmatched_fills_after :many
-- Fills that came without an order, by the numbers of their events, after one and up to another.
SELECT
    account_id, symbol, side, venue_order_id, trade_id, seq, venue, last_qty, last_px,
    client_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
FROM unmatched_fill
WHERE account_id = :account_id AND seq > :after_seq AND seq <= :up_to_seq
ORDER BY seq
LIMIT :limit_rows;

-- name: list_unattached_fills_after :many
-- Those of them that have found no order since. The others are in `fill` too, or archived there, by
-- the same number.
SELECT
    u.account_id, u.symbol, u.side, u.venue_order_id, u.trade_id, u.seq, u.venue, u.last_qty,
    u.last_px, u.client_order_id, u.fee, u.fee_asset, u.liquidity, u.inferred, u.corrects,
    u.transact_time_ns, u.received_time_ns
FROM unmatched_fill AS u
WHERE
    u.account_id = :account_id AND u.seq > :after_seq
    AND NOT EXISTS (SELECT 1 FROM fill AS f WHERE f.account_id = u.account_id AND f.seq = u.seq)
    AND NOT EXISTS (
        SELECT 1 FROM archived_fill AS a WHERE a.account_id = u.account_id AND a.seq = u.seq
    )
ORDER BY u.seq
LIMIT :limit_rows;

-- name: find_unmatched_fill :one
-- One unmatched fill, by the number of its event, whether or not it found its order since.
SELECT
    account_id, symbol, side, venue_order_id, trade_id, seq, venue, last_qty, last_px,
    client_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
FROM unmatched_fill
WHERE account_id = :account_id AND seq = :seq;
