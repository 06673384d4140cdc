-- name: put_outbox_cursor :exec
-- Remember how far a sink has confirmed an account's events. It never goes back.
INSERT INTO outbox_cursor (sink, account_id, seq)
VALUES (:sink, :account_id, :seq)
ON CONFLICT (sink, account_id) DO UPDATE SET seq = excluded.seq
WHERE excluded.seq > outbox_cursor.seq;

-- name: find_outbox_cursor :one
-- How far a sink has confirmed an account's events.
SELECT seq FROM outbox_cursor WHERE sink = :sink AND account_id = :account_id;

-- name: list_outbox_cursors :many
-- How far every sink that ever confirmed an account's events has come.
SELECT sink, seq FROM outbox_cursor WHERE account_id = :account_id ORDER BY sink;

-- name: insert_inbox :execrows
-- Remember that a message has taken effect, once. No row means that it was remembered before.
INSERT INTO inbox (source, message_id, digest, order_id, taken_time_ns)
VALUES (:source, :message_id, :digest, :order_id?, :taken_time_ns)
ON CONFLICT (source, message_id) DO NOTHING;

-- name: find_inbox :one
-- What is remembered of a message.
SELECT source, message_id, digest, order_id, taken_time_ns FROM inbox
WHERE source = :source AND message_id = :message_id;
