//! Tools whose effects a test can count: how often a call really ran is what most tests of runs ask.

mod machine;

use std::{thread, time::Duration};

use holdfast_plugin::{
    Context, Failure, Output, Tool,
    kv::{self, Expect, Scope},
    log,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::machine::Seen;

#[derive(Deserialize, JsonSchema)]
struct Key {
    /// The counter's name.
    key: String,
}

#[derive(Deserialize, JsonSchema)]
struct Text {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct Slow {
    ms: u64,
    /// `<key>.started` and `<key>.finished` are counted.
    key: String,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A kv scope, as the schema names it.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Place {
    Plugin,
    User,
    Session,
}

impl From<Place> for Scope {
    fn from(place: Place) -> Self {
        match place {
            Place::Plugin => Self::Plugin,
            Place::User => Self::User,
            Place::Session => Self::Session,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Remember {
    scope: Place,
    key: String,
    value: String,
}

#[derive(Deserialize, JsonSchema)]
struct Recall {
    scope: Place,
    key: String,
}

#[derive(Serialize, JsonSchema)]
struct Count {
    count: u64,
}

fn effect(context: &Context, args: Key) -> Result<Output, Failure> {
    log::info(&format!("effect {} attempt {}", args.key, context.attempt));
    increment(&args.key)
}

fn count(_: &Context, args: Key) -> Result<Output, Failure> {
    let count = kv::get::<u64>(Scope::Plugin, &args.key)?.map_or(0, |entry| entry.value);
    answer(count)
}

fn echo(_: &Context, args: Text) -> Result<Output, Failure> {
    Ok(Output::text(args.text))
}

fn slow(_: &Context, args: Slow) -> Result<Output, Failure> {
    increment(&format!("{}.started", args.key))?;
    thread::sleep(Duration::from_millis(args.ms));
    increment(&format!("{}.finished", args.key))
}

fn env(_: &Context, _: Nothing) -> Result<Output, Failure> {
    Output::json(&Seen::now())
}

fn remember(_: &Context, args: Remember) -> Result<Output, Failure> {
    kv::put(args.scope.into(), &args.key, &args.value, Expect::Any)?;
    Ok(Output::text("remembered"))
}

fn recall(_: &Context, args: Recall) -> Result<Output, Failure> {
    let value = kv::get::<String>(args.scope.into(), &args.key)?.map(|entry| entry.value);
    Ok(Output::text(value.unwrap_or_else(|| "nothing".to_owned())))
}

fn increment(key: &str) -> Result<Output, Failure> {
    let count = kv::update(Scope::Plugin, key, |count: &mut u64| {
        *count += 1;
        *count
    })?;
    answer(count)
}

fn answer(count: u64) -> Result<Output, Failure> {
    Output::text(count.to_string()).structured(&Count { count })
}

holdfast_plugin::export! {
    Tool::new("effect", "Counts the key up; asks first.", effect).requires_approval().returns::<Count>(),
    Tool::new("effect_ungated", "Counts the key up.", effect).returns::<Count>(),
    Tool::new("idempotent_effect", "Counts the key up and says it is safe to repeat.", effect)
        .idempotent()
        .returns::<Count>(),
    Tool::new("count", "Reads the key's count.", count).read_only().returns::<Count>(),
    Tool::new("echo", "Says the text.", echo).read_only(),
    Tool::new("slow", "Counts, sleeps, and counts again.", slow).returns::<Count>(),
    Tool::new("remember", "Keeps a value in a scope.", remember),
    Tool::new("recall", "Says the value that a scope has for a key.", recall).read_only(),
    Tool::new("env", "Says what the guest sees of the machine.", env).read_only().returns::<Seen>(),
}
