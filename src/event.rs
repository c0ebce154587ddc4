//! The schema of CloudTrail records as columns, and the column of a field's path.
//!
//! Columns carry CloudTrail's own names and case. Fields whose shape changes from call to call
//! (`requestParameters`, ...) are kept as JSON text exactly as received. What rules often read below
//! them is also a column of its own, named by its path.
//!
//! Record contents: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::path::{Path, Step};

pub mod address;
pub mod batch;
pub mod identity;

/// When the record's call ended. Null where the record has no time, or none of [`crate::time::EVENT_TIMES`].
pub const EVENT_TIME: &str = "eventTime";
/// The name of the call.
pub const EVENT_NAME: &str = "eventName";
/// The identity of the event. A record that is delivered twice has it twice.
pub const EVENT_ID: &str = "eventID";
/// The column of the ID that the records of one cross-account call share.
pub const SHARED_EVENT_ID: &str = "sharedEventID";
/// `eventTime` as received, if an event cannot have that time or CloudTrail writes it differently.
pub const EVENT_TIME_TEXT: &str = "eventTimeText";
/// A hash of the record's text, if it has no `eventID`. It identifies the record.
pub const CONTENT_ID: &str = "contentID";
/// Members without a column, or with a value that does not fit the column's type, as JSON text.
pub const OTHER_FIELDS: &str = "otherFields";

/// The calls that may issue credentials, or lead from one to another.
pub const ISSUING_CALLS: [&str; 11] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "GetSessionToken",
    "GetFederationToken",
    "ConsoleLogin",
    "GetSigninToken",
    "SwitchRole",
    "GetRoleCredentials",
    "CreateAccessKey",
];

/// Columns with a [`search_hash`]: those of [`HASHED_IDENTITY`], then that of [`ISSUED_KEYS`]. A null says nothing about the text:
/// tables of other tools have no hashes.
pub(crate) const SEARCH_HASHES: [&str; 3] = [ACCESS_KEY_HASH, ARN_HASH, ISSUED_KEY_HASH];
/// The members of `userIdentity` with a hash.
pub(crate) const HASHED_IDENTITY: [&str; 2] = ["accessKeyId", "arn"];
/// The paths in `responseElements` of the access key that a call issued. Its hash is null if there are several, or if the call is none
/// of [`ISSUING_CALLS`].
pub(crate) const ISSUED_KEYS: [[&str; 2]; 2] = [["credentials", "accessKeyId"], ["accessKey", "accessKeyId"]];
/// The [`search_hash`] of the caller's access key.
pub const ACCESS_KEY_HASH: &str = "accessKeyHash";
/// The [`search_hash`] of the caller's ARN.
pub const ARN_HASH: &str = "arnHash";
/// The [`search_hash`] of the access key that the call issued.
pub const ISSUED_KEY_HASH: &str = "issuedKeyHash";

/// Returns 16 bits of a hash of a text; a record without the text has that of an empty one. A search for a text reads the hashes
/// first, which take at most two bytes each, and the texts only where the hash is that of a wanted one. A column of the texts would
/// be several times as large.
pub fn search_hash(text: &str) -> i16 {
    let [low, high, ..] = libdeflater::crc32(text.as_bytes()).to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// Fields that `CloudTrail` writes for every record: null where there is no value.
pub const ALWAYS_WRITTEN: [&str; 2] = ["requestParameters", "responseElements"];

/// The category of the event: management, data, Insights or network activity.
pub const EVENT_CATEGORY: &str = "eventCategory";
/// The [`EVENT_CATEGORY`] of a call through a VPC endpoint. The service that was called writes another record of the
/// same call.
pub const NETWORK_ACTIVITY: &str = "NetworkActivity";
/// The `eventType` of that category alone.
pub const NETWORK_ACTIVITY_TYPE: &str = "AwsVpceEvent";

/// The type of a field's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A string.
    Text,
    /// A boolean.
    Flag,
    /// Any JSON value, as text.
    Json,
}

/// The top-level fields with a column, roughly in the order in which CloudTrail writes them.
pub(crate) const TOP_LEVEL: &[(&str, ColumnKind)] = &[
    ("eventVersion", ColumnKind::Text),
    ("userIdentity", ColumnKind::Json),
    ("eventSource", ColumnKind::Text),
    (EVENT_NAME, ColumnKind::Text),
    ("awsRegion", ColumnKind::Text),
    ("sourceIPAddress", ColumnKind::Text),
    ("userAgent", ColumnKind::Text),
    ("errorCode", ColumnKind::Text),
    ("errorMessage", ColumnKind::Text),
    ("requestParameters", ColumnKind::Json),
    ("responseElements", ColumnKind::Json),
    ("additionalEventData", ColumnKind::Json),
    ("requestID", ColumnKind::Text),
    (EVENT_ID, ColumnKind::Text),
    ("readOnly", ColumnKind::Flag),
    ("resources", ColumnKind::Json),
    ("eventType", ColumnKind::Text),
    ("apiVersion", ColumnKind::Text),
    ("managementEvent", ColumnKind::Flag),
    ("recipientAccountId", ColumnKind::Text),
    (SHARED_EVENT_ID, ColumnKind::Text),
    ("vpcEndpointId", ColumnKind::Text),
    ("vpcEndpointAccountId", ColumnKind::Text),
    (EVENT_CATEGORY, ColumnKind::Text),
    ("serviceEventDetails", ColumnKind::Json),
    ("addendum", ColumnKind::Json),
    ("sessionCredentialFromConsole", ColumnKind::Text),
    ("edgeDeviceDetails", ColumnKind::Json),
    ("eventContext", ColumnKind::Json),
    ("tlsDetails", ColumnKind::Json),
];

