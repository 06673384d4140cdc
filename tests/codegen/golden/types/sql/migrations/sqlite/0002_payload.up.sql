-- oldest-release: 0.2.0
ALTER TABLE thing ADD COLUMN maybe_payload BLOB;
CREATE INDEX thing_newest ON thing (at_ns, thing_id);
