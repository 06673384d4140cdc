-- name: find_checkpoint :one
-- The last archived event of an account: what is stored begins after it.
SELECT seq, hash, archive, archived_time_ns FROM chain_checkpoint WHERE account_id = :account_id;

-- name: put_checkpoint :exec
-- Move an account's checkpoint forwards. What is up to it may be deleted from then on.
INSERT INTO chain_checkpoint (account_id, seq, hash, archive, archived_time_ns)
VALUES (:account_id, :seq, :hash, :archive, :archived_time_ns)
ON CONFLICT (account_id) DO UPDATE SET
    seq = excluded.seq,
    hash = excluded.hash,
    archive = excluded.archive,
    archived_time_ns = excluded.archived_time_ns
WHERE excluded.seq > chain_checkpoint.seq;

-- name: keep_fill_keys :execrows
-- Keep of an account's fills, up to a number, what outlives archiving.
INSERT INTO archived_fill (
    account_id, order_id, trade_id, seq, last_qty, last_px, inferred, corrects
)
SELECT f.account_id, f.order_id, f.trade_id, f.seq, f.last_qty, f.last_px, f.inferred, f.corrects
FROM fill AS f
WHERE f.account_id = :account_id AND f.seq <= :up_to_seq;

-- name: delete_archived_fills :execrows
-- Delete an account's fills up to a number. Those whose keys were not kept are refused.
DELETE FROM fill WHERE account_id = :account_id AND seq <= :up_to_seq;

-- name: delete_archived_events :execrows
-- Delete an account's events up to a number. Those above the checkpoint are refused.
DELETE FROM order_event WHERE account_id = :account_id AND seq <= :up_to_seq;

-- name: find_first_event_of_open :one
-- The earliest stored event of an order of the account that is open.
SELECT e.seq, e.order_id FROM orders AS o
JOIN order_event AS e ON e.order_id = o.order_id
WHERE
    o.account_id = :account_id
    AND o.ord_status IN ('PENDING_NEW', 'NEW', 'PARTIALLY_FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE')
ORDER BY e.seq
LIMIT 1;

-- name: find_first_event_since :one
-- The first stored event of an account that was recorded at an instant or later.
SELECT seq FROM order_event
WHERE account_id = :account_id AND time_ns >= :from_ns
ORDER BY seq
LIMIT 1;

-- name: list_archived_fills_after :many
-- What is left of an account's archived fills whose events come after a number, up to another.
SELECT order_id, trade_id, seq, last_qty, last_px, inferred, corrects FROM archived_fill
WHERE account_id = :account_id AND seq > :after_seq AND seq <= :up_to_seq
ORDER BY seq;
