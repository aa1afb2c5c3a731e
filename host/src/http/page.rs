//! Pages of lists: the query that asks for one, and the shape that every list answers with.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::problem::{InvalidParam, Problem};

/// Entries on a page where the caller does not say.
const DEFAULT_SIZE: u32 = 20;
const MAX_SIZE: u32 = 200;

/// Which page is asked for: `page` and `size` of the query string. Take it beside the extractor of a list's
/// own filters: both read the same query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// From 0.
    #[param(rename = "page", required = false, default = 0)]
    pub(crate) number: u32,
    /// Entries on a page.
    #[param(required = false, default = 20, minimum = 1, maximum = 200)]
    pub(crate) size: u32,
}

impl PageQuery {
    /// How many entries come before the page.
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.number) * u64::from(self.size)
    }

    fn parse(words: &Words) -> Result<Self, Problem> {
        let mut invalid = Vec::new();
        let number = match words.page.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(number)) => number,
            Some(Err(_)) => {
                let most = u32::MAX;
                invalid.push(InvalidParam::new("page", format!("must be a number from 0 to {most}")));
                0
            }
        };
        let size = match words.size.as_deref().map(str::parse) {
            None => DEFAULT_SIZE,
            Some(Ok(size)) if (1..=MAX_SIZE).contains(&size) => size,
            Some(_) => {
                invalid.push(InvalidParam::new("size", format!("must be a number from 1 to {MAX_SIZE}")));
                DEFAULT_SIZE
            }
        };
        if invalid.is_empty() { Ok(Self { number, size }) } else { Err(Problem::invalid(&invalid)) }
    }
}

#[derive(Default, Deserialize)]
struct Words {
    page: Option<String>,
    size: Option<String>,
}

impl FromRequestParts<App> for PageQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let words = Query::<Words>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::invalid_param("page", "page and size may be given once each"))?;
        Self::parse(&words.0)
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(crate) struct Page<T> {
    content: Vec<T>,
    page: PageFigures,
    // The same again, where older clients look for it.
    total_elements: u64,
    total_pages: u64,
    size: u32,
    number: u32,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PageFigures {
    size: u32,
    /// The page's number, from 0.
    number: u32,
    total_elements: u64,
    total_pages: u64,
}

impl<T> Page<T> {
    /// `total` counts the entries of the whole list.
    pub(crate) fn new(content: Vec<T>, total: u64, query: PageQuery) -> Self {
        let PageQuery { number, size } = query;
        let total_pages = total.div_ceil(u64::from(size));
        Self {
            content,
            page: PageFigures { size, number, total_elements: total, total_pages },
            total_elements: total,
            total_pages,
            size,
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(page: Option<&str>, size: Option<&str>) -> Result<PageQuery, Problem> {
        PageQuery::parse(&Words { page: page.map(str::to_owned), size: size.map(str::to_owned) })
    }

    #[test]
    fn a_page_says_what_it_is_part_of() {
        let query = parse(Some("2"), Some("10")).unwrap();
        assert_eq!(query.offset(), 20);
        let page = Page::new(vec!["a"], 21, query);
        assert_eq!(
            serde_json::to_value(page).unwrap(),
            json!({
                "content": ["a"],
                "page": {"size": 10, "number": 2, "totalElements": 21, "totalPages": 3},
                "totalElements": 21, "totalPages": 3, "size": 10, "number": 2,
            })
        );
        let empty = Page::<()>::new(Vec::new(), 0, parse(None, None).unwrap());
        assert_eq!((empty.size, empty.total_pages), (20, 0));
    }

    #[test]
    fn sizes_and_numbers_out_of_range_are_refused() {
        for (page, size) in [("-1", "20"), ("x", "20"), ("0", "0"), ("0", "201"), ("", ""), ("0", "1.5")] {
            assert!(parse(Some(page), Some(size)).is_err(), "{page} {size}");
        }
        // Far beyond the last page is an empty page.
        let far = parse(Some("4294967295"), Some("200")).unwrap();
        assert_eq!(far.offset(), 858_993_459_000);
    }
}
