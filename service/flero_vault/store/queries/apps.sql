-- name: put_app
-- A new app, or new secrets and origins for the one that has this id and client id.
INSERT INTO oauth_apps (
    workspace_id, app_id, connector, client_id, origins, key_id, sealed_secrets
) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (workspace_id, connector, client_id) DO UPDATE SET
    origins = excluded.origins, key_id = excluded.key_id,
    sealed_secrets = excluded.sealed_secrets, update_time = clock_timestamp()
WHERE oauth_apps.app_id = excluded.app_id
RETURNING *;

-- name: find_app
-- The app of a client id.
SELECT * FROM oauth_apps WHERE workspace_id = $1 AND connector = $2 AND client_id = $3;

-- name: load_app
-- An app by its name.
SELECT * FROM oauth_apps WHERE workspace_id = $1 AND app_id = $2;

-- name: current_app
-- The app for new consents: the workspace's own before the deployment's, the newest first.
SELECT * FROM oauth_apps
WHERE workspace_id IN ($1, '_deployment') AND connector = $2
ORDER BY workspace_id = '_deployment', update_time DESC
LIMIT 1;

-- name: configured
-- The connectors that have an app.
SELECT DISTINCT connector FROM oauth_apps WHERE workspace_id IN ($1, '_deployment');

-- name: list_apps
-- Apps by id.
SELECT * FROM oauth_apps
WHERE workspace_id = $1 AND ($2::uuid IS NULL OR app_id > $2)
ORDER BY app_id
LIMIT $3;

-- name: delete_app
-- An app that no grant and no revocation needs.
DELETE FROM oauth_apps WHERE workspace_id = $1 AND app_id = $2 RETURNING app_id;
