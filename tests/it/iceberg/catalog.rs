use std::collections::VecDeque;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tawny::rule::catalog::DEFAULT;

use super::writer::*;
use crate::http_server;
use crate::tables::*;

/// The answers of a catalog, by path and query.
type Answers = Arc<Mutex<Vec<(String, VecDeque<(u16, String)>)>>>;

/// A REST catalog that answers these requests, and no others.
struct Catalog {
    url: String,
    answers: Answers,
    /// The paths that were asked for, with the header `authorization`.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Catalog {
    fn start() -> Catalog {
        let (answers, asked) = (Answers::default(), Arc::new(Mutex::new(Vec::new())));
        let (known, heard) = (Arc::clone(&answers), Arc::clone(&asked));
        let (url, runtime) = http_server::serve(1, move |request: Request<Incoming>| {
            let path = request.uri().to_string();
            let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap());
            heard.lock().unwrap().push((path.clone(), authorization.unwrap_or_default().to_owned()));
            let mut known = known.lock().unwrap();
            let answers = known.iter_mut().find(|(known, _)| *known == path).map(|(_, answers)| answers);
            let (status, body) = match answers {
                None => (404, json!({"error": {"message": "no such table", "code": 404}}).to_string()),
                Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
                Some(answers) => answers[0].clone(),
            };
            async move { Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap()) }
        });
        let url = format!("iceberg+{url}");
        Catalog { url, answers, asked, _runtime: runtime }
    }

    /// From now on answers requests for `path` with these statuses and bodies in turn, then always with the last.
    fn answer(&self, path: &str, answers: &[(u16, Value)]) {
        let answers = answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
        let mut known = self.answers.lock().unwrap();
        known.retain(|(other, _)| other != path);
        known.push((path.to_owned(), answers));
    }

    fn take_asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn hunt(&self, table: &str, token: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.args(["hunt", &format!("{}/{table}", self.url), "--rule", DEFAULT, "--format", "jsonl"]);
        command.env_remove("TAWNY_ICEBERG_TOKEN");
        if let Some(token) = token {
            command.env("TAWNY_ICEBERG_TOKEN", token);
        }
        crate::s3_server::ended(command.output().unwrap())
    }
}

#[test]
fn a_table_is_loaded_from_a_rest_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let live = table.data("a", &records());
    let old = table.commit(std::slice::from_ref(&live));
    let newer = table.data("b", &records()[..3]);
    table.commit(&[newer]);
    let catalog = Catalog::start();
    let config = json!({"defaults": {"prefix": "unused"}, "overrides": {"prefix": "catalogs/tenant%2F1"}});
    catalog.answer("/api/v1/config?warehouse=ware+house", &[(200, config)]);
    // The catalog decides which metadata are current, and its answer has them.
    let location = format!("file://{}", table.metadata_file().display());
    let loaded = json!({"metadata-location": location, "metadata": table.metadata(), "config": {}});
    catalog.answer(
        "/api/v1/catalogs/tenant%2F1/namespaces/security%1Flogs/tables/cloudtrail",
        &[(503, json!({})), (200, loaded)],
    );
    let found = catalog.hunt("api/ware%20house/security.logs.cloudtrail", Some("very-secret"));
    assert_eq!(told(&found), raw(folder.path(), &records()[..3]));
    assert!(!talk(&found).contains("very-secret"));
    let asked = catalog.take_asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|(_, authorization)| authorization == "Bearer very-secret"), "{asked:?}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    let url = format!("{}/api/ware%20house/security.logs.cloudtrail", catalog.url);
    command.args(["hunt", &url, "--rule", DEFAULT, "--format", "jsonl", "--as-of", &old]);
    assert_eq!(told(&command.output().unwrap()), raw(folder.path(), &records()));
}

#[test]
fn what_a_catalog_refuses_is_told() {
    let catalog = Catalog::start();
    catalog.answer("/v1/config?warehouse=w", &[(200, json!({}))]);
    let table = "/v1/namespaces/a/tables/t";
    let message = json!({"error": {"message": "the principal \u{1b}[31m may not read", "code": 403}});
    for (answer, parts) in [
        ((403, message), &["403", "may not read", "TAWNY_ICEBERG_TOKEN"][..]),
        ((400, json!({"message": "bad warehouse"})), &["400", "bad warehouse"]),
        ((404, json!({"error": {"message": "no such table"}})), &["404", "no such table", "check the names"]),
        ((500, json!({})), &["500", "after 4 attempts"]),
        ((200, json!({"metadata": {"format-version": 2}})), &["does not say where the metadata"]),
        (
            (200, json!({"metadata-location": "/t/1.metadata.json", "metadata": {"format-version": 2}})),
            &["invalid table metadata", "/t/1.metadata.json"],
        ),
        ((200, json!([1])), &["invalid table"]),
        ((302, json!({})), &["302"]),
    ] {
        catalog.answer(table, &[answer]);
        let output = catalog.hunt("w/a.t", Some("very-secret"));
        assert_eq!(output.status.code(), Some(3), "{parts:?}: {}", talk(&output));
        assert_eq!(output.stdout, b"");
        let said = talk(&output).replace('\n', " ");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("very-secret") && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn metadata_cannot_lead_requests_to_another_host() {
    let folder = tempfile::tempdir().unwrap();
    for bucket in ["evil.example#", "evil.example?x", "user@evil.example", "a b", ""] {
        let mut table = IcebergTable::new(folder.path().join("table"), Some(&format!("s3://{bucket}/table")));
        let live = table.data("a", &records());
        table.commit(&[live]);
        let output = hunt(table.path(), &[]);
        assert_ne!(output.status.code(), Some(0), "{bucket}");
        assert!(talk(&output).contains("is not the name of a bucket"), "{bucket}: {}", talk(&output));
        std::fs::remove_dir_all(table.folder).unwrap();
    }
}

#[test]
fn urls_of_catalogs_are_checked() {
    for (url, reason) in [
        ("iceberg+http://catalog.example/w/a.t", "only https is supported"),
        ("iceberg+https://catalog.example/w/t", "does not end with `NAMESPACE.TABLE`"),
        ("iceberg+https://me:hunter2@catalog.example/w/a.t", "a user, a query or a fragment"),
    ] {
        let output = hunt(url, &[]);
        assert_eq!(output.status.code(), Some(2), "{url}: {}", talk(&output));
        assert!(talk(&output).contains(reason), "{url}: {}", talk(&output));
        assert!(!talk(&output).contains("hunter2"), "{}", talk(&output));
    }
}
