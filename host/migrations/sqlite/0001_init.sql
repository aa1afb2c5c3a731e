-- Times are epoch milliseconds, JSON is text. `run_events` is the truth; `runs` and `approvals` are what
-- lists and compare-and-sets read, written in the same transaction.

create table meta (
    name text not null primary key,
    value blob not null
) strict;

create table api_keys (
    id text not null primary key,
    -- SHA-256 of the token, in hexadecimal.
    hash text not null unique,
    org_id text not null,
    user_id text not null,
    role text not null,
    label text not null,
    created_at integer not null,
    revoked_at integer
) strict;

create table sessions (
    id text not null primary key,
    org_id text not null,
    user_id text not null,
    agent_id text not null,
    title text not null,
    created_at integer not null,
    updated_at integer not null
) strict;

create index sessions_by_org on sessions (org_id, updated_at, id);
create index sessions_by_user on sessions (org_id, user_id, updated_at, id);
create index sessions_by_agent on sessions (org_id, agent_id, updated_at, id);

create table runs (
    id text not null primary key,
    session_id text not null references sessions (id) on delete cascade,
    -- The run's place in its session, from 1.
    turn integer not null,
    org_id text not null,
    user_id text not null,
    agent_id text not null,
    -- 0 for an agent of the configuration file.
    agent_version integer not null,
    model text not null,
    -- Its place among the runs that its organisation created that day, from 1.
    day_ordinal integer not null,
    status text not null,
    -- The number of its events: what a compare-and-set compares.
    version integer not null,
    attempt integer not null,
    -- Started in the background: it needs a worker. Otherwise its caller waits, and it only needs its turn
    -- in its session.
    background integer not null,
    -- Most background runs of its agent at once, where the agent says.
    max_concurrent integer,
    input text not null,
    output text not null,
    error_type text,
    error_message text,
    model_calls integer not null,
    -- Calls that have started, and calls that ended in an error.
    tool_calls integer not null,
    failed_calls integer not null,
    -- Millionths of the price table's currency; null = not known.
    cost_micros integer,
    input_tokens integer,
    output_tokens integer,
    reasoning_tokens integer,
    active_ms integer not null,
    created_at integer not null,
    started_at integer,
    completed_at integer,
    updated_at integer not null,
    unique (session_id, turn)
) strict;

create index runs_by_org on runs (org_id, created_at, id);
create index runs_by_user on runs (org_id, user_id, created_at, id);
create index runs_by_agent on runs (org_id, agent_id, created_at, id);
create index runs_by_status on runs (org_id, status, created_at, id);
create index runs_running on runs (created_at, id) where status = 'RUNNING';
create index runs_queued on runs (background, org_id, created_at, id) where status = 'QUEUED';
create index runs_at_work on runs (agent_id, model, org_id) where status = 'RUNNING' and background = 1;
-- The first of a session is at work or paused, or next; the others wait for it.
create index runs_unfinished on runs (session_id, turn) where status in ('QUEUED', 'RUNNING', 'PAUSED');

create table run_events (
    run_id text not null references runs (id) on delete cascade,
    seq integer not null,
    kind text not null,
    at integer not null,
    body text not null,
    primary key (run_id, seq)
) strict;

create table approvals (
    id text not null primary key,
    run_id text not null references runs (id) on delete cascade,
    call_id text not null,
    org_id text not null,
    -- Whose run it is.
    user_id text not null,
    agent_id text not null,
    tool_name text not null,
    -- As the model wrote them.
    arguments text not null,
    -- What a human put in their place.
    edited_arguments text,
    fingerprint text not null,
    -- Of the plugin that somebody was asked about; null = it was gone already.
    digest text,
    -- approval; outcome_unknown: what became of a call that was under way at a crash?; or input: what the
    -- call asks while it runs.
    question text not null,
    -- JSON Schema of the answer, where the question is input.
    answer_schema text,
    -- How many people must approve.
    approvers integer not null,
    status text not null,
    message text not null,
    requested_by text not null,
    resolved_by text,
    comment text,
    created_at integer not null,
    resolved_at integer,
    expires_at integer not null,
    -- When webhooks were told that it will expire soon.
    warned_at integer
) strict;

create index approvals_by_run on approvals (run_id);
create index approvals_by_digest on approvals (digest, run_id);
create index approvals_pending on approvals (org_id, created_at, id) where status = 'PENDING';
create index approvals_expiring on approvals (expires_at) where status = 'PENDING';

create table idempotency_keys (
    org_id text not null,
    user_id text not null,
    key text not null,
    -- SHA-256 over method, path and body.
    request text not null,
    run_id text not null references runs (id) on delete cascade,
    -- The approvals that it decided, as a JSON array; [] = it started the run.
    decides text not null,
    created_at integer not null,
    primary key (org_id, user_id, key)
) strict;

create index idempotency_keys_by_run on idempotency_keys (run_id);
create index idempotency_keys_by_age on idempotency_keys (created_at);

