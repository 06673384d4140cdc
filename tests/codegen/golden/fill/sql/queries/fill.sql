-- Queries about fills.

-- name: insert_fill :one
-- Store one fill, once. No row means a replay, which the caller must not apply again.
INSERT INTO fill (account_id, order_id, trade_id, last_qty, last_px)
VALUES (:account_id, :order_id, :trade_id, :last_qty, :last_px)
-- Only within one order: venues reuse trade ids across symbols, and for both sides of a self-trade.
ON CONFLICT (account_id, order_id, trade_id) DO NOTHING
RETURNING fill_id;
