DROP INDEX thing_newest;
ALTER TABLE thing DROP COLUMN maybe_payload;
