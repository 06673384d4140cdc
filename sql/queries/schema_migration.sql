-- name: insert_schema_migration :exec
-- Record that a migration was applied.
INSERT INTO schema_migration (number, name, applied_time_ns, oldest_release)
VALUES (:number, :name, :applied_time_ns, :oldest_release);

-- name: delete_schema_migration :exec
-- Record that a migration was taken back.
DELETE FROM schema_migration WHERE number = :number;

-- name: list_schema_migrations :many
-- The migrations that were applied, in order.
SELECT number, name, applied_time_ns, oldest_release FROM schema_migration ORDER BY number;
