//! Tools whose effects a test can count: how often a call really ran is what most tests of runs ask.

mod machine;

use std::{thread, time::Duration};

use holdfast_plugin::{
    Context, Failure, Output, Question, Tool,
    kv::{self, Scope},
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

/// Both the arguments and the state of the tools that ask.
#[derive(Deserialize, Serialize, JsonSchema)]
struct Ask {
    /// `<key>.asked`, `<key>.resumed` and `<key>.finished` are counted.
    key: String,
    /// How long it sleeps after its answer, at its first attempt.
    #[serde(default)]
    ms: u64,
}

#[derive(Deserialize, JsonSchema)]
struct HowMany {
    #[schemars(range(min = 1, max = 99))]
    count: u8,
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

/// Counts each idempotency key once, as a system that deduplicates would.
fn effect_once(context: &Context, args: Key) -> Result<Output, Failure> {
    let seen = format!("{}.keys.{}", args.key, context.idempotency_key);
    match kv::put(Scope::Plugin, &seen, &context.attempt, kv::Expect::Absent) {
        Ok(_) => increment(&args.key),
        Err(kv::Error::Conflict(_)) => count(context, args),
        Err(error) => Err(error.into()),
    }
}

/// Sleeps at its first attempt only, and says whether the key of the second is the same.
fn slow_idempotent(context: &Context, args: Slow) -> Result<Output, Failure> {
    let key = format!("{}.key", args.key);
    if context.attempt == 1 {
        kv::put(Scope::Plugin, &key, &context.idempotency_key, kv::Expect::Any)?;
        increment(&format!("{}.started", args.key))?;
        thread::sleep(Duration::from_millis(args.ms));
    }
    increment(&format!("{}.finished", args.key))?;
    let first = kv::get::<String>(Scope::Plugin, &key)?.map(|entry| entry.value);
    let same = if first.as_ref() == Some(&context.idempotency_key) { "the same" } else { "another" };
    Ok(Output::text(format!("attempt {}, {same} key", context.attempt)))
}

fn ask(_: &Context, args: Ask) -> Result<Question, Failure> {
    increment(&format!("{}.asked", args.key))?;
    Question::new::<HowMany>(format!("How many {}?", args.key), &args)
}

fn answered(context: &Context, state: Ask, HowMany { count }: HowMany) -> Result<Output, Failure> {
    increment(&format!("{}.resumed", state.key))?;
    if context.attempt == 1 {
        thread::sleep(Duration::from_millis(state.ms));
    }
    increment(&format!("{}.finished", state.key))?;
    Ok(Output::text(format!("{count} {}, attempt {}", state.key, context.attempt)))
}

fn remember(_: &Context, args: Remember) -> Result<Output, Failure> {
    kv::put(args.scope.into(), &args.key, &args.value, kv::Expect::Any)?;
    Ok(Output::text("remembered"))
}

fn recall(_: &Context, args: Recall) -> Result<Output, Failure> {
    let value = kv::get::<String>(args.scope.into(), &args.key)?.map(|entry| entry.value);
    Ok(Output::text(value.unwrap_or_else(|| "nothing".to_owned())))
}

fn env(_: &Context, _: Nothing) -> Result<Output, Failure> {
    Output::json(&Seen::now())
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
    Tool::new("idempotent_effect", "Counts the key up, once for each call however often it is tried.", effect_once)
        .idempotent()
        .returns::<Count>(),
    Tool::new("count", "Reads the key's count.", count).read_only().returns::<Count>(),
    Tool::new("echo", "Says the text.", echo).read_only(),
    Tool::new("slow", "Counts, sleeps, and counts again.", slow).returns::<Count>(),
    Tool::new("slow_idempotent", "Sleeps once, and is safe to repeat.", slow_idempotent).idempotent(),
    Tool::new("ask", "Asks how many.", ask).on_answer(answered),
    Tool::new("ask_idempotent", "Asks how many, and is safe to repeat.", ask).on_answer(answered).idempotent(),
    Tool::new("ask_gated", "Asks how many, after it was approved.", ask).on_answer(answered).requires_approval(),
    Tool::new("remember", "Keeps a value in a scope.", remember),
    Tool::new("recall", "Says the value that a scope has for a key.", recall).read_only(),
    Tool::new("slow_read", "As slow_idempotent, and says that it only reads.", slow_idempotent).read_only(),
    Tool::new("env", "Says what the guest sees of the machine.", env).read_only().returns::<Seen>(),
}
