-- name: put_venue_order_ref :exec
-- Store an incarnation of an order, or what became of it. Its client id never changes.
INSERT INTO venue_order_ref (
    order_id, generation, account_id, id_scope, venue_client_order_id, venue_order_id, order_qty,
    valid_until_ns, valid_until_height, command_valid_until_ns, command_valid_until_height, digest
)
VALUES (
    :order_id, :generation, :account_id, :id_scope, :venue_client_order_id, :venue_order_id?,
    :order_qty?, :valid_until_ns?, :valid_until_height?, :command_valid_until_ns?,
    :command_valid_until_height?, :digest
)
ON CONFLICT (order_id, generation) DO UPDATE SET
    venue_order_id = excluded.venue_order_id,
    order_qty = excluded.order_qty,
    valid_until_ns = excluded.valid_until_ns,
    valid_until_height = excluded.valid_until_height,
    command_valid_until_ns = excluded.command_valid_until_ns,
    command_valid_until_height = excluded.command_valid_until_height,
    digest = excluded.digest;

-- name: list_venue_order_refs :many
-- The incarnations of an order, oldest first.
SELECT
    order_id, generation, id_scope, venue_client_order_id, venue_order_id, order_qty,
    valid_until_ns, valid_until_height, command_valid_until_ns, command_valid_until_height, digest
FROM venue_order_ref
WHERE order_id = :order_id
ORDER BY generation;

-- name: find_order_id_by_venue_client_order_id :one
-- The order that has this client id at the venue, in whichever scope; the newest if several have.
SELECT r.order_id FROM venue_order_ref AS r
JOIN orders AS o ON o.order_id = r.order_id
WHERE r.account_id = :account_id AND r.venue_client_order_id = :venue_client_order_id
ORDER BY o.created_time_ns DESC
LIMIT 1;

-- name: find_order_id_by_venue_order_id :one
-- The order of which the venue knows an incarnation by this id; the newest if several have it.
SELECT r.order_id FROM venue_order_ref AS r
JOIN orders AS o ON o.order_id = r.order_id
WHERE r.account_id = :account_id AND r.venue_order_id = :venue_order_id::text
ORDER BY o.created_time_ns DESC
LIMIT 1;
