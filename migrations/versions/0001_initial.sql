-- The first schema. Primary keys begin with the workspace, so that everything on the serving path
-- stays on one shard of a distributed database.

-- Data-encryption keys, wrapped by the KEK. One open key a workspace and purpose: `seal` encrypts,
-- `mac` makes the keyed hashes that rows are compared by.
CREATE TABLE data_keys (
    workspace_id text NOT NULL,
    key_id uuid NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('seal', 'mac')),
    kek_id text NOT NULL,
    wrapped_key bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    close_time timestamptz,
    PRIMARY KEY (workspace_id, key_id)
);
CREATE UNIQUE INDEX data_keys_open ON data_keys (workspace_id, purpose) WHERE close_time IS NULL;

-- Client registrations. Of several for one connector the one put last serves new consents.
CREATE TABLE oauth_apps (
    workspace_id text NOT NULL,
    app_id uuid NOT NULL,
    connector text NOT NULL,
    client_id text NOT NULL,
    origins text[] NOT NULL,
    key_id uuid NOT NULL,
    sealed_secrets bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, app_id),
    UNIQUE (workspace_id, connector, client_id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES data_keys (workspace_id, key_id)
);

CREATE TABLE credentials (
    workspace_id text NOT NULL,
    credential_id uuid NOT NULL,
    connector text NOT NULL,
    display_name text NOT NULL,
    credential_scope text NOT NULL CHECK (credential_scope IN ('PERSONAL', 'WORKSPACE')),
    -- EXPIRED is derived: ACTIVE with a dead grant.
    status text NOT NULL CHECK (status IN ('PENDING', 'ACTIVE', 'REVOKED')),
    reason text NOT NULL DEFAULT '',
    reason_message text NOT NULL DEFAULT '',
    reason_time timestamptz,
    service_revocation text NOT NULL DEFAULT 'NOT_REQUESTED',
    owner text NOT NULL,
    authorized_by text NOT NULL DEFAULT '',
    account_id text NOT NULL DEFAULT '',
    account_email text NOT NULL DEFAULT '',
    account_label text NOT NULL DEFAULT '',
    requested_scopes text[] NOT NULL DEFAULT '{}',
    connection_params jsonb NOT NULL DEFAULT '{}',
    revision bigint NOT NULL DEFAULT 1,
    last_used_time timestamptz,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, credential_id)
);
CREATE INDEX credentials_in_order ON credentials (workspace_id, create_time, credential_id);
CREATE INDEX credentials_pending ON credentials (create_time) WHERE status = 'PENDING';

-- What a service issued. `generation` rises with every change of what the row holds, and every
-- change is conditional on it; the lease only says who may spend the refresh token.
CREATE TABLE grants (
    workspace_id text NOT NULL,
    grant_id uuid NOT NULL,
    generation bigint NOT NULL DEFAULT 1,
    connector text NOT NULL,
    slot text NOT NULL,
    connection_params jsonb NOT NULL DEFAULT '{}',
    app_workspace_id text,
    app_id uuid,
    key_id uuid,
    sealed_access_token bytea,
    sealed_refresh_token bytea,
    -- Keyed hash of the refresh token: the commit of a refresh demands the one that was spent.
    refresh_fingerprint bytea,
    token_type text NOT NULL DEFAULT '',
    scopes text[] NOT NULL DEFAULT '{}',
    connection jsonb NOT NULL DEFAULT '{}',
    issue_time timestamptz,
    expire_time timestamptz,
    refresh_expire_time timestamptz,
    last_refresh_time timestamptz,
    -- Rotation was seen at a service that declared none.
    rotation_seen boolean NOT NULL DEFAULT false,
    dead_reason text NOT NULL DEFAULT '',
    dead_time timestamptz,
    failure text NOT NULL DEFAULT '',
    failure_count integer NOT NULL DEFAULT 0,
    retry_time timestamptz,
    hinted_times timestamptz[] NOT NULL DEFAULT '{}',
    lease_process_id uuid,
    lease_expire_time timestamptz,
    PRIMARY KEY (workspace_id, grant_id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES data_keys (workspace_id, key_id),
    FOREIGN KEY (app_workspace_id, app_id) REFERENCES oauth_apps (workspace_id, app_id)
);
CREATE INDEX grants_by_fingerprint ON grants (workspace_id, refresh_fingerprint);
CREATE INDEX grants_by_app ON grants (app_workspace_id, app_id);
CREATE INDEX grants_by_expiry ON grants (expire_time)
    WHERE sealed_refresh_token IS NOT NULL AND dead_time IS NULL;

-- Which grants a credential holds. Credentials may share one.
CREATE TABLE credential_slots (
    workspace_id text NOT NULL,
    credential_id uuid NOT NULL,
    slot text NOT NULL,
    position smallint NOT NULL,
    grant_id uuid NOT NULL,
    PRIMARY KEY (workspace_id, credential_id, slot),
    FOREIGN KEY (workspace_id, credential_id)
        REFERENCES credentials (workspace_id, credential_id) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, grant_id) REFERENCES grants (workspace_id, grant_id)
);
CREATE INDEX credential_slots_by_grant ON credential_slots (workspace_id, grant_id);

