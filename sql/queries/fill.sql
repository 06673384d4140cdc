-- name: insert_fill :execrows
-- Store one fill, once. No row means a replay, of an archived one too: not to be applied again.
INSERT INTO fill (
    account_id, order_id, trade_id, seq, venue, symbol, side, last_qty, last_px, client_order_id,
    venue_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
)
SELECT
    :account_id, :order_id, :trade_id, :seq, :venue, :symbol, :side, :last_qty, :last_px,
    :client_order_id?, :venue_order_id?, :fee?, :fee_asset?, :liquidity, :inferred, :corrects?,
    :transact_time_ns, :received_time_ns
WHERE NOT EXISTS (
    SELECT 1 FROM archived_fill AS a
    WHERE a.account_id = :account_id AND a.order_id = :order_id AND a.trade_id = :trade_id
)
ON CONFLICT (account_id, order_id, trade_id) DO NOTHING;

-- name: list_fills_counted :many
-- What an order's fills say of its quantities, archived ones too.
-- In no order, for which SQLite would walk through all of the account's.
SELECT
    trade_id AS "trade_id!", last_qty AS "last_qty!", last_px AS "last_px!",
    inferred AS "inferred!", corrects, seq AS "seq!"
FROM fill
WHERE account_id = :account_id AND order_id = :order_id
UNION ALL
SELECT trade_id, last_qty, last_px, inferred, corrects, seq FROM archived_fill
WHERE account_id = :account_id AND order_id = :order_id;

-- name: list_fills :many
-- The fills that a filter lets through, newest first, those before a given one.
-- The list of accounts is a JSON array; NULL lets everything through.
SELECT
    f.account_id, f.order_id, f.trade_id, f.seq, f.venue, f.symbol, f.side, f.last_qty, f.last_px,
    f.client_order_id, f.venue_order_id, f.fee, f.fee_asset, f.liquidity, f.inferred, f.corrects,
    f.transact_time_ns, f.received_time_ns
FROM fill AS f
WHERE
    (f.transact_time_ns, f.account_id, f.seq) < (:before_ns, :before_account_id, :before_seq)
    AND f.transact_time_ns >= :from_ns
    AND (
        :account_ids?::text IS NULL
        OR CAST(f.account_id AS text) IN (
            SELECT e.value FROM jsonb_array_elements_text(CAST(:account_ids? AS jsonb)) AS e (value)
        )
    )
    AND (:venue?::text IS NULL OR f.venue = :venue?)
    AND (:symbol?::text IS NULL OR f.symbol = :symbol?)
    AND (:side?::text IS NULL OR f.side = :side?)
ORDER BY f.transact_time_ns DESC, f.account_id DESC, f.seq DESC
LIMIT :limit_rows;
-- dialect: sqlite
SELECT
    f.account_id, f.order_id, f.trade_id, f.seq, f.venue, f.symbol, f.side, f.last_qty, f.last_px,
    f.client_order_id, f.venue_order_id, f.fee, f.fee_asset, f.liquidity, f.inferred, f.corrects,
    f.transact_time_ns, f.received_time_ns
FROM fill AS f
WHERE
    (f.transact_time_ns, f.account_id, f.seq) < (:before_ns, :before_account_id, :before_seq)
    AND f.transact_time_ns >= :from_ns
    AND (
        :account_ids? IS NULL
        OR f.account_id IN (SELECT e.value FROM json_each(:account_ids?) AS e)
    )
    AND (:venue? IS NULL OR f.venue = :venue?)
    AND (:symbol? IS NULL OR f.symbol = :symbol?)
    AND (:side? IS NULL OR f.side = :side?)
ORDER BY f.transact_time_ns DESC, f.account_id DESC, f.seq DESC
LIMIT :limit_rows;

-- name: list_fills_of_order :many
-- One order's fills within times, newest first, those before a given one.
SELECT
    account_id, order_id, trade_id, seq, venue, symbol, side, last_qty, last_px, client_order_id,
    venue_order_id, fee, fee_asset, liquidity, inferred, corrects, transact_time_ns,
    received_time_ns
FROM fill
WHERE
    account_id = :account_id
    AND order_id = :order_id
    AND (transact_time_ns, seq) < (:before_ns, :before_seq)
    AND transact_time_ns >= :from_ns
ORDER BY transact_time_ns DESC, seq DESC
LIMIT :limit_rows;

-- name: list_fills_after :many
-- An account's fills by the numbers of their events, after one and up to another. Those that came
-- without an order are in `unmatched_fill` as they came, and are left out.
SELECT
    f.account_id, f.order_id, f.trade_id, f.seq, f.venue, f.symbol, f.side, f.last_qty, f.last_px,
    f.client_order_id, f.venue_order_id, f.fee, f.fee_asset, f.liquidity, f.inferred, f.corrects,
    f.transact_time_ns, f.received_time_ns
FROM fill AS f
WHERE
    f.account_id = :account_id AND f.seq > :after_seq AND f.seq <= :up_to_seq
    AND NOT EXISTS (
        SELECT 1 FROM unmatched_fill AS u WHERE u.account_id = f.account_id AND u.seq = f.seq
    )
ORDER BY f.seq
LIMIT :limit_rows;

-- name: list_attached_fills_after :many
-- The fills that found their order after they came, by the numbers with which they came.
SELECT
    f.account_id, f.order_id, f.trade_id, f.seq, f.venue, f.symbol, f.side, f.last_qty, f.last_px,
    f.client_order_id, f.venue_order_id, f.fee, f.fee_asset, f.liquidity, f.inferred, f.corrects,
    f.transact_time_ns, f.received_time_ns
FROM fill AS f
JOIN unmatched_fill AS u ON u.account_id = f.account_id AND u.seq = f.seq
WHERE f.account_id = :account_id AND f.seq > :after_seq AND f.seq <= :up_to_seq
ORDER BY f.seq
LIMIT :limit_rows;
