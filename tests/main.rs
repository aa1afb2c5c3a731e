//! One binary, one file per promise. Each test starts the real server on port 0 with a real SQLite file and
//! real compiled components; what must survive a `kill -9` is a process of its own (`support/process.rs`).

#![expect(clippy::expect_used, reason = "a test says what it took for granted, and fails")]

mod support;

mod approvals_api;
mod approve_once;
mod bad_requests;
mod calls_are_checked;
mod cancel_closes_the_pause;
mod deny;
mod drain;
mod edited_arguments_are_recorded;
mod idempotency;
mod keys_and_roles;
mod limits_end_runs;
mod load_refusals;
mod models_over_http;
mod openapi;
mod pause_survives_kill;
mod readme;
mod recovery;
mod reject_returns_control;
mod sandbox_limits;
mod sessions_remember;
mod two_gated_calls_in_one_turn;
// slice A
mod admin_agents;
mod audit;
mod background;
mod budgets;
mod history_window;
mod queue_fairness;
mod rate_limit;
mod runs_list;
mod session_busy;
mod sessions_api;
// slice E
