-- name: now
-- The database's time.
SELECT clock_timestamp() AS now;

-- name: revision
-- Where the schema stands.
SELECT version_num FROM alembic_version;

-- name: beat
-- This process is alive, or has ended.
INSERT INTO processes (process_id) VALUES ($1)
ON CONFLICT (process_id) DO UPDATE SET
    heartbeat_time = clock_timestamp(),
    end_time = CASE WHEN $2::boolean THEN clock_timestamp() END;

-- name: sweep_processes
-- Processes that ended, or fell silent, long ago.
DELETE FROM processes WHERE heartbeat_time < clock_timestamp() - interval '1 day';

-- name: outbox
-- Tokens that arrived after their grant's own were queued: they are the newest of the lineage.
INSERT INTO revocations (
    workspace_id, revocation_id, credential_id, grant_id, connector, slot, connection_params,
    connection, app_workspace_id, app_id, key_id, sealed_access_token, sealed_refresh_token
)
SELECT
    workspace_id, $3, credential_id, grant_id, connector, slot, connection_params,
    connection, app_workspace_id, app_id, $4, $5, $6
FROM revocations
WHERE workspace_id = $1 AND grant_id = $2
ORDER BY create_time
LIMIT 1;

-- name: due_revocations
-- Takes what is due, each row for one process for a while. No transaction stays open.
UPDATE revocations AS r SET tries = tries + 1, next_time = clock_timestamp() + $1::interval
FROM (
    SELECT workspace_id, revocation_id FROM revocations
    WHERE next_time <= clock_timestamp()
    ORDER BY next_time
    LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS due
WHERE r.workspace_id = due.workspace_id AND r.revocation_id = due.revocation_id
RETURNING r.*, clock_timestamp() AS now;

-- name: end_revocation
-- The last one to end decides what the credential says; a failure stays a failure.
WITH ended AS (
    DELETE FROM revocations
    WHERE workspace_id = $1 AND revocation_id = $2
    RETURNING workspace_id, credential_id
)
UPDATE credentials AS c SET
    service_revocation = CASE
        WHEN $3::text = 'FAILED' THEN 'FAILED'
        WHEN c.service_revocation <> 'PENDING' THEN c.service_revocation
        WHEN EXISTS (
            SELECT FROM revocations AS r
            WHERE r.workspace_id = c.workspace_id AND r.credential_id = c.credential_id
                AND r.revocation_id <> $2
        ) THEN 'PENDING'
        ELSE $3 END,
    revision = revision + 1
FROM ended
WHERE c.workspace_id = ended.workspace_id AND c.credential_id = ended.credential_id
    AND c.status = 'REVOKED';

-- name: postpone_revocation
-- Try again later.
UPDATE revocations SET next_time = clock_timestamp() + $3::interval
WHERE workspace_id = $1 AND revocation_id = $2;
