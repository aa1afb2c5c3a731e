//! What runs may use, and what that costs: pure values and their arithmetic.
//!
//! Money is counted in micros, millionths of whatever currency the price table is in, so that sums are
//! exact. Cost is worked out when a reply is recorded, with the prices of that moment. What a provider does
//! not report cannot be counted: it adds nothing, and the cost of its run is unknown. Limits are checked
//! before a call, so that a call under way may pass one by what it uses itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::OrgId;
use crate::session::Tokens;

const MICROS: f64 = 1_000_000.0;

/// Most units of the currency that a price or a limit may be.
const MOST: f64 = 1_000_000_000.0;

/// An amount in units of the currency as micros.
pub fn micros(amount: f64) -> Result<u64, String> {
    if !(0.0..=MOST).contains(&amount) {
        return Err(format!("must be from 0 to {MOST}, not {amount}"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, as just checked")]
    let micros = (amount * MICROS).round() as u64;
    Ok(micros)
}

/// Micros in units of the currency.
#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53 micros")]
pub fn units(micros: u64) -> f64 {
    micros as f64 / MICROS
}

/// What a run may use, beside its steps. None = as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    pub max_tool_calls: Option<u32>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub max_cost_micros: Option<u64>,
}

/// What a run has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub tool_calls: u32,
    pub tokens: Tokens,
    /// As far as it is known.
    pub cost_micros: u64,
}

/// A limit that has been reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    pub limit: &'static str,
    pub value: String,
}

impl Budget {
    /// What forbids another call to the model.
    pub fn forbids_model(&self, spent: &Spent) -> Option<Reached> {
        reached("maxInputTokens", spent.tokens.input.unwrap_or(0), self.max_input_tokens)
            .or_else(|| reached("maxOutputTokens", spent.tokens.output.unwrap_or(0), self.max_output_tokens))
            .or_else(|| reached_cost("maxCost", spent.cost_micros, self.max_cost_micros))
    }

    /// What forbids another call of a tool.
    pub fn forbids_tool(&self, spent: &Spent) -> Option<Reached> {
        let calls = self.max_tool_calls.map(u64::from);
        reached("maxToolCalls", u64::from(spent.tool_calls), calls).or_else(|| self.forbids_model(spent))
    }

    /// How many more calls of tools there may be.
    pub fn calls_left(&self, spent: &Spent) -> usize {
        self.max_tool_calls.map_or(usize::MAX, |most| most.saturating_sub(spent.tool_calls) as usize)
    }
}

/// What the runs of an organisation may use on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayBudget {
    pub max_runs: Option<u64>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub max_cost_micros: Option<u64>,
}

/// What they have used, seen from one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// The run's place among the runs of the day it was created on, from 1.
    pub ordinal: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_micros: u64,
}

impl DayBudget {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// What keeps a run from its first call. Those under way are not stopped by the number of later ones.
    pub fn forbids_run(&self, usage: &DayUsage) -> Option<Reached> {
        let earlier = usage.ordinal.saturating_sub(1);
        reached("orgDay.maxRuns", earlier, self.max_runs)
    }

    /// What forbids another call.
    pub fn forbids_call(&self, usage: &DayUsage) -> Option<Reached> {
        reached("orgDay.maxInputTokens", usage.input_tokens, self.max_input_tokens)
            .or_else(|| {
                let limit = "orgDay.maxOutputTokens";
                reached(limit, usage.output_tokens, self.max_output_tokens)
            })
            .or_else(|| reached_cost("orgDay.maxCost", usage.cost_micros, self.max_cost_micros))
    }
}

fn reached(limit: &'static str, used: u64, most: Option<u64>) -> Option<Reached> {
    let most = most.filter(|most| used >= *most)?;
    Some(Reached { limit, value: most.to_string() })
}

fn reached_cost(limit: &'static str, used: u64, most: Option<u64>) -> Option<Reached> {
    let most = most.filter(|most| used >= *most)?;
    Some(Reached { limit, value: units(most).to_string() })
}

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(i64);

impl Day {
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(86_400_000))
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i64 {
        self.0
    }
}

