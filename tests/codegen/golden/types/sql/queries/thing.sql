-- name: insert_thing :execrows
-- Store a thing, once.
INSERT INTO thing (
    thing_id, amount, name, flag, at_ns, payload,
    maybe_id, maybe_amount, maybe_name, maybe_flag, maybe_at_ns, maybe_payload
)
VALUES (
    :thing_id, :amount, :name, :flag, :at_ns, :payload,
    :maybe_id?, :maybe_amount?, :maybe_name?, :maybe_flag?, :maybe_at_ns?, :maybe_payload?
)
ON CONFLICT DO NOTHING;

-- name: put_amount :exec
-- Store an amount, whatever stood there.
UPDATE thing SET amount = :amount, maybe_amount = :amount WHERE thing_id = :thing_id;

-- name: find_thing :one
-- One thing, or nothing.
SELECT * FROM thing WHERE thing_id = :thing_id;

-- name: list_things :many
-- The things that a filter lets through, newest first.
--
-- A filter of None lets everything through. "Newest" goes by `at_ns`.
SELECT thing_id, amount, maybe_amount, flag FROM thing
WHERE (:name?::text IS NULL OR name = :name?) AND (:flag?::boolean IS NULL OR flag = :flag?)
ORDER BY at_ns DESC, thing_id
LIMIT :limit_rows;

-- name: find_quoted :one
-- Text that looks like other things: ':name', "quoted", a backslash \, three """.
SELECT
    ':name -- $1 ? \ """' AS text_literal, /* :not_this */
    name AS "class_name"
FROM thing
WHERE name <> 'it''s :nobody' -- nor :this
  AND thing_id = :thing_id;

-- name: count_things :one
-- How many things there are, and the last instant.
SELECT count(*) AS things, max(at_ns) AS last_ns, coalesce(max(at_ns), 0) AS last_or_zero_ns
FROM thing;

-- name: list_things_of :many
-- The things of a list of ids, a JSON array.
SELECT thing_id FROM thing
WHERE CAST(thing_id AS text) IN (SELECT jsonb_array_elements_text(CAST(:ids::text AS jsonb)))
ORDER BY thing_id;
-- dialect: sqlite
SELECT thing_id FROM thing
WHERE thing_id IN (SELECT value FROM json_each(:ids))
ORDER BY thing_id;
