//! A component of a few lines: canned memory for `describe`, and any WAT for the rest.
//!
//! Memory: 16 = "done", 64 = the result of `call`, 128 = its one part, 160 = the result of `describe`,
//! 200 = every tool's description, 4096 = the tools, 110000 = what the host puts there.

const TOOLS: usize = 4096;

pub(crate) struct Guest {
    /// Of `describe`; leaves the address of a list of tools.
    describe: String,
    /// Of `call`; leaves the address of a result.
    call: String,
    start: String,
    tools: Vec<(String, String)>,
    /// Empty interfaces, imported and never used.
    imports: Vec<String>,
    logs: bool,
    /// Exports `resumable` without its function, in this version.
    resumable: Option<&'static str>,
}

impl Guest {
    /// One tool `act` that takes an integer `n` and answers "done".
    pub(crate) fn new() -> Self {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
        Self {
            describe: "(i32.const 160)".to_owned(),
            call: "(call $done)".to_owned(),
            start: String::new(),
            tools: vec![("act".to_owned(), schema.to_owned())],
            imports: Vec::new(),
            logs: false,
            resumable: None,
        }
    }

    pub(super) fn describe(mut self, body: &str) -> Self {
        body.clone_into(&mut self.describe);
        self
    }

    pub(super) fn call(mut self, body: &str) -> Self {
        body.clone_into(&mut self.call);
        self
    }

    pub(super) fn start(mut self, body: &str) -> Self {
        body.clone_into(&mut self.start);
        self
    }

    /// Names and input schemas.
    pub(crate) fn describing(mut self, tools: &[(&str, &str)]) -> Self {
        self.tools = tools.iter().map(|(name, schema)| ((*name).to_owned(), (*schema).to_owned())).collect();
        self
    }

    pub(super) fn importing(mut self, name: &str) -> Self {
        self.imports.push(name.to_owned());
        self
    }

    pub(super) fn resumable(mut self, version: &'static str) -> Self {
        self.resumable = Some(version);
        self
    }

    /// Makes `(call $log level pointer length)` work.
    pub(super) fn logging(mut self) -> Self {
        self.logs = true;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.wat()).unwrap()
    }

    fn wat(&self) -> String {
        let optional = |wanted: bool, text: &str| if wanted { text.to_owned() } else { String::new() };
        let random = self.describe.contains("$changing");
        let clock = self.describe.contains("$telling-time");
        let unused: Vec<String> =
            self.imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        let resumable = self.resumable.map(|version| {
            format!("(instance $none) (export \"holdfast:plugin/resumable@{version}\" (instance $none))")
        });
        WAT.replace("{resumable}", &resumable.unwrap_or_default())
            .replace("{unused}", &unused.join("\n"))
            .replace("{log-import}", &optional(self.logs, LOG_IMPORT))
            .replace("{log-name}", "holdfast:plugin/log@0.1.0")
            .replace("{random-import}", &optional(random, RANDOM_IMPORT))
            .replace("{random-name}", "wasi:random/random@0.2.6")
            .replace("{clock-import}", &optional(clock, CLOCK_IMPORT))
            .replace("{clock-name}", "wasi:clocks/wall-clock@0.2.6")
            .replace("{with-clock}", &optional(clock, "(with \"clock\" (instance $clock))"))
            .replace("{inner-clock}", &optional(clock, &CLOCK_IMPORT.replace("{clock-name}", "clock")))
            .replace("{lower-clock}", &optional(clock, LOWER_CLOCK))
            .replace("{env-clock}", &optional(clock, "(export \"clock\" (func $clock-core))"))
            .replace("{core-clock}", &optional(clock, CORE_CLOCK))
            .replace("{with-log}", &optional(self.logs, "(with \"log\" (instance $log))"))
            .replace("{with-random}", &optional(random, "(with \"random\" (instance $random))"))
            .replace("{inner-log}", &optional(self.logs, &LOG_IMPORT.replace("{log-name}", "log")))
            .replace("{inner-random}", &optional(random, &RANDOM_IMPORT.replace("{random-name}", "random")))
            .replace("{lower-log}", &optional(self.logs, LOWER_LOG))
            .replace("{lower-random}", &optional(random, LOWER_RANDOM))
            .replace("{env-log}", &optional(self.logs, "(export \"log\" (func $log-core))"))
            .replace("{env-random}", &optional(random, "(export \"random\" (func $random-core))"))
            .replace("{core-log}", &optional(self.logs, CORE_LOG))
            .replace("{core-random}", &optional(random, CORE_RANDOM))
            .replace(
                "{start}",
                &optional(!self.start.is_empty(), &format!("(func $start {}) (start $start)", self.start)),
            )
            .replace("{describe}", &self.describe)
            .replace("{call}", &self.call)
            .replace("{data}", &self.data())
    }

    /// The list of tools as the canonical ABI lays it out: records of 56 bytes, then their texts.
    fn data(&self) -> String {
        let (mut records, mut texts) = (Vec::new(), Vec::new());
        let texts_at = TOOLS + self.tools.len() * 56;
        for (name, schema) in &self.tools {
            let name_at = texts_at + texts.len();
            texts.extend(name.bytes());
            let schema_at = texts_at + texts.len();
            texts.extend(schema.bytes());
            for word in [name_at, name.len(), 200, 8, schema_at, schema.len()] {
                records.extend(u32::try_from(word).unwrap().to_le_bytes());
            }
            // No output schema, no title, all hints false.
            records.extend([0; 32]);
        }
        let escape = |bytes: &[u8]| -> String {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            bytes.concat()
        };
        let list: Vec<u8> = [TOOLS, self.tools.len()]
            .iter()
            .flat_map(|word| u32::try_from(*word).unwrap().to_le_bytes())
            .collect();
        records.extend(texts);
        format!(
            "(data (i32.const 160) \"{}\") (data (i32.const {TOOLS}) \"{}\")",
            escape(&list),
            escape(&records)
        )
    }
}

