-- name: load
-- A credential as callers see it.
SELECT * FROM credentials_as_seen WHERE workspace_id = $1 AND credential_id = $2;

-- name: list
-- What the user can see, oldest first, after the last one seen.
SELECT * FROM credentials_as_seen
WHERE workspace_id = $1
    AND (credential_scope = 'WORKSPACE' OR owner = $2)
    AND ($3::text IS NULL OR status = $3)
    AND ($4::text IS NULL OR connector = $4)
    AND ($5::text IS NULL OR owner = $5)
    AND ($6::text IS NULL OR authorized_by = $6)
    AND ($7::timestamptz IS NULL OR (create_time, credential_id) > ($7, $8))
ORDER BY create_time, credential_id
LIMIT $9;

-- name: insert_credential
-- A new credential, PENDING.
INSERT INTO credentials (
    workspace_id, credential_id, connector, display_name, credential_scope, status, owner,
    requested_scopes, connection_params
) VALUES ($1, $2, $3, $4, $5, 'PENDING', $6, $7, $8);

-- name: update
-- What a person may change, if nobody else changed it meanwhile.
UPDATE credentials SET
    display_name = $4, credential_scope = $5, owner = $6,
    revision = revision + 1, update_time = clock_timestamp()
WHERE workspace_id = $1 AND credential_id = $2 AND revision = $3
RETURNING revision;

-- name: delete_credential
-- Its slots and attempts go with it.
DELETE FROM credentials
WHERE workspace_id = $1 AND credential_id = $2 AND revision = $3
RETURNING credential_id;

-- name: delete_grants
-- Those of the named grants that no credential holds any more.
DELETE FROM grants AS g
WHERE workspace_id = $1 AND grant_id = ANY($2)
    AND NOT EXISTS (
        SELECT FROM credential_slots AS s
        WHERE s.workspace_id = g.workspace_id AND s.grant_id = g.grant_id
    );

-- name: lock_credential
-- Every transaction that changes a credential's attempts or grants begins here, so that all take
-- their locks in one order.
SELECT status FROM credentials
WHERE workspace_id = $1 AND credential_id = $2
FOR NO KEY UPDATE;

-- name: revoke_credential
-- Stops a credential.
UPDATE credentials SET
    status = 'REVOKED', service_revocation = $3, reason = 'CREDENTIAL_REVOKED',
    reason_message = 'It was revoked in Flero.', reason_time = clock_timestamp(),
    revision = revision + 1, update_time = clock_timestamp()
WHERE workspace_id = $1 AND credential_id = $2;

-- name: void_attempts
-- No consent begun before may undo what was decided now.
UPDATE attempts SET phase = 'VOID', key_id = NULL, sealed_secrets = NULL
WHERE workspace_id = $1 AND credential_id = $2 AND phase IN ('OPEN', 'EXCHANGING');

-- name: lock_grants
-- The unshared grants of a credential, held until the transaction ends.
SELECT g.grant_id
FROM grants AS g
WHERE g.workspace_id = $1
    AND g.grant_id IN (
        SELECT s.grant_id FROM credential_slots AS s
        WHERE s.workspace_id = $1 AND s.credential_id = $2
    )
    AND NOT EXISTS (
        SELECT FROM credential_slots AS o
        WHERE o.workspace_id = $1 AND o.grant_id = g.grant_id AND o.credential_id <> $2
    )
ORDER BY g.grant_id
FOR UPDATE OF g;

-- name: queue_revocations
-- Moves the tokens of grants to the outbox. While a refresh is under way its answer is awaited.
INSERT INTO revocations (
    workspace_id, revocation_id, credential_id, grant_id, connector, slot, connection_params,
    connection, app_workspace_id, app_id, key_id, sealed_access_token, sealed_refresh_token,
    next_time
)
SELECT
    workspace_id, gen_random_uuid(), $2, grant_id, connector, slot, connection_params, connection,
    app_workspace_id, app_id, key_id, sealed_access_token, sealed_refresh_token,
    -- A refresh that was sent may hold its answer for a minute while the database is away.
    greatest(clock_timestamp(), lease_expire_time + interval '60 seconds')
FROM grants
WHERE workspace_id = $1 AND grant_id = ANY($3) AND key_id IS NOT NULL
RETURNING revocation_id;

-- name: empty_grants
-- Takes every ciphertext out of grants, so that nothing can serve them.
UPDATE grants SET
    generation = generation + 1,
    key_id = NULL, sealed_access_token = NULL, sealed_refresh_token = NULL,
    refresh_fingerprint = NULL, app_workspace_id = NULL, app_id = NULL,
    expire_time = NULL, refresh_expire_time = NULL, scopes = '{}',
    lease_process_id = NULL, lease_expire_time = NULL
WHERE workspace_id = $1 AND grant_id = ANY($2);

-- name: remember_account
-- What the service says now about the account.
UPDATE credentials SET
    account_id = $4, account_email = $5, account_label = $6,
    revision = revision + 1, update_time = clock_timestamp()
WHERE workspace_id = $1 AND credential_id = $2 AND revision = $3
    AND (account_id, account_email, account_label) IS DISTINCT FROM ($4, $5, $6);

-- name: mark_used
-- When credentials were last used, to the minute. Not a change that anybody has to see: a row that
-- somebody else is changing is left out, so that no two of these ever wait for each other.
UPDATE credentials AS c SET last_used_time = due.minute
FROM (
    SELECT each.workspace_id, each.credential_id, used.minute
    FROM unnest($1::text[], $2::uuid[], $3::timestamptz[])
        AS used (workspace_id, credential_id, minute)
    JOIN credentials AS each
        ON each.workspace_id = used.workspace_id AND each.credential_id = used.credential_id
    WHERE each.last_used_time IS NULL OR each.last_used_time < used.minute
    FOR UPDATE OF each SKIP LOCKED
) AS due
WHERE c.workspace_id = due.workspace_id AND c.credential_id = due.credential_id;
