//! From a response to text that a model can read.

use holdfast_plugin::http::Response;

/// Where lines are broken.
const WIDTH: usize = 100;

/// None where it is no text.
pub(crate) fn text(response: &Response) -> Option<String> {
    let kind = response.header("content-type").unwrap_or("text/plain").to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if matches!(kind, "text/html" | "application/xhtml+xml") {
        // A page so odd that there is no text of it is shown as it is.
        let text = html2text::from_read(response.body.as_slice(), WIDTH);
        return Some(text.unwrap_or_else(|_| response.text()));
    }
    let readable = kind.starts_with("text/")
        || ["json", "xml", "javascript", "yaml", "x-www-form-urlencoded"]
            .iter()
            .any(|part| kind.ends_with(part));
    readable.then(|| response.text())
}
