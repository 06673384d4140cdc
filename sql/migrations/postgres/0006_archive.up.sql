-- oldest-release: 0.1.0

-- Where the events of an account begin that are still in `order_event`: number and hash of the last one that
-- was archived. They may be deleted up to there.
CREATE TABLE chain_checkpoint (
    account_id uuid NOT NULL PRIMARY KEY REFERENCES account (account_id) ON DELETE RESTRICT,
    seq bigint NOT NULL CHECK (seq > 0),
    hash bytea NOT NULL,
    -- Name of the newest file.
    archive text NOT NULL,
    archived_time_ns bigint NOT NULL
);

-- What is left of a fill whose event is archived: its key, so that none counts twice, and what its order's
-- quantities are made of.
CREATE TABLE archived_fill (
    account_id uuid NOT NULL,
    order_id uuid NOT NULL REFERENCES orders (order_id) ON DELETE RESTRICT,
    trade_id text NOT NULL,
    seq bigint NOT NULL,
    last_qty numeric NOT NULL,
    last_px numeric NOT NULL,
    inferred boolean NOT NULL,
    corrects text,
    PRIMARY KEY (account_id, order_id, trade_id),
    UNIQUE (account_id, seq)
);

CREATE TRIGGER archived_fill_is_never_changed BEFORE UPDATE OR DELETE ON archived_fill
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- The events that these refer to may leave before they do.
ALTER TABLE fill DROP CONSTRAINT fill_account_id_seq_fkey;
ALTER TABLE unmatched_fill DROP CONSTRAINT unmatched_fill_account_id_seq_fkey;

DROP TRIGGER order_event_is_never_changed ON order_event;

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM chain_checkpoint AS c WHERE c.account_id = OLD.account_id AND c.seq >= OLD.seq
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'order_event is append-only';
END;
$$;

CREATE TRIGGER order_event_is_never_changed BEFORE UPDATE OR DELETE ON order_event
FOR EACH ROW EXECUTE FUNCTION refuse_event_change();

DROP TRIGGER fill_is_never_changed ON fill;

CREATE FUNCTION refuse_fill_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM archived_fill AS a
        WHERE a.account_id = OLD.account_id AND a.order_id = OLD.order_id AND a.trade_id = OLD.trade_id
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'fill is append-only';
END;
$$;

CREATE TRIGGER fill_is_never_changed BEFORE UPDATE OR DELETE ON fill
FOR EACH ROW EXECUTE FUNCTION refuse_fill_change();

-- Reports name an order by it, and not by the scope.
CREATE INDEX venue_order_ref_named ON venue_order_ref (account_id, venue_client_order_id);