-- What each space holds, so that a quota costs one row to check instead of a scan.
create table kv_spaces (
    plugin text not null,
    org_id text not null,
    scope text not null,
    scope_id text not null,
    bytes integer not null,
    entries integer not null,
    primary key (plugin, org_id, scope, scope_id)
) strict;

create table kv (
    plugin text not null,
    org_id text not null,
    scope text not null,
    scope_id text not null,
    -- UTF-8 as bytes: every database compares bytes in the same order, and text in one of its own.
    key blob not null,
    value blob not null,
    version integer not null,
    primary key (plugin, org_id, scope, scope_id, key)
) strict;


-- A session's values go with it.
create index kv_spaces_by_scope on kv_spaces (scope_id);


-- Agents that were made over HTTP. A run holds its agent as it was when the run began.
create table agents (
    org_id text not null,
    id text not null,
    -- From 1; each change is the next.
    version integer not null,
    -- JSON.
    body text not null,
    created_at integer not null,
    updated_at integer not null,
    -- It takes no runs any more, but can be restored.
    deleted_at integer,
    primary key (org_id, id)
) strict;

-- Who did what to which object. Refers to nothing: it stays when its objects go.
create table audit_log (
    id integer primary key autoincrement,
    at integer not null,
    -- Whose object it is.
    org_id text not null,
    user_id text not null,
    -- Null for the bootstrap token, the command line and the system itself.
    key_id text,
    action text not null,
    object_type text not null,
    object_id text not null,
    -- JSON.
    details text not null
) strict;

create index audit_log_by_org on audit_log (org_id, id);
create index audit_log_by_object on audit_log (org_id, object_type, object_id, id);

create trigger audit_log_keeps_its_rows before update on audit_log
begin
    select raise(abort, 'the audit log is append-only');
end;

create trigger audit_log_loses_no_rows before delete on audit_log
begin
    select raise(abort, 'the audit log is append-only');
end;

-- What an organisation used on a day (UTC): runs on the day they were created, the rest on the day it was
-- used. Not summed from `runs`: who deletes a session gets no budget back.
create table org_usage (
    org_id text not null,
    -- Days since 1970-01-01.
    day integer not null,
    runs integer not null,
    input_tokens integer not null,
    output_tokens integer not null,
    cost_micros integer not null,
    primary key (org_id, day)
) strict;

-- What webhooks are to be told: one row for each event and endpoint that wants it, written with the event.
-- Refers to nothing: who deletes a session does not take back what it told.
create table webhook_outbox (
    event_id text not null,
    endpoint text not null,
    type text not null,
    run_id text not null,
    org_id text not null,
    -- JSON, as it is signed.
    body text not null,
    -- PENDING, DELIVERED or DEAD.
    state text not null,
    -- Ever.
    attempts integer not null,
    -- Since it was written or redelivered: its place in the back-off.
    failures integer not null,
    -- Null unless it is pending.
    next_attempt_at integer,
    created_at integer not null,
    -- Null while it is pending.
    settled_at integer,
    primary key (event_id, endpoint)
) strict;

create index webhook_outbox_due on webhook_outbox (endpoint, next_attempt_at) where state = 'PENDING';
create index webhook_outbox_waiting on webhook_outbox (created_at, endpoint) where state = 'PENDING';
create index webhook_outbox_settled on webhook_outbox (settled_at) where settled_at is not null;

-- Each attempt to deliver one.
create table webhook_deliveries (
    event_id text not null,
    endpoint text not null,
    -- From 1.
    attempt integer not null,
    -- Of the answer; null = there was none.
    status integer,
    -- A word; null = delivered.
    error text,
    duration_ms integer not null,
    at integer not null,
    primary key (event_id, endpoint, attempt),
    foreign key (event_id, endpoint) references webhook_outbox (event_id, endpoint) on delete cascade
) strict;

create index webhook_deliveries_by_age on webhook_deliveries (at, event_id);

-- What the operator decided about one version of a plugin. The latest decision stands.
create table plugin_grants (
    plugin text not null,
    -- SHA-256 of the component, in hexadecimal.
    digest text not null,
    -- JSON: what it asked for when that was decided, and what of it was granted.
    requested text not null,
    granted text not null,
    granted_by text not null,
    key_id text,
    granted_at integer not null,
    primary key (plugin, digest)
) strict;

-- Versions that must never run again.
create table plugin_revocations (
    digest text not null primary key,
    plugin text not null,
    reason text not null,
    revoked_by text not null,
    key_id text,
    revoked_at integer not null
) strict;

-- The components that serve, and those that unfinished runs still need.
create table components (
    plugin text not null,
    digest text not null,
    bytes blob not null,
    size integer not null,
    added_at integer not null,
    -- Counts up each time that one comes to serve: the highest of a plugin served last.
    served integer not null,
    primary key (plugin, digest)
) strict;
