# What is not in this file is known by name.


def severity_greater_than(first, second):
    order = ["INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
    rank = {name: place for place, name in enumerate(order)}
    return rank.get(first, -1) > rank.get(second, -1)


def listify(value):
    if isinstance(value, (str, dict)):
        return [value]
    try:
        list(value)
    except TypeError:
        return [value]
    return value


def get_val_from_list(items, wanted, key, value):
    return {item.get(wanted) for item in items if item.get(key) == value}


def key_value_list_to_dict(items, key, value):
    return {item[key]: item[value] for item in items}


def defang_ioc(text):
    for scheme in ("http", "https"):
        text = text.replace(scheme + "://", scheme.replace("tt", "xx") + "://")
    return text.replace(".", "[.]")


def ioc_match(found, known):
    return [item for item in (found or []) if item in known]
