//! Reads an expression and calculates it on the way: precedence climbing over a list of tokens.
//!
//! From loose to tight: `+ -`, then `* / // mod of`, then a sign, then `^`, then `!` and `%`.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Pow;

use crate::{
    functions,
    number::{Number, Result, too_large},
};

const LONGEST: usize = 1000;
/// The guest's stack is small; nobody nests deeper on purpose.
const DEEPEST: usize = 60;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(Number),
    Name(String),
    /// `+ - * / // ^ ! % ( ) ,` with the variants of writing folded into these.
    Sign(&'static str),
}

/// A value and whether it was written as a percentage just now (`5%`), which is what makes `100 + 5%`
/// ambiguous.
struct Operand {
    value: Number,
    is_percent: bool,
}

struct Parser {
    /// Each with the position of its first character, counted from 1.
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

pub(crate) fn evaluate(text: &str) -> Result<Number> {
    if text.chars().count() > LONGEST {
        return Err(format!("The expression has more than {LONGEST} characters: split it."));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err("The expression is empty.".to_owned());
    }
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let operand = parser.sum()?;
    match parser.peek() {
        None => Ok(operand.value),
        Some(_) => Err(parser.unexpected()),
    }
}

impl Parser {
    fn sum(&mut self) -> Result<Operand> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("The expression is nested too deeply: calculate a part of it first.".to_owned());
        }
        let mut left = self.product()?;
        while let Some(sign) = self.take(&["+", "-"]) {
            let right = self.product()?;
            // Of one, both readings are the same.
            let is_one = left.value == Number::from(BigInt::from(1));
            if right.is_percent && !left.is_percent && !is_one {
                return Err(percent_of_what(&left.value, sign, &right.value));
            }
            left = Operand {
                value: if sign == "+" {
                    left.value.add(&right.value)
                } else {
                    left.value.subtract(&right.value)
                }?,
                is_percent: left.is_percent && right.is_percent,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Result<Operand> {
        let mut left = self.signed()?;
        loop {
            let operation = match self.peek() {
                Some(Token::Sign("*")) => Number::multiply,
                Some(Token::Sign("/")) => Number::divide,
                Some(Token::Sign("//")) => Number::quotient,
                // Percent is taken as a postfix before; what is left over stands before an operand.
                Some(Token::Sign("%")) => Number::remainder,
                Some(Token::Name(name)) if name == "mod" => Number::remainder,
                Some(Token::Name(name)) if name == "of" => Number::multiply,
                _ => return Ok(left),
            };
            self.next += 1;
            let right = self.signed()?;
            left = Operand { value: operation(&left.value, &right.value)?, is_percent: false };
        }
    }

    fn signed(&mut self) -> Result<Operand> {
        let mut is_negative = false;
        let mut signs = 0;
        while let Some(sign) = self.take(&["-", "+"]) {
            is_negative ^= sign == "-";
            signs += 1;
        }
        if self.depth + signs > DEEPEST {
            return Err("The expression is nested too deeply: it has too many signs in a row.".to_owned());
        }
        let operand = self.power()?;
        let value = if is_negative { operand.value.negate() } else { operand.value };
        Ok(Operand { value, ..operand })
    }

    fn power(&mut self) -> Result<Operand> {
        let base = self.postfix()?;
        if self.take(&["^"]).is_none() {
            return Ok(base);
        }
        // Through `signed`, so that `2^-1` and `2^3^2` mean what they mean everywhere.
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("The expression is nested too deeply: it has too many powers in a row.".to_owned());
        }
        let exponent = self.signed()?;
        self.depth -= 1;
        Ok(Operand { value: base.value.power(&exponent.value)?, is_percent: false })
    }

    fn postfix(&mut self) -> Result<Operand> {
        let mut operand = Operand { value: self.atom()?, is_percent: false };
        loop {
            if self.take(&["!"]).is_some() {
                operand = Operand { value: operand.value.factorial()?, is_percent: false };
            } else if self.peek() == Some(&Token::Sign("%")) && !self.starts_operand(self.next + 1) {
                self.next += 1;
                let value = operand.value.divide(&Number::from(BigInt::from(100)))?;
                operand = Operand { value, is_percent: true };
            } else {
                return Ok(operand);
            }
        }
    }

    fn atom(&mut self) -> Result<Number> {
        match self.peek().cloned() {
            Some(Token::Number(number)) => {
                self.next += 1;
                Ok(number)
            }
            Some(Token::Name(name)) if name != "mod" && name != "of" => {
                self.next += 1;
                self.named(&name)
            }
            Some(Token::Sign("(")) => {
                self.next += 1;
                let inner = self.sum()?;
                self.close()?;
                Ok(inner.value)
            }
            Some(_) => Err(self.unexpected()),
            None => Err("The expression ends where a number should follow.".to_owned()),
        }
    }

    fn named(&mut self, name: &str) -> Result<Number> {
        if self.take(&["("]).is_none() {
            let unknown = || {
                if functions::NAMES.split_whitespace().any(|known| known == name) {
                    format!("{name} is a function: write {name}(…).")
                } else {
                    format!("`{name}` is not a constant; there are pi, e and tau. Put in the number.")
                }
            };
            return functions::constant(name).ok_or_else(unknown);
        }
        let mut args = Vec::new();
        if self.peek() != Some(&Token::Sign(")")) {
            args.push(self.sum()?.value);
            while self.take(&[","]).is_some() {
                args.push(self.sum()?.value);
            }
        }
        self.close()?;
        functions::call(name, &args)
    }

    fn close(&mut self) -> Result<()> {
        match self.peek() {
            Some(Token::Sign(")")) => {
                self.next += 1;
                Ok(())
            }
            Some(_) => Err(self.unexpected()),
            None => Err("A `)` is missing at the end.".to_owned()),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self, signs: &[&str]) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                let sign = *sign;
                self.next += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn starts_operand(&self, index: usize) -> bool {
        match self.tokens.get(index) {
            Some((_, Token::Number(_) | Token::Sign("("))) => true,
            Some((_, Token::Name(name))) => name != "mod" && name != "of",
            Some((_, Token::Sign(_))) | None => false,
        }
    }

    fn unexpected(&self) -> String {
        let Some((position, token)) = self.tokens.get(self.next) else {
            return "The expression ends too early.".to_owned();
        };
        let ends_operand =
            |token: &Token| !matches!(token, Token::Sign(sign) if *sign != ")" && *sign != "!");
        match token {
            Token::Sign(",") => "A comma only separates the arguments of a function: write numbers with a \
                 decimal point and without thousands separators."
                .to_owned(),
            Token::Sign(sign) if *sign != "(" => {
                format!("`{sign}` at character {position} does not belong there.")
            }
            _ if self.next > 0 && ends_operand(&self.tokens[self.next - 1].1) => format!(
                "An operator is missing between the value before character {position} and the one there; \
                 write * to multiply."
            ),
            _ => format!("What stands at character {position} does not belong there."),
        }
    }
}

fn percent_of_what(left: &Number, sign: &str, right: &Number) -> String {
    let percent = right.multiply(&Number::from(BigInt::from(100))).map(|it| it.show().decimal);
    let (left, percent) = (left.show().decimal, percent.unwrap_or_default());
    let word = if sign == "+" { "more" } else { "less" };
    format!(
        "`{left} {sign} {percent}%` can be read in two ways: write {left} * (1 {sign} {percent}%) for \
         {percent} percent {word}, or {left} {sign} {percent}/100."
    )
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        let start = at;
        at += 1;
        let token = match first {
            _ if first.is_whitespace() => continue,
            '0'..='9' | '.' => {
                at = end_of_number(&chars, start);
                let digits: String = chars[start..at].iter().filter(|it| **it != '_').collect();
                Token::Number(number(&digits)?)
            }
            _ if first.is_alphabetic() => {
                while chars.get(at).is_some_and(|it| it.is_alphanumeric() || *it == '_') {
                    at += 1;
                }
                Token::Name(chars[start..at].iter().collect::<String>().to_lowercase())
            }
            '*' | '/' if chars.get(at) == Some(&first) => {
                at += 1;
                Token::Sign(if first == '*' { "^" } else { "//" })
            }
            _ => Token::Sign(sign(first).ok_or_else(|| {
                format!("`{first}` at character {} is not part of an arithmetic expression.", start + 1)
            })?),
        };
        tokens.push((start + 1, token));
    }
    Ok(tokens)
}

fn sign(first: char) -> Option<&'static str> {
    Some(match first {
        '+' => "+",
        '-' | '−' | '–' => "-",
        '*' | '×' | '·' | '⋅' => "*",
        '/' | '÷' => "/",
        '^' => "^",
        '!' => "!",
        '%' => "%",
        '(' | '[' => "(",
        ')' | ']' => ")",
        ',' | ';' => ",",
        _ => return None,
    })
}

/// Digits, points and an exponent; `2e` is a number and the constant, `2e3` an exponent.
fn end_of_number(chars: &[char], start: usize) -> usize {
    let is_digit = |at: usize| chars.get(at).is_some_and(|it| it.is_ascii_digit() || *it == '_');
    let mut at = start;
    while is_digit(at) || chars.get(at) == Some(&'.') {
        at += 1;
    }
    if matches!(chars.get(at), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(at + 1), Some('+' | '-')));
        if is_digit(at + 1 + sign) {
            at += 1 + sign;
            while is_digit(at) {
                at += 1;
            }
        }
    }
    at
}

fn number(text: &str) -> Result<Number> {
    let wrong = || format!("`{text}` is not a number.");
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: BigInt = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
    if exponent.abs() > 10_000 {
        return Err(too_large());
    }
    let places = i32::try_from(fraction.len()).map_err(|_| wrong())?;
    let scale = Pow::pow(&BigRational::from(BigInt::from(10)), exponent - places);
    Number::Exact(BigRational::from(digits) * scale).checked()
}
