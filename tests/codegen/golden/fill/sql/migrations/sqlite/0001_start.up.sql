-- oldest-release: 0.1.0
CREATE TABLE fill (
    fill_id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL,
    order_id TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    last_qty TEXT NOT NULL,
    last_px TEXT NOT NULL,
    UNIQUE (account_id, order_id, trade_id)
) STRICT;
