//! Holdfast: a self-hosted agent host.
//!
//! A request goes down once and comes up once: `http -> runner -> { model | tools | store }`; the leaves
//! never call each other, and all decisions are made by a pure [`run::Run`] value in the middle. A tool is
//! a WebAssembly component in its own sandbox. A tool that needs a human pauses the run, and the pause is
//! rows in a database.
//!
//! # Code map
//!
//! | module | what it owns |
//! |---|---|
//! | [`id`], [`clock`] | ids and time, as parameters |
//! | [`tool`] | tool names, specifications, calls, outcomes, approvals, suspensions |
//! | [`audit`], [`budget`] | who did what; what runs may use and what it costs |
//! | [`agent`], [`session`], [`event`] | agents and their policy; the conversation; what happened to a run |
//! | [`run`] | the state machine: folded from events, says what to do next; pure |
//! | [`model`] | `trait Model`, providers through genai, the demo model, retries |
//! | [`plugin`], [`registry`] | the sandbox host; loaded tools by name, versions of plugins and what operators decided about them |
//! | [`metrics`] | numbers for the operator, told or looked at |
//! | [`notice`], [`webhook`] | what the outside is told about runs and approvals; telling it |
//! | [`store`], [`key`] | `trait Store` and its SQL; API keys and roles |
//! | [`runner`] | drives runs: the only place where model, tools and store meet |
//! | [`address`], `outbound` | which network addresses are public; clients for URLs that others chose |
//! | `schema`, `escape` | checking values against JSON Schemas of others; showing text of others |
//! | [`http`] | routes, requests and responses, problem documents, OpenAPI |
//! | [`config`], [`command`], [`server`] | settings; the command line; putting the parts together |
//! | [`toolchain`] | builds guest components from Rust sources |
//!
//! # Dependency direction
//!
//! An edge that is not drawn is forbidden.
//!
//! ```text
//! id, clock <- audit, tool <- session <- budget <- agent <- event <- run <- { model, registry -> plugin, notice <- store } <- runner <- http
//!                                                                    { model, registry, store } <- metrics <- http
//!                                                                    store <- webhook <- config, server
//!                                                                    http, config <- server <- command <- main
//! ```
//!
//! Two leaves use another's trait: `plugin/kv.rs` keeps plugins' values through [`store::Store`], and [`registry`]
//! keeps components and what operators decided about them.
//! [`toolchain`] stands under [`command`] and knows only [`plugin::Manifest`], which it puts into what it builds.
//!
//! # Invariants
//!
//! `.ci/run` greps for these:
//! 1. `run.rs` and `run/` know no tokio, sqlx, axum or wasmtime;
//! 2. only `store/` names sqlx;
//! 3. only `plugin*` names wasmtime;
//! 4. only `http*` (and `server.rs`, which serves the router) names axum;
//! 5. the environment is read in `config.rs` only;
//! 6. only `clock.rs` asks what time it is; `std::time::Instant`, which only measures, is free.
//!
//! And these hold by construction, each with tests:
//! - an event is written in the same transaction as the compare-and-set on its run's row;
//! - a run is saved before a side effect starts and after it ends;
//! - an approval is bound to plugin digest, tool and arguments, and checked again before the call, which runs on that
//!   digest and no other;
//! - what a suspended call left with the host opens for that call, question and plugin alone, and is resumed once;
//! - of a session's unfinished runs only the first is at work or paused; the others are QUEUED;
//! - nothing that an agent, a tool or a run can reach changes a grant.
//!
//! # The walk of `POST /api/agents/{agentId}/runs`
//!
//! 1. `http/runs.rs::create` checks the caller and the body and makes an [`event::NewRun`].
//! 2. [`runner::Runner::start`] stores the run with its first event and spawns a task that drives it. The
//!    handler waits for that task; a client that leaves stops nothing. Where another run of the session is
//!    under way, which only the creating transaction can know, the run is stored as QUEUED instead, and
//!    `runner/queue.rs` starts it when its turn has come. A background run is QUEUED from the start.
//! 3. `runner/drive.rs` asks [`run::Run::step`] in a loop. `CallModel`: `model.rs` answers, with retries;
//!    the reply is recorded. `CallTools`: `runner/tools.rs` asks the agent's policy about each call, saves
//!    the start, runs it in the sandbox, saves the end; calls that need a human pause the run.
//! 4. After each transition [`store::Store::save`] writes the new events and moves the run's row from the
//!    version they follow. Whoever loses that race stops: somebody else owns the run.
//! 5. The handler loads the run, which is folding its events, and answers with `http/run_response.rs`.
//!
//! `…/stream` is the same with another way of waiting: `http/stream/follow.rs` reads the journal, and behind
//! its end the reply under way (`runner/live.rs`), and `http/stream/frame.rs` says what callers see of each
//! event, as a function of the journal alone. That somebody streams makes the runner ask the model to.
//!
//! `continue` is the same with [`runner::Runner::decide`] as its start: load, decide, save, drive. A process
//! that starts takes up what the store says is RUNNING (`runner/recovery.rs`).

pub mod address;
pub mod agent;
pub mod audit;
pub mod budget;
pub mod clock;
pub mod command;
pub mod config;
mod escape;
pub mod event;
#[cfg(test)]
mod fuzzing;
pub mod http;
pub mod id;
pub mod key;
pub mod metrics;
pub mod model;
pub mod notice;
mod outbound;
pub mod plugin;
pub mod registry;
pub mod run;
pub mod runner;
mod schema;
pub mod server;
pub mod session;
pub mod store;
pub mod tool;
pub mod toolchain;
pub mod webhook;
