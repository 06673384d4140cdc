-- name: insert_command :execrows
-- Store the use of an idempotency key, once. No row means that the key was used before.
INSERT INTO command (
    scope, idempotency_key, fingerprint, operation, order_id, result, created_time_ns
)
VALUES (
    :scope, :idempotency_key, :fingerprint, :operation, :order_id?, :result, :created_time_ns
)
ON CONFLICT (scope, idempotency_key) DO NOTHING;

-- name: find_command :one
-- The use of an idempotency key.
SELECT scope, idempotency_key, fingerprint, operation, order_id, result, created_time_ns
FROM command
WHERE scope = :scope AND idempotency_key = :idempotency_key;
