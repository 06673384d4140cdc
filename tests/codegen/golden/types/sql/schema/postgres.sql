CREATE TABLE thing (
    thing_id uuid PRIMARY KEY,
    amount numeric NOT NULL,
    name text NOT NULL,
    flag boolean NOT NULL,
    at_ns bigint NOT NULL,
    payload bytea NOT NULL,
    maybe_id uuid,
    maybe_amount numeric,
    maybe_name text,
    maybe_flag boolean,
    maybe_at_ns bigint,
    maybe_payload bytea
);
CREATE INDEX thing_newest ON thing (at_ns, thing_id);
