//! Limits on the complexity of external SQL: a user's query, or an expression in a table mapping.
//! The engine walks an expression recursively several times. Some passes take time that grows with the square or the
//! cube of its depth. 2,000 terms joined by `+` overflow a stack of 8 MiB, and 1,000 take seconds. So the depth is
//! measured on the tokens before parsing, and SQL beyond a limit is refused. Lists of values, as in `IN (…)`, are
//! flat and not limited.

use std::fmt;

use datafusion::sql::sqlparser::dialect::DuckDbDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// The most operators in the chains of one expression, such as `a OR b OR c`, including the expressions in its
/// parentheses.
pub const CHAINED_OPERATORS: usize = 500;
/// The most operators in one SQL text.
pub const OPERATORS: usize = 5_000;
/// The most nested parentheses and brackets.
pub const NESTING: usize = 50;
/// The most nested lambdas. The engine's planning time doubles with each.
pub const NESTED_LAMBDAS: usize = 6;
/// The most `SELECT`s, joins and set operations in one SQL text.
pub const CLAUSES: usize = 150;

/// A limit that a text exceeds, and the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    limit: usize,
    what: &'static str,
    advice: &'static str,
    line: u64,
    column: u64,
}

impl Exceeded {
    /// Returns what to do about it.
    pub fn advice(&self) -> &'static str {
        self.advice
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { limit, what, line, column, .. } = self;
        write!(f, "more than {limit} {what}, at line {line}, column {column} of the SQL")
    }
}

/// Checks SQL and returns the number of its operators. Text that is not SQL passes, because the parser reports its
/// errors.
///
/// # Errors
/// The SQL exceeds a limit. The error has the first.
pub fn check(sql: &str) -> Result<usize, Exceeded> {
    let Ok(tokens) = Tokenizer::new(&DuckDbDialect {}, sql).tokenize_with_location() else {
        return Ok(0);
    };
    let mut text = Text { levels: vec![Level::default()], operators: 0, clauses: 0 };
    for TokenWithSpan { token, span } in &tokens {
        text.add(token).map_err(|(limit, what, advice)| {
            let Location { line, column } = span.start;
            Exceeded { limit, what, advice, line, column }
        })?;
    }
    Ok(text.operators)
}

type Limit = (usize, &'static str, &'static str);

/// The state after the tokens read so far.
struct Text {
    /// The open parentheses, from the outermost.
    levels: Vec<Level>,
    operators: usize,
    clauses: usize,
}

/// The part read of an expression within one pair of parentheses. Its depth is the sum of the three numbers.
#[derive(Default)]
struct Level {
    /// `AND`s, `OR`s and other operators between conditions.
    links: usize,
    /// Other operators in a row between two of those: now, and at most.
    run: usize,
    longest_run: usize,
    /// The depth of the expressions in its parentheses.
    within: usize,
    is_lambda: bool,
}

impl Level {
    fn depth(&self) -> usize {
        self.links + self.longest_run + self.within
    }
}

/// The effect of a token on the depth of its expression.
enum Role {
    Operand,
    Link,
    Operator,
    Open,
    Close,
    Lambda,
    /// Another expression begins.
    Next,
    /// Another clause begins, which counts separately.
    Clause,
}

impl Text {
    fn add(&mut self, token: &Token) -> Result<(), Limit> {
        const SPLIT: &str = "test for many values with `IN (…)`, or split the query";
        match role(token) {
            Role::Operand => return Ok(()),
            Role::Open => {
                self.levels.push(Level::default());
                if self.levels.len() > NESTING + 1 {
                    return Err((
                        NESTING,
                        "parentheses within one another",
                        "nest less deeply, for example with `WITH`",
                    ));
                }
            }
            Role::Close => {
                // The parser refuses an unmatched one.
                if self.levels.len() > 1
                    && let (Some(inner), Some(outer)) = (self.levels.pop(), self.levels.last_mut())
                {
                    outer.within = outer.within.max(inner.depth());
                }
            }
            Role::Lambda => {
                self.level().is_lambda = true;
                if self.levels.iter().filter(|level| level.is_lambda).count() > NESTED_LAMBDAS {
                    return Err((NESTED_LAMBDAS, "lambdas within one another", "nest less deeply"));
                }
            }
            Role::Next => self.next(),
            Role::Clause => {
                self.next();
                self.clauses += 1;
                if self.clauses > CLAUSES {
                    return Err((CLAUSES, "SELECTs, joins and set operations", "split the query"));
                }
            }
            Role::Link => {
                self.operators += 1;
                let level = self.level();
                (level.links, level.run) = (level.links + 1, 0);
            }
            Role::Operator => {
                self.operators += 1;
                let level = self.level();
                level.run += 1;
                level.longest_run = level.longest_run.max(level.run);
            }
        }
        if self.levels.iter().map(Level::depth).sum::<usize>() > CHAINED_OPERATORS {
            return Err((CHAINED_OPERATORS, "operators in one expression", SPLIT));
        }
        if self.operators > OPERATORS {
            return Err((OPERATORS, "operators", SPLIT));
        }
        Ok(())
    }

