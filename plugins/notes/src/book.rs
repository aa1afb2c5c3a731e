//! How notes are stored: one entry per note, and one that hands out numbers.
//!
//! Calls run side by side, so a number is taken by compare-and-set and no two calls get the same. Numbers
//! only grow: a deleted one is never used again.

use holdfast_plugin::kv::{self, Entry, Error, Expect, Scope};
use serde::{Deserialize, Serialize};

const COUNTER: &str = "counter";
const PREFIX: &str = "note/";
/// How many calls back a repeated one is recognised: more than one user has under way.
const REMEMBERED: usize = 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    pub(crate) text: String,
    pub(crate) tags: Vec<String>,
}

pub(crate) struct Page {
    pub(crate) notes: Vec<Note>,
    pub(crate) has_more: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    last: u32,
    /// The idempotency keys of the latest calls and the numbers they got, so that a call which is run again
    /// after a crash gets the same one.
    recent: Vec<(String, u32)>,
}

impl Counter {
    fn number_for(&mut self, key: &str) -> u32 {
        if let Some((_, id)) = self.recent.iter().find(|(known, _)| known == key) {
            return *id;
        }
        self.last += 1;
        self.recent.push((key.to_owned(), self.last));
        if self.recent.len() > REMEMBERED {
            self.recent.remove(0);
        }
        self.last
    }
}

/// Gives the note its number. A repeated call finds the note of the first attempt.
pub(crate) fn add(mut note: Note, idempotency_key: &str) -> Result<Note, Error> {
    note.id = kv::update(Scope::User, COUNTER, |counter: &mut Counter| counter.number_for(idempotency_key))?;
    match kv::put(Scope::User, &key_of(note.id), &note, Expect::Absent) {
        Ok(_) | Err(Error::Conflict(_)) => Ok(note),
        Err(error) => Err(error),
    }
}

pub(crate) fn read(id: u32) -> Result<Option<Note>, Error> {
    Ok(kv::get(Scope::User, &key_of(id))?.map(|entry: Entry<Note>| entry.value))
}

pub(crate) fn delete(id: u32) -> Result<bool, Error> {
    kv::delete(Scope::User, &key_of(id), Expect::Any)
}

/// Notes from new to old.
pub(crate) fn page(limit: u32, after: Option<u32>) -> Result<Page, Error> {
    let after = after.map(key_of);
    let mut keys = kv::keys(Scope::User, PREFIX, after.as_deref(), limit.saturating_add(1))?;
    let has_more = keys.len() > limit as usize;
    keys.truncate(limit as usize);
    Ok(Page { notes: notes_at(&keys)?, has_more })
}

/// Notes that have every word of the query, from new to old.
pub(crate) fn search(query: &str) -> Result<Vec<Note>, Error> {
    let query = query.to_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let keys = kv::keys(Scope::User, PREFIX, after.as_deref(), 100)?;
        let Some(last) = keys.last() else {
            return Ok(found);
        };
        after = Some(last.clone());
        found.extend(notes_at(&keys)?.into_iter().filter(|note| has_words(note, &words)));
    }
}

fn has_words(note: &Note, words: &[&str]) -> bool {
    let title = note.title.as_deref().unwrap_or_default();
    let all = format!("{title}\n{}\n{}", note.text, note.tags.join("\n")).to_lowercase();
    words.iter().all(|word| all.contains(word))
}

fn notes_at(keys: &[String]) -> Result<Vec<Note>, Error> {
    // Another call may delete a note after its key was listed.
    let notes = keys.iter().map(|key| kv::get::<Note>(Scope::User, key));
    notes.filter_map(Result::transpose).map(|entry| Ok(entry?.value)).collect()
}

/// Keys are listed in byte order: counting down puts new notes first.
fn key_of(id: u32) -> String {
    format!("{PREFIX}{:010}", u32::MAX - id)
}
