//! Books things, and asks a human for the delivery date before it does.
//!
//! Shows how a tool asks: `book` ends with a question, and `on_answer` does the work, maybe days later in another
//! instance. What it needs to know by then it hands itself as [`Wanted`].

use holdfast_plugin::{
    Context, Failure, Output, Question, Reply, Tool,
    kv::{self, Expect, Scope},
};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a user's bookings are, each under the idempotency key of its call.
const BOOKINGS: &str = "booking/";

const MOST_LISTED: u32 = 100;

#[derive(Deserialize, JsonSchema)]
struct Book {
    /// What to book, such as `3 chairs`.
    #[schemars(length(min = 1, max = 200))]
    item: String,
}

#[derive(Deserialize, JsonSchema)]
struct List {}

/// What the call needs to know when the answer comes.
#[derive(Deserialize, Serialize)]
struct Wanted {
    item: String,
}

/// What the human is asked for.
#[derive(Deserialize, JsonSchema)]
struct Delivery {
    /// The day of the delivery, as `2026-12-24`.
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    date: String,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Booking {
    item: String,
    /// The day of the delivery, as `2026-12-24`.
    date: String,
}

#[derive(Serialize, JsonSchema)]
struct Bookings {
    bookings: Vec<Booking>,
}

fn book(_: &Context, args: Book) -> Result<Question, Failure> {
    let item = args.item.trim().to_owned();
    let prompt = format!("When shall this be delivered: {item}? Answer with a date such as 2026-12-24.");
    Question::new::<Delivery>(prompt, &Wanted { item })
}

fn book_for(context: &Context, wanted: Wanted, delivery: Delivery) -> Result<Reply, Failure> {
    let Wanted { item } = wanted;
    // The schema says what a date looks like, but not that there is no 30th of February.
    let Ok(date) = delivery.date.parse::<Date>() else {
        let prompt = format!("There is no {}. When shall this be delivered: {item}?", delivery.date);
        return Ok(Question::new::<Delivery>(prompt, &Wanted { item })?.into());
    };
    let booking = Booking { item, date: date.to_string() };
    let key = format!("{BOOKINGS}{}", context.idempotency_key);
    match kv::put(Scope::User, &key, &booking, Expect::Absent) {
        // An earlier attempt at this call got as far as this.
        Ok(_) | Err(kv::Error::Conflict(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let text = format!("Booked {} for delivery on {}.", booking.item, booking.date);
    Ok(Output::text(text).structured(&booking)?.into())
}

fn list(_: &Context, _: List) -> Result<Output, Failure> {
    let mut bookings = Vec::new();
    for key in kv::keys(Scope::User, BOOKINGS, None, MOST_LISTED)? {
        bookings.extend(kv::get::<Booking>(Scope::User, &key)?.map(|entry| entry.value));
    }
    bookings.sort_by(|a, b| (&a.date, &a.item).cmp(&(&b.date, &b.item)));
    let lines: Vec<String> = bookings.iter().map(|b| format!("{}: {}", b.date, b.item)).collect();
    let text = if lines.is_empty() { "There are no bookings.".to_owned() } else { lines.join("\n") };
    Output::text(text).structured(&Bookings { bookings })
}

holdfast_plugin::export! {
    Tool::new("book", "Books a thing for this user. Asks a human for the delivery date first.", book)
        .title("Book")
        // The idempotency key of the call makes a second attempt find the first one's booking.
        .idempotent()
        .returns::<Booking>()
        .on_answer(book_for),
    Tool::new("list", "Lists this user's bookings, the next delivery first.", list)
        .title("List bookings")
        .read_only()
        .idempotent()
        .returns::<Bookings>(),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reply: Reply) -> String {
        match reply {
            Reply::Done(output) => output.to_string(),
            Reply::Ask(question) => format!("? {}", question.prompt()),
        }
    }

    fn answer(date: &str) -> String {
        let wanted = Wanted { item: "3 chairs".to_owned() };
        said(book_for(&Context::example(), wanted, Delivery { date: date.to_owned() }).unwrap())
    }

    #[test]
    fn it_asks_for_a_date_before_it_books() {
        let question = book(&Context::example(), Book { item: " 3 chairs ".to_owned() }).unwrap();
        assert!(question.prompt().starts_with("When shall this be delivered: 3 chairs?"));
        assert_eq!(list(&Context::example(), List {}).unwrap().to_string(), "There are no bookings.");
        assert!(answer("2026-02-30").starts_with("? There is no 2026-02-30."));
        assert_eq!(answer("2026-12-24"), "Booked 3 chairs for delivery on 2026-12-24.");
        assert_eq!(list(&Context::example(), List {}).unwrap().to_string(), "2026-12-24: 3 chairs");
    }

    #[test]
    fn the_same_call_books_once() {
        assert_eq!(answer("2026-12-24"), answer("2026-12-24"));
        assert_eq!(list(&Context::example(), List {}).unwrap().to_string(), "2026-12-24: 3 chairs");
    }
}
