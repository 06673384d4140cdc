-- name: insert_order :execrows
-- Store a new order. No row means that the account has an order with this client order id.
INSERT INTO orders (
    order_id, account_id, venue, symbol, side, ord_type, time_in_force, order_qty, quote_qty,
    price, trigger_price, trigger_by, trailing_offset, expire_time_ns, post_only, reduce_only,
    max_slippage_bps, client_order_id, idempotency_key, tags, ord_status, in_doubt, reason, text,
    cum_qty, leaves_qty, cum_quote, avg_px, origin, triggered, generation, acknowledged, closed_by,
    pending, pending_terms, queued, venue_order_id, venue_client_order_id, send_by_ns, created_time_ns,
    updated_time_ns, closed_time_ns, seq
)
VALUES (
    :order_id, :account_id, :venue, :symbol, :side, :ord_type, :time_in_force, :order_qty?,
    :quote_qty?, :price?, :trigger_price?, :trigger_by?, :trailing_offset?, :expire_time_ns?,
    :post_only, :reduce_only, :max_slippage_bps?, :client_order_id?, :idempotency_key?, :tags,
    :ord_status, :in_doubt, :reason, :text, :cum_qty, :leaves_qty, :cum_quote, :avg_px?, :origin,
    :triggered, :generation, :acknowledged, :closed_by?, :pending?, :pending_terms?, :queued,
    :venue_order_id?, :venue_client_order_id?, :send_by_ns, :created_time_ns, :updated_time_ns,
    :closed_time_ns?, :seq
)
ON CONFLICT (account_id, client_order_id) DO NOTHING;

-- name: update_order :execrows
-- Store an order as it stands now. What a caller asked for once and for all stays as it is.
UPDATE orders SET
    order_qty = :order_qty?,
    price = :price?,
    trigger_price = :trigger_price?,
    ord_status = :ord_status,
    in_doubt = :in_doubt,
    reason = :reason,
    text = :text,
    cum_qty = :cum_qty,
    leaves_qty = :leaves_qty,
    cum_quote = :cum_quote,
    avg_px = :avg_px?,
    origin = :origin,
    triggered = :triggered,
    generation = :generation,
    acknowledged = :acknowledged,
    closed_by = :closed_by?,
    pending = :pending?,
    pending_terms = :pending_terms?,
    queued = :queued,
    venue_order_id = :venue_order_id?,
    venue_client_order_id = :venue_client_order_id?,
    send_by_ns = :send_by_ns,
    updated_time_ns = :updated_time_ns,
    closed_time_ns = :closed_time_ns?,
    seq = :seq
WHERE order_id = :order_id AND account_id = :account_id;

-- name: find_order :one
-- One order.
SELECT
    order_id, account_id, venue, symbol, side, ord_type, time_in_force, order_qty, quote_qty,
    price, trigger_price, trigger_by, trailing_offset, expire_time_ns, post_only, reduce_only,
    max_slippage_bps, client_order_id, idempotency_key, tags, ord_status, in_doubt, reason, text,
    cum_qty, leaves_qty, cum_quote, avg_px, origin, triggered, generation, acknowledged, closed_by,
    pending, pending_terms, queued, venue_order_id, venue_client_order_id, send_by_ns, created_time_ns,
    updated_time_ns, closed_time_ns, seq
FROM orders
WHERE order_id = :order_id;

-- name: find_order_id_by_client_order_id :one
-- The order that an account has under a client order id.
SELECT order_id FROM orders
WHERE account_id = :account_id AND client_order_id = :client_order_id::text;

-- name: find_order_id_at_venue :one
-- The order that a venue knows by an id of its own, in its newest incarnation.
SELECT order_id FROM orders
WHERE account_id = :account_id AND venue_order_id = :venue_order_id::text
ORDER BY created_time_ns DESC
LIMIT 1;

-- name: list_orders_after :many
-- The next orders of an account in the order of their ids, which says nothing of time.
SELECT order_id FROM orders
WHERE account_id = :account_id AND order_id > :order_id
ORDER BY order_id
LIMIT :limit_rows;
-- dialect: sqlite
SELECT order_id FROM orders
-- Not by the account: all of its orders would be sorted for each page.
WHERE +account_id = :account_id AND order_id > :order_id
ORDER BY order_id
LIMIT :limit_rows;

-- name: list_open_orders :many
-- The open orders of an account, oldest first.
SELECT order_id, created_time_ns FROM orders
WHERE
    account_id = :account_id
    AND ord_status IN ('PENDING_NEW', 'NEW', 'PARTIALLY_FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE')
ORDER BY created_time_ns, order_id;

-- name: list_orders :many
-- Keys of the orders that a filter lets through, newest first, those before a given one.
-- Lists are JSON arrays, tags a JSON object; NULL lets everything through.
SELECT o.order_id, o.created_time_ns FROM orders AS o
WHERE
    (o.created_time_ns, o.order_id) < (:before_ns, :before_order_id)
    AND o.created_time_ns >= :from_ns
    AND (
        :account_ids?::text IS NULL
        OR CAST(o.account_id AS text) IN (
            SELECT e.value FROM jsonb_array_elements_text(CAST(:account_ids? AS jsonb)) AS e (value)
        )
    )
    AND (
        :statuses?::text IS NULL
        OR o.ord_status IN (
            SELECT e.value FROM jsonb_array_elements_text(CAST(:statuses? AS jsonb)) AS e (value)
        )
    )
    AND (:venue?::text IS NULL OR o.venue = :venue?)
    AND (:symbol?::text IS NULL OR o.symbol = :symbol?)
    AND (:side?::text IS NULL OR o.side = :side?)
    AND (:in_doubt?::boolean IS NULL OR (o.in_doubt <> '[]') = :in_doubt?)
    AND NOT EXISTS (
        SELECT 1 FROM jsonb_each_text(CAST(:tags::text AS jsonb)) AS wanted (tag, value)
        WHERE CAST(o.tags AS jsonb) ->> wanted.tag IS DISTINCT FROM wanted.value
    )
ORDER BY o.created_time_ns DESC, o.order_id DESC
LIMIT :limit_rows;
-- dialect: sqlite
SELECT o.order_id, o.created_time_ns FROM orders AS o
WHERE
    (o.created_time_ns, o.order_id) < (:before_ns, :before_order_id)
    AND o.created_time_ns >= :from_ns
    AND (
        :account_ids? IS NULL
        OR o.account_id IN (SELECT e.value FROM json_each(:account_ids?) AS e)
    )
    AND (:statuses? IS NULL OR o.ord_status IN (SELECT e.value FROM json_each(:statuses?) AS e))
    AND (:venue? IS NULL OR o.venue = :venue?)
    AND (:symbol? IS NULL OR o.symbol = :symbol?)
    AND (:side? IS NULL OR o.side = :side?)
    AND (:in_doubt? IS NULL OR (o.in_doubt <> '[]') = :in_doubt?)
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS wanted
        WHERE NOT EXISTS (
            SELECT 1 FROM json_each(o.tags) AS held
            WHERE held.key = wanted.key AND held.value = wanted.value
        )
    )
ORDER BY o.created_time_ns DESC, o.order_id DESC
LIMIT :limit_rows;

-- name: count_orders :many
-- How many orders there are of each status.
SELECT ord_status, count(*) AS orders FROM orders GROUP BY ord_status;

-- name: ping :one
-- A real query, which touches a table.
SELECT count(*) AS migrations FROM schema_migration;
