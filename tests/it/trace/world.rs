//! Generates trails with known chains of credentials.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tawny::time::{Instant, SECOND};

use crate::oracle::START;

/// A small generator of numbers, so that a seed gives the same world everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const ACCOUNTS: [&str; 4] = ["111122223333", "444455556666", "777788889999", "123456789012"];
const ROLES: [&str; 3] = ["deploy", "audit", "admin"];
/// Few names, so that many sessions share them.
const SESSIONS: [&str; 3] = ["ci", "terraform", "alice"];
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const SERVICES: [&str; 2] = ["ec2.amazonaws.com", "lambda.amazonaws.com"];

/// What began a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    LongLivedKey,
    KeyOfOther,
    Console,
    Sso,
    Service,
    WebIdentity,
    Federation,
    SessionToken,
}

pub(crate) const BEGINNINGS: [Beginning; 8] = [
    Beginning::LongLivedKey,
    Beginning::KeyOfOther,
    Beginning::Console,
    Beginning::Sso,
    Beginning::Service,
    Beginning::WebIdentity,
    Beginning::Federation,
    Beginning::SessionToken,
];

/// The origin that a trace must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedOrigin {
    pub(crate) account: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) known: bool,
}

/// The credential's issuing event.
#[derive(Debug, Clone)]
struct Issued {
    /// The record that the chain names; `None` if it was lost.
    event: Option<String>,
    /// The credential that asked for it.
    by: Option<usize>,
    /// Acts before it that no credential connects, such as `GetRoleCredentials`.
    before: Vec<String>,
}

/// A credential of the world.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    /// The keys that it uses.
    pub(crate) keys: Vec<String>,
    identity: Value,
    account: String,
    actor: String,
    time: i64,
    issued: Option<Issued>,
    /// The origin, if no act before this credential is lost.
    origin: ExpectedOrigin,
    /// Its own events, with their times.
    pub(crate) events: Vec<(i64, String)>,
}

/// A trail, and what is true of it.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) records: Vec<Value>,
    pub(crate) credentials: Vec<Credential>,
    count: usize,
    /// Session names and seconds that are taken, since two console sessions of one second cannot be told apart.
    taken: BTreeSet<(String, i64)>,
}

fn at(second: i64) -> String {
    Instant::from_micros((START + second) * SECOND).to_string()
}

impl World {
    /// Returns a world of `chains` chains, each up to `depth` credentials long, of which `lost` percent of the issuing events are
    /// not in the data.
    pub(crate) fn new(seed: u64, chains: usize, depth: usize, lost: usize) -> World {
        let mut random = Random::new(seed);
        let mut world = World::default();
        for number in 0..chains {
            let beginning = BEGINNINGS[number % BEGINNINGS.len()];
            let mut newest = world.begin(&mut random, beginning, lost);
            for _ in 1..=random.below(depth) {
                newest = world.assume(&mut random, newest, lost);
                if random.chance(20) {
                    world.assume(&mut random, newest, lost);
                }
            }
        }
        for credential in 0..world.credentials.len() {
            for _ in 0..=random.below(4) {
                world.call(&mut random, credential);
            }
        }
        world.records.sort_by_key(|record| record["eventTime"].to_string());
        world
    }

    fn id(&mut self) -> String {
        self.count += 1;
        format!("{:08x}-0000-4000-8000-000000000000", self.count.wrapping_mul(2_654_435_761) & 0xffff_ffff)
    }

    fn key(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{:016}", self.count)
    }

    fn record(&mut self, second: i64, call: (&str, &str), account: &str, identity: &Value) -> Value {
        json!({
            "eventVersion": "1.11",
            "eventID": self.id(),
            "eventTime": at(second),
            "eventSource": call.0,
            "eventName": call.1,
            "awsRegion": "us-east-1",
            "sourceIPAddress": "192.0.2.7",
            "recipientAccountId": account,
            "userIdentity": identity,
            "readOnly": false,
            "requestParameters": null,
            "responseElements": null,
        })
    }

