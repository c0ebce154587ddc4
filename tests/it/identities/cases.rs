//! The table of cases that freezes the derived field `actor`.

use tawny::event::identity;

use super::ADDRESS;

/// A description, a `userIdentity`, and its actor.
type Case = (&'static str, &'static str, Option<&'static str>);

const CASES: &[Case] = &[
    (
        "root",
        r#"{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333"}"#,
        Some("root"),
    ),
    ("root with an alias as its name", r#"{"type":"Root","userName":"example-alias"}"#, Some("root")),
    (
        "an IAM user",
        r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/anaya","userName":"anaya"}"#,
        Some("anaya"),
    ),
    ("a name as typed", r#"{"type":"IAMUser","userName":"Anaya"}"#, Some("anaya")),
    ("a name beyond ASCII", r#"{"type":"IAMUser","userName":"ÉMILE"}"#, Some("émile")),
    (
        "a user by the ARN only",
        r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/Anaya"}"#,
        Some("anaya"),
    ),
    (
        "a user with a path",
        r#"{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/division/team/Anaya"}"#,
        Some("anaya"),
    ),
    (
        "a user in the partition of GovCloud",
        r#"{"type":"IAMUser","arn":"arn:aws-us-gov:iam::111122223333:user/anaya"}"#,
        Some("anaya"),
    ),
    (
        "a user in the partition of China",
        r#"{"type":"IAMUser","arn":"arn:aws-cn:iam::111122223333:user/anaya"}"#,
        Some("anaya"),
    ),
    (
        "an ARN without a name at its end",
        r#"{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/","principalId":"AIDAEXAMPLE"}"#,
        Some("arn:aws:iam::111122223333:user/"),
    ),
    ("a user by the principal only", r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE"}"#, Some("AIDAEXAMPLE")),
    ("a user by the key only", r#"{"type":"IAMUser","accessKeyId":"AKIAEXAMPLE"}"#, Some("AKIAEXAMPLE")),
    (
        "a user of a console session",
        r#"{"type":"IAMUser","userName":"anaya","sessionContext":{"sessionIssuer":{},"attributes":{"mfaAuthenticated":"true"}}}"#,
        Some("anaya"),
    ),
    (
        "a masked name",
        r#"{"type":"IAMUser","accountId":"111122223333","accessKeyId":"","userName":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#,
        Some("hidden_due_to_security_reasons"),
    ),
    (
        "Identity Center, as since 2025",
        r#"{"type":"IdentityCenterUser","accountId":"111122223333","onBehalfOf":{"userId":"94482488-3041","identityStoreArn":"arn:aws:identitystore::111122223333:identitystore/d-9067642ac7"}}"#,
        Some("94482488-3041"),
    ),
    (
        "Identity Center, while there were both",
        r#"{"type":"IdentityCenterUser","userName":"anaya","principalId":"111122223333","onBehalfOf":{"userId":"94482488-3041"}}"#,
        Some("94482488-3041"),
    ),
    (
        "Identity Center, as before",
        r#"{"type":"IdentityCenterUser","userName":"Anaya","principalId":"94482488-3041"}"#,
        Some("anaya"),
    ),
    (
        "Identity Center with a principal only",
        r#"{"type":"IdentityCenterUser","principalId":"94482488-3041"}"#,
        Some("94482488-3041"),
    ),
    (
        "Identity Center without a user",
        r#"{"type":"IdentityCenterUser","accountId":"111122223333","onBehalfOf":{"userId":""}}"#,
        None,
    ),
    (
        "a role session",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:ci","arn":"arn:aws:sts::111122223333:assumed-role/deploy/ci","sessionContext":{"sessionIssuer":{"type":"Role","userName":"deploy"}}}"#,
        Some("deploy"),
    ),
    (
        "a console sign-in of a role session",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:ci","arn":"arn:aws:sts::111122223333:assumed-role/deploy/ci"}"#,
        Some("deploy"),
    ),
    (
        "a role session by its principal only",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:ci"}"#,
        Some("AROAEXAMPLE"),
    ),
    (
        "a role session by its issuer only",
        r#"{"type":"AssumedRole","sessionContext":{"sessionIssuer":{"userName":"deploy"}}}"#,
        Some("deploy"),
    ),
    (
        "a role keeps its case",
        r#"{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/DeployRole/CI"}"#,
        Some("DeployRole"),
    ),
    (
        "a role session in GovCloud",
        r#"{"type":"AssumedRole","arn":"arn:aws-us-gov:sts::111122223333:assumed-role/deploy/ci"}"#,
        Some("deploy"),
    ),
    (
        "a role session in China",
        r#"{"type":"AssumedRole","arn":"arn:aws-cn:sts::111122223333:assumed-role/deploy/ci"}"#,
        Some("deploy"),
    ),
    (
        "an ARN of a role session under another type",
        r#"{"type":"AWSAccount","principalId":"AROAEXAMPLE:ci","arn":"arn:aws:sts::111122223333:assumed-role/deploy/ci"}"#,
        Some("deploy"),
    ),
    (
        "an ARN of a role session without a session",
        r#"{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/deploy"}"#,
        Some("deploy"),
    ),
    (
        "an ARN of a role session without a role",
        r#"{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/","principalId":"AROAEXAMPLE:ci"}"#,
        Some("AROAEXAMPLE"),
    ),
    (
        "a person in a role of Identity Center",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:Anaya@example.com","arn":"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/Anaya@example.com","sessionContext":{"sessionIssuer":{"userName":"AWSReservedSSO_Admin_0123456789abcdef"}}}"#,
        Some("anaya@example.com"),
    ),
    (
        "that person's sign-in",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:Anaya@example.com","arn":"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/anaya@example.com"}"#,
        Some("anaya@example.com"),
    ),
    (
        "that person by the principal",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:Anaya@example.com","sessionContext":{"sessionIssuer":{"userName":"AWSReservedSSO_Admin_0123456789abcdef"}}}"#,
        Some("anaya@example.com"),
    ),
    (
        "a role of Identity Center without a person",
        r#"{"type":"AssumedRole","sessionContext":{"sessionIssuer":{"userName":"AWSReservedSSO_Admin_0123456789abcdef"}}}"#,
        Some("AWSReservedSSO_Admin_0123456789abcdef"),
    ),
    (
        "a federated user",
        r#"{"type":"FederatedUser","principalId":"111122223333:anaya","arn":"arn:aws:sts::111122223333:federated-user/anaya","sessionContext":{"sessionIssuer":{"type":"IAMUser","userName":"broker"}}}"#,
        Some("arn:aws:sts::111122223333:federated-user/anaya"),
    ),
    (
        "a user of SAML",
        r#"{"type":"SAMLUser","principalId":"EXAMPLEnameQualifier:anaya","userName":"Anaya","identityProvider":"EXAMPLEnameQualifier"}"#,
        Some("anaya"),
    ),
    (
        "a user of a web identity",
        r#"{"type":"WebIdentityUser","principalId":"accounts.example.com:app:123","userName":"123","identityProvider":"accounts.example.com"}"#,
        Some("123"),
    ),
    (
        "a role of another account",
        r#"{"type":"AWSAccount","principalId":"AROAEXAMPLE:ci","accountId":"444455556666"}"#,
        Some("AROAEXAMPLE"),
    ),
    (
        "a user of another account",
        r#"{"type":"AWSAccount","principalId":"AIDAEXAMPLE","accountId":"444455556666"}"#,
        Some("AIDAEXAMPLE"),
    ),
    ("another account without a principal", r#"{"type":"AWSAccount","accountId":"444455556666"}"#, None),
    (
        "a service",
        r#"{"type":"AWSService","invokedBy":"autoscaling.amazonaws.com"}"#,
        Some("autoscaling.amazonaws.com"),
    ),
    (
        "a session under the type of a service",
        r#"{"type":"AWSService","principalId":"AROAEXAMPLE:ci"}"#,
        Some("AROAEXAMPLE"),
    ),
    (
        "a service that acts for a session",
        r#"{"type":"AWSService","principalId":"AROAEXAMPLE:ci","invokedBy":"ec2.amazonaws.com"}"#,
        Some("AROAEXAMPLE"),
    ),
    ("a user of a directory", r#"{"type":"Directory","userName":"Anaya"}"#, Some("anaya")),
    ("a type that CloudTrail does not know", r#"{"type":"Unknown","userName":"anaya"}"#, Some("anaya")),
    ("nobody", r#"{"type":"Unknown"}"#, None),
    (
        "anonymous by the account",
        r#"{"type":"AWSAccount","principalId":"","accountId":"anonymous"}"#,
        Some("anonymous@198.51.100.7"),
    ),
    (
        "anonymous by the account, in capitals",
        r#"{"type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL"}"#,
        Some("anonymous@198.51.100.7"),
    ),
    ("anonymous by the principal", r#"{"type":"Unknown","principalId":"Anonymous"}"#, Some("anonymous@198.51.100.7")),
    (
        "anonymous by the principal, in capitals",
        r#"{"principalId":"ANONYMOUS","accountId":"111122223333"}"#,
        Some("anonymous@198.51.100.7"),
    ),
    ("an account with neither", r#"{"type":"AWSAccount"}"#, Some("anonymous@198.51.100.7")),
    (
        "an account with both empty",
        r#"{"type":"AWSAccount","principalId":"","accountId":""}"#,
        Some("anonymous@198.51.100.7"),
    ),
    ("no type", r#"{"userName":"anaya"}"#, Some("anaya")),
    (
        "empty strings count as missing",
        r#"{"type":"","userName":"","arn":"","principalId":"","invokedBy":"","accessKeyId":"AKIAEXAMPLE"}"#,
        Some("AKIAEXAMPLE"),
    ),
    (
        "nulls count as missing",
        r#"{"type":null,"userName":null,"arn":null,"principalId":"AIDAEXAMPLE","sessionContext":null,"onBehalfOf":null}"#,
        Some("AIDAEXAMPLE"),
    ),
    (
        "values other than strings count as missing",
        r#"{"type":["Root"],"userName":7,"arn":{},"principalId":true,"sessionContext":"x","onBehalfOf":[],"invokedBy":"ec2.amazonaws.com"}"#,
        Some("ec2.amazonaws.com"),
    ),
    (
        "keys are case-insensitive",
        r#"{"TYPE":"AssumedRole","SessionContext":{"sessionissuer":{"USERNAME":"deploy"}}}"#,
        Some("deploy"),
    ),
    (
        "the first of equal keys counts, and the exact one before others",
        r#"{"username":"bo","userName":"anaya","userName":"cy"}"#,
        Some("anaya"),
    ),
    ("escapes are read", r#"{"type":"IAMUser","user\u004eame":"an\u0061ya"}"#, Some("anaya")),
    ("blanks around", "  {\"userName\": \"anaya\"}\n", Some("anaya")),
    ("an empty object", "{}", None),
    ("a text", r#""anaya""#, None),
    ("a list", r#"[{"userName":"anaya"}]"#, None),
    ("null", "null", None),
    ("damaged JSON", r#"{"userName":"anaya","arn":"#, None),
    ("nothing", "", None),
];

#[test]
fn each_user_identity_resolves_to_its_actor() {
    for (what, identity, actor) in CASES {
        assert_eq!(identity::actor(identity, Some(ADDRESS)).as_deref(), *actor, "{what}: {identity}");
    }
    assert_eq!(identity::actor(r#"{"type":"AWSAccount"}"#, None).as_deref(), Some("anonymous@"));
    let deep = format!(r#"{{"a":{}{},"userName":"anaya"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(identity::actor(&deep, None).as_deref(), Some("anaya"));
}
