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
-- An account's unmatched fills by the numbers of their events, after one and up to another.
SELECT
    account_id, symbol, side, venue_order_id, trade_id, seq, venue, last_qty, last_px,
    client_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
FROM unmatched_fill
WHERE account_id = :account_id AND seq > :after_seq AND seq <= :up_to_seq
ORDER BY seq
LIMIT :limit_rows;
