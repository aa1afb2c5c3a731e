//! One binary, one file per promise. Each test starts the real server on port 0 with a real SQLite file and
//! real compiled components; what must survive a `kill -9` is a process of its own (`support/process.rs`).

mod support;

mod approve_once;
mod bad_requests;
mod cancel_closes_the_pause;
mod catalog;
mod config_errors;
mod demo_tour;
mod deny;
mod edited_arguments_are_recorded;
mod keys_and_roles;
mod load_refusals;
mod models_over_http;
mod openapi;
mod pause_survives_kill;
mod readme;
mod reject_returns_control;
mod sandbox_limits;
mod two_gated_calls_in_one_turn;
// slice A
// slice B
// slice C
// slice D
// slice E
