-- oldest-release: 0.1.0
CREATE TABLE parent (
    parent_id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE child (
    child_id INTEGER NOT NULL PRIMARY KEY,
    parent_id INTEGER NOT NULL REFERENCES parent (parent_id) ON DELETE RESTRICT,
    px TEXT NOT NULL
) STRICT;
