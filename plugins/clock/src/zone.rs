//! Time zones by name, with suggestions for names that do not exist.

use std::cmp::Reverse;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

const MOST_SUGGESTIONS: usize = 5;

/// Abbreviations that people use and the database does not have, because they name several zones.
const ABBREVIATIONS: [(&str, &str); 10] = [
    ("bst", "Europe/London"),
    ("cdt", "America/Chicago"),
    ("cest", "Europe/Berlin"),
    ("cst", "America/Chicago"),
    ("edt", "America/New_York"),
    ("ist", "Asia/Kolkata"),
    ("jst", "Asia/Tokyo"),
    ("mdt", "America/Denver"),
    ("pdt", "America/Los_Angeles"),
    ("pst", "America/Los_Angeles"),
];

/// The error is for the model.
pub(crate) fn find_zone(name: &str) -> Result<TimeZone, String> {
    let name = name.trim();
    if let Some(offset) = fixed_offset(name) {
        return Ok(TimeZone::fixed(offset));
    }
    let database = TimeZoneDatabase::bundled();
    database.get(name).map_err(|_| {
        let suggestions = suggestions(name, &database);
        if suggestions.is_empty() {
            format!("There is no time zone `{name}`: use an IANA name such as Europe/Berlin, or UTC.")
        } else {
            format!("There is no time zone `{name}`. Did you mean {}?", suggestions.join(", "))
        }
    })
}

/// `+05:30`
fn fixed_offset(text: &str) -> Option<Offset> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':').unwrap_or((&text[1..], "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_valid = (0..=18).contains(&hours) && (0..60).contains(&minutes);
    is_valid.then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?
}

fn suggestions(wanted: &str, database: &TimeZoneDatabase) -> Vec<String> {
    let city = city(wanted);
    let abbreviations = ABBREVIATIONS.iter().filter(|(short, _)| *short == city);
    let mut found: Vec<String> = abbreviations.map(|(_, name)| (*name).to_owned()).collect();
    if !found.is_empty() || city.len() < 3 {
        return found;
    }
    let mut near: Vec<(usize, Reverse<bool>, String)> = database
        .available()
        .filter_map(|known| {
            let known = known.as_str();
            let distance = distance(&city, &self::city(known));
            // Old names such as `Singapore` have no continent; the others are better.
            (distance <= 2).then(|| (distance, Reverse(known.contains('/')), known.to_owned()))
        })
        .collect();
    near.sort();
    found.extend(near.into_iter().map(|(_, _, name)| name).take(MOST_SUGGESTIONS));
    found
}

/// The last part of a name as it is compared: `America/New York` and `new_york` are the same.
fn city(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).trim().to_lowercase().replace([' ', '-'], "_")
}

/// How many letters must be changed, added or removed; 0 also where one contains the other.
fn distance(a: &str, b: &str) -> usize {
    if a.contains(b) && b.len() > 3 || b.contains(a) {
        return usize::from(a != b);
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn suggests(wanted: &str, name: &str) {
        let problem = find_zone(wanted).unwrap_err();
        assert!(problem.contains(name), "{problem}");
    }

    #[test]
    fn unknown_names_get_suggestions() {
        suggests("Berlin", "Europe/Berlin");
        suggests("Europe/Berln", "Europe/Berlin");
        suggests("new york", "America/New_York");
        suggests("US/San Francisco", "IANA name");
        suggests("PST", "America/Los_Angeles");
        suggests("", "IANA name");
    }

    #[test]
    fn offsets_are_zones_too() {
        assert_eq!(find_zone("-08:00").unwrap(), TimeZone::fixed(Offset::from_seconds(-8 * 3600).unwrap()));
        assert!(find_zone("+99:00").is_err());
    }
}
