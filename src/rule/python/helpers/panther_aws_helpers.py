# Panther's helpers for CloudTrail, in our own words.


def aws_cloudtrail_success(event):
    failed = event.get("errorCode", "") or event.get("errorMessage", "")
    return not failed


def aws_rule_context(event):
    missing = {
        "eventName": "<MISSING_EVENT_NAME>",
        "eventSource": "<MISSING_ACCOUNT_ID>",
        "awsRegion": "<MISSING_AWS_REGION>",
        "recipientAccountId": "<MISSING_ACCOUNT_ID>",
        "sourceIPAddress": "<MISSING_SOURCE_IP>",
        "userAgent": "<MISSING_USER_AGENT>",
        "userIdentity": "<MISSING_USER_IDENTITY>",
    }
    return {
        "eventName": event.get("eventName", missing["eventName"]),
        "eventSource": event.get("eventSource", missing["eventSource"]),
        "awsRegion": event.get("awsRegion", missing["awsRegion"]),
        "recipientAccountId": event.get("recipientAccountId", missing["recipientAccountId"]),
        "sourceIPAddress": event.get("sourceIPAddress", missing["sourceIPAddress"]),
        "userAgent": event.get("userAgent", missing["userAgent"]),
        "userIdentity": event.get("userIdentity", missing["userIdentity"]),
    }


def aws_rds_context(event):
    context = aws_rule_context(event)
    context["db_identifier"] = event.deep_get("requestParameters", "dBInstanceIdentifier") or event.deep_get(
        "requestParameters", "dBClusterIdentifier", default="N/A"
    )
    context["db_instance_arn"] = event.deep_get("responseElements", "dBInstanceArn") or event.deep_get(
        "responseElements", "dBClusterArn", default="N/A"
    )
    return context


def aws_guardduty_context(event):
    context = {"resource": event.get("resource", {}), "service": event.get("service", {})}
    context["description"] = event.get("description", "<MISSING DESCRIPTION>")
    context["severity"] = event.get("severity", "<MISSING SEVERITY>")
    context["id"] = event.get("id", "<MISSING ID>")
    context["type"] = event.get("type", "<MISSING TYPE>")
    context["accountId"] = event.get("accountId", "<MISSING ACCOUNT ID>")
    return context


def aws_strip_role_session_id(arn):
    return "/".join(arn.split("/")[:2])


def lookup_aws_account_name(account_id):
    return account_id


def aws_event_tense(name):
    for verb, tense in (("Create", "d"), ("Delete", "d"), ("Start", "ed"), ("Stop", "ped"), ("Update", "d")):
        if name.startswith(verb):
            return verb.lower() + tense
    return name


def aws_regions():
    regions = {
        "ap-east": 1,
        "ap-northeast": 3,
        "ap-south": 2,
        "ap-southeast": 4,
        "ca-central": 1,
        "eu-central": 2,
        "eu-north": 1,
        "eu-south": 2,
        "eu-west": 3,
        "il-central": 1,
        "me-central": 1,
        "me-south": 1,
        "sa-east": 1,
        "us-east": 2,
        "us-west": 2,
    }
    return [f"{area}-{number + 1}" for area, count in regions.items() for number in range(count)]
