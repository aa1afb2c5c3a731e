//! Small notes that a user's agents keep between sessions.
//!
//! The tools check their arguments and word the answers; how notes are stored is in `book.rs`.

mod book;

use holdfast_plugin::{Context, Failure, Output, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::book::Note;

const MOST_FOUND: usize = 20;

#[derive(Deserialize, JsonSchema)]
struct Add {
    /// A short title.
    #[schemars(length(max = 200))]
    title: Option<String>,
    /// What to remember.
    #[schemars(length(min = 1, max = 20000))]
    text: String,
    /// Words to find the note by.
    #[serde(default)]
    #[schemars(length(max = 20))]
    tags: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
struct List {
    /// How many notes at most; 20 where left out.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<u32>,
    /// Continue behind the note with this id: the last one of the previous answer.
    after: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
struct Search {
    /// Words that must all be in a note's title, text or tags; upper and lower case are the same.
    #[schemars(length(min = 1, max = 200))]
    query: String,
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The note's number, as `list` and `search` show it.
    id: u32,
}

fn add(context: &Context, args: Add) -> Result<Output, Failure> {
    if args.text.trim().is_empty() {
        return Ok(Output::error("The note is empty: give it a text."));
    }
    let tags = args.tags.into_iter().map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty());
    let title = args.title.filter(|title| !title.trim().is_empty());
    let note = Note { id: 0, title, text: args.text, tags: tags.collect() };
    let note = book::add(note, &context.idempotency_key)?;
    Output::text(format!("Saved as note {}.", note.id)).structured(&note)
}

fn list(_: &Context, args: List) -> Result<Output, Failure> {
    let limit = args.limit.unwrap_or(20).clamp(1, 100);
    let page = book::page(limit, args.after)?;
    let text = match (page.notes.as_slice(), args.after) {
        ([], None) => "There are no notes.".to_owned(),
        ([], Some(_)) => "There are no more notes.".to_owned(),
        ([.., last], _) if page.has_more => {
            format!("{}\nThere are more: list with after = {}.", lines(&page.notes), last.id)
        }
        (notes, _) => lines(notes),
    };
    Output::text(text).structured(&Found { notes: page.notes })
}

fn search(_: &Context, args: Search) -> Result<Output, Failure> {
    let mut notes = book::search(&args.query)?;
    let count = notes.len();
    notes.truncate(MOST_FOUND);
    let text = match count {
        0 => format!("No note has all the words of `{}`. Try fewer or other words.", args.query),
        _ if count > MOST_FOUND => {
            format!("{}\n{count} notes match; these are the newest {MOST_FOUND}.", lines(&notes))
        }
        _ => lines(&notes),
    };
    Output::text(text).structured(&Found { notes })
}

fn read(_: &Context, args: ById) -> Result<Output, Failure> {
    let Some(note) = book::read(args.id)? else {
        return missing(args.id);
    };
    let mut text = headline(&note);
    text.push('\n');
    text.push_str(&note.text);
    Output::text(text).structured(&note)
}

fn delete(_: &Context, args: ById) -> Result<Output, Failure> {
    if book::delete(args.id)? {
        Output::text(format!("Deleted note {}.", args.id)).structured(&Deleted { id: args.id })
    } else {
        missing(args.id)
    }
}

#[derive(Serialize)]
struct Found {
    notes: Vec<Note>,
}

#[derive(Serialize)]
struct Deleted {
    id: u32,
}

fn missing(id: u32) -> Result<Output, Failure> {
    const SHOWN: u32 = 10;
    let page = book::page(SHOWN, None)?;
    let ids: Vec<String> = page.notes.iter().map(|note| note.id.to_string()).collect();
    let ids = ids.join(", ");
    Ok(Output::error(match (ids.is_empty(), page.has_more) {
        (true, _) => format!("There is no note {id}: there are no notes at all."),
        (false, false) => format!("There is no note {id}. These exist: {ids}."),
        (false, true) => {
            format!("There is no note {id}. The newest are {ids}; use list or search for others.")
        }
    }))
}

fn lines(notes: &[Note]) -> String {
    notes.iter().map(headline).collect::<Vec<_>>().join("\n")
}

/// `3: Shopping [home] milk, bread…`
fn headline(note: &Note) -> String {
    const LONGEST: usize = 80;
    let tags = if note.tags.is_empty() { String::new() } else { format!(" [{}]", note.tags.join(", ")) };
    if let Some(title) = &note.title {
        return format!("{}: {title}{tags}", note.id);
    }
    let first = note.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let start: String = first.chars().take(LONGEST).collect();
    let more = if start.len() < note.text.trim_end().len() { "…" } else { "" };
    format!("{}: {start}{more}{tags}", note.id)
}

holdfast_plugin::export! {
    Tool::new("add", "Saves a note for this user, to be found again in later sessions.", add)
        .title("Add note")
        // The idempotency key of the call makes a second attempt find the first one's note.
        .idempotent(),
    Tool::new("list", "Lists this user's notes, the newest first, by number and title.", list)
        .title("List notes")
        .read_only()
        .idempotent(),
    Tool::new("search", "Finds this user's notes by words in their title, text or tags.", search)
        .title("Search notes")
        .read_only()
        .idempotent(),
    Tool::new("read", "Reads one note in full.", read)
        .title("Read note")
        .read_only()
        .idempotent(),
    Tool::new("delete", "Deletes one note for good.", delete)
        .title("Delete note")
        .destructive()
        .requires_approval(),
}

#[cfg(test)]
mod tests {
    use holdfast_plugin::kv;

    use super::*;

    fn add_text(text: &str, key: &str) -> String {
        let context = Context { idempotency_key: key.to_owned(), ..Context::example() };
        let args = Add { title: None, text: text.to_owned(), tags: vec!["Tag".to_owned()] };
        add(&context, args).unwrap().to_string()
    }

    fn list_all() -> String {
        list(&Context::example(), List { limit: None, after: None }).unwrap().to_string()
    }

    #[test]
    fn notes_are_numbered_listed_and_read() {
        assert_eq!(list_all(), "There are no notes.");
        assert_eq!(add_text("milk\nbread", "a"), "Saved as note 1.");
        assert_eq!(add_text("call Ada", "b"), "Saved as note 2.");
        assert_eq!(list_all(), "2: call Ada [tag]\n1: milk… [tag]");
        let page = list(&Context::example(), List { limit: Some(1), after: None }).unwrap().to_string();
        assert_eq!(page, "2: call Ada [tag]\nThere are more: list with after = 2.");
        let page = list(&Context::example(), List { limit: Some(1), after: Some(2) }).unwrap().to_string();
        assert_eq!(page, "1: milk… [tag]");
        let note = read(&Context::example(), ById { id: 1 }).unwrap().to_string();
        assert_eq!(note, "1: milk… [tag]\nmilk\nbread");
    }

    #[test]
    fn the_same_call_adds_once() {
        assert_eq!(add_text("x", "same"), "Saved as note 1.");
        assert_eq!(add_text("x", "same"), "Saved as note 1.");
        assert_eq!(add_text("x", "other"), "Saved as note 2.");
        // The first attempt ended after it had taken its number.
        kv::delete(kv::Scope::User, "note/4294967293", kv::Expect::Any).unwrap();
        assert_eq!(add_text("x", "other"), "Saved as note 2.");
        assert_eq!(list_all().lines().count(), 2);
    }

    #[test]
    fn a_deleted_number_is_not_used_again() {
        add_text("x", "a");
        add_text("y", "b");
        let deleted = delete(&Context::example(), ById { id: 2 }).unwrap();
        assert!(!deleted.is_error());
        assert_eq!(add_text("z", "c"), "Saved as note 3.");
        let missing = delete(&Context::example(), ById { id: 2 }).unwrap();
        assert!(missing.is_error());
        assert_eq!(missing.to_string(), "There is no note 2. These exist: 3, 1.");
    }

    #[test]
    fn search_wants_all_words_anywhere() {
        add_text("Call Ada about the ENGINE", "a");
        add_text("call Bob", "b");
        let find = |query: &str| {
            search(&Context::example(), Search { query: query.to_owned() }).unwrap().to_string()
        };
        assert_eq!(find("call"), "2: call Bob [tag]\n1: Call Ada about the ENGINE [tag]");
        assert_eq!(find("engine TAG"), "1: Call Ada about the ENGINE [tag]");
        assert!(find("engine bob").contains("fewer"));
    }
}
