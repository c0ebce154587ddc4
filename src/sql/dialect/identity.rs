//! The account and the actor of a record in a dialect: the rules of [`crate::event::identity`] as SQL.

use crate::event::HOT;
use crate::event::identity::{ANONYMOUS, ANONYMOUS_AT, IDENTITY_CENTER_ROLE, ROLE_ID, ROLE_SESSION, USER};

use super::export::DialectColumns;

impl DialectColumns {
    /// See [`crate::rule::Field::Account`].
    pub(super) fn account(&self) -> String {
        format!("coalesce({}, {})", filled(&self.text("recipientAccountId")), filled(&self.identity(&["accountId"])))
    }

    /// See [`crate::rule::Field::Actor`].
    pub(super) fn actor(&self) -> String {
        let (dialect, kind) = (self.dialect, self.identity(&["type"]));
        let is = |name| format!("{kind} = {}", dialect.quoted(name));
        let (arn, principal) = (self.identity(&["arn"]), self.identity(&["principalId"]));
        let (account, user_name) = (self.identity(&["accountId"]), self.identity(&["userName"]));
        let user_name = filled(&dialect.lower(&user_name));

        let issuer = self.identity(&["sessionContext", "sessionIssuer", "userName"]);
        let role_in_arn = filled(&dialect.captured(&arn, &format!("{ROLE_SESSION}([^/]*)")));
        let role = coalesced(&[filled(&issuer), role_in_arn.clone()]);
        let is_role_session = format!("({} OR {role_in_arn} IS NOT NULL)", is("AssumedRole"));
        let is_identity_center = dialect.starts_with(&role, &dialect.quoted(IDENTITY_CENTER_ROLE));
        let person = [
            filled(&dialect.captured(&arn, &format!("{ROLE_SESSION}[^/]*/([^/]*)"))),
            filled(&dialect.captured(&principal, "^[^:]*:([^:]*)")),
        ];
        let person = dialect.lower(&coalesced(&person));
        let role_id = filled(&dialect.captured(&principal, &format!("^({ROLE_ID}[^:]*):")));

        let names = dialect.list(&ANONYMOUS);
        let is_anonymous = [
            format!("{} IN ({names})", dialect.lower(&account)),
            format!("{} IN ({names})", dialect.lower(&principal)),
            format!("({} AND {} IS NULL AND {} IS NULL)", is("AWSAccount"), filled(&account), filled(&principal)),
        ];
        let address = self.text("sourceIPAddress");
        let anonymous = format!("concat({}, coalesce({address}, ''))", dialect.quoted(ANONYMOUS_AT));

        let name_in_arn = dialect.lower(&dialect.after_last_slash(&arn));
        let is_user = dialect.contains(&arn, &dialect.quoted(USER));
        let others = [
            user_name.clone(),
            format!("CASE WHEN {is_user} THEN {} END", filled(&name_in_arn)),
            filled(&arn),
            filled(&principal),
            filled(&self.identity(&["invokedBy"])),
            filled(&self.identity(&["accessKeyId"])),
        ];
        let user_id = filled(&self.identity(&["onBehalfOf", "userId"]));
        let cases = [
            (is("Root"), dialect.quoted("root")),
            (is("IdentityCenterUser"), coalesced(&[user_id, user_name, filled(&principal)])),
            (format!("{is_role_session} AND {is_identity_center}"), coalesced(&[person, role.clone()])),
            (format!("{is_role_session} AND {role} IS NOT NULL"), role),
            (format!("{role_id} IS NOT NULL"), role_id),
            (is_anonymous.join(" OR "), anonymous),
        ];
        let cases = cases.iter().map(|(when, then)| format!("      WHEN {when} THEN {then}"));
        let otherwise = format!("      ELSE {}", coalesced(&others));
        let lines = std::iter::once("CASE".to_owned()).chain(cases).chain([otherwise, "    END".to_owned()]);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A top-level field that both layouts have as a column of text.
    fn text(&self, name: &str) -> String {
        if self.is_lake { self.dialect.name(name) } else { self.dialect.name(&name.to_lowercase()) }
    }

    /// The string below `keys` in `userIdentity`.
    fn identity(&self, keys: &[&str]) -> String {
        let column = self.text("userIdentity");
        if !self.is_lake {
            return self.member(&column, keys).unwrap_or_else(|| "NULL".to_owned());
        }
        let hot = HOT.iter().find(|(_, top, path)| *top == "userIdentity" && *path == keys);
        self.string_below(&column, keys, hot.map(|(name, ..)| *name))
    }
}

fn filled(expression: &str) -> String {
    format!("nullif({expression}, '')")
}

fn coalesced(expressions: &[String]) -> String {
    format!("coalesce({})", expressions.join(", "))
}
