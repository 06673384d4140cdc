-- oldest-release: 0.1.0

-- Which gateway serves an account, while several share the store. `token` grows with every holder, and every
-- write of the account is made under the token that is in force. Expiry is by the database's clock; an empty
-- `holder` has released it. Host (with its boot), pid and start of the process tell whether it is gone.
CREATE TABLE lease (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    token INTEGER NOT NULL CHECK (token >= 0),
    holder TEXT NOT NULL,
    address TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_start INTEGER NOT NULL,
    -- Whether the venue refuses old requests: only then may silence alone take the lease away.
    requests_expire INTEGER NOT NULL CHECK (requests_expire IN (0, 1)),
    expires_ns INTEGER NOT NULL
) STRICT;
