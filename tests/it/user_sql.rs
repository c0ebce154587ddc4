//! User SQL: syntax of other engines, and errors.

use serde_json::json;
use tawny::error::{Error, Status};

use tawny::query::{self, Query};
use tawny::table::Table;
use tawny::time::Range;

use crate::oracle::RUNTIME;
use crate::places::{Places, answer, engine};
use crate::tables::records;

/// Returns the records of [`tables`], one of them with parameters.
fn places() -> Places {
    let mut records = records();
    records[0]["requestParameters"] = json!({"bucketName": "logs", "tags": ["first", "second"], "max": 5});
    Places::of(&records, 100)
}

fn refused(sql: &str, data: &dyn Table) -> Error {
    let query = Query { sql, rule: None, range: Range::default(), with_duplicates: false };
    RUNTIME.block_on(query::run(&engine(2), data, query)).map(|_| sql).unwrap_err()
}

#[test]
fn json_members_are_read_with_the_syntax_of_other_engines() {
    let issuer = "userIdentity.sessionContext.sessionIssuer.userName";
    let parameters = "FROM cloudtrail WHERE requestParameters IS NOT NULL";
    let root = "arn:aws:iam::444455556666:root";
    let queries = [
        ("SELECT userIdentity.arn FROM cloudtrail WHERE userIdentity.type = 'Root' LIMIT 1".to_owned(), root),
        ("SELECT c.userIdentity.arn FROM cloudtrail c WHERE userIdentity->>'type' = 'Root' LIMIT 1".to_owned(), root),
        ("SELECT userIdentity['arn'] FROM cloudtrail WHERE cloudtrail.userIdentity['type'] LIKE 'Roo%' LIMIT 1".to_owned(), root),
        ("SELECT userIdentity->>'arn' FROM cloudtrail WHERE userIdentity->>'type' LIKE 'Roo%' LIMIT 1".to_owned(), root),
        ("SELECT json_extract_scalar(userIdentity, '$.arn') FROM cloudtrail WHERE json_extract_scalar(userIdentity, '$.type') IN ('Root') LIMIT 1".to_owned(), root),
        ("SELECT count(*) FROM cloudtrail WHERE userIdentity->>'arn' IS NULL AND userIdentity->>'userName' IN ('bo', 'cy')".to_owned(), "4"),
        (format!("SELECT DISTINCT {issuer} FROM cloudtrail WHERE {issuer} IS NOT NULL"), "deploy"),
        ("SELECT DISTINCT cloudtrail.userIdentity->'sessionContext'->'sessionIssuer'->>'userName' FROM cloudtrail WHERE userIdentity.type = 'AssumedRole'".to_owned(), "deploy"),
        ("SELECT userIdentity.userName, count(*) FROM cloudtrail WHERE userIdentity.userName = 'bo' GROUP BY userIdentity.userName".to_owned(), "bo,2"),
        ("SELECT userIdentity.userName AS u, count(*) AS n FROM cloudtrail GROUP BY 1 HAVING count(*) > 3 ORDER BY n DESC, u".to_owned(), "anaya,4;,4"),
        ("SELECT \"userIdentity.userName\" AS a, userIdentity.userName AS b FROM cloudtrail WHERE userIdentity.userName = 'cy' LIMIT 1".to_owned(), "cy,cy"),
        (format!("SELECT requestParameters.bucketName, requestParameters.tags[1], requestParameters.max {parameters}"), "logs,first,5"),
        (format!("SELECT cloudtrail.requestParameters->'tags'->>1, json_extract_scalar(requestParameters, '$.tags[0]') {parameters}"), "second,first"),
        (format!("SELECT json_extract(requestParameters, '$.tags'), requestParameters.tags {parameters}"), r#"["first","second"],["first","second"]"#),
        ("SELECT count(DISTINCT userIdentity.sessionContext) FROM cloudtrail".to_owned(), "1"),
        ("SELECT u FROM (SELECT userIdentity.userName AS u, eventTime FROM cloudtrail) WHERE u = 'bo' ORDER BY eventTime LIMIT 1".to_owned(), "bo"),
        ("SELECT sum(CASE WHEN responseElements.ConsoleLogin = 'Success' THEN 1 ELSE 0 END) FROM cloudtrail".to_owned(), "1"),
        ("SELECT eventName FROM cloudtrail ORDER BY userIdentity.userName, eventTime LIMIT 1".to_owned(), "ConsoleLogin"),
    ];
    for (name, data) in &places().data {
        let data = data.as_ref();
        for (sql, expected) in &queries {
            let rows: Vec<String> = answer(sql, data, Range::default()).0.iter().map(|row| row.join(",")).collect();
            assert_eq!(rows.join(";"), *expected, "{sql} over {name}");
        }
    }
}

#[test]
fn json_member_columns_keep_the_name_in_the_query() {
    let places = places();
    let sql = "SELECT userIdentity.userName, requestParameters.tags[2] FROM cloudtrail";
    let query = Query { sql, rule: None, range: Range::default(), with_duplicates: false };
    let answer = RUNTIME.block_on(query::run(&engine(2), places.data[1].1.as_ref(), query)).unwrap().answer;
    let names: Vec<&String> = answer.schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["userIdentity.userName", "requestParameters.tags[1]"]);
}

#[test]
fn invalid_sql_exits_2_with_a_hint() {
    let places = places();
    for (sql, hint) in [
        ("SELECT eventname FROM cloudtrail", "did you mean `eventName`"),
        ("SELECT evntName FROM cloudtrail", "`eventName`"),
        ("SELECT useridentity.arn FROM cloudtrail", "did you mean `userIdentity`"),
        ("SELECT eventName.foo FROM cloudtrail", "userIdentity.arn"),
        ("SELECT json_extract_scalar(userIdentity, eventName) FROM cloudtrail", "text_at"),
        ("SELECT json_extract_scalar(userIdentity, '$.a[') FROM cloudtrail", "text_at"),
        ("SELECT nothing_like_it FROM cloudtrail", "CloudTrail's names"),
        ("SELECT no_such_function(eventName) FROM cloudtrail", "only SELECT is supported"),
        ("SELECT userIdentity->'arn' FROM cloudtrail", "`cloudtrail.userIdentity->'arn'`"),
        ("SELEC 1", "only SELECT is supported"),
        ("SELECT count(*) FROM cloudtrial", "the tables are cloudtrail"),
        ("SELECT count(*) FROM matches", "with `--rule`, matches"),
        ("SELECT eventTime + userIdentity FROM cloudtrail", "only SELECT is supported"),
    ] {
        for (name, data) in &places.data {
            let data = data.as_ref();
            let error = refused(sql, data);
            assert_eq!(error.status(), Status::Usage, "{sql} over {name}: {error}");
            let text = error.to_string();
            for engine in ["datafusion", "DataFusion", "Schema error", "Error during", "sql parser", "Valid fields"] {
                assert!(!text.contains(engine), "{sql}: {text}");
            }
            assert!(error.hint().is_some_and(|given| given.contains(hint)), "{sql}: {:?}", error.hint());
        }
    }
}

#[test]
fn sql_that_fails_at_run_time_exits_3() {
    for (name, data) in &places().data {
        let data = data.as_ref();
        let error = refused("SELECT CAST(eventName AS BIGINT) AS n FROM cloudtrail", data);
        assert_eq!(error.status(), Status::Incomplete, "{name}: {error}");
    }
}
