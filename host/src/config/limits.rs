//! What may be used, and what it costs: `[prices]`, `[budgets]` and `[rate_limit]` of the configuration file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Deserialize;

use crate::agent::ModelName;
use crate::budget::{Budgets, DayBudget, Price, micros};
use crate::http::RateLimit;
use crate::id::OrgId;

/// Per million tokens, in units of whatever currency all prices and limits are in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceTable {
    input_per_million: f64,
    output_per_million: f64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetsTable {
    #[serde(default)]
    org_day: DayTable,
    #[serde(default)]
    orgs: BTreeMap<String, DayTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the file's names")]
struct DayTable {
    max_runs: Option<u64>,
    max_input_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    max_cost: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimitTable {
    requests_per_minute: NonZeroU32,
    burst: Option<NonZeroU32>,
}

pub(super) fn budgets(
    prices: BTreeMap<String, PriceTable>,
    budgets: BudgetsTable,
) -> Result<Budgets, String> {
    let price = |(name, table): (String, PriceTable)| {
        let model: ModelName = name.parse().map_err(|error| format!("[prices.\"{name}\"]: {error}"))?;
        Ok((model.to_string(), table.check().map_err(|message| format!("[prices.\"{name}\"]: {message}"))?))
    };
    let org = |(name, table): (String, DayTable)| {
        let budget = table.check().map_err(|message| format!("[budgets.orgs.{name}]: {message}"))?;
        Ok((OrgId::from(name), budget))
    };
    Ok(Budgets {
        prices: prices.into_iter().map(price).collect::<Result<_, String>>()?,
        org_day: budgets.org_day.check().map_err(|message| format!("[budgets.org_day]: {message}"))?,
        orgs: budgets.orgs.into_iter().map(org).collect::<Result<_, String>>()?,
    })
}

impl PriceTable {
    fn check(self) -> Result<Price, String> {
        let of = |field: &str, value| micros(value).map_err(|message| format!("{field} {message}"));
        Ok(Price {
            input_micros: of("input_per_million", self.input_per_million)?,
            output_micros: of("output_per_million", self.output_per_million)?,
        })
    }
}

impl DayTable {
    fn check(self) -> Result<DayBudget, String> {
        let max_cost_micros = self.max_cost.map(micros).transpose();
        Ok(DayBudget {
            max_runs: self.max_runs,
            max_input_tokens: self.max_input_tokens,
            max_output_tokens: self.max_output_tokens,
            max_cost_micros: max_cost_micros.map_err(|message| format!("max_cost {message}"))?,
        })
    }
}

impl From<RateLimitTable> for RateLimit {
    fn from(table: RateLimitTable) -> Self {
        Self {
            per_minute: table.requests_per_minute,
            burst: table.burst.unwrap_or(table.requests_per_minute),
        }
    }
}
