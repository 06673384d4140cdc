-- oldest-release: 0.1.0

-- The next number of each account that may name an order at a venue. Numbers are taken in blocks, and a
-- block that was taken is never given again.
CREATE TABLE client_number (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    next_number bigint NOT NULL
);