/// Promoted paths: strings in a JSON column that also have a column. Column name, JSON column and the path within it.
pub(crate) const HOT: &[(&str, &str, &[&str])] = &[
    ("userIdentity.type", "userIdentity", &["type"]),
    ("userIdentity.userName", "userIdentity", &["userName"]),
    ("userIdentity.accountId", "userIdentity", &["accountId"]),
    ("userIdentity.invokedBy", "userIdentity", &["invokedBy"]),
    (
        "userIdentity.sessionContext.sessionIssuer.userName",
        "userIdentity",
        &["sessionContext", "sessionIssuer", "userName"],
    ),
    ("additionalEventData.MFAUsed", "additionalEventData", &["MFAUsed"]),
    ("responseElements.ConsoleLogin", "responseElements", &["ConsoleLogin"]),
];

/// Returns the schema of records in a lake's files, in raw batches and in the SQL table `cloudtrail`.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = std::iter::once(time_field());
        let top = TOP_LEVEL.iter().map(|(name, kind)| {
            let data_type = match kind {
                ColumnKind::Text | ColumnKind::Json => DataType::Utf8,
                ColumnKind::Flag => DataType::Boolean,
            };
            Field::new(*name, data_type, true)
        });
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let hot = HOT.iter().map(|(name, _, _)| text(name));
        let ours = [EVENT_TIME_TEXT, CONTENT_ID, OTHER_FIELDS].into_iter().map(text);
        let hashes = SEARCH_HASHES.iter().map(|name| Field::new(*name, DataType::Int16, true));
        Arc::new(Schema::new(time.chain(top).chain(hot).chain(ours).chain(hashes).collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// Whether a column of [`schema`] holds JSON.
pub fn is_json(column: &str) -> bool {
    column == OTHER_FIELDS || TOP_LEVEL.iter().any(|(name, kind)| *name == column && *kind == ColumnKind::Json)
}

/// Returns the field of [`EVENT_TIME`] in [`schema`].
pub fn time_field() -> Field {
    Field::new(EVENT_TIME, time_type(), true)
}

/// Returns the type of times: microseconds in UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The column of [`schema`] that holds the value of a field's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldLocation<'p> {
    /// A column of its own: a top-level field.
    Column(&'static str, ColumnKind),
    /// `eventTime`, a timestamp.
    Time,
    /// Below a JSON column.
    Below {
        /// The JSON column.
        column: &'static str,
        /// The steps from there to the value.
        path: &'p [Step],
        /// The column that holds the value if it is a string and the path is promoted.
        hot: Option<&'static str>,
    },
}

/// Returns the column of a field, given its path from the top of the record. Keys match in any case.
pub fn location(path: &Path) -> FieldLocation<'_> {
    let elsewhere = FieldLocation::Below { column: OTHER_FIELDS, path: &path.0, hot: None };
    let Some((Step::Key(name), below)) = path.0.split_first() else {
        return elsewhere;
    };
    if below.is_empty() && name.eq_ignore_ascii_case(EVENT_TIME) {
        return FieldLocation::Time;
    }
    match TOP_LEVEL.iter().find(|(column, _)| column.eq_ignore_ascii_case(name)) {
        Some((column, kind)) if below.is_empty() => FieldLocation::Column(column, *kind),
        Some((column, ColumnKind::Json)) => {
            let is_key =
                |(step, key): (&Step, &&str)| matches!(step, Step::Key(name) if name.eq_ignore_ascii_case(key));
            let hot = HOT.iter().find(|(_, top, keys)| {
                top == column && keys.len() == below.len() && below.iter().zip(*keys).all(is_key)
            });
            FieldLocation::Below { column, path: below, hot: hot.map(|(name, _, _)| *name) }
        }
        _ => elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_place() {
        let path = |text: &str| text.parse::<Path>().unwrap();
        for name in ["eventName", "eventname"] {
            assert_eq!(location(&path(name)), FieldLocation::Column("eventName", ColumnKind::Text));
        }
        assert_eq!(location(&path("eventTime")), FieldLocation::Time);
        let below = |text: &str| match location(&path(text)) {
            FieldLocation::Below { column, path, hot } => (column, Path(path.to_vec()).to_string(), hot),
            other => panic!("{other:?}"),
        };
        let hot = Some("additionalEventData.MFAUsed");
        assert_eq!(below("additionalEventData.MFAUsed"), ("additionalEventData", "MFAUsed".to_owned(), hot));
        assert_eq!(below("additionaleventdata.mfaused"), ("additionalEventData", "mfaused".to_owned(), hot));
        assert_eq!(below("userIdentity.arn"), ("userIdentity", "arn".to_owned(), None));
        assert_eq!(below("resources[*].ARN"), ("resources", "[*].ARN".to_owned(), None));
        assert_eq!(below("newKey.inner"), (OTHER_FIELDS, "newKey.inner".to_owned(), None));
        assert_eq!(below("eventName.inner"), (OTHER_FIELDS, "eventName.inner".to_owned(), None));
    }

    #[test]
    fn every_column_has_its_own_name() {
        let schema = schema();
        let names: std::collections::BTreeSet<_> =
            schema.fields().iter().map(|field| field.name().to_lowercase()).collect();
        assert_eq!(names.len(), schema.fields().len(), "engines that fold case must see distinct names");
    }
}
