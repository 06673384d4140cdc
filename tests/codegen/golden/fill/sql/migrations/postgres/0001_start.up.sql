-- oldest-release: 0.1.0
CREATE TABLE fill (
    fill_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id uuid NOT NULL,
    order_id uuid NOT NULL,
    trade_id text NOT NULL,
    last_qty numeric NOT NULL CHECK (last_qty > 0),
    last_px numeric NOT NULL CHECK (last_px > 0),
    UNIQUE (account_id, order_id, trade_id)
);
