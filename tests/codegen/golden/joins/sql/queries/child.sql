-- name: list_inner :many
-- Nothing here can be NULL.
SELECT p.name, c.px FROM parent AS p JOIN child AS c ON c.parent_id = p.parent_id;

-- name: list_left :many
-- The child may be missing.
SELECT p.name, c.px FROM parent AS p LEFT JOIN child AS c ON c.parent_id = p.parent_id;

-- name: list_right :many
-- The parent may be missing, whichever side the planner puts it on.
SELECT p.name, c.px FROM parent AS p RIGHT JOIN child AS c ON c.parent_id = p.parent_id;

-- name: list_full :many
-- Either may be missing.
SELECT p.name, c.px FROM parent AS p FULL JOIN child AS c ON c.parent_id = p.parent_id;

-- name: list_childless :many
-- An anti join: what is returned of the child is always NULL.
SELECT p.name, c.px FROM parent AS p LEFT JOIN child AS c ON c.parent_id = p.parent_id
WHERE c.child_id IS NULL;

-- name: list_left_required :many
-- A condition on the child makes it an inner join after all.
SELECT p.name, c.px FROM parent AS p LEFT JOIN child AS c ON c.parent_id = p.parent_id
WHERE c.child_id > :child_id;

-- name: list_from_subquery :many
-- A join inside a subquery that cannot be pulled up.
SELECT s.name, s.px FROM (
    SELECT p.name, c.px FROM parent AS p LEFT JOIN child AS c ON c.parent_id = p.parent_id
    ORDER BY p.parent_id LIMIT 10
) AS s
WHERE s.name <> '';

-- name: list_from_cte :many
-- The same behind a name.
WITH s AS (
    SELECT p.name, c.px FROM parent AS p LEFT JOIN child AS c ON c.parent_id = p.parent_id
    ORDER BY p.parent_id LIMIT 10
)
SELECT a.name, b.px FROM s AS a JOIN s AS b ON a.name = b.name;

-- name: list_declared :many
-- What the writer knows better than the databases.
SELECT p.parent_id + 1 AS "next_id!", p.name AS "name?", p.parent_id * 2 AS twice_id
FROM parent AS p;

-- name: list_expressions :many
-- Which expressions cannot be NULL.
SELECT
    count(c.child_id) AS children,
    coalesce(max(c.child_id), 0) AS last_or_zero,
    coalesce(max(c.child_id), min(c.parent_id)) AS last_or_parent,
    coalesce(max(c.child_id), CAST(:otherwise AS bigint)) AS last_or_otherwise,
    coalesce(max(c.child_id), CAST(:perhaps? AS bigint)) AS last_or_perhaps,
    EXISTS (SELECT 1 FROM child AS x WHERE x.parent_id = p.parent_id) AS "has_children!",
    (SELECT x.px FROM child AS x WHERE x.parent_id = p.parent_id LIMIT 1) AS some_px
FROM parent AS p
LEFT JOIN child AS c ON c.parent_id = p.parent_id
GROUP BY p.parent_id;
