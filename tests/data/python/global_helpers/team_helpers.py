KNOWN = {"terraform", "ci"}


def is_known(event):
    return event.deep_get("userIdentity", "userName", default="") in KNOWN


def short_region(name):
    return "-".join(part[:2] for part in name.split("-"))