/// What a model's tokens cost, in micros per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub input_micros: u64,
    pub output_micros: u64,
}

impl Price {
    /// To the nearest micro; none where the provider did not report both counts.
    pub fn cost_micros(&self, tokens: Tokens) -> Option<u64> {
        let (input, output) = tokens.input.zip(tokens.output)?;
        let scaled = u128::from(input) * u128::from(self.input_micros)
            + u128::from(output) * u128::from(self.output_micros);
        Some(u64::try_from((scaled + 500_000) / 1_000_000).unwrap_or(u64::MAX))
    }
}

/// Prices, and the limits of organisations.
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    /// By the model's name, as an agent names it.
    pub prices: BTreeMap<String, Price>,
    pub org_day: DayBudget,
    /// In place of `org_day`.
    pub orgs: BTreeMap<OrgId, DayBudget>,
}

impl Budgets {
    pub fn of_org(&self, org: &OrgId) -> &DayBudget {
        self.orgs.get(org).unwrap_or(&self.org_day)
    }

    pub fn cost_micros(&self, model: &str, tokens: Tokens) -> Option<u64> {
        self.prices.get(model)?.cost_micros(tokens)
    }

    /// A limit on cost that nothing could be measured against, in words.
    pub fn unmeasurable(&self, model: &str, budget: &Budget, org: &OrgId) -> Option<String> {
        let limit = if budget.max_cost_micros.is_some() {
            "the agent has a max_cost"
        } else if self.of_org(org).max_cost_micros.is_some() {
            "the organisation's day has a max_cost"
        } else {
            return None;
        };
        if self.prices.contains_key(model) {
            return None;
        }
        Some(format!(
            "{limit}, and the model `{model}` has no price: add [prices.\"{model}\"] to the configuration file, or \
             choose a model that has one"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_a_millionth() {
        assert_eq!((micros(0.15), micros(0.0), micros(1e9)), (Ok(150_000), Ok(0), Ok(1_000_000_000_000_000)));
        for bad in [-0.1, f64::NAN, f64::INFINITY, 2e9] {
            assert!(micros(bad).is_err(), "{bad}");
        }
        assert_eq!(units(150_001).to_string(), "0.150001");
    }

    #[test]
    fn a_cost_is_known_only_with_both_counts() {
        let price = Price { input_micros: 150_000, output_micros: 600_000 };
        let tokens = |input, output| Tokens { input, output, reasoning: None };
        assert_eq!(price.cost_micros(tokens(Some(1_000_000), Some(1_000_000))), Some(750_000));
        assert_eq!(price.cost_micros(tokens(Some(10), Some(5))), Some(5), "4.5 rounds up");
        assert_eq!(
            price.cost_micros(tokens(Some(u64::MAX), Some(u64::MAX))),
            Some(13_835_058_055_282_163_711)
        );
        assert_eq!(price.cost_micros(tokens(Some(10), None)), None);
    }

    #[test]
    fn a_limit_is_reached_when_all_of_it_is_used() {
        let budget = Budget { max_tool_calls: Some(2), max_input_tokens: Some(10), ..Budget::default() };
        let spent = |tool_calls, input| Spent {
            tool_calls,
            tokens: Tokens { input: Some(input), ..Tokens::default() },
            cost_micros: 0,
        };
        assert_eq!(budget.forbids_tool(&spent(1, 9)), None);
        assert_eq!(budget.forbids_tool(&spent(2, 9)).unwrap().limit, "maxToolCalls");
        assert_eq!(budget.forbids_model(&spent(2, 9)), None, "it may still say what it found");
        assert_eq!(budget.forbids_model(&spent(0, 10)).unwrap().value, "10");
        assert_eq!((budget.calls_left(&spent(1, 0)), budget.calls_left(&spent(3, 0))), (1, 0));
    }

    #[test]
    fn days_change_at_midnight_utc() {
        let day = |millis| Day::of(Timestamp::from_millis(millis)).number();
        assert_eq!((day(-1), day(0), day(86_399_999), day(86_400_000)), (-1, 0, 0, 1));
    }
}
