-- name: put_watermark :exec
-- Remember until when an account's fills of a symbol were read.
INSERT INTO watermark (account_id, symbol, read_until_ns)
VALUES (:account_id, :symbol, :read_until_ns)
ON CONFLICT (account_id, symbol) DO UPDATE SET read_until_ns = excluded.read_until_ns;

-- name: list_watermarks :many
-- Until when an account's fills were read, by symbol.
SELECT symbol, read_until_ns FROM watermark WHERE account_id = :account_id ORDER BY symbol;
