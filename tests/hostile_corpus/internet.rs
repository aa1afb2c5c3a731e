//! One request of a guest into a network in which every connection leads to one server.

use std::sync::{Arc, Mutex};

use holdfast::plugin::{Network, PluginSettings};
use serde_json::Value;

use super::bench::{Bench, call, in_words};
use crate::support::web::{PUBLIC, Reply, Web, World, ok};

pub(super) struct Internet {
    web: Web,
    world: Arc<World>,
    reply: Arc<Mutex<Reply>>,
}

/// A request of the guest `egress`, and what it meets.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) settings: PluginSettings,
    pub(super) tool: &'static str,
    pub(super) arguments: Value,
    pub(super) name: &'static str,
    /// Where the name leads to: the first time, the second time and so on. Without any, who asks waits for ever.
    pub(super) addresses: Vec<Vec<&'static str>>,
    pub(super) reply: Reply,
    /// What neither the guest nor the model may read.
    pub(super) hidden: String,
}

impl Attempt {
    pub(super) fn new(settings: PluginSettings, arguments: Value) -> Self {
        Self {
            settings,
            tool: "send",
            arguments,
            name: "api.test",
            addresses: vec![vec![PUBLIC]],
            reply: ok("fine"),
            hidden: String::new(),
        }
    }

    /// What the log says, without what was asked for, which it must name.
    fn why(&self, logged: &str) -> String {
        let text =
            |name: &str, default: &'static str| self.arguments[name].as_str().unwrap_or(default).to_owned();
        let (scheme, authority) = (text("scheme", "http"), text("authority", ""));
        let asked = format!("the request {} {scheme}://{authority}: ", text("method", "GET"));
        logged.strip_prefix(&asked).unwrap_or(logged).to_owned()
    }
}

impl Internet {
    pub(super) async fn new() -> Self {
        let reply = Arc::new(Mutex::new(ok("")));
        let next = Arc::clone(&reply);
        let web = Web::start(move |_| next.lock().expect("nobody panics in here").clone()).await;
        let world = World::new(web.address);
        Self { web, world, reply }
    }

    pub(super) fn network(&self) -> Network {
        self.world.network()
    }
}

impl Bench {
    /// How the call ended, how far the request came, and what the operator's log says about it.
    pub(super) async fn send(&self, attempt: &Attempt) -> String {
        let Internet { web, world, reply } = &self.internet;
        let addresses: Vec<&[&str]> = attempt.addresses.iter().map(Vec::as_slice).collect();
        world.name(attempt.name, &addresses);
        attempt.reply.clone_into(&mut reply.lock().expect("nobody panics in here"));
        let plugin = self.guest("egress", "evil", &attempt.settings).await;
        let before = web.requests().len();
        let _ = world.seen();
        self.log.forget();

        let outcome = call(&plugin, attempt.tool, &attempt.arguments).await;

        let seen = world.seen();
        let way = match (seen.look_ups.len(), seen.connections.len()) {
            (0, 0) => "unasked".to_owned(),
            (_, 0) => "looked up".to_owned(),
            (_, 1) => "sent".to_owned(),
            (_, connections) => format!("{connections} sent"),
        };
        let mut said = format!("{}, {way}", in_words(&outcome.kind));
        for line in self.log.of(&format!("evil__{}", attempt.tool)) {
            said = format!("{said}: {}", attempt.why(&line));
        }
        if let Some(request) = web.requests()[before..].iter().find(|request| !is_one(request)) {
            return format!("no request, or more than one, {said}: {request:.300?}");
        }
        if !attempt.hidden.is_empty() && outcome.text.contains(&attempt.hidden) {
            return format!("the guest reads what it must not, {said}: {}", outcome.text);
        }
        // What comes in one read beyond the limit has come.
        let most = attempt.settings.limits.http_response_bytes + (64 << 10);
        if outcome.usage.http_received_bytes > most {
            return format!("{} bytes received, {said}", outcome.usage.http_received_bytes);
        }
        said
    }
}

/// One request, with as much body as it says.
fn is_one(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let lines =
        |start: &str| head.lines().filter(|line| line.to_ascii_lowercase().starts_with(start)).count();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let framed = match (lines("content-length:"), lines("transfer-encoding:")) {
        (0, 0) => body.is_empty(),
        (1, 0) => length == Some(body.len()),
        (0, 1) => body.ends_with("0\r\n\r\n"),
        _ => false,
    };
    framed && request.matches(" HTTP/1.1\r\n").count() == 1
}
