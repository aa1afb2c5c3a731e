//! The functions and constants of an expression.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use crate::number::{Number, Result};

pub(crate) const NAMES: &str = "sqrt cbrt abs sign floor ceil round trunc min max sum mean gcd lcm exp ln log \
    log2 log10 sin cos tan asin acos atan atan2 sinh cosh tanh radians degrees";

/// What rounding leaves of a zero of a sine, a cosine or a tangent.
const NOISE: f64 = 1e-15;

pub(crate) fn constant(name: &str) -> Option<Number> {
    match name {
        "pi" | "π" => Some(Number::Approximate(std::f64::consts::PI)),
        "tau" | "τ" => Some(Number::Approximate(std::f64::consts::TAU)),
        "e" => Some(Number::Approximate(std::f64::consts::E)),
        _ => None,
    }
}

pub(crate) fn call(name: &str, args: &[Number]) -> Result<Number> {
    match (name, args) {
        ("sqrt", [x]) => x.root(2),
        ("cbrt", [x]) => x.root(3),
        ("abs", [x]) => Ok(if x.to_f64() < 0.0 { x.clone().negate() } else { x.clone() }),
        ("sign", [x]) => Ok(Number::from(x.to_rational().signum().to_integer())),
        ("floor", [x]) => Ok(Number::from(x.to_rational().floor().to_integer())),
        ("ceil", [x]) => Ok(Number::from(x.to_rational().ceil().to_integer())),
        ("trunc", [x]) => Ok(Number::from(x.to_rational().trunc().to_integer())),
        ("round", [x]) => Ok(Number::from(x.to_rational().round().to_integer())),
        ("round", [x, digits]) => round(x, digits),
        ("min", [first, rest @ ..]) => Ok(pick(first, rest, |new, best| new < best)),
        ("max", [first, rest @ ..]) => Ok(pick(first, rest, |new, best| new > best)),
        ("sum", [first, rest @ ..]) => sum(first, rest),
        ("mean", [first, rest @ ..]) => sum(first, rest)?.divide(&Number::from(BigInt::from(args.len()))),
        ("gcd", [first, rest @ ..]) => whole(name, first, rest, Integer::gcd),
        ("lcm", [first, rest @ ..]) => whole(name, first, rest, Integer::lcm),
        ("exp", [x]) if x.is_zero() => Ok(Number::from(BigInt::one())),
        ("exp", [x]) => Number::approximate(x.to_f64().exp()),
        ("ln", [x]) => {
            positive(name, x)?;
            Number::approximate(x.to_f64().ln())
        }
        ("log" | "log10", [x]) => logarithm(x, 10),
        ("log2", [x]) => logarithm(x, 2),
        ("log", [x, base]) => match base.as_integer().and_then(ToPrimitive::to_u32) {
            Some(base) if base > 1 => logarithm(x, base),
            _ => {
                positive(name, x)?;
                positive(name, base)?;
                Number::approximate(x.to_f64().ln())?.divide(&Number::approximate(base.to_f64().ln())?)
            }
        },
        ("atan2", [y, x]) => Number::approximate(y.to_f64().atan2(x.to_f64())),
        (_, [x]) => of_double(name, x.to_f64()),
        _ => Err(wrong_count(name)),
    }
}

fn of_double(name: &str, x: f64) -> Result<Number> {
    let without_noise = |y: f64| if y.abs() < NOISE && x.abs() > 0.1 { 0.0 } else { y };
    let outside = || format!("{name} is defined from -1 to 1 only; its argument is {x}.");
    let value = match name {
        "sin" => without_noise(x.sin()),
        "cos" => without_noise(x.cos()),
        "tan" if x.cos().abs() < NOISE => return Err("tan is not defined there.".to_owned()),
        "tan" => without_noise(x.tan()),
        "asin" | "acos" if x.abs() > 1.0 => return Err(outside()),
        "asin" => x.asin(),
        "acos" => x.acos(),
        "atan" => x.atan(),
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        "radians" => x.to_radians(),
        "degrees" => x.to_degrees(),
        _ => return Err(wrong_count(name)),
    };
    Number::approximate(value)
}

/// Said of a known function with the wrong number of arguments, and of an unknown function.
fn wrong_count(name: &str) -> String {
    let count = match name {
        "min" | "max" | "sum" | "mean" | "gcd" | "lcm" => "one or more arguments",
        "round" => "one argument, or two: round(x, digits)",
        "log" => "one argument, or two: log(x, base)",
        "atan2" => "two arguments: atan2(y, x)",
        _ if NAMES.split_whitespace().any(|known| known == name) => "one argument",
        _ => return format!("There is no function `{name}`. These are known: {NAMES}."),
    };
    format!("{name} takes {count}.")
}

fn round(x: &Number, digits: &Number) -> Result<Number> {
    let digits = digits.as_integer().and_then(ToPrimitive::to_i32).filter(|digits| digits.abs() <= 100);
    let digits = digits.ok_or("round(x, digits) needs a whole number of digits from -100 to 100.")?;
    let scale = Pow::pow(&BigRational::from(BigInt::from(10)), digits);
    Ok(Number::Exact((x.to_rational() * &scale).round() / scale))
}

fn pick(first: &Number, rest: &[Number], is_better: fn(&BigRational, &BigRational) -> bool) -> Number {
    let better = |best: Number, new: &Number| {
        if is_better(&new.to_rational(), &best.to_rational()) { new.clone() } else { best }
    };
    rest.iter().fold(first.clone(), better)
}

fn sum(first: &Number, rest: &[Number]) -> Result<Number> {
    rest.iter().try_fold(first.clone(), |sum, x| sum.add(x))
}

fn whole(name: &str, first: &Number, rest: &[Number], of: fn(&BigInt, &BigInt) -> BigInt) -> Result<Number> {
    let integer = |x: &Number| x.as_integer().cloned().ok_or(format!("{name} needs whole numbers."));
    let start = integer(first)?.abs();
    let result = rest.iter().try_fold(start, |result, x| {
        let checked = Number::from(of(&result, &integer(x)?)).checked()?;
        checked.as_integer().cloned().ok_or_else(|| format!("{name} needs whole numbers."))
    });
    result.map(Number::from)
}

fn positive(name: &str, x: &Number) -> Result<()> {
    if x.to_f64() > 0.0 || x.to_rational().is_positive() {
        Ok(())
    } else {
        Err(format!("{name} needs a positive number."))
    }
}

/// Exact where the number is a whole power of the base.
fn logarithm(x: &Number, base: u32) -> Result<Number> {
    positive("log", x)?;
    let value = match x.to_f64() {
        finite if finite.is_finite() && finite > 0.0 => finite.ln(),
        // Too large or too small for a double: its parts are long integers.
        _ => logarithm_of(x.to_rational().numer()) - logarithm_of(x.to_rational().denom()),
    } / f64::from(base).ln();
    let exponent = BigInt::from(value.round().to_i64().unwrap_or(0));
    let power = Number::from(BigInt::from(base)).power(&Number::from(exponent.clone()));
    if matches!(x, Number::Exact(_)) && power.as_ref() == Ok(x) {
        return Ok(Number::from(exponent));
    }
    Number::approximate(value)
}

fn logarithm_of(integer: &BigInt) -> f64 {
    let shift = integer.bits().saturating_sub(1000);
    let top = (integer >> shift).to_f64().unwrap_or(f64::NAN);
    let top = if integer.is_zero() { f64::NAN } else { top };
    top.ln() + shift.to_f64().unwrap_or(0.0) * std::f64::consts::LN_2
}
