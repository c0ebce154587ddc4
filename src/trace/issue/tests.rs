use super::kind::EVENT_NAMES;
use super::*;
use crate::event::ISSUING_CALLS;

fn record(caller: &str, key: Option<&str>) -> IssuingRecord {
    let event = TracedEvent {
        time: Some(Instant::from_micros(0)),
        id: "one".into(),
        shared_id: None,
        source: "sts.amazonaws.com".into(),
        name: "AssumeRole".into(),
        region: "us-east-1".into(),
        account: "111122223333".into(),
        address: "192.0.2.1".into(),
        error: None,
        is_read: None,
        identity: Arc::new(Identity { access_key: Some(caller.into()), ..Identity::default() }),
    };
    IssuingRecord::of(event, None, |column| key.filter(|_| column == "session_key").map(Arc::from)).unwrap()
}

#[test]
fn the_order_of_differing_records_of_one_event_does_not_matter() {
    let records = [record("AKIAB", Some("ASIA1")), record("AKIAA", Some("ASIA2")), record("AKIAA", None)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut index = IssueIndex::default();
        for number in order {
            index.add(records[number].clone(), usize::MAX).unwrap();
            index.refresh();
        }
        let issue = index.of_event("one").unwrap();
        let keys = [&issue.caller.access_key, &issue.issued_key].map(Option::as_deref);
        assert_eq!(keys, [Some("AKIAA"), Some("ASIA2")], "{order:?}");
        assert!(index.issuing("ASIA1").is_empty(), "{order:?}");
    }
}

#[test]
fn issuing_events_that_do_not_fit_into_the_memory_are_refused() {
    let mut index = IssueIndex::default();
    let limit = record("AKIAA", None).bytes();
    for _ in 0..2 {
        index.add(record("AKIAA", None), limit).unwrap();
    }
    let mut other = record("AKIAA", None);
    other.event.id = "two".into();
    let refused = index.add(other, limit).unwrap_err();
    assert!(matches!(refused, Error::Query { cause: QueryCause::MemoryExhausted, .. }), "{refused}");
}

#[test]
fn hunts_carry_the_ids_of_all_calls_that_may_issue_credentials() {
    assert_eq!(EVENT_NAMES.map(|(name, _)| name), ISSUING_CALLS);
}
