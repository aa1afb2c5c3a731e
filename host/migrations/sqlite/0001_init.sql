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
    model text not null,
    status text not null,
    -- The number of its events: what a compare-and-set compares.
    version integer not null,
    attempt integer not null,
    input text not null,
    output text not null,
    error_type text,
    error_message text,
    model_calls integer not null,
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
create index runs_queued on runs (created_at, id) where status = 'QUEUED';

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
    -- approval, or outcome_unknown: what became of a call that was under way at a crash?
    question text not null,
    -- How many people must approve.
    approvers integer not null,
    status text not null,
    message text not null,
    requested_by text not null,
    resolved_by text,
    comment text,
    created_at integer not null,
    resolved_at integer,
    expires_at integer not null
) strict;

create index approvals_by_run on approvals (run_id);
create index approvals_pending on approvals (org_id, created_at, id) where status = 'PENDING';
create index approvals_expiring on approvals (expires_at) where status = 'PENDING';

create table idempotency_keys (
    org_id text not null,
    user_id text not null,
    key text not null,
    -- SHA-256 over method, path and body.
    request text not null,
    run_id text not null references runs (id) on delete cascade,
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

-- slice A

-- slice B

-- slice C

-- slice D

-- One row for each event and endpoint that wants it, written with the event. Without a reference to the run:
-- what happened is told even after its session was deleted.
create table webhook_outbox (
    event_id text not null,
    endpoint text not null,
    type text not null,
    run_id text not null,
    org_id text not null,
    body text not null,
    -- PENDING, DELIVERED or DEAD.
    state text not null,
    -- Ever.
    attempts integer not null,
    -- Since it was written or redelivered: its place in the back-off.
    failures integer not null,
    next_attempt_at integer,
    created_at integer not null,
    settled_at integer,
    primary key (event_id, endpoint)
) strict;

create index webhook_outbox_due on webhook_outbox (endpoint, next_attempt_at) where state = 'PENDING';
create index webhook_outbox_waiting on webhook_outbox (created_at, endpoint) where state = 'PENDING';
create index webhook_outbox_settled on webhook_outbox (settled_at) where settled_at is not null;

create table webhook_deliveries (
    event_id text not null,
    endpoint text not null,
    attempt integer not null,
    -- Of HTTP; null where there was no answer.
    status integer,
    -- A word; null where the answer was a success.
    error text,
    duration_ms integer not null,
    at integer not null,
    primary key (event_id, endpoint, attempt),
    foreign key (event_id, endpoint) references webhook_outbox (event_id, endpoint) on delete cascade
) strict;

create index webhook_deliveries_by_age on webhook_deliveries (at, event_id);

-- Which approvals were announced to be expiring: each is once.
create table webhook_announcements (
    approval_id text not null primary key references approvals (id) on delete cascade,
    at integer not null
) strict;
