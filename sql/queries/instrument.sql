-- name: delete_instruments :exec
-- Forget a venue's instruments, before the present ones are stored.
DELETE FROM instrument WHERE venue = :venue;

-- name: insert_instrument :exec
-- Store one instrument.
INSERT INTO instrument (
    venue, symbol, venue_symbol, base_asset, quote_asset, settle_asset, tick_size, step_size,
    qty_min, qty_max, notional_min, notional_max, contract_size, status, updated_time_ns
)
VALUES (
    :venue, :symbol, :venue_symbol, :base_asset, :quote_asset, :settle_asset?, :tick_size,
    :step_size, :qty_min, :qty_max, :notional_min, :notional_max, :contract_size, :status,
    :updated_time_ns
);

-- name: list_instruments :many
-- A venue's instruments, in the order of their symbols.
SELECT
    symbol, venue_symbol, base_asset, quote_asset, settle_asset, tick_size, step_size, qty_min,
    qty_max, notional_min, notional_max, contract_size, status
FROM instrument
WHERE venue = :venue
ORDER BY symbol;
