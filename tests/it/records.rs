//! Records for tests.

use serde_json::{Value, json};

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