    /// Adds a record, unless it is lost. Returns its ID, if it was added.
    fn add(&mut self, record: Value, is_lost: bool) -> Option<String> {
        if is_lost {
            return None;
        }
        let id = record["eventID"].as_str().map(str::to_owned);
        self.records.push(record);
        id
    }

    /// Returns a second at which no session of `name` began.
    fn free_second(&mut self, random: &mut Random, name: &str, after: i64) -> i64 {
        loop {
            let second = after + 1 + i64::try_from(random.below(1_500)).unwrap();
            if self.taken.insert((name.to_owned(), second)) {
                return second;
            }
        }
    }

    fn begin(&mut self, random: &mut Random, beginning: Beginning, lost: usize) -> usize {
        let account = ACCOUNTS[random.below(ACCOUNTS.len())].to_owned();
        let user = USERS[random.below(USERS.len())];
        let is_lost = random.chance(lost);
        match beginning {
            Beginning::LongLivedKey => self.long_lived(&account, user, None, 0),
            Beginning::KeyOfOther => self.key_of_other(random, &account, user, is_lost),
            Beginning::Console => self.console(random, &account, user, is_lost),
            Beginning::Sso => self.sso(random, &account, user, is_lost),
            Beginning::Service => {
                let service = SERVICES[random.below(SERVICES.len())];
                let (role, session) = (ROLES[random.below(ROLES.len())], format!("i-{:08}", random.below(3)));
                let identity = json!({"type": "AWSService", "invokedBy": service});
                let call = ("AssumeRole", &identity, account.as_str());
                self.session(random, (&account, role, &session), call, None, is_lost, known(&account, service))
            }
            Beginning::WebIdentity => {
                let identity =
                    json!({"type": "WebIdentityUser", "principalId": "issuer:app:42", "userName": "repo-42"});
                let (role, session) = (ROLES[random.below(ROLES.len())], SESSIONS[random.below(SESSIONS.len())]);
                let call = ("AssumeRoleWithWebIdentity", &identity, account.as_str());
                self.session(random, (&account, role, session), call, None, is_lost, known(&account, "repo-42"))
            }
            Beginning::Federation => self.token(random, (&account, user), false, is_lost),
            Beginning::SessionToken => self.token(random, (&account, user), true, is_lost),
        }
    }

    /// Adds a long-lived key that another user creates. It is an origin of its own where nothing tells who created it.
    fn key_of_other(&mut self, random: &mut Random, account: &str, user: &str, is_lost: bool) -> usize {
        let creator = self.long_lived(account, USERS[random.below(USERS.len())], None, 0);
        let second = 10 + i64::try_from(random.below(900)).unwrap();
        let caller = self.identity(creator, 0);
        let mut record = self.record(second, ("iam.amazonaws.com", "CreateAccessKey"), account, &caller);
        let created = self.long_lived(account, user, None, second);
        record["responseElements"] =
            json!({"accessKey": {"accessKeyId": self.credentials[created].keys[0], "userName": user}});
        if let Some(event) = self.add(record, is_lost) {
            self.credentials[creator].events.push((second, event.clone()));
            let issued = Issued { event: Some(event), by: Some(creator), before: Vec::new() };
            self.credentials[created].issued = Some(issued);
        }
        created
    }

    /// Adds a console session, whose keys rotate.
    fn console(&mut self, random: &mut Random, account: &str, user: &str, is_lost: bool) -> usize {
        let mut identity = user_identity(account, user);
        let arn = identity["arn"].as_str().unwrap().to_owned();
        let second = self.free_second(random, &arn, 0);
        let mut record = self.record(second, ("signin.amazonaws.com", "ConsoleLogin"), account, &identity);
        record["responseElements"] = json!({"ConsoleLogin": "Success"});
        let event = self.add(record, is_lost);
        identity["sessionContext"] = json!({"attributes": {"creationDate": at(second)}});
        let keys = (0..3).map(|_| self.key("ASIA")).collect();
        let issued = Issued { event, by: None, before: Vec::new() };
        self.credential(keys, identity, (account, user), second, Some(issued), known(account, user))
    }

