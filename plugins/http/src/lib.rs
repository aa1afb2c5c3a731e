//! Fetches pages and JSON for an agent, from where the operator lets it.
//!
//! It has no `plugin.toml`, so that it reaches exactly what `[[plugins.http.grants.http]]` says: where an agent may
//! go is for who runs it to know. How a page becomes text is in `page.rs`.

mod page;

use holdfast_plugin::{
    Context, Failure, Output, Tool,
    http::{Request, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// How often a redirect is followed. Each step is a request of its own, and decided like the first.
const MAX_REDIRECTS: usize = 5;
/// How much of a body is read.
const MAX_BODY: usize = 1 << 20;
/// JSON that is longer is of no use to a model.
const MAX_JSON: usize = 64 << 10;
const DEFAULT_CHARS: usize = 10_000;

#[derive(Deserialize, JsonSchema)]
struct Fetch {
    /// The page's address, beginning with https:// or http://
    #[schemars(length(max = 2000))]
    url: String,
    /// How many characters of text at most; 10000 where left out.
    #[schemars(range(min = 100, max = 100_000))]
    max_chars: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
struct FetchJson {
    /// The address, beginning with https:// or http://
    #[schemars(length(max = 2000))]
    url: String,
}

#[derive(Serialize, JsonSchema)]
struct Fetched {
    /// Where it was found, after redirects.
    url: String,
    text: String,
    /// There is more than this.
    cut: bool,
}

fn fetch(_: &Context, args: Fetch) -> Result<Output, Failure> {
    let (url, response) = get(&args.url, "text/html, text/*;q=0.9, */*;q=0.1", MAX_BODY)?;
    if let Some(error) = refusal(&response) {
        return Ok(error);
    }
    let Some(text) = page::text(&response) else {
        let kind = response.header("content-type").unwrap_or("something without a type");
        return Ok(Output::error(format!("{url} is {kind}, which is no text to read.")));
    };
    let most = args.max_chars.unwrap_or(DEFAULT_CHARS);
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    let cut = end.is_some() || response.is_cut;
    let text = text[..end.unwrap_or(text.len())].to_owned();
    let shown = if cut { format!("{text}\n[cut here: there is more]") } else { text.clone() };
    Output::text(shown).structured(&Fetched { url: url.into(), text, cut })
}

fn fetch_json(_: &Context, args: FetchJson) -> Result<Output, Failure> {
    let (url, response) = get(&args.url, "application/json", MAX_JSON)?;
    if let Some(error) = refusal(&response) {
        return Ok(error);
    }
    if response.is_cut {
        return Ok(Output::error(format!("{url} has more than {MAX_JSON} bytes. Ask for less of it.")));
    }
    match serde_json::from_slice::<Value>(&response.body) {
        Ok(value) => Output::json(&value),
        Err(error) => Ok(Output::error(format!("{url} is not JSON ({error}). Use `fetch` for pages."))),
    }
}

/// The response at the end of redirects, and where that is.
fn get(text: &str, accept: &str, max_body: usize) -> Result<(Url, Response), Failure> {
    let bad = |error| Failure::new("invalid-url", format!("`{text}` is no URL: {error}."));
    let mut url = Url::parse(text).map_err(bad)?;
    for _ in 0..=MAX_REDIRECTS {
        url.set_fragment(None);
        let response = Request::get(url.as_str()).header("accept", accept).max_body(max_body).send()?;
        let to = response.header("location").filter(|_| matches!(response.status, 301..=303 | 307 | 308));
        match to.map(|to| url.join(to)) {
            None => return Ok((url, response)),
            Some(Ok(next)) => url = next,
            Some(Err(_)) => return Err(Failure::new("bad-redirect", format!("{url} leads to no address."))),
        }
    }
    Err(Failure::new("too-many-redirects", format!("`{text}` leads on more than {MAX_REDIRECTS} times.")))
}

/// What the model is told of a status that is no success.
fn refusal(response: &Response) -> Option<Output> {
    let status = response.status;
    (!(200..300).contains(&status))
        .then(|| Output::error(format!("The server answered with status {status}.")))
}

holdfast_plugin::export! {
    Tool::new("fetch", "Fetches a web page and returns its text.", fetch)
        .read_only()
        .idempotent()
        .open_world()
        .returns::<Fetched>(),
    Tool::new("fetch_json", "Fetches JSON from a web API by its URL.", fetch_json).read_only().idempotent().open_world(),
}

#[cfg(test)]
mod tests {
    use holdfast_plugin::http::{Error, answer_with};
    use serde_json::json;

    use super::*;

    fn response(status: u16, kind: &str, body: &str) -> Response {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Response { status, headers, body: body.as_bytes().to_vec(), is_cut: false }
    }

    fn world() {
        answer_with(|request| match request.url.as_str() {
            "https://a.example/page" => Ok(response(
                200,
                "text/html; charset=utf-8",
                "<html><head><title>T</title><script>evil()</script></head><body><h1>Big</h1><p>Small <a href='/b'>link</a></body>",
            )),
            "https://a.example/plain" => Ok(response(200, "text/plain", "abc ".repeat(100).as_str())),
            "https://a.example/json" => Ok(response(200, "application/json", "{\"n\":1}")),
            "https://a.example/picture" => Ok(response(200, "image/png", "png")),
            "https://a.example/away" => Ok(moved("https://b.example/")),
            "https://a.example/near" => Ok(moved("page#part")),
            "https://a.example/round" => Ok(moved("/round")),
            "https://a.example/missing" => Ok(response(404, "text/html", "no")),
            _ => Err(Error::Denied),
        });
    }

    fn moved(to: &str) -> Response {
        Response { status: 302, headers: vec![("location".to_owned(), to.to_owned())], ..Response::default() }
    }

    fn page(path: &str, max_chars: Option<usize>) -> Result<String, String> {
        world();
        let args = Fetch { url: format!("https://a.example/{path}"), max_chars };
        match fetch(&Context::example(), args) {
            Ok(output) if output.is_error() => Err(output.to_string()),
            Ok(output) => Ok(output.to_string()),
            Err(failure) => Err(format!("{failure:?}")),
        }
    }

    #[test]
    fn a_page_becomes_text() {
        let text = page("page", None).unwrap();
        assert!(text.contains("# Big") && text.contains("Small [link]"), "{text}");
        assert!(!text.contains("evil"), "{text}");
        assert_eq!(page("near", None).unwrap(), text, "a redirect is followed");
        assert!(page("plain", Some(100)).unwrap().ends_with("\n[cut here: there is more]"));
        assert_eq!(page("plain", None).unwrap().trim().len(), 399);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(page("picture", None).unwrap_err().contains("image/png"));
        assert!(page("missing", None).unwrap_err().contains("404"));
        assert!(page("round", None).unwrap_err().contains("too-many-redirects"));
        assert!(page("away", None).unwrap_err().contains("not-allowed"), "each step is asked for anew");
    }

    #[test]
    fn json_is_passed_on() {
        world();
        let get = |path: &str| {
            let args = FetchJson { url: format!("https://a.example/{path}") };
            fetch_json(&Context::example(), args).unwrap().to_string()
        };
        assert_eq!(get("json"), json!({"n": 1}).to_string());
        assert!(get("page").contains("is not JSON"));
    }
}
