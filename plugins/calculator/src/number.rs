//! A number that is exact until an irrational function makes it approximate, and its text.

use num_bigint::{BigInt, BigUint};
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

pub(crate) type Result<T> = std::result::Result<T, String>;

/// Digits of a rounded result; a double has no more.
const SIGNIFICANT: u8 = 15;
/// A fraction with more digits than this helps nobody.
const LONGEST_FRACTION: usize = 60;
const LONGEST_EXACT: usize = 500;
/// About 20,000 digits: far more than shown, and quick to calculate with.
const MOST_BITS: u64 = 65_536;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Exact(BigRational),
    Approximate(f64),
}

/// A number as text.
pub(crate) struct Shown {
    pub(crate) decimal: String,
    /// Whether `decimal` is the whole truth.
    pub(crate) exact: bool,
    /// The exact value, where it is not `decimal` and short enough to read.
    pub(crate) fraction: Option<String>,
}

impl From<BigInt> for Number {
    fn from(integer: BigInt) -> Self {
        Self::Exact(integer.into())
    }
}

impl Number {
    pub(crate) fn approximate(value: f64) -> Result<Self> {
        if value.is_finite() { Ok(Self::Approximate(value)) } else { Err(too_large()) }
    }

    pub(crate) fn to_f64(&self) -> f64 {
        match self {
            Self::Exact(exact) => exact.to_f64().unwrap_or(f64::NAN),
            Self::Approximate(value) => *value,
        }
    }

    /// An approximate number as the exact value of its double.
    pub(crate) fn to_rational(&self) -> BigRational {
        match self {
            Self::Exact(exact) => exact.clone(),
            Self::Approximate(value) => BigRational::from_float(*value).unwrap_or_else(BigRational::zero),
        }
    }

    pub(crate) fn as_integer(&self) -> Option<&BigInt> {
        match self {
            Self::Exact(exact) if exact.is_integer() => Some(exact.numer()),
            Self::Exact(_) | Self::Approximate(_) => None,
        }
    }

    /// Refuses what has become too large to go on with.
    pub(crate) fn checked(self) -> Result<Self> {
        match &self {
            Self::Exact(exact) if exact.numer().bits().max(exact.denom().bits()) > MOST_BITS => {
                Err(too_large())
            }
            Self::Exact(_) => Ok(self),
            Self::Approximate(value) => Self::approximate(*value),
        }
    }

    pub(crate) fn add(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a + b, |a, b| a + b)
    }

    pub(crate) fn subtract(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a - b, |a, b| a - b)
    }

    pub(crate) fn multiply(&self, other: &Self) -> Result<Self> {
        self.combine(other, |a, b| a * b, |a, b| a * b)
    }

    pub(crate) fn divide(&self, other: &Self) -> Result<Self> {
        other.refuse_zero()?;
        self.combine(other, |a, b| a / b, |a, b| a / b)
    }

    /// Division rounded down.
    pub(crate) fn quotient(&self, other: &Self) -> Result<Self> {
        other.refuse_zero()?;
        self.combine(other, |a, b| (a / b).floor(), |a, b| (a / b).floor())
    }

    /// The remainder that goes with [`quotient`](Self::quotient): it has the sign of the divisor.
    pub(crate) fn remainder(&self, other: &Self) -> Result<Self> {
        self.subtract(&self.quotient(other)?.multiply(other)?)
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Self::Exact(exact) => Self::Exact(-exact),
            Self::Approximate(value) => Self::Approximate(-value),
        }
    }

    pub(crate) fn power(&self, exponent: &Self) -> Result<Self> {
        if self.is_zero() && exponent.to_f64() < 0.0 {
            return Err(division_by_zero());
        }
        if let (Self::Exact(base), Some(exponent)) = (self, exponent.as_integer()) {
            return integer_power(base, exponent);
        }
        if let (Self::Exact(base), Self::Exact(fraction)) = (self, exponent)
            && let Some(degree) = fraction.denom().to_u32()
            && let Some(root) = exact_root(base, degree)
        {
            return integer_power(&root, fraction.numer());
        }
        if self.to_f64() < 0.0 && exponent.as_integer().is_none() {
            return Err("A negative number to a fractional power is not a real number.".to_owned());
        }
        Self::approximate(self.to_f64().powf(exponent.to_f64()))
    }

    pub(crate) fn root(&self, degree: u32) -> Result<Self> {
        if self.to_f64() < 0.0 && degree.is_even() {
            return Err("The square root of a negative number is not a real number.".to_owned());
        }
        if let Self::Exact(exact) = self
            && let Some(root) = exact_root(exact, degree)
        {
            return Ok(Self::Exact(root));
        }
        let value = self.to_f64();
        Self::approximate(if degree == 2 { value.sqrt() } else { value.cbrt() })
    }

    pub(crate) fn factorial(&self) -> Result<Self> {
        let wrong = || "A factorial needs a whole number that is not negative.".to_owned();
        let n = self.as_integer().filter(|n| !n.is_negative()).ok_or_else(wrong)?;
        let n = n.to_u32().filter(|n| *n <= 5000).ok_or_else(too_large)?;
        Self::from((2..=n).map(BigInt::from).product::<BigInt>()).checked()
    }

    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Exact(exact) => exact.is_zero(),
            Self::Approximate(value) => *value == 0.0,
        }
    }

    pub(crate) fn show(&self) -> Shown {
        let value = self.to_rational();
        let Self::Exact(exact) = self else {
            return Shown { decimal: rounded(&value), exact: false, fraction: None };
        };
        if let Some(decimal) = terminating(exact).filter(|text| text.len() <= LONGEST_EXACT) {
            return Shown { decimal, exact: true, fraction: None };
        }
        let fraction = exact.to_string();
        let is_short = fraction.len() <= LONGEST_FRACTION && !exact.is_integer();
        Shown { decimal: rounded(exact), exact: false, fraction: is_short.then_some(fraction) }
    }

    fn combine(
        &self,
        other: &Self,
        exactly: impl Fn(&BigRational, &BigRational) -> BigRational,
        roughly: impl Fn(f64, f64) -> f64,
    ) -> Result<Self> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => Self::Exact(exactly(a, b)).checked(),
            _ => Self::approximate(roughly(self.to_f64(), other.to_f64())),
        }
    }

    fn refuse_zero(&self) -> Result<()> {
        if self.is_zero() { Err(division_by_zero()) } else { Ok(()) }
    }
}

