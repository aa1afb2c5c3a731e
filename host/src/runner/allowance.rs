//! Budgets at work: asked before each call to a model and before each call of a tool.

use super::Runner;
use super::drive::DriveError;
use crate::budget::{Day, Reached};
use crate::event::Failure;
use crate::run::{Run, budget_exceeded};
use crate::session::Reply;

impl Runner {
    /// Why the run may not ask its model again.
    pub(super) async fn model_forbidden(&self, run: &Run) -> Result<Option<Failure>, DriveError> {
        let max_steps = run.spec().agent.options.max_steps;
        if run.model_calls() >= max_steps {
            return Ok(Some(budget_exceeded("maxSteps", max_steps)));
        }
        self.spending_forbidden(run).await
    }

    /// The same without the number of steps: a follow-up call is none.
    pub(super) async fn spending_forbidden(&self, run: &Run) -> Result<Option<Failure>, DriveError> {
        match run.spec().agent.budget.forbids_model(run.spent()) {
            Some(reached) => Ok(Some(reached.into())),
            None => Ok(self.day_forbids(run).await?.map(Failure::from)),
        }
    }

    /// Why the run may not call another tool.
    pub(super) async fn tool_forbidden(&self, run: &Run) -> Result<Option<Failure>, DriveError> {
        match run.spec().agent.budget.forbids_tool(run.spent()) {
            Some(reached) => Ok(Some(reached.into())),
            None => Ok(self.day_forbids(run).await?.map(Failure::from)),
        }
    }

    /// With what the reply costs now.
    pub(super) fn priced(&self, run: &Run, reply: Reply) -> Reply {
        let cost_micros = self.budgets.cost_micros(&run.spec().agent.model.to_string(), reply.tokens);
        Reply { cost_micros, ..reply }
    }

    async fn day_forbids(&self, run: &Run) -> Result<Option<Reached>, DriveError> {
        let budget = self.budgets.of_org(&run.spec().owner.org);
        if budget.is_unlimited() {
            return Ok(None);
        }
        let Some(usage) = self.store.day_usage(&run.spec().id, Day::of(self.clock.now())).await? else {
            return Ok(None);
        };
        let first = if run.model_calls() == 0 { budget.forbids_run(&usage) } else { None };
        Ok(first.or_else(|| budget.forbids_call(&usage)))
    }
}
