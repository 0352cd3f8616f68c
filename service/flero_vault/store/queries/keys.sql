-- name: open_key
-- The key that a workspace seals or hashes with now.
SELECT * FROM data_keys WHERE workspace_id = $1 AND purpose = $2 AND close_time IS NULL;

-- name: load_key
-- A key by its id, open or closed.
SELECT * FROM data_keys WHERE workspace_id = $1 AND key_id = $2;

-- name: add_key
-- A new key, unless another process was faster.
INSERT INTO data_keys (workspace_id, key_id, purpose, kek_id, wrapped_key)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, purpose) WHERE close_time IS NULL DO NOTHING
RETURNING *;
