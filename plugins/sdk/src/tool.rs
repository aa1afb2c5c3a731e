//! A tool: what the model is told about it, and the function that runs it.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Context, Failure, Output, Reply,
    raw::types,
    schema::{arguments_schema, result_schema},
};

type Run = Box<dyn Fn(&Context, &str) -> Result<Reply, Failure>>;
/// Context, state and answer.
type GoOn = Box<dyn Fn(&Context, &[u8], &str) -> Result<Reply, Failure>>;

/// One tool of a plugin.
///
/// What a tool says about itself decides how carefully the host treats it: without any annotation it is
/// taken to change something, and is not run a second time after a crash.
pub struct Tool {
    name: String,
    description: String,
    /// Made on demand: a call needs no schema.
    input: fn() -> String,
    output: Option<fn() -> String>,
    annotations: types::Annotations,
    run: Run,
    on_answer: Option<GoOn>,
}

impl Tool {
    /// `name`: `[a-z0-9_-]`, without `__` and not starting or ending with `_`. `description` is written for
    /// the model: what the tool does and when to use it. `function` returns an [`Output`], or asks a human.
    pub fn new<Args, Returned, Function>(name: &str, description: &str, function: Function) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
        Returned: Into<Reply>,
        Function: Fn(&Context, Args) -> Result<Returned, Failure> + 'static,
    {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            input: arguments_schema::<Args>,
            output: None,
            annotations: types::Annotations {
                title: None,
                read_only: false,
                destructive: false,
                idempotent: false,
                open_world: false,
                requires_approval: false,
            },
            run: Box::new(move |context, arguments| match serde_json::from_str(arguments) {
                Ok(arguments) => function(context, arguments).map(Into::into),
                // The host has checked them against the schema, which cannot say everything.
                Err(error) => Ok(Output::error(format!("The arguments do not fit: {error}.")).into()),
            }),
            on_answer: None,
        }
    }

    /// Goes on when the [`Question`](crate::Question) that the tool asked is answered: with the state that it
    /// gave, and the answer. It is the same call, with the same idempotency key, in a fresh instance; after a
    /// crash it may run again as the tool itself may. It may ask again.
    #[must_use]
    pub fn on_answer<State, Answer, Returned, Function>(mut self, function: Function) -> Self
    where
        State: DeserializeOwned,
        Answer: DeserializeOwned,
        Returned: Into<Reply>,
        Function: Fn(&Context, State, Answer) -> Result<Returned, Failure> + 'static,
    {
        self.on_answer = Some(Box::new(move |context, state, answer| {
            let unreadable = |what: &str, error: serde_json::Error| {
                Failure::new("unreadable", format!("The {what} cannot be read: {error}."))
            };
            let state = serde_json::from_slice(state).map_err(|error| unreadable("state", error))?;
            // The host has checked it against the schema, which cannot say everything.
            let answer = serde_json::from_str(answer).map_err(|error| unreadable("answer", error))?;
            function(context, state, answer).map(Into::into)
        }));
        self
    }

    /// A name for people.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        self.annotations.title = Some(title.to_owned());
        self
    }

    /// The tool changes nothing. The host may run such calls side by side and again after a crash.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.annotations.read_only = true;
        self
    }

    /// The same call twice has the effect of one. The host may run such calls again after a crash.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.annotations.idempotent = true;
        self
    }

    /// The tool may destroy or overwrite something.
    #[must_use]
    pub fn destructive(mut self) -> Self {
        self.annotations.destructive = true;
        self
    }

    /// The tool reaches things outside the host: the web, mail, other systems.
    #[must_use]
    pub fn open_world(mut self) -> Self {
        self.annotations.open_world = true;
        self
    }

    /// A human decides before each call.
    #[must_use]
    pub fn requires_approval(mut self) -> Self {
        self.annotations.requires_approval = true;
        self
    }

    /// The type of [`Output::structured`], which the host then checks.
    #[must_use]
    pub fn returns<Result: Serialize + JsonSchema>(mut self) -> Self {
        self.output = Some(result_schema::<Result>);
        self
    }
}

/// The tools as the host asks for them. [`export!`](crate::export) calls this.
pub fn describe(tools: &[Tool]) -> Vec<types::Tool> {
    tools
        .iter()
        .map(|tool| types::Tool {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: (tool.input)(),
            output_schema: tool.output.map(|schema| schema()),
            annotations: tool.annotations.clone(),
        })
        .collect()
}

