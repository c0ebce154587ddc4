//! Records for tests.

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use tawny::event::batch::BatchBuilder;
use tawny::raw::envelope::{self, Item};
use tawny::store::ReadSettings;

/// Returns a console sign-in of `user` that failed MFA.
pub(crate) fn failed_sign_in(user: &str, time: &str, id: &str) -> Value {
    json!({
        "eventTime": time,
        "eventID": id,
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": user},
        "additionalEventData": {"MFAUsed": "Yes"},
        "responseElements": {"ConsoleLogin": "Failure"},
    })
}

/// Returns the columns of records.
pub(crate) fn batch(records: &[Value]) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    for record in records {
        envelope::items(&record.to_string(), &ReadSettings::default(), &|_| true, &mut |item| match item {
            Item::Record(record) => {
                builder.push(&record);
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    }
    builder.finish().unwrap()
}
