"""Changes a table step by step with another tool, and prints a line of JSON with its rows after each step.

other_writers.py delta|iceberg typed|text TABLE CATALOG TRAIL

TABLE is a folder or an s3:// URL, CATALOG a folder for the catalog of Iceberg, and TRAIL a file with a record per line.
Columns are `typed` (times and structs, not partitioned) or `text` (lower-case names, JSON as text, partitioned). The
printed rows are pairs of event ID and user agent. They come from a list that this script changes along with the table.
"""
import datetime
import importlib.util
import json
import os
import sys

tool, form, location, catalog_folder, trail = sys.argv[1:]
needed = {"delta": ("deltalake", "pyarrow"), "iceberg": ("pyiceberg", "pyiceberg_core", "pyarrow", "sqlalchemy")}[tool]
if any(importlib.util.find_spec(module) is None for module in needed):
    sys.exit(9)

import pyarrow

typed = form == "typed"
in_s3 = location.startswith("s3://")
PARTS = 5
ACCOUNT, ADDRESSES, CUT = "000000000001", ("192.0.2.1", "192.0.2.2"), "2026-09-06T12:00:00Z"


def column(name):
    return name if typed else name.lower()


def time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


TEXT = pyarrow.string()
TYPES = {
    "eventTime": pyarrow.timestamp("us", tz="UTC") if typed else TEXT,
    "eventID": TEXT,
    "eventSource": TEXT,
    "eventName": TEXT,
    "recipientAccountId": TEXT,
    "sourceIPAddress": TEXT,
    "userIdentity": pyarrow.struct([("type", TEXT), ("principalId", TEXT), ("userName", TEXT)]) if typed else TEXT,
    "additionalEventData": TEXT,
    "responseElements": TEXT,
}


def arrow(records, extra):
    """Returns records as an Arrow table, also with the columns `extra` of text."""
    columns = {}
    for name, data_type in (TYPES | {name: TEXT for name in extra}).items():
        values = [record.get(name) for record in records]
        if name == "eventTime" and typed:
            values = [time(value) for value in values]
        elif name in ("additionalEventData", "responseElements") or (name == "userIdentity" and not typed):
            values = [None if value is None else json.dumps(value) for value in values]
        columns[column(name)] = pyarrow.array(values, data_type)
    return pyarrow.table(columns)


def parts():
    """Returns the trail in parts. All copies of a record are in one part, and bursts cross parts."""
    records = [{"eventSource": "signin.amazonaws.com"} | json.loads(line) for line in open(trail, encoding="utf-8")]
    number = {event_id: index for index, event_id in enumerate(sorted({record["eventID"] for record in records}))}
    split = [[] for _ in range(PARTS)]
    for record in records:
        split[number[record["eventID"]] % PARTS].append(record)
    return split


def with_agent(records, name="userAgent"):
    return [record | {name: "agent of " + record["eventID"]} for record in records]


def is_early_in_account(record):
    return record["recipientAccountId"] == ACCOUNT and record["eventTime"] < CUT


def show(step, version, metadata, records, held):
    """Prints the rows of a version. `held` are the event IDs that the tool itself reads."""
    assert sorted(held) == sorted(record["eventID"] for record in records), f"{step}: the tool reads other rows"
    rows = sorted([record["eventID"], record.get("userAgent")] for record in records)
    print(json.dumps({"step": step, "version": version, "metadata": metadata, "rows": rows}))


