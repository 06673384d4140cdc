-- name: put_halt :exec
-- Store a halt, in place of the one of its scope.
INSERT INTO halt (scope, why, halted_by, since_ns) VALUES (:scope, :why, :halted_by, :since_ns)
ON CONFLICT (scope) DO UPDATE SET
    why = excluded.why, halted_by = excluded.halted_by, since_ns = excluded.since_ns;

-- name: delete_halt :exec
-- End a halt.
DELETE FROM halt WHERE scope = :scope;

-- name: list_halts :many
-- Every halt, in the order of their scopes.
SELECT scope, why, halted_by, since_ns FROM halt ORDER BY scope;