const LOG_IMPORT: &str = r#"
    (import "{log-name}" (instance $log
        (type $l (enum "trace" "debug" "info" "warn" "error"))
        (export "level" (type $level (eq $l)))
        (export "write" (func (param "level" $level) (param "message" string)))))"#;

const RANDOM_IMPORT: &str = r#"
    (import "{random-name}" (instance $random (export "get-random-u64" (func (result u64)))))"#;

const CLOCK_IMPORT: &str = r#"
    (import "{clock-name}" (instance $clock
        (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
        (export "datetime" (type $datetime (eq $d)))
        (export "now" (func (result $datetime)))))"#;

const LOWER_CLOCK: &str = r#"
    (core func $clock-core (canon lower (func $clock "now") (memory (core memory $mem "memory"))))"#;

const CORE_CLOCK: &str = r#"
    (import "env" "clock" (func $clock (param i32)))
    (func $telling-time (result i32)
        (call $clock (i32.const 256))
        (i64.store (i32.const 200) (i64.add (i64.const 0x6161616161616161)
            (i64.and (i64.load (i32.const 256)) (i64.const 0x0f0f0f0f0f0f0f0f))))
        (i32.const 160))"#;

const LOWER_LOG: &str = r#"
    (core func $log-core (canon lower (func $log "write") (memory (core memory $mem "memory"))))"#;

const LOWER_RANDOM: &str = r#"
    (core func $random-core (canon lower (func $random "get-random-u64")))"#;

const CORE_LOG: &str = r#"(import "env" "log" (func $log (param i32 i32 i32)))"#;

const CORE_RANDOM: &str = r#"
    (import "env" "random" (func $random (result i64)))
    (func $changing (result i32)
        (i64.store (i32.const 200) (i64.add (i64.const 0x6161616161616161)
            (i64.and (call $random) (i64.const 0x0f0f0f0f0f0f0f0f))))
        (i32.const 160))"#;

const WAT: &str = r#"
(component
  {unused}
  {log-import}
  {random-import}
  {clock-import}
  (component $inner
    {inner-log}
    {inner-random}
    {inner-clock}
    (core module $memory (memory (export "memory") 2))
    (core instance $mem (instantiate $memory))
    {lower-log}
    {lower-random}
    {lower-clock}
    (type $resource' (resource (rep i32)))
    (core func $resource-core (canon resource.new $resource'))
    (core module $main
      (import "env" "memory" (memory 2))
      (import "env" "resource" (func $resource (param i32) (result i32)))
      {core-log}
      {core-random}
      {core-clock}
      (table $t 1 funcref)
      (global $heap (mut i32) (i32.const 110000))
      (data (i32.const 16) "done")
      (data (i32.const 200) "describe")
      {data}
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $p i32)
        (local.set $p (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.set $heap (i32.add (local.get $p) (local.get 3)))
        (local.get $p))
      (func $recurse (param $deep i32) (result i32)
        (i32.add (call $recurse (i32.add (local.get $deep) (i32.const 1))) (i32.const 1)))
      (func $parts (param $count i32) (result i32)
        (i32.store (i32.const 76) (local.get $count))
        (i32.const 64))
      (func $text (param $at i32) (param $length i32) (result i32)
        (i32.store (i32.const 132) (local.get $at))
        (i32.store (i32.const 136) (local.get $length))
        (i32.store (i32.const 72) (i32.const 128))
        (call $parts (i32.const 1)))
      (func $done (result i32) (call $text (i32.const 16) (i32.const 4)))
      {start}
      (func (export "describe") (result i32) {describe})
      (func (export "call") (param i32) (result i32) {call}))
    (core instance $m (instantiate $main (with "env" (instance
      (export "memory" (memory $mem "memory"))
      (export "resource" (func $resource-core))
      {env-log}
      {env-random}
      {env-clock}))))

    (type $annotations' (record (field "title" (option string)) (field "read-only" bool)
      (field "destructive" bool) (field "idempotent" bool) (field "open-world" bool)
      (field "requires-approval" bool)))
    (export $annotations "annotations" (type $annotations'))
    (type $tool' (record (field "name" string) (field "description" string) (field "input-schema" string)
      (field "output-schema" (option string)) (field "annotations" $annotations)))
    (export $tool "tool" (type $tool'))
    (type $context' (record (field "run-id" string) (field "session-id" string) (field "call-id" string)
      (field "user-ref" (option string)) (field "attempt" u32) (field "idempotency-key" string)
      (field "deadline-unix-ms" u64) (field "traceparent" (option string))))
    (export $context "call-context" (type $context'))
    (type $blob' (record (field "mime" string) (field "name" (option string)) (field "data" (list u8))))
    (export $blob "blob" (type $blob'))
    (type $part' (variant (case "text" string) (case "data" string) (case "media" $blob)))
    (export $part "part" (type $part'))
    (type $output' (record (field "parts" (list $part)) (field "structured" (option string))
      (field "is-error" bool)))
    (export $output "output" (type $output'))
    (type $suspension' (record (field "prompt" string) (field "answer-schema" string)
      (field "state" (list u8))))
    (export $suspension "suspension" (type $suspension'))
    (type $outcome' (variant (case "done" $output) (case "suspend" $suspension)))
    (export $outcome "outcome" (type $outcome'))
    (type $failure' (record (field "code" string) (field "message" string)
      (field "retry-after-ms" (option u32))))
    (export $failure "failure" (type $failure'))

    (func $describe (result (list $tool))
      (canon lift (core func $m "describe") (memory (core memory $mem "memory"))))
    (export "describe" (func $describe))
    (func $call (param "ctx" $context) (param "tool" string) (param "arguments" string)
      (result (result $outcome (error $failure)))
      (canon lift (core func $m "call") (memory (core memory $mem "memory"))
        (realloc (core func $m "realloc"))))
    (export "call" (func $call)))
  (instance $tools (instantiate $inner {with-log} {with-random} {with-clock}))
  {resumable}
  (export "holdfast:plugin/tools@0.1.0" (instance $tools)))
"#;
