from panther_aws_helpers import aws_cloudtrail_success, aws_rule_context
from team_helpers import is_known, short_region

DENIED = ("AccessDenied", "Client.UnauthorizedOperation")


def rule(event):
    if aws_cloudtrail_success(event) or is_known(event):
        return False
    return event.get("errorCode") in DENIED


def title(event):
    user = event.udm("actor_user")
    return f"[{user}] was denied calls in [{short_region(event.get('awsRegion', 'nowhere'))}]"


def dedup(event):
    return event.udm("actor_user")


def unique(event):
    return event.get("eventName")


def severity(event):
    if event.deep_get("userIdentity", "type") == "Root":
        return "CRITICAL"
    if event.get("eventName", "").startswith("Delete"):
        return "HIGH"
    return "DEFAULT"


def alert_context(event):
    context = aws_rule_context(event)
    context["parameters"] = sorted((event.get("requestParameters") or {}).keys())
    return context


def runbook(event):
    return f"Ask the owner of {event.get('recipientAccountId')}."