pub(crate) fn too_large() -> String {
    "The result is too large to calculate exactly; ask for a smaller one, or for its logarithm.".to_owned()
}

fn division_by_zero() -> String {
    "Division by zero: check the divisor.".to_owned()
}

fn integer_power(base: &BigRational, exponent: &BigInt) -> Result<Number> {
    let size = base.numer().bits().max(base.denom().bits());
    let is_trivial = base.is_zero() || base.abs().is_one();
    // Checked before it is calculated: this is how a short expression would use up all memory.
    let exponent = match exponent.to_i32() {
        Some(exponent) if is_trivial || size * u64::from(exponent.unsigned_abs()) <= MOST_BITS => exponent,
        None if is_trivial => i32::from(exponent.is_odd()),
        Some(_) | None => return Err(too_large()),
    };
    Ok(Number::Exact(Pow::pow(base, exponent)))
}

/// The root, if it is rational.
fn exact_root(value: &BigRational, degree: u32) -> Option<BigRational> {
    if degree == 0 || degree > 64 || (value.is_negative() && degree.is_even()) {
        return None;
    }
    let root = BigRational::new_raw(value.numer().nth_root(degree), value.denom().nth_root(degree));
    (Pow::pow(&root, degree) == *value).then_some(root)
}

/// All digits of a number whose decimal expansion ends, unless it is a long way to the first of them.
fn terminating(value: &BigRational) -> Option<String> {
    let mut rest = value.denom().magnitude().clone();
    let mut places = 0_u32;
    for prime in [2_u32, 5] {
        let mut count = 0_u32;
        while (&rest % prime).is_zero() {
            rest /= prime;
            count += 1;
            if count > 40 {
                return None;
            }
        }
        places = places.max(count);
    }
    if !rest.is_one() {
        return None;
    }
    let scaled = (value * BigRational::from(BigInt::from(10).pow(places))).to_integer();
    Some(with_point(scaled.is_negative(), &scaled.magnitude().to_string(), places as usize))
}

/// The number to [`SIGNIFICANT`] digits, in scientific notation where it is very large or small.
fn rounded(value: &BigRational) -> String {
    if value.is_zero() {
        return "0".to_owned();
    }
    let length = |number: &BigUint| i64::try_from(number.to_string().len()).unwrap_or(i64::MAX);
    // Right or one too large: the exponent of the first digit.
    let mut exponent = length(value.numer().magnitude()) - length(value.denom().magnitude());
    if power_of_ten(exponent) > value.abs() {
        exponent -= 1;
    }
    let last = i64::from(SIGNIFICANT) - 1;
    let scaled = (value.abs() * power_of_ten(last - exponent)).round().to_integer();
    let mut digits = scaled.to_string();
    // 9.99… was rounded up to 10.
    if digits.len() > usize::from(SIGNIFICANT) {
        exponent += 1;
    }
    digits.truncate(digits.trim_end_matches('0').len().max(1));
    let sign = if value.is_negative() { "-" } else { "" };
    match exponent {
        0..=20 => {
            let places = digits.len().saturating_sub(usize::try_from(exponent).unwrap_or(0) + 1);
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            let padded = format!("{digits:0<whole$}");
            with_point(value.is_negative(), &padded, places)
        }
        -6..=-1 => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
            format!("{sign}0.{zeros}{digits}")
        }
        _ if digits.len() == 1 => format!("{sign}{digits}e{exponent}"),
        _ => format!("{sign}{}.{}e{exponent}", &digits[..1], &digits[1..]),
    }
}

fn power_of_ten(exponent: i64) -> BigRational {
    let power = BigInt::from(10).pow(u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX));
    if exponent < 0 { BigRational::new(BigInt::one(), power) } else { power.into() }
}

fn with_point(is_negative: bool, digits: &str, places: usize) -> String {
    let sign = if is_negative { "-" } else { "" };
    let width = places + 1;
    let digits = format!("{digits:0>width$}");
    let (whole, rest) = digits.split_at(digits.len() - places);
    if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}
