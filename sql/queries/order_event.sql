-- name: insert_order_event :exec
-- Store an event at the end of its account's chain.
INSERT INTO order_event (
    account_id, seq, order_id, event_type, time_ns, payload, prev_hash, hash
)
VALUES (:account_id, :seq, :order_id?, :event_type, :time_ns, :payload, :prev_hash, :hash);

-- name: find_head :one
-- The end of an account's chain.
SELECT seq, hash FROM order_event WHERE account_id = :account_id ORDER BY seq DESC LIMIT 1;

-- name: list_order_events :many
-- An account's events after a number, in order.
SELECT seq, order_id, event_type, time_ns, payload, prev_hash, hash FROM order_event
WHERE account_id = :account_id AND seq > :after_seq
ORDER BY seq
LIMIT :limit_rows;

-- name: list_events_of_order :many
-- One order's events after a number, in order.
SELECT payload FROM order_event
WHERE order_id = :order_id::uuid AND account_id = :account_id AND seq > :after_seq
ORDER BY seq
LIMIT :limit_rows;

-- name: find_last_event_of_order :one
-- The last event of an order.
SELECT seq, payload FROM order_event
WHERE order_id = :order_id::uuid
ORDER BY seq DESC
LIMIT 1;

-- name: list_event_hashes :many
-- Numbers and hashes of an account's events after a number, in order.
SELECT seq, hash FROM order_event
WHERE account_id = :account_id AND seq > :after_seq
ORDER BY seq
LIMIT :limit_rows;

-- name: list_event_orders_missing :many
-- Events that tell of an order that is not there.
SELECT e.seq, e.order_id FROM order_event AS e
LEFT JOIN orders AS o ON o.order_id = e.order_id
WHERE e.account_id = :account_id AND e.order_id IS NOT NULL AND o.order_id IS NULL
ORDER BY e.seq;
