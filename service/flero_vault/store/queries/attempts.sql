-- name: insert_attempt
-- A trip to the consent page. No row if the same request is stored already.
INSERT INTO attempts (
    workspace_id, state_hash, credential_id, phase, user_id, binding_hash, connector,
    app_workspace_id, app_id, redirect_uri, issuer, requested_scopes, connection_params,
    allow_account_change, key_id, sealed_secrets, request_key, request_digest, expire_time
) VALUES (
    $1, $2, $3, 'OPEN', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    clock_timestamp() + $18::interval
)
ON CONFLICT (workspace_id, request_key) WHERE request_key IS NOT NULL DO NOTHING
RETURNING *;

-- name: void_older
-- A new attempt voids the older ones of its credential.
UPDATE attempts SET phase = 'VOID', key_id = NULL, sealed_secrets = NULL
WHERE workspace_id = $1 AND credential_id = $2 AND state_hash <> $3
    AND phase IN ('OPEN', 'EXCHANGING');

-- name: forget_request
-- A request id counts for ten minutes.
UPDATE attempts SET request_key = NULL
WHERE workspace_id = $1 AND request_key = $2 AND create_time < clock_timestamp() - $3::interval;

-- name: attempt_by_request
-- The attempt of a repeated request.
SELECT * FROM attempts WHERE workspace_id = $1 AND request_key = $2;

-- name: attempt
-- The attempt of a state, with the database's time.
SELECT a.*, clock_timestamp() AS now
FROM (SELECT) AS one LEFT JOIN attempts AS a ON a.workspace_id = $1 AND a.state_hash = $2;

-- name: consume
-- Single use is decided here, before anything is sent: of any number of callers one gets a row.
UPDATE attempts SET
    phase = 'EXCHANGING', code_hash = $3, lease_process_id = $4,
    lease_expire_time = clock_timestamp() + $5::interval
WHERE workspace_id = $1 AND state_hash = $2 AND phase = 'OPEN' AND expire_time > clock_timestamp()
RETURNING state_hash;

-- name: finish
-- Ends an attempt without a grant.
UPDATE attempts SET
    phase = 'DONE', outcome = $3, key_id = NULL, sealed_secrets = NULL, lease_expire_time = NULL
WHERE workspace_id = $1 AND state_hash = $2 AND phase = 'EXCHANGING'
RETURNING credential_id;

-- name: note_refusal
-- Tells the dialog why a consent brought nothing; the status stays what it was.
UPDATE credentials SET
    reason = $3, reason_message = $4, reason_time = clock_timestamp(),
    revision = revision + 1, update_time = clock_timestamp()
WHERE workspace_id = $1 AND credential_id = $2;

-- name: finish_activated
-- Ends an attempt with a grant, unless it was voided or deleted meanwhile.
UPDATE attempts SET
    phase = 'DONE', outcome = $3, key_id = NULL, sealed_secrets = NULL, lease_expire_time = NULL
WHERE workspace_id = $1 AND state_hash = $2 AND phase = 'EXCHANGING'
RETURNING credential_id;

-- name: activate_credential
-- The credential has a grant from now on.
UPDATE credentials SET
    status = 'ACTIVE', reason = '', reason_message = '', reason_time = NULL,
    service_revocation = 'NOT_REQUESTED', authorized_by = $3,
    account_id = $4, account_email = $5, account_label = $6, requested_scopes = $7,
    revision = revision + 1, update_time = clock_timestamp()
WHERE workspace_id = $1 AND credential_id = $2
    AND (credential_scope = 'WORKSPACE' OR owner = $3)
RETURNING credential_id;

-- name: held_grants
-- The grants that the credential holds now.
SELECT grant_id FROM credential_slots WHERE workspace_id = $1 AND credential_id = $2;

-- name: drop_slots
-- The credential's slots, before the new ones.
DELETE FROM credential_slots WHERE workspace_id = $1 AND credential_id = $2;

-- name: put_grant
-- A grant, new or in place of what it held.
INSERT INTO grants (
    workspace_id, grant_id, connector, slot, connection_params, app_workspace_id, app_id, key_id,
    sealed_access_token, sealed_refresh_token, refresh_fingerprint, token_type, scopes, connection,
    issue_time, expire_time, refresh_expire_time
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
    clock_timestamp() - $15::interval, clock_timestamp() - $15::interval + $16::interval,
    clock_timestamp() - $15::interval + $17::interval
)
ON CONFLICT (workspace_id, grant_id) DO UPDATE SET
    generation = grants.generation + 1,
    connection_params = excluded.connection_params,
    app_workspace_id = excluded.app_workspace_id, app_id = excluded.app_id,
    key_id = excluded.key_id,
    sealed_access_token = excluded.sealed_access_token,
    sealed_refresh_token = excluded.sealed_refresh_token,
    refresh_fingerprint = excluded.refresh_fingerprint,
    token_type = excluded.token_type, scopes = excluded.scopes, connection = excluded.connection,
    issue_time = excluded.issue_time, expire_time = excluded.expire_time,
    refresh_expire_time = excluded.refresh_expire_time,
    dead_reason = '', dead_time = NULL, failure = '', failure_count = 0, retry_time = NULL,
    hinted_times = '{}', lease_process_id = NULL, lease_expire_time = NULL
-- A refresh token that is kept must still be the newest, with nobody spending it.
WHERE $18::bigint IS NULL
    OR (
        grants.generation = $18
        AND (grants.lease_expire_time IS NULL OR grants.lease_expire_time <= clock_timestamp())
    )
RETURNING grant_id;

-- name: put_slot
-- The credential holds this grant in this slot.
INSERT INTO credential_slots (workspace_id, credential_id, slot, position, grant_id)
VALUES ($1, $2, $3, $4, $5);

-- name: sweep_attempts
-- Attempts that nobody can come back to.
DELETE FROM attempts WHERE create_time < clock_timestamp() - $1::interval;

-- name: sweep_credentials
-- PENDING credentials that nobody finished. Those that wait for an administrator wait longer.
DELETE FROM credentials AS c
WHERE status = 'PENDING'
    AND create_time < clock_timestamp() - $1::interval
    AND (reason <> 'ADMIN_APPROVAL_REQUIRED' OR create_time < clock_timestamp() - $2::interval)
    AND NOT EXISTS (
        SELECT FROM attempts AS a
        WHERE a.workspace_id = c.workspace_id AND a.credential_id = c.credential_id
            AND a.phase IN ('OPEN', 'EXCHANGING') AND a.expire_time > clock_timestamp()
    );
