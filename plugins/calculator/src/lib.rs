//! A calculator for models: exact where possible, and never a silently wrong answer.
//!
//! Anything that could be read in two ways (`100 + 5%`, `1,000`, `2 3`) is refused with a text that says
//! what to write instead. That is why there is a small parser here and no calculator crate: the ones that
//! were tried guess, and a model believes the guess.

mod expression;
mod functions;
mod number;

use holdfast_plugin::{Context, Failure, Output, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DESCRIPTION: &str = "Calculates an arithmetic expression, exactly where possible. \
    Operators: + - * / ^ (or **), // (rounded down), mod (or %), postfix % (percent) and !, `20% of 80`. \
    Functions: sqrt cbrt abs sign floor ceil round(x, digits) trunc min max sum mean gcd lcm exp ln \
    log(x, base; 10 if left out) log2 sin cos tan asin acos atan atan2 sinh cosh tanh (radians) radians degrees. \
    Constants: pi e tau. Multiplication is always written with *, numbers without thousands separators.";

#[derive(Deserialize, JsonSchema)]
struct Evaluate {
    /// For example `(0.1 + 0.2) * 3`, `2^200`, `20% of 80` or `sqrt(2)`.
    #[schemars(length(min = 1, max = 1000))]
    expression: String,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Evaluation {
    expression: String,
    /// A decimal number, as text because it may have more digits than a JSON number keeps.
    result: String,
    /// Whether `result` is the exact value and not a rounded one.
    exact: bool,
    /// The exact value where `result` had to be rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<String>,
}

fn evaluate(_: &Context, args: Evaluate) -> Result<Output, Failure> {
    let value = match expression::evaluate(&args.expression) {
        Ok(value) => value,
        Err(problem) => return Ok(Output::error(problem)),
    };
    let shown = value.show();
    let text = match (&shown.fraction, shown.exact) {
        (Some(fraction), _) => format!("{fraction} ≈ {}", shown.decimal),
        (None, true) => shown.decimal.clone(),
        (None, false) => format!("≈ {}", shown.decimal),
    };
    Output::text(text).structured(&Evaluation {
        expression: args.expression,
        result: shown.decimal,
        exact: shown.exact,
        fraction: shown.fraction,
    })
}

holdfast_plugin::export! {
    Tool::new("evaluate", DESCRIPTION, evaluate)
        .title("Calculate")
        .read_only()
        .idempotent()
        .returns::<Evaluation>(),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(expression: &str) -> (String, bool) {
        let output = evaluate(&Context::example(), Evaluate { expression: expression.to_owned() }).unwrap();
        (output.to_string(), output.is_error())
    }

    #[track_caller]
    fn check(expression: &str, text: &str) {
        assert_eq!(run(expression), (text.to_owned(), false), "{expression}");
    }

    #[track_caller]
    fn refused(expression: &str, says: &str) {
        let (text, is_error) = run(expression);
        assert!(is_error && text.contains(says), "{expression}: {text}");
    }

    #[test]
    fn exact_arithmetic() {
        check("6*7", "42");
        check("0.1 + 0.2", "0.3");
        check("2^200", "1606938044258990275541962092341162602522202993782792835301376");
        check("1/3", "1/3 ≈ 0.333333333333333");
        check("1/3*3", "1");
        check("-7/2", "-3.5");
        check("1e3 + 1.5e-4", "1000.00015");
        check("1_000 × 2 ÷ 4 − 1", "499");
        check("10^-30", "0.000000000000000000000000000001");
        check("20!", "2432902008176640000");
        check("0.3333333333333333333333333333", "0.3333333333333333333333333333");
        check("10^30 / 7", "1000000000000000000000000000000/7 ≈ 1.42857142857143e29");
    }

    #[test]
    fn precedence() {
        check("2 + 3 * 4", "14");
        check("(2 + 3) * 4", "20");
        check("-2^2", "-4");
        check("2^-1", "0.5");
        check("2^3^2", "512");
        check("2**10 - 1", "1023");
        check("-(3)!", "-6");
        check("7 // 2 + 7 mod 4", "6");
    }

    #[test]
    fn percent_and_remainder() {
        check("20% of 80", "16");
        check("200 * 15%", "30");
        check("5% + 3%", "0.08");
        check("100 * (1 + 5%)", "105");
        check("17 % 5", "2");
        check("-5 mod 3", "1");
        check("17%(2+3)", "2");
        refused("100 + 5%", "100 * (1 + 5%)");
        refused("100 - 10%", "100 * (1 - 10%)");
    }

    #[test]
    fn functions() {
        check("sqrt(16)", "4");
        check("sqrt(1/4) + cbrt(27)", "3.5");
        check("sqrt(2)", "≈ 1.4142135623731");
        check("sin(1)", "≈ 0.841470984807897");
        check("sin(pi)", "≈ 0");
        check("sin(radians(30))", "≈ 0.5");
        check("log(1000)", "3");
        check("log(8, 2) + log2(1/4)", "1");
        check("ln(10)", "≈ 2.30258509299405");
        check("round(2.567, 2) + round(-2.5)", "-0.43");
        check("floor(-2.5) + ceil(2.1) + trunc(-2.9)", "-2");
        check("min(3, 1, 2) + max(1, 2, 3) + mean(1, 2) + sum(1, 2)", "8.5");
        check("gcd(12, 18) + lcm(4, 6)", "18");
        check("8^(1/3)", "2");
        check("2^0.5", "≈ 1.4142135623731");
        check("exp(0)", "1");
    }

    #[test]
    fn errors_say_what_to_write() {
        refused("1/0", "Division by zero");
        refused("5 mod 0", "Division by zero");
        refused("0^-1", "Division by zero");
        refused("2 +", "ends where a number");
        refused("(1+2", "`)` is missing");
        refused("1+2)", "`)` at character 4");
        refused("foo(3)", "no function `foo`");
        refused("x + 1", "`x` is not a constant");
        refused("2 3", "between");
        refused("2(3)", "between");
        refused("2pi", "between");
        refused("1,000 * 2", "without thousands separators");
        refused("min()", "min takes");
        refused("sqrt(1, 2)", "sqrt takes");
        refused("sqrt(-1)", "negative");
        refused("ln(0)", "positive");
        refused("(-8)^(1/2)", "negative");
        refused("2.5!", "factorial");
        refused("9^9^9^9", "too large");
        refused("100000!", "too large");
        refused("1e1000000", "too large");
        refused("tan(pi/2)", "tan");
        refused("5 > 3", "`>`");
        refused(&"(".repeat(500), "deeply");
        refused(&"-".repeat(900), "deeply");
        refused("", "empty");
    }

    #[test]
    fn long_results_are_shortened() {
        check("2^10000", "≈ 1.99506311688076e3010");
        check("1e-50", "1/100000000000000000000000000000000000000000000000000 ≈ 1e-50");
    }
}