def write_delta():
    from deltalake import DeltaTable, write_deltalake

    options = None
    if in_s3:
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        options = {name: os.environ[name] for name in names}
        options |= {"AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", "aws_conditional_put": "etag"}

    def table():
        return DeltaTable(location, storage_options=options)

    def write(records, mode, extra=(), **more):
        partitions = None if typed else [column("recipientAccountId")]
        write_deltalake(
            location, arrow(records, extra), mode=mode, partition_by=partitions, storage_options=options, **more
        )

    def shown(step, records):
        held = table().to_pyarrow_table(columns=[column("eventID")])[column("eventID")].to_pylist()
        show(step, table().version(), None, records, held)

    first, second, third, fourth, fifth = parts()
    write(first, "append")
    shown("append", model := list(first))
    write(second, "append")
    shown("second append", model := model + second)
    write(first[::2] + third, "overwrite")
    shown("overwrite", model := first[::2] + third)
    limit = f"arrow_cast('{CUT}', 'Timestamp(Microsecond, Some(\"UTC\"))')" if typed else f"'{CUT}'"
    table().delete(f"\"{column('recipientAccountId')}\" = '{ACCOUNT}' AND \"{column('eventTime')}\" < {limit}")
    shown("delete", model := [record for record in model if not is_early_in_account(record)])
    write(second, "append")
    shown("append after the delete", model := model + second)
    compacted = table().optimize.compact()
    assert compacted["numFilesRemoved"] > compacted["numFilesAdded"] > 0, compacted
    shown("optimize", model)
    table().delete(f"\"{column('sourceIPAddress')}\" = '{ADDRESSES[0]}'")
    shown("second delete", model := [record for record in model if record["sourceIPAddress"] != ADDRESSES[0]])
    table().create_checkpoint()
    fourth, fifth = with_agent(fourth), with_agent(fifth)
    write(fourth, "append", ["userAgent"], schema_mode="merge")
    shown("append with a new column", model := model + fourth)
    write(fifth, "append", ["userAgent"])
    shown("last append", model + fifth)


def write_iceberg():
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.expressions import And, EqualTo, LessThan
    from pyiceberg.transforms import DayTransform, IdentityTransform
    from pyiceberg.types import StringType

    settings = {"uri": f"sqlite:///{catalog_folder}/catalog.db", "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if in_s3:
        settings |= {
            "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
            "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "s3.region": "us-east-1",
        }
    place = location if in_s3 else f"file://{location}"
    catalog = SqlCatalog("tests", warehouse=place, **settings)
    catalog.create_namespace("db")
    agent, agent_before = column("userAgent"), column("agentBefore")
    first, second, third, fourth, fifth = parts()
    first, second, third = map(with_agent, (first, second, third))
    table = catalog.create_table(
        "db.trail", arrow([], ["userAgent"]).schema, location=place, properties={"format-version": "2"}
    )
    assert table.format_version == 2

    def shown(step, records, is_new_snapshot=True):
        held = table.scan(selected_fields=(column("eventID"),)).to_arrow()[column("eventID")].to_pylist()
        version = str(table.current_snapshot().snapshot_id) if is_new_snapshot else None
        show(step, version, table.metadata_location.removeprefix("file://"), records, held)

    def append(records, extra):
        table.append(arrow(records, extra))

    append(first, ["userAgent"])
    shown("append", model := list(first))
    append(second, ["userAgent"])
    shown("second append", model := model + second)
    table.overwrite(arrow(third, ["userAgent"]), overwrite_filter=EqualTo(column("sourceIPAddress"), ADDRESSES[0]))
    model = [record for record in model if record["sourceIPAddress"] != ADDRESSES[0]] + third
    shown("overwrite", model)
    limit = time(CUT).isoformat() if typed else CUT
    table.delete(And(EqualTo(column("recipientAccountId"), ACCOUNT), LessThan(column("eventTime"), limit)))
    shown("delete", model := [record for record in model if not is_early_in_account(record)])
    # The new column has the old name of another one, so a reader that selects columns by name reads wrong values.
    with table.update_schema() as update:
        update.rename_column(agent, agent_before)
    with table.update_schema() as update:
        update.add_column(agent, StringType())
    model = [record | {"userAgent": None} for record in model]
    shown("schema change", model, is_new_snapshot=False)
    fourth = with_agent(with_agent(fourth), "agentBefore")
    append(fourth, ["agentBefore", "userAgent"])
    shown("append after the schema change", model := model + fourth)
    with table.update_spec() as update:
        if typed:
            update.add_field("eventTime", DayTransform(), "eventDay")
        else:
            update.add_field(column("recipientAccountId"), IdentityTransform(), "account")
    shown("partition change", model, is_new_snapshot=False)
    fifth = with_agent(fifth)
    append(fifth, ["agentBefore", "userAgent"])
    shown("append after the partition change", model := model + fifth)
    table.delete(EqualTo(column("sourceIPAddress"), ADDRESSES[1]))
    shown("last delete", [record for record in model if record["sourceIPAddress"] != ADDRESSES[1]])


write_delta() if tool == "delta" else write_iceberg()
