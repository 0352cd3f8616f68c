-- name: read_token
-- What GetAccessToken needs, by primary keys only, with the database's time of this read. Read by
-- position (`rows.token_read`).
SELECT
    c.connector, c.display_name, c.credential_scope, c.status, c.reason_time,
    c.owner, clock_timestamp() AS now,
    g.grant_id, g.workspace_id, g.generation, g.connector, g.connection_params, g.slot,
    g.app_workspace_id, g.app_id, g.key_id, g.sealed_access_token,
    -- Only whether there is one: a read that cannot spend it does not fetch it.
    g.sealed_refresh_token IS NOT NULL AS has_refresh_token, g.refresh_fingerprint,
    g.token_type, g.scopes, g.connection, g.issue_time, g.expire_time, g.dead_reason, g.dead_time,
    g.retry_time, g.failure, g.failure_count, g.hinted_times, g.lease_expire_time
FROM credentials AS c
LEFT JOIN credential_slots AS s
    ON s.workspace_id = c.workspace_id AND s.credential_id = c.credential_id
    AND ($3 = '' OR s.slot = $3)
LEFT JOIN grants AS g ON g.workspace_id = s.workspace_id AND g.grant_id = s.grant_id
WHERE c.workspace_id = $1 AND c.credential_id = $2
ORDER BY s.position
LIMIT 1;

-- name: read_tokens
-- The same for many at once: for each the slot that is asked for, or the first.
SELECT
    c.connector, c.display_name, c.credential_scope, c.status, c.reason_time,
    c.owner, clock_timestamp() AS now,
    g.grant_id, g.workspace_id, g.generation, g.connector, g.connection_params, g.slot,
    g.app_workspace_id, g.app_id, g.key_id, g.sealed_access_token,
    -- Only whether there is one: a read that cannot spend it does not fetch it.
    g.sealed_refresh_token IS NOT NULL AS has_refresh_token, g.refresh_fingerprint,
    g.token_type, g.scopes, g.connection, g.issue_time, g.expire_time, g.dead_reason, g.dead_time,
    g.retry_time, g.failure, g.failure_count, g.hinted_times, g.lease_expire_time,
    w.place
FROM unnest($2::uuid[], $3::text[]) WITH ORDINALITY AS w (credential_id, slot, place)
JOIN credentials AS c ON c.workspace_id = $1 AND c.credential_id = w.credential_id
LEFT JOIN LATERAL (
    SELECT each.slot, each.grant_id
    FROM credential_slots AS each
    WHERE each.workspace_id = $1 AND each.credential_id = w.credential_id
        AND (w.slot = '' OR each.slot = w.slot)
    ORDER BY each.position
    LIMIT 1
) AS s ON true
LEFT JOIN grants AS g ON g.workspace_id = $1 AND g.grant_id = s.grant_id;

-- name: grants_of
-- The grants of a credential, the first slot first.
SELECT g.*, clock_timestamp() AS now
FROM credential_slots AS s
JOIN grants AS g ON g.workspace_id = s.workspace_id AND g.grant_id = s.grant_id
WHERE s.workspace_id = $1 AND s.credential_id = $2
ORDER BY s.position;

-- name: read_grant
-- One grant, with the database's time.
SELECT g.*, clock_timestamp() AS now FROM grants AS g WHERE workspace_id = $1 AND grant_id = $2;

-- name: lease
-- Takes the right to spend this generation's refresh token, and proves the database writable
-- before a single-use token is spent. Of any number of processes one gets a row.
UPDATE grants SET
    lease_process_id = $4,
    lease_expire_time = clock_timestamp() + $5::interval,
    hinted_times = CASE
        WHEN $6::boolean THEN (array_append(hinted_times, clock_timestamp()))[
            greatest(1, cardinality(hinted_times) - 3):]
        ELSE hinted_times END
WHERE workspace_id = $1 AND grant_id = $2 AND generation = $3
    AND dead_time IS NULL AND sealed_refresh_token IS NOT NULL
    AND (lease_expire_time IS NULL OR lease_expire_time <= clock_timestamp())
    AND (retry_time IS NULL OR retry_time <= clock_timestamp())
RETURNING *, clock_timestamp() AS now;

-- name: release
-- Gives the lease back after a failure and leaves the service alone for a while.
UPDATE grants SET
    lease_process_id = NULL,
    lease_expire_time = NULL,
    failure = $5,
    failure_count = CASE WHEN $5 = '' THEN failure_count ELSE failure_count + 1 END,
    retry_time = CASE WHEN $5 = '' THEN retry_time ELSE clock_timestamp() + $6::interval END
WHERE workspace_id = $1 AND grant_id = $2 AND generation = $3 AND lease_process_id = $4;

-- name: renew
-- Stores a refresh's answer. The condition is what was spent, not the lease: the lease decides who
-- may spend, never whose answer counts.
UPDATE grants SET
    generation = generation + 1,
    key_id = $5,
    sealed_access_token = $6,
    sealed_refresh_token = $7,
    refresh_fingerprint = $8,
    token_type = $9,
    scopes = $10,
    connection = $11,
    issue_time = clock_timestamp() - $12::interval,
    expire_time = clock_timestamp() - $12::interval + $13::interval,
    refresh_expire_time = coalesce(clock_timestamp() - $12::interval + $14::interval, refresh_expire_time),
    last_refresh_time = clock_timestamp(),
    rotation_seen = rotation_seen OR $15::boolean,
    failure = '', failure_count = 0, retry_time = NULL,
    lease_process_id = NULL, lease_expire_time = NULL
WHERE workspace_id = $1 AND grant_id = $2 AND generation = $3
    AND refresh_fingerprint = $4 AND dead_time IS NULL
RETURNING generation;

-- name: bury
-- Marks the grant dead. Its tokens stay sealed, never served.
UPDATE grants SET
    generation = generation + 1,
    dead_reason = $5,
    dead_time = clock_timestamp(),
    lease_process_id = NULL, lease_expire_time = NULL
WHERE workspace_id = $1 AND grant_id = $2 AND generation = $3
    AND refresh_fingerprint IS NOT DISTINCT FROM $4 AND dead_time IS NULL
RETURNING generation;
