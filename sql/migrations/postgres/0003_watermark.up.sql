-- oldest-release: 0.1.0

-- Until when the fills of an account and symbol have been read, by the venue's clock. They are asked for
-- again from a little before that.
CREATE TABLE watermark (
    account_id uuid NOT NULL REFERENCES account (account_id) ON DELETE RESTRICT,
    symbol text NOT NULL,
    read_until_ns bigint NOT NULL,
    PRIMARY KEY (account_id, symbol)
);