    /// Returns the innermost level. The outermost is never closed.
    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn next(&mut self) {
        *self.level() = Level { is_lambda: self.level().is_lambda, ..Level::default() };
    }
}

fn role(token: &Token) -> Role {
    match token {
        Token::Word(word) => match word.keyword {
            Keyword::AND | Keyword::OR | Keyword::WHEN | Keyword::XOR => Role::Link,
            Keyword::NOT
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::IN
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::CASE => Role::Operator,
            Keyword::SELECT | Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::JOIN => Role::Clause,
            Keyword::LAMBDA => Role::Lambda,
            Keyword::FROM | Keyword::WHERE | Keyword::HAVING | Keyword::GROUP | Keyword::ORDER | Keyword::ON => {
                Role::Next
            }
            _ => Role::Operand,
        },
        Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Whitespace(_)
        | Token::Period
        | Token::EOF => Role::Operand,
        Token::Comma | Token::SemiColon => Role::Next,
        Token::LParen | Token::LBracket | Token::LBrace => Role::Open,
        Token::RParen | Token::RBracket | Token::RBrace => Role::Close,
        Token::Arrow => Role::Lambda,
        _ => Role::Operator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> String {
        check(sql).unwrap_err().to_string()
    }

    /// Returns `count` copies of `term` with `separator` between them.
    fn chain(term: &str, separator: &str, count: usize) -> String {
        format!("SELECT {}", vec![term; count].join(separator))
    }

    #[test]
    fn what_is_deep_is_refused_however_it_is_written() {
        let many = CHAINED_OPERATORS + 2;
        for (term, separator) in [
            ("1", " OR "),
            ("a = 'x'", " AND "),
            ("a", "||"),
            ("1", " + "),
            ("a", " = "),
            ("a BETWEEN 1 AND 2", " AND "),
            ("f(a, b)", " * "),
            ("(a OR b)", " OR "),
        ] {
            let sql = chain(term, separator, many);
            assert!(
                refused(&sql).starts_with("more than 500 operators in one expression, at line 1, column "),
                "{sql}"
            );
            assert!(check(&chain(term, separator, CHAINED_OPERATORS / 3)).is_ok(), "{term}{separator}");
        }
        for part in ["::int", " IS NULL", " COLLATE x"] {
            assert!(
                refused(&format!("SELECT 1{}", part.repeat(many))).contains("operators in one expression"),
                "{part}"
            );
        }
        let cases = format!("SELECT CASE {} END", "WHEN a THEN 1 ".repeat(many));
        assert!(refused(&cases).contains("operators in one expression"));
        // Chains within a chain add up.
        let inner = vec!["a"; 300].join(" OR ");
        assert!(check(&format!("SELECT ({inner}), ({inner})")).is_ok());
        assert!(refused(&format!("SELECT a OR ({inner} AND (b OR {inner}))")).contains("in one expression"));
        assert!(refused(&chain("1", " UNION ALL SELECT ", CLAUSES + 1)).contains("more than 150 SELECTs, joins"));
        assert!(refused(&format!("SELECT 1 FROM a{}", " JOIN b".repeat(CLAUSES))).contains("SELECTs, joins"));
        for (open, close) in [("(", ")"), ("[", "]"), ("f(", ")"), ("(SELECT ", ")")] {
            let nested = |depth| format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth));
            assert!(refused(&nested(NESTING + 1)).contains("more than 50 parentheses within one another"), "{open}");
            assert!(check(&nested(NESTING)).is_ok(), "{open}");
        }
        let lambdas = |depth: usize| format!("SELECT {}x{}", "any(l, x -> ".repeat(depth), ")".repeat(depth));
        assert!(refused(&lambdas(NESTED_LAMBDAS + 1)).contains("more than 6 lambdas within one another"));
        assert!(check(&lambdas(NESTED_LAMBDAS)).is_ok());
        let rows = vec!["a + b + c"; OPERATORS].join(", ");
        assert!(refused(&format!("SELECT {rows}")).contains("more than 5000 operators, at line 1"));
    }

    #[test]
    fn what_is_long_and_flat_is_not() {
        let values = (0..20_000).map(|number| format!("'{number}'")).collect::<Vec<_>>().join(", ");
        assert_eq!(check(&format!("SELECT * FROM cloudtrail WHERE \"eventName\" IN ({values})")), Ok(2));
        assert_eq!(check("SELECT 'a OR b OR ((((' AS \"x + y\" -- OR OR OR\n"), Ok(0));
        assert_eq!(check("no SQL '"), Ok(0));
        assert_eq!(check(")))"), Ok(0));
    }

    #[test]
    fn the_place_is_told() {
        let sql = format!("SELECT 1\nWHERE {}", vec!["a"; CHAINED_OPERATORS + 2].join("\nOR "));
        assert_eq!(refused(&sql), "more than 500 operators in one expression, at line 503, column 1 of the SQL");
    }
}