    /// Adds a session of IAM Identity Center. Either of its two events may be lost.
    fn sso(&mut self, random: &mut Random, account: &str, user: &str, is_lost: bool) -> usize {
        let role = "AWSReservedSSO_Admin_0123456789abcdef";
        let session = format!("{user}@example.com");
        let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
        let second = self.free_second(random, &arn, 0);
        let user_id = format!("id-of-{user}");
        let person = json!({"type": "IdentityCenterUser", "accountId": ACCOUNTS[3], "onBehalfOf": {"userId": user_id}});
        let mut portal = self.record(second, ("sso.amazonaws.com", "GetRoleCredentials"), ACCOUNTS[3], &person);
        portal["serviceEventDetails"] = json!({"role_name": "Admin", "account_id": account});
        portal["additionalEventData"] = json!({"UserName": session});
        let portal = self.add(portal, random.chance(30));
        let saml = json!({"type": "SAMLUser", "principalId": format!("idp:{session}"), "userName": session});
        let mut record = self.record(second, ("sts.amazonaws.com", "AssumeRoleWithSAML"), account, &saml);
        let key = self.key("ASIA");
        let role_id = format!("AROA{account}SSO:{session}");
        record["responseElements"] = session_of(&key, &arn, &role_id);
        let event = self.add(record, is_lost);
        let mut identity = role_identity(account, role, &session, second);
        identity["principalId"] = json!(role_id);
        let origin = if portal.is_some() { known(ACCOUNTS[3], &user_id) } else { known(account, &session) };
        // Without the event of STS, that of the portal tells who began the session.
        let issued = Issued {
            event: event.clone().or_else(|| portal.clone()),
            by: None,
            before: event.and(portal).into_iter().collect(),
        };
        self.credential(vec![key], identity, (account, &session), second, Some(issued), origin)
    }

    /// Adds the session of a user's `GetSessionToken` or `GetFederationToken`.
    fn token(&mut self, random: &mut Random, (account, user): (&str, &str), is_token: bool, is_lost: bool) -> usize {
        let owner = self.long_lived(account, user, None, 0);
        let mut identity = user_identity(account, user);
        let federated = format!("arn:aws:sts::{account}:federated-user/guest");
        let arn = identity["arn"].as_str().unwrap().to_owned();
        let second = self.free_second(random, if is_token { &arn } else { &federated }, 0);
        let name = if is_token { "GetSessionToken" } else { "GetFederationToken" };
        let caller = self.identity(owner, 0);
        let mut record = self.record(second, ("sts.amazonaws.com", name), account, &caller);
        let key = self.key("ASIA");
        record["responseElements"] = json!({"credentials": {"accessKeyId": key}});
        let mut actor = user;
        if !is_token {
            let id = format!("{account}:guest");
            record["responseElements"]["federatedUser"] = json!({"arn": federated, "federatedUserId": id});
            identity = json!({"type": "FederatedUser", "arn": federated, "principalId": id, "accountId": account});
            actor = &federated;
        }
        identity["sessionContext"] = json!({"attributes": {"creationDate": at(second)}});
        let event = self.add(record, is_lost);
        if let Some(event) = &event {
            self.credentials[owner].events.push((second, event.clone()));
        }
        let issued = Issued { event, by: Some(owner), before: Vec::new() };
        self.credential(vec![key], identity, (account, actor), second, Some(issued), known(account, user))
    }

