//! One binary, one file per promise. Each test starts the real server on port 0 with a real SQLite file and
//! real compiled components; what must survive a `kill -9` is a process of its own (`support/process.rs`).

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test says what it took for granted, and fails"
)]

mod support;

mod admin_agents;
mod all_doors;
mod approvals_api;
mod approve_once;
mod audit;
mod background;
mod bad_requests;
mod budgets;
mod calls_are_checked;
mod cancel_closes_the_pause;
mod cancel_interrupts;
mod cancel_latency;
mod catalog;
mod components_travel;
mod config_errors;
mod demo_tour;
mod deny;
mod drain;
mod edited_arguments_are_recorded;
mod egress_headers;
mod egress_policy;
mod events_replay;
mod followups_and_reasoning;
mod history_window;
mod hostile_corpus;
mod http_plugin;
mod idempotency;
mod keys_and_roles;
mod kill_points;
mod limits_end_runs;
mod load_refusals;
mod metrics;
mod models_over_http;
mod openapi;
mod pause_survives_kill;
mod plugin_breaker;
mod plugin_build;
mod plugin_config;
mod plugin_grants;
mod plugin_lifecycle;
mod plugin_signatures;
mod plugin_start;
mod queue_fairness;
mod quorum;
mod rate_limit;
mod readme;
mod recovery;
mod reject_returns_control;
mod run_bodies;
mod runs_list;
mod sandbox_limits;
mod secrets_stay_secret;
mod session_busy;
mod sessions_api;
mod sessions_remember;
mod stream;
mod stream_provider;
mod structured_output;
mod suspension;
mod suspension_is_sealed;
mod suspension_survives_kill;
mod take_up;
mod two_gated_calls_in_one_turn;
mod webhooks;
