//! The job text as a row of tokens, and the place in it that the parser has reached. Tokens come from `sqlparser`'s
//! tokenizer under Flink's rules for names; the grammar above it is ours.

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::error::{At, Problem};

/// Longest job text in bytes. Bounds the work of every step of a check.
pub const SQL_BYTES_MAX: usize = 64 * 1024;

/// The words that Flink 1.20's parser reserves: as names they must stand in backticks.
const RESERVED: &str = "ABS ALL ALLOCATE ALLOW ALTER AND ANY ARE ARRAY ARRAY_CONCAT_AGG ARRAY_MAX_CARDINALITY AS ASENSITIVE ASYMMETRIC AT \
    ATOMIC AUTHORIZATION AVG BEGIN BEGIN_FRAME BEGIN_PARTITION BETWEEN BIGINT BINARY BIT BLOB BOOLEAN BOTH BUCKETS BY \
    BYTES CALL CALLED CARDINALITY CASCADED CASE CAST CATALOGS CEIL CEILING CHAR CHARACTER CHARACTER_LENGTH CHAR_LENGTH \
    CHECK CLASSIFIER CLOB CLOSE COALESCE COLLATE COLLECT COLUMN COMMENT COMMIT CONDITION CONNECT CONSTRAINT CONTAINS \
    CONTINUOUS CONVERT CORR CORRESPONDING COUNT COVAR_POP COVAR_SAMP CREATE CROSS CUBE CUME_DIST CURRENT \
    CURRENT_CATALOG CURRENT_DATE CURRENT_DEFAULT_TRANSFORM_GROUP CURRENT_PATH CURRENT_ROLE CURRENT_ROW CURRENT_SCHEMA \
    CURRENT_TIME CURRENT_TIMESTAMP CURRENT_TRANSFORM_GROUP_FOR_TYPE CURRENT_USER CURSOR CYCLE DATABASES DATE DAY \
    DEALLOCATE DEC DECIMAL DECLARE DEFAULT DEFINE DELETE DENSE_RANK DEREF DESCRIBE DETERMINISTIC DISALLOW DISCONNECT \
    DISTINCT DISTRIBUTED DISTRIBUTION DOT DOUBLE DROP DYNAMIC EACH ELEMENT ELSE EMPTY END END_FRAME END_PARTITION \
    EQUALS ESCAPE EVERY EXCEPT EXEC EXECUTE EXISTS EXP EXPLAIN EXTEND EXTENDED EXTERNAL EXTRACT FALSE FETCH FILTER \
    FIRST_VALUE FLOAT FLOOR FOR FOREIGN FRAME_ROW FREE FRESHNESS FROM FULL FUNCTION FUNCTIONS FUSION GET GLOBAL GRANT \
    GROUP GROUPING GROUPS GROUP_CONCAT HASH HAVING HOLD HOUR IDENTITY ILIKE IMPORT IN INCLUDE INDICATOR INITIAL INNER \
    INOUT INSENSITIVE INSERT INT INTEGER INTERSECT INTERSECTION INTERVAL INTO IS JOIN JSON_ARRAY JSON_ARRAYAGG \
    JSON_EXISTS JSON_OBJECT JSON_OBJECTAGG JSON_QUERY JSON_VALUE LAG LANGUAGE LARGE LAST_VALUE LATERAL LEAD LEADING \
    LEFT LIKE LIKE_REGEX LIMIT LN LOCAL LOCALTIME LOCALTIMESTAMP LOWER MATCH MATCHES MATCH_NUMBER MATCH_RECOGNIZE \
    MATERIALIZED MAX MEASURES MEMBER MERGE METHOD MIN MINUS MINUTE MOD MODEL MODELS MODIFIES MODIFY MODULE MODULES \
    MONTH MULTISET NATIONAL NATURAL NCHAR NCLOB NEW NEXT NO NONE NORMALIZE NOT NTH_VALUE NTILE NULL NULLIF NUMERIC \
    OCCURRENCES_REGEX OCTET_LENGTH OF OFFSET OLD OMIT ON ONE ONLY OPEN OR ORDER OUT OUTER OVER OVERLAPS OVERLAY \
    PARAMETER PARTITION PATTERN PER PERCENT PERCENTILE_CONT PERCENTILE_DISC PERCENT_RANK PERIOD PERMUTE PIVOT PORTION \
    POSITION POSITION_REGEX POWER PRECEDES PRECISION PREPARE PREV PRIMARY PROCEDURE PROCEDURES RANGE RANK RAW READS \
    REAL RECURSIVE REF REFERENCES REFERENCING REFRESH REFRESH_MODE REGR_AVGX REGR_AVGY REGR_COUNT REGR_INTERCEPT \
    REGR_R2 REGR_SLOPE REGR_SXX REGR_SXY REGR_SYY RELEASE RENAME RESET RESULT RESUME RETURN RETURNS REVOKE RIGHT RLIKE \
    ROLLBACK ROLLUP ROW ROWS ROW_NUMBER RUNNING SAVEPOINT SCALA SCOPE SCROLL SEARCH SECOND SEEK SELECT SENSITIVE \
    SEPARATOR SESSION_USER SET SHOW SIMILAR SKIP SMALLINT SOME SPECIFIC SPECIFICTYPE SQL SQLEXCEPTION SQLSTATE \
    SQLWARNING SQRT START STATEMENT STATIC STDDEV_POP STDDEV_SAMP STREAM STRING STRING_AGG SUBMULTISET SUBSET \
    SUBSTRING SUBSTRING_REGEX SUCCEEDS SUM SUSPEND SYMMETRIC SYSTEM SYSTEM_TIME SYSTEM_USER TABLE TABLES TABLESAMPLE \
    THEN TIME TIMESTAMP TIMESTAMP_LTZ TIMEZONE_HOUR TIMEZONE_MINUTE TINYINT TO TRAILING TRANSLATE TRANSLATE_REGEX \
    TRANSLATION TREAT TRIGGER TRIM TRIM_ARRAY TRUE TRUNCATE UESCAPE UNION UNIQUE UNKNOWN UNNEST UNPIVOT UPDATE UPPER \
    UPSERT USE USER USING VALUE VALUES VALUE_OF VARBINARY VARCHAR VARYING VAR_POP VAR_SAMP VERSIONING VIEWS WATERMARK \
    WATERMARKS WHEN WHENEVER WHERE WIDTH_BUCKET WINDOW WITH WITHIN WITHOUT YEAR";

