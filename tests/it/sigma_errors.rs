//! The errors of Sigma rules. All that a reader can correct are named, and no others.

use crate::sigma::{document, read};

#[test]
fn every_error_of_a_rule_is_named() {
    let selection = "  s:\n    eventName|foo: A\n    a|re|contains: B\n";
    let text = document("Many", &format!("detection:\n{selection}  condition: 2 of them and other\n"));
    let refused = read(&text).expect_err(&text);
    for reason in [
        "rules.yml:10:5: `eventName|foo`: Sigma has no modifier `foo`",
        "rules.yml:11:5: `Many`: `a",
        "`2 of them`: only `1 of` and `all of` are understood",
        "the condition names `other`, which is not defined",
    ] {
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    assert!(!refused.contains("unread"), "{refused}");
}

#[test]
fn errors_that_follow_from_another_one_are_not_named() {
    for (text, own, following) in [
        // Without its values, the item compares with nothing.
        (
            document(
                "Placeholder",
                "detection:\n  s:\n    eventName|expand: '%nobody%'\n    a|foo: B\n  condition: s\n",
            ),
            &["%nobody%", "Sigma has no modifier `foo`"][..],
            "compared with nothing",
        ),
        // The selection is in the document before.
        (
            format!(
                "action: repeat\n{}",
                document("Action", "detection:\n  s: {eventName: A}\n  condition: s and base\n")
            ),
            &["`action` joins the documents"],
            "base",
        ),
    ] {
        let refused = read(&text).expect_err(&text);
        assert!(own.iter().all(|reason| refused.contains(reason)), "{refused}");
        assert!(!refused.contains(following) && !refused.contains("unread"), "{refused}");
    }
}
