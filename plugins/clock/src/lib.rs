//! The time, in any time zone: models know neither what time it is nor when the clocks change.
//!
//! The time zone database is part of the component, because a plugin sees no files. The tools' functions
//! take the current time as an argument, so that they can be tested.

mod zone;

use holdfast_plugin::{Context, Failure, Output, Tool};
use jiff::{Timestamp, ZonedDateTime, civil, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::zone::find_zone;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Now {
    /// IANA name such as `Europe/Berlin`; UTC where left out.
    time_zone: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Convert {
    /// A time with an offset (`2026-11-24T15:00:00Z`, `2026-11-24T15:00+01:00`), or without one
    /// (`2026-11-24T15:00`) as the clocks show it in `from`.
    time: String,
    /// The time zone of a time without an offset: an IANA name such as `America/New_York`.
    from: Option<String>,
    /// The time zone that is wanted: an IANA name such as `Asia/Tokyo`, or `UTC`.
    to: String,
}

#[derive(Deserialize, JsonSchema)]
struct DaysBetween {
    /// A date such as `2026-11-24`.
    from: String,
    /// A date such as `2026-12-31`.
    to: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Moment {
    /// RFC 3339, with the offset of the time zone.
    time: String,
    time_zone: String,
    weekday: String,
    unix_seconds: i64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Interval {
    /// Negative where `to` is before `from`.
    days: i64,
    from_weekday: String,
    to_weekday: String,
}

fn now(args: &Now, at: Timestamp) -> Result<Output, Failure> {
    match find_zone(args.time_zone.as_deref().unwrap_or("UTC")) {
        Ok(zone) => moment(&at.to_zoned_datetime(zone)),
        Err(problem) => Ok(Output::error(problem)),
    }
}

fn convert(_: &Context, args: Convert) -> Result<Output, Failure> {
    match converted(&args) {
        Ok(zoned) => moment(&zoned),
        Err(problem) => Ok(Output::error(problem)),
    }
}

fn converted(args: &Convert) -> Result<ZonedDateTime, String> {
    let to = find_zone(&args.to)?;
    let from = args.from.as_deref().map(find_zone).transpose()?;
    let text = args.time.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return with_own_offset(text, at, from).map(|at| at.to_zoned_datetime(to));
    }
    let local: civil::DateTime = text.parse().map_err(|_| {
        format!("`{text}` is not a time: write it as 2026-11-24T15:00, with an offset such as +01:00 or Z if known.")
    })?;
    let from = from.ok_or("The time has no offset: say in `from` in which time zone the clocks show it.")?;
    // When the clocks go forward such a time does not exist, when they go back it exists twice.
    let ambiguous = from.to_ambiguous_zoned_datetime(local);
    if ambiguous.is_ambiguous() {
        let example = ambiguous.compatible().map(|zoned| zoned.strftime("%Y-%m-%dT%H:%M%:z").to_string());
        return Err(format!(
            "The clocks change at {text} there, so that this time does not exist or exists twice: give it with \
             its offset, for example {}.",
            example.unwrap_or_else(|error| error.to_string())
        ));
    }
    let zoned = ambiguous.compatible().map_err(|error| error.to_string())?;
    Ok(zoned.with_time_zone(to))
}

fn with_own_offset(text: &str, at: Timestamp, from: Option<TimeZone>) -> Result<Timestamp, String> {
    let Some(from) = from else {
        return Ok(at);
    };
    // The wall clock that was written, whatever its offset.
    let written = text.trim_end_matches(['Z', 'z']).parse::<civil::DateTime>().ok();
    if written.is_some() && written != Some(from.to_datetime(at)) {
        return Err(format!(
            "`{text}` has an offset of its own, which is not that of `from`: leave out one of them."
        ));
    }
    Ok(at)
}

fn days_between(_: &Context, args: DaysBetween) -> Result<Output, Failure> {
    let date = |text: &str| {
        let date: Result<civil::Date, _> = text.trim().parse();
        date.map_err(|_| format!("`{text}` is not a date of the calendar: write it as 2026-11-24."))
    };
    let (from, to) = match (date(&args.from), date(&args.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(problem), _) | (_, Err(problem)) => return Ok(Output::error(problem)),
    };
    let days = from.duration_until(to).as_hours() / 24;
    let result = Interval {
        days,
        from_weekday: from.strftime("%A").to_string(),
        to_weekday: to.strftime("%A").to_string(),
    };
    let unit = if days.abs() == 1 { "day" } else { "days" };
    let text = format!("{days} {unit} from {} {from} to {} {to}", result.from_weekday, result.to_weekday);
    Output::text(text).structured(&result)
}

fn moment(zoned: &ZonedDateTime) -> Result<Output, Failure> {
    let name = zoned.time_zone().iana_name();
    let result = Moment {
        time: zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        time_zone: name.map_or_else(|| zoned.strftime("%:z").to_string(), str::to_owned),
        weekday: zoned.strftime("%A").to_string(),
        unix_seconds: zoned.timestamp().as_second(),
    };
    Output::text(format!("{}, {}, {}", result.weekday, result.time, result.time_zone)).structured(&result)
}

holdfast_plugin::export! {
    Tool::new("now", "The current date, time and weekday in a time zone.", |_, args| now(&args, Timestamp::now()))
        .title("Current time")
        .read_only()
        .returns::<Moment>(),
    Tool::new("convert", "Converts a time to another time zone, with daylight saving time as it is on that day.", convert)
        .title("Convert time")
        .read_only()
        .idempotent()
        .returns::<Moment>(),
    Tool::new("days_between", "Counts the days from one date to another and says their weekdays.", days_between)
        .title("Days between dates")
        .read_only()
        .idempotent()
        .returns::<Interval>(),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_convert(time: &str, from: Option<&str>, to: &str) -> String {
        let args = Convert { time: time.to_owned(), from: from.map(str::to_owned), to: to.to_owned() };
        let output = convert(&Context::example(), args).unwrap();
        format!("{}{output}", if output.is_error() { "error: " } else { "" })
    }

    #[test]
    fn now_is_told_in_any_zone() {
        let at: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let tell =
            |zone: Option<&str>| now(&Now { time_zone: zone.map(str::to_owned) }, at).unwrap().to_string();
        assert_eq!(tell(None), "Tuesday, 2026-11-24T08:00:00+00:00, UTC");
        assert_eq!(tell(Some("Asia/Tokyo")), "Tuesday, 2026-11-24T17:00:00+09:00, Asia/Tokyo");
        assert!(tell(Some("Asia/Tokio")).contains("Asia/Tokyo"));
    }

    #[test]
    fn convert_knows_daylight_saving_time() {
        let new_york = Some("America/New_York");
        assert_eq!(
            check_convert("2026-11-24T15:00", new_york, "Europe/Berlin"),
            "Tuesday, 2026-11-24T21:00:00+01:00, Europe/Berlin"
        );
        // Between the two changes of clocks they are five hours apart.
        assert_eq!(
            check_convert("2026-10-28 15:00", new_york, "Europe/Berlin"),
            "Wednesday, 2026-10-28T20:00:00+01:00, Europe/Berlin"
        );
        assert_eq!(
            check_convert("2026-11-24T15:00Z", None, "UTC"),
            "Tuesday, 2026-11-24T15:00:00+00:00, UTC"
        );
        assert_eq!(
            check_convert("2026-11-24T15:00+01:00", Some("europe/berlin"), "+05:30"),
            "Tuesday, 2026-11-24T19:30:00+05:30, +05:30"
        );
    }

    #[test]
    fn convert_asks_instead_of_guessing() {
        let berlin = Some("Europe/Berlin");
        assert!(check_convert("2026-11-24T15:00", None, "UTC").starts_with("error: The time has no offset"));
        assert!(check_convert("2026-11-24T15:00Z", berlin, "UTC").contains("offset of its own"));
        assert!(check_convert("2026-03-29T02:30", berlin, "UTC").contains("example 2026-03-29T03:30+02:00"));
        assert!(check_convert("2026-10-25T02:30", berlin, "UTC").contains("example 2026-10-25T02:30+02:00"));
        assert!(check_convert("tomorrow", berlin, "UTC").contains("is not a time"));
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        let days = |from: &str, to: &str| {
            let args = DaysBetween { from: from.to_owned(), to: to.to_owned() };
            days_between(&Context::example(), args).unwrap().to_string()
        };
        assert_eq!(
            days("2026-11-24", "2026-12-31"),
            "37 days from Tuesday 2026-11-24 to Thursday 2026-12-31"
        );
        assert_eq!(days("2024-02-28", "2024-03-01"), "2 days from Wednesday 2024-02-28 to Friday 2024-03-01");
        assert_eq!(days("2026-01-02", "2026-01-01"), "-1 day from Friday 2026-01-02 to Thursday 2026-01-01");
        assert!(days("2026-02-30", "2026-03-01").contains("2026-02-30"));
    }
}