/// Flink's lexical rules: names of letters, digits, `_` and `$`, quoted with backticks; strings in single quotes.
#[derive(Debug)]
struct Flink;

impl Dialect for Flink {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
}

/// A place in the tokens of one job text. It always stands on a token: behind the last one there is an end mark.
#[derive(Debug)]
pub struct Cursor {
    tokens: Vec<(Token, At)>,
    next: usize,
}

impl Cursor {
    /// Splits a job text into tokens.
    ///
    /// # Errors
    /// The text is too long, or a string or comment in it does not end.
    pub fn new(sql: &str) -> Result<Self, Problem> {
        if sql.len() > SQL_BYTES_MAX {
            let message = format!("the job text has {} bytes, more than {SQL_BYTES_MAX}", sql.len());
            return Err(Problem::whole(message, "split the job's work over several streams"));
        }
        let spans = Tokenizer::new(&Flink, sql).tokenize_with_location().map_err(|error| {
            let at = At { line: error.location.line, column: error.location.column };
            at.problem(error.message, "close the string, the name or the comment that begins here")
        })?;
        let mut tokens = Vec::with_capacity(spans.len() + 1);
        let mut end = At { line: 1, column: 1 };
        for TokenWithSpan { token, span } in spans {
            let at = At { line: span.start.line, column: span.start.column };
            end = At { line: span.end.line, column: span.end.column };
            match token {
                Token::Whitespace(_) => {}
                // Two closing brackets of nested ROW types; no operator of Flink SQL is written like this.
                Token::ShiftRight => {
                    tokens.push((Token::Gt, at));
                    tokens.push((Token::Gt, At { column: at.column + 1, ..at }));
                }
                token => tokens.push((token, at)),
            }
        }
        tokens.push((Token::EOF, end));
        Ok(Self { tokens, next: 0 })
    }

