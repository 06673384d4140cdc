-- Older releases know nothing of archives: they would find a chain without a beginning.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM chain_checkpoint) THEN
        RAISE EXCEPTION 'events are archived, and older releases cannot run without them';
    END IF;
END;
$$;

DROP TRIGGER fill_is_never_changed ON fill;
DROP FUNCTION refuse_fill_change();
CREATE TRIGGER fill_is_never_changed BEFORE UPDATE OR DELETE ON fill
FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER order_event_is_never_changed ON order_event;
DROP FUNCTION refuse_event_change();
CREATE TRIGGER order_event_is_never_changed BEFORE UPDATE OR DELETE ON order_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE unmatched_fill ADD FOREIGN KEY (account_id, seq)
REFERENCES order_event (account_id, seq) ON DELETE RESTRICT;
ALTER TABLE fill ADD FOREIGN KEY (account_id, seq)
REFERENCES order_event (account_id, seq) ON DELETE RESTRICT;
DROP TABLE archived_fill;
DROP TABLE chain_checkpoint;
DROP INDEX venue_order_ref_named;
