# Loops, a variable of the module, and an exception on unusual records: no predicate says this.
SHARED_WITH_ONE = False


def rule(event):
    global SHARED_WITH_ONE
    if event.get("eventName") != "ModifySnapshotAttribute":
        return False
    for item in event.deep_get("requestParameters", "createVolumePermission", "add", "items", default=[]):
        if item.get("group") == "all" or item.get("userId"):
            SHARED_WITH_ONE = "userId" in item
            return True
    return False


def title(event):
    return f"Snapshot {event['requestParameters']['snapshotId']} was shared"


def severity(_):
    return "INFO" if SHARED_WITH_ONE else "HIGH"
