-- oldest-release: 0.1.0
CREATE TABLE parent (
    parent_id bigint PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE child (
    child_id bigint PRIMARY KEY,
    parent_id bigint NOT NULL REFERENCES parent (parent_id) ON DELETE RESTRICT,
    px numeric NOT NULL
);