    /// The token under the cursor.
    pub fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    /// The token `ahead` places further.
    pub fn peek_at(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.next + ahead).min(last)].0
    }

    /// Where the cursor stands.
    pub fn at(&self) -> At {
        self.tokens[self.next].1
    }

    /// Takes the token under the cursor. The end mark can be taken again and again.
    pub fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// Whether the token is this unquoted word.
    pub fn is_word(&self, word: &str) -> bool {
        is_word(self.peek(), word)
    }

    /// Whether the next tokens are these unquoted words.
    pub fn are_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| is_word(self.peek_at(ahead), word))
    }

    /// Takes the words if they are next.
    pub fn take_words(&mut self, words: &[&str]) -> bool {
        let found = self.are_words(words);
        if found {
            words.iter().for_each(|_| drop(self.take()));
        }
        found
    }

    /// Takes the word if it is next.
    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    /// Takes the token if it is next.
    pub fn take_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.take();
        }
        found
    }

    /// Takes this word.
    ///
    /// # Errors
    /// Something else is next.
    pub fn expect_word(&mut self, word: &str) -> Result<(), Problem> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    /// Takes this token.
    ///
    /// # Errors
    /// Something else is next.
    pub fn expect_token(&mut self, token: &Token) -> Result<(), Problem> {
        if self.take_token(token) { Ok(()) } else { Err(self.unexpected(&format!("'{token}'"))) }
    }

    /// Takes a name: an unreserved word, or anything in backticks.
    ///
    /// # Errors
    /// No name is next, or a reserved word.
    pub fn name(&mut self) -> Result<String, Problem> {
        let at = self.at();
        match self.peek() {
            Token::Word(word) if word.quote_style.is_none() && is_reserved(&word.value) => {
                let message = format!("{} is a reserved word", word.value);
                Err(at.problem(message, format!("write it in backticks: `{}`", word.value)))
            }
            Token::Word(word) => {
                let name = word.value.clone();
                self.take();
                Ok(name)
            }
            Token::DoubleQuotedString(text) => {
                Err(at.problem("names are not quoted with \"", format!("write `{text}`")))
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    /// Takes a string literal.
    ///
    /// # Errors
    /// Something else is next.
    pub fn text(&mut self) -> Result<String, Problem> {
        match self.peek() {
            Token::SingleQuotedString(text) => {
                let text = text.clone();
                self.take();
                Ok(text)
            }
            _ => Err(self.unexpected("a string in single quotes")),
        }
    }

    /// Takes a whole number between `min` and `max`.
    ///
    /// # Errors
    /// Something else is next.
    pub fn number(&mut self, min: u32, max: u32) -> Result<u32, Problem> {
        let number = match self.peek() {
            Token::Number(digits, false) => digits.parse().ok().filter(|n| (min..=max).contains(n)),
            _ => None,
        };
        match number {
            Some(number) => {
                self.take();
                Ok(number)
            }
            None => Err(self.unexpected(&format!("a whole number from {min} to {max}"))),
        }
    }

    /// The problem that something else than `wanted` stands here.
    pub fn unexpected(&self, wanted: &str) -> Problem {
        let found = match self.peek() {
            Token::EOF => "the text ends".to_owned(),
            token => format!("found {}", excerpt(&token.to_string())),
        };
        self.at().problem(format!("{found} where {wanted} is expected"), "")
    }

    /// Goes behind the next `;` that is not the one of a statement already left.
    pub fn skip_statement(&mut self) {
        while !matches!(self.peek(), Token::SemiColon | Token::EOF) {
            self.take();
        }
        self.take_token(&Token::SemiColon);
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn is_reserved(word: &str) -> bool {
    RESERVED.split(' ').any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// The beginning of a text, short enough for a message.
pub fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_or_in_backticks() {
        let mut cursor = Cursor::new("line `current` -- note\n\"x\" value").unwrap();
        assert_eq!(cursor.name().unwrap(), "line");
        assert_eq!(cursor.name().unwrap(), "current");
        assert!(cursor.name().unwrap_err().advice.contains("`x`"));
        cursor.take();
        let problem = cursor.name().unwrap_err();
        assert_eq!((problem.line, problem.column), (2, 5), "{problem}");
    }
}