    fn long_lived(&mut self, account: &str, user: &str, issued: Option<Issued>, second: i64) -> usize {
        let key = self.key("AKIA");
        let identity = user_identity(account, user);
        self.credential(vec![key], identity, (account, user), second, issued, known(account, user))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field")]
    fn credential(
        &mut self,
        keys: Vec<String>,
        identity: Value,
        (account, actor): (&str, &str),
        time: i64,
        issued: Option<Issued>,
        origin: ExpectedOrigin,
    ) -> usize {
        let (account, actor) = (account.to_owned(), actor.to_owned());
        self.credentials.push(Credential { keys, identity, account, actor, time, issued, origin, events: Vec::new() });
        self.credentials.len() - 1
    }

    /// Returns the identity of a call with a credential's key.
    fn identity(&self, credential: usize, key: usize) -> Value {
        let Credential { identity, keys, .. } = &self.credentials[credential];
        let mut identity = identity.clone();
        identity["accessKeyId"] = json!(keys[key % keys.len()]);
        identity
    }

    /// Adds a session that the credential `by` assumes, in its account or another.
    fn assume(&mut self, random: &mut Random, by: usize, lost: usize) -> usize {
        let account = ACCOUNTS[random.below(ACCOUNTS.len())].to_owned();
        let (role, session) = (ROLES[random.below(ROLES.len())], SESSIONS[random.below(SESSIONS.len())]);
        let rotation = random.below(3);
        let identity = self.identity(by, rotation);
        let home = self.credentials[by].account.clone();
        let origin = self.credentials[by].origin.clone();
        let is_lost = random.chance(lost);
        self.session(random, (&account, role, session), ("AssumeRole", &identity, &home), Some(by), is_lost, origin)
    }

    /// Adds a role session and its issuing event.
    #[expect(clippy::too_many_arguments, reason = "a session has as many parts")]
    fn session(
        &mut self,
        random: &mut Random,
        (account, role, session): (&str, &str, &str),
        (name, caller, home): (&str, &Value, &str),
        by: Option<usize>,
        is_lost: bool,
        origin: ExpectedOrigin,
    ) -> usize {
        let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
        let after = by.map_or(0, |by| self.credentials[by].time);
        let second = after + 1 + i64::try_from(random.below(40)).unwrap() * 30;
        let key = self.key("ASIA");
        let role_id = format!("AROA{account}{role}:{session}");
        let mut record = self.record(second, ("sts.amazonaws.com", name), home, caller);
        record["requestParameters"] = json!({
            "roleArn": format!("arn:aws:iam::{account}:role/path/{role}"), "roleSessionName": session,
        });
        record["responseElements"] = session_of(&key, &arn, &role_id);
        // Some clients ask twice, and use one of the keys.
        if let Some(by) = by.filter(|_| random.chance(20)) {
            let mut twin = record.clone();
            twin["eventID"] = json!(self.id());
            twin["responseElements"] = session_of(&self.key("ASIA"), &arn, &role_id);
            let twin = self.add(twin, false).unwrap();
            self.credentials[by].events.push((second, twin));
        }
        let is_cross_account = home != account;
        if is_cross_account {
            let shared = self.id();
            record["sharedEventID"] = json!(shared);
            let other_identity = json!({"type": "AWSAccount", "accountId": home, "principalId": caller["principalId"]});
            let mut other = self.record(second, ("sts.amazonaws.com", name), account, &other_identity);
            other["sharedEventID"] = json!(shared);
            other["requestParameters"] = record["requestParameters"].clone();
            other["responseElements"] = record["responseElements"].clone();
            // The caller's record may lack what the other one tells.
            if random.chance(30) {
                record["responseElements"] = Value::Null;
                self.add(other, is_lost);
            } else {
                self.add(other, is_lost || random.chance(40));
            }
        }
        let event = self.add(record, is_lost);
        if let (Some(event), Some(by)) = (&event, by) {
            self.credentials[by].events.push((second, event.clone()));
        }
        let mut identity = role_identity(account, role, session, second);
        identity["principalId"] = json!(role_id);
        let issued = Issued { event, by, before: Vec::new() };
        self.credential(vec![key], identity, (account, role), second, Some(issued), origin)
    }

    /// Adds a call with a credential.
    fn call(&mut self, random: &mut Random, credential: usize) {
        const CALLS: [(&str, &str); 4] = [
            ("s3.amazonaws.com", "GetObject"),
            ("ec2.amazonaws.com", "DescribeInstances"),
            ("iam.amazonaws.com", "ListUsers"),
            ("kms.amazonaws.com", "Decrypt"),
        ];
        let Credential { account, time, .. } = self.credentials[credential].clone();
        let second = time + i64::try_from(random.below(3_000)).unwrap();
        let identity = self.identity(credential, random.below(3));
        let record = self.record(second, CALLS[random.below(CALLS.len())], &account, &identity);
        let copies = 1 + usize::from(random.chance(10));
        let id = record["eventID"].as_str().unwrap().to_owned();
        self.records.extend(std::iter::repeat_n(record, copies));
        self.credentials[credential].events.push((second, id));
    }

    /// Returns the issuing events of a credential's chain, and its origin.
    pub(crate) fn chain(&self, credential: usize) -> (Vec<String>, ExpectedOrigin) {
        let (mut current, mut events) = (credential, Vec::new());
        loop {
            let Credential { issued, account, actor, origin, .. } = &self.credentials[current];
            let Some(issued) = issued else { break };
            let Some(event) = &issued.event else {
                events.reverse();
                let (account, actor) = (Some(account.clone()), Some(actor.clone()));
                return (events, ExpectedOrigin { account, actor, known: false });
            };
            events.push(event.clone());
            events.extend(issued.before.iter().cloned());
            let Some(by) = issued.by else {
                events.reverse();
                return (events, origin.clone());
            };
            current = by;
        }
        events.reverse();
        (events, self.credentials[current].origin.clone())
    }

    /// Returns the events of a credential and of all that it issued, in order of time and ID.
    pub(crate) fn events(&self, credential: usize) -> Vec<String> {
        let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, Credential { issued, .. }) in self.credentials.iter().enumerate() {
            if let Some(Issued { event: Some(_), by: Some(by), .. }) = issued {
                children.entry(*by).or_default().push(number);
            }
        }
        let (mut open, mut events) = (vec![credential], Vec::new());
        while let Some(number) = open.pop() {
            events.extend(self.credentials[number].events.iter().cloned());
            open.extend(children.get(&number).into_iter().flatten());
        }
        events.sort();
        events.into_iter().map(|(_, id)| id).collect()
    }
}

/// Returns the origin of a chain without lost events.
fn known(account: &str, actor: &str) -> ExpectedOrigin {
    ExpectedOrigin { account: Some(account.to_owned()), actor: Some(actor.to_owned()), known: true }
}

fn user_identity(account: &str, user: &str) -> Value {
    json!({
        "type": "IAMUser",
        "arn": format!("arn:aws:iam::{account}:user/{user}"),
        "principalId": format!("AIDA{account}{user}"),
        "accountId": account,
        "userName": user,
    })
}

fn role_identity(account: &str, role: &str, session: &str, second: i64) -> Value {
    json!({
        "type": "AssumedRole",
        "arn": format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
        "accountId": account,
        "sessionContext": {
            "sessionIssuer": {"type": "Role", "userName": role, "accountId": account, "arn": format!("arn:aws:iam::{account}:role/path/{role}")},
            "attributes": {"creationDate": at(second)},
        },
    })
}

fn session_of(key: &str, arn: &str, id: &str) -> Value {
    json!({
        "credentials": {"accessKeyId": key, "expiration": "Sep 1, 2026, 12:00:00 AM"},
        "assumedRoleUser": {"arn": arn, "assumedRoleId": id},
    })
}