-- Trips to the consent page. The state itself is stored only as a hash, and sealed until used.
CREATE TABLE attempts (
    workspace_id text NOT NULL,
    state_hash bytea NOT NULL,
    credential_id uuid NOT NULL,
    phase text NOT NULL CHECK (phase IN ('OPEN', 'EXCHANGING', 'DONE', 'VOID')),
    user_id text NOT NULL,
    binding_hash bytea NOT NULL,
    connector text NOT NULL,
    app_workspace_id text NOT NULL,
    app_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    issuer text NOT NULL,
    requested_scopes text[] NOT NULL,
    connection_params jsonb NOT NULL,
    allow_account_change boolean NOT NULL,
    key_id uuid,
    sealed_secrets bytea,
    code_hash bytea,
    lease_process_id uuid,
    lease_expire_time timestamptz,
    outcome jsonb,
    request_key bytea,
    request_digest bytea,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, state_hash),
    FOREIGN KEY (workspace_id, credential_id)
        REFERENCES credentials (workspace_id, credential_id) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, key_id) REFERENCES data_keys (workspace_id, key_id),
    FOREIGN KEY (app_workspace_id, app_id)
        REFERENCES oauth_apps (workspace_id, app_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX attempts_by_request ON attempts (workspace_id, request_key)
    WHERE request_key IS NOT NULL;
CREATE INDEX attempts_by_credential ON attempts (workspace_id, credential_id);
CREATE INDEX attempts_by_age ON attempts (create_time);

-- Server processes; a lease whose holder stopped beating is abandoned.
CREATE TABLE processes (
    process_id uuid PRIMARY KEY,
    start_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    end_time timestamptz,
    spool_empty boolean NOT NULL DEFAULT true
);

-- Grants still to be revoked at their service. Never served from.
CREATE TABLE revocations (
    workspace_id text NOT NULL,
    revocation_id uuid NOT NULL,
    -- The credential whose service_revocation tells the outcome; it may be deleted meanwhile.
    credential_id uuid NOT NULL,
    -- Part of the seat that the tokens are sealed to.
    grant_id uuid NOT NULL,
    connector text NOT NULL,
    slot text NOT NULL,
    connection_params jsonb NOT NULL,
    connection jsonb NOT NULL,
    app_workspace_id text,
    app_id uuid,
    key_id uuid NOT NULL,
    sealed_access_token bytea,
    sealed_refresh_token bytea,
    tries integer NOT NULL DEFAULT 0,
    next_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, revocation_id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES data_keys (workspace_id, key_id),
    FOREIGN KEY (app_workspace_id, app_id) REFERENCES oauth_apps (workspace_id, app_id)
);
CREATE INDEX revocations_due ON revocations (next_time);
CREATE INDEX revocations_by_credential ON revocations (workspace_id, credential_id);

-- A credential with what follows from its grants, so that no copy of it can disagree with them.
CREATE VIEW credentials_as_seen AS
SELECT
    c.workspace_id,
    c.credential_id,
    c.connector,
    c.display_name,
    c.credential_scope,
    CASE WHEN c.status = 'ACTIVE' AND g.dead_time IS NOT NULL THEN 'EXPIRED' ELSE c.status END
        AS status,
    c.reason,
    c.reason_message,
    c.reason_time,
    c.service_revocation,
    c.owner,
    c.authorized_by,
    c.account_id,
    c.account_email,
    c.account_label,
    c.requested_scopes,
    c.connection_params,
    c.revision,
    c.last_used_time,
    c.create_time,
    c.update_time,
    coalesce(g.generations, 0)::bigint AS generations,
    coalesce(g.granted_scopes, '{}') AS granted_scopes,
    g.expire_time,
    g.refresh_expire_time,
    g.last_refresh_time,
    g.dead_time,
    coalesce(g.dead_reason, '') AS dead_reason,
    coalesce(g.failure, '') AS failure
FROM credentials AS c
LEFT JOIN LATERAL (
    SELECT
        sum(grants.generation) AS generations,
        min(grants.expire_time) AS expire_time,
        min(grants.refresh_expire_time) AS refresh_expire_time,
        max(grants.last_refresh_time) AS last_refresh_time,
        min(grants.dead_time) AS dead_time,
        max(grants.dead_reason) AS dead_reason,
        max(grants.failure) AS failure,
        (
            SELECT array_agg(DISTINCT scope)
            FROM credential_slots AS s2
            JOIN grants AS g2
                ON g2.workspace_id = s2.workspace_id AND g2.grant_id = s2.grant_id,
                unnest(g2.scopes) AS scope
            WHERE s2.workspace_id = c.workspace_id AND s2.credential_id = c.credential_id
        ) AS granted_scopes
    FROM credential_slots AS s
    JOIN grants ON grants.workspace_id = s.workspace_id AND grants.grant_id = s.grant_id
    WHERE s.workspace_id = c.workspace_id AND s.credential_id = c.credential_id
) AS g ON true;
