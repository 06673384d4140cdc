-- oldest-release: 0.1.0

-- Which gateway serves an account, while several share the store. `token` grows with every holder, and every
-- write of the account is made under the token that is in force. Expiry is by the database's clock; an empty
-- `holder` has released it. Host (with its boot), pid and start of the process tell whether it is gone.
CREATE TABLE lease (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    token bigint NOT NULL CHECK (token >= 0),
    holder text NOT NULL,
    address text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    process_start bigint NOT NULL,
    -- Whether the venue refuses old requests: only then may silence alone take the lease away.
    requests_expire boolean NOT NULL,
    expires_ns bigint NOT NULL
);