/// Runs one of the tools. [`export!`](crate::export) calls this; a test can too.
pub fn call(
    tools: &[Tool],
    context: &Context,
    name: &str,
    arguments: &str,
) -> Result<types::Outcome, types::Failure> {
    let reply = find(tools, name).and_then(|tool| (tool.run)(context, arguments));
    reply.map(Into::into).map_err(Into::into)
}

/// Goes on with one of the tools that asked. [`export!`](crate::export) calls this; a test can too.
pub fn resume(
    tools: &[Tool],
    context: &Context,
    name: &str,
    state: &[u8],
    answer: &str,
) -> Result<types::Outcome, types::Failure> {
    let reply = find(tools, name).and_then(|tool| match &tool.on_answer {
        Some(go_on) => go_on(context, state, answer),
        None => Err(Failure::new("no-question", format!("The tool `{name}` has no `on_answer`."))),
    });
    reply.map(Into::into).map_err(Into::into)
}

fn find<'a>(tools: &'a [Tool], name: &str) -> Result<&'a Tool, Failure> {
    let unknown = || Failure::new("unknown-tool", format!("This plugin has no tool `{name}`."));
    tools.iter().find(|tool| tool.name == name).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Question;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct Greet {
        /// Who to greet,
        /// in full.
        full_name: String,
        times: Option<u8>,
    }

    fn greet(_: &Context, args: Greet) -> Result<Output, Failure> {
        match args.times {
            Some(0) => Err(Failure::new("no-times", "Ask for one at least.")),
            _ => Ok(Output::text(args.full_name)),
        }
    }

    fn tools() -> Vec<Tool> {
        vec![Tool::new("greet", "Greets.", greet).read_only()]
    }

    #[test]
    fn the_argument_struct_is_the_schema() {
        let described = describe(&tools());
        let schema: serde_json::Value = serde_json::from_str(&described[0].input_schema).unwrap();
        let expected = serde_json::json!({
            "type": "object",
            "properties": {
                "fullName": { "type": "string", "description": "Who to greet, in full." },
                "times": { "type": ["integer", "null"], "minimum": 0, "maximum": 255 },
            },
            "required": ["fullName"],
        });
        assert_eq!(schema, expected);
        assert!(described[0].annotations.read_only && !described[0].annotations.idempotent);
    }

    #[test]
    fn a_call_finds_its_tool_and_its_arguments() {
        let context = Context::example();
        let run = |name, arguments| call(&tools(), &context, name, arguments);
        let said = |outcome| match outcome {
            Ok(types::Outcome::Done(output)) => (output.is_error, format!("{:?}", output.parts)),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(run("greet", r#"{"fullName":"Ada"}"#)), (false, r#"[Part::Text("Ada")]"#.to_owned()));
        assert!(said(run("greet", "{}")).1.contains("missing field `fullName`"));
        assert_eq!(run("greet", r#"{"fullName":"Ada","times":0}"#).unwrap_err().code, "no-times");
        assert_eq!(run("other", "{}").unwrap_err().code, "unknown-tool");
    }

    #[test]
    fn a_tool_that_asks_goes_on_with_its_state_and_the_answer() {
        fn ask(_: &Context, args: Greet) -> Result<Question, Failure> {
            Question::new::<bool>("Loudly?", &args.full_name)
        }
        fn answered(_: &Context, name: String, loudly: bool) -> Result<Output, Failure> {
            Output::json(&if loudly { name.to_uppercase() } else { name })
        }
        let tools =
            [Tool::new("ask", "Asks.", ask).on_answer(answered), Tool::new("greet", "Greets.", greet)];
        let context = Context::example();
        let asked = match call(&tools, &context, "ask", r#"{"fullName":"Ada"}"#) {
            Ok(types::Outcome::Suspend(asked)) => asked,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (asked.prompt.as_str(), asked.answer_schema.as_str()),
            ("Loudly?", r#"{"type":"boolean"}"#)
        );
        let resume = |name, answer| resume(&tools, &context, name, &asked.state, answer);
        match resume("ask", "true") {
            Ok(types::Outcome::Done(output)) => {
                assert_eq!(output.parts, [types::Part::Data("\"ADA\"".to_owned())]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(resume("ask", "1").unwrap_err().code, "unreadable");
        assert_eq!(resume("greet", "true").unwrap_err().code, "no-question");
    }
}
