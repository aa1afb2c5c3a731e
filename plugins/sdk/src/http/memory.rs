//! No network at all: a unit test says what is answered.

use std::cell::RefCell;

use super::{Error, Request, Response};

type Answer = Box<dyn Fn(&Request) -> Result<Response, Error>>;

thread_local! {
    static ANSWER: RefCell<Option<Answer>> = RefCell::default();
}

/// For unit tests: what requests of this test's thread are answered with. Without it they are denied.
pub fn answer_with(answer: impl Fn(&Request) -> Result<Response, Error> + 'static) {
    ANSWER.set(Some(Box::new(answer)));
}

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    super::split(&request.url)?;
    let mut response =
        ANSWER.with_borrow(|answer| answer.as_ref().map_or(Err(Error::Denied), |it| it(request)))?;
    response.is_cut |= response.body.len() > request.max_body;
    response.body.truncate(request.max_body);
    Ok(response)
}
