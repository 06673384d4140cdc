-- name: put_venue :exec
-- Store a venue, or what plugin it has. An empty plugin changes nothing.
INSERT INTO venue (venue, plugin) VALUES (:venue, :plugin)
ON CONFLICT (venue) DO UPDATE SET plugin = excluded.plugin WHERE excluded.plugin <> '';

-- name: put_account :exec
-- Store an account, or update the one of that name, which keeps its id and its first time.
-- What is empty changes nothing: of two gateways that store a new one, one may have bound it already.
INSERT INTO account (
    account_id, account, venue, venue_account_id, environment, instance_id, created_time_ns
)
VALUES (
    :account_id, :account, :venue, :venue_account_id, :environment, :instance_id, :created_time_ns
)
ON CONFLICT (account) DO UPDATE SET
    venue = excluded.venue,
    venue_account_id = coalesce(nullif(excluded.venue_account_id, ''), account.venue_account_id),
    environment = coalesce(nullif(excluded.environment, ''), account.environment),
    instance_id = coalesce(nullif(excluded.instance_id, ''), account.instance_id);

-- name: list_accounts :many
-- Every account, in the order of their names.
SELECT
    a.account_id, a.account, a.venue, v.plugin, a.venue_account_id, a.environment, a.instance_id,
    a.created_time_ns
FROM account AS a
JOIN venue AS v ON v.venue = a.venue
ORDER BY a.account;

-- name: put_balance :exec
-- Store what an account holds of one asset, in place of what it held.
INSERT INTO balance (account_id, asset, free, held, time_ns)
VALUES (:account_id, :asset, :free, :held, :time_ns)
ON CONFLICT (account_id, asset) DO UPDATE SET
    free = excluded.free, held = excluded.held, time_ns = excluded.time_ns;

-- name: list_balances :many
-- An account's balances, in the order of the assets' names.
SELECT asset, free, held, time_ns FROM balance WHERE account_id = :account_id ORDER BY asset;

-- name: put_position :exec
-- Store a position, in place of what it was.
INSERT INTO position (account_id, symbol, qty, entry_px, time_ns)
VALUES (:account_id, :symbol, :qty, :entry_px?, :time_ns)
ON CONFLICT (account_id, symbol) DO UPDATE SET
    qty = excluded.qty, entry_px = excluded.entry_px, time_ns = excluded.time_ns;

-- name: list_positions :many
-- An account's positions, in the order of their symbols.
SELECT symbol, qty, entry_px, time_ns FROM position WHERE account_id = :account_id ORDER BY symbol;

-- name: take_client_numbers :one
-- Take a block of numbers of an account, and return its end: `first_end` if it never took any.
INSERT INTO client_number (account_id, next_number) VALUES (:account_id, :first_end)
ON CONFLICT (account_id) DO UPDATE SET next_number = client_number.next_number + :count
RETURNING next_number;
