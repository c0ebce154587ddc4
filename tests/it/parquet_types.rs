//! Every Parquet type as each of our columns, with valid and invalid values.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96, Int96Type,
};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use tawny::engine::Engine;
use tawny::engine::columnar_table::Columnar;
use tawny::error::Error;

use tawny::layout;
use tawny::query::{self, Query};
use tawny::store::Stores;
use tawny::time::Range;
use tawny::trail;

use crate::oracle::RUNTIME;
use crate::tables::{group, tawny, text};

/// The values of a column, one per row.
#[derive(Debug, Clone)]
enum Values {
    Bools(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Int96s(Vec<[u32; 3]>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
    Fixed(Vec<Vec<u8>>),
}

impl Values {
    fn write(&self, writer: &mut SerializedColumnWriter<'_>, definition: i16, is_repeated: bool) {
        let (definitions, repetitions) = (vec![definition; self.len()], vec![0_i16; self.len()]);
        let (def, rep) = (Some(definitions.as_slice()), is_repeated.then_some(repetitions.as_slice()));
        match self {
            Values::Bools(values) => writer.typed::<BoolType>().write_batch(values, def, rep),
            Values::Ints(values) => writer.typed::<Int32Type>().write_batch(values, def, rep),
            Values::Longs(values) => writer.typed::<Int64Type>().write_batch(values, def, rep),
            Values::Int96s(values) => {
                let value = |parts: &[u32; 3]| {
                    let mut value = Int96::new();
                    value.set_data(parts[0], parts[1], parts[2]);
                    value
                };
                let values: Vec<Int96> = values.iter().map(value).collect();
                writer.typed::<Int96Type>().write_batch(&values, def, rep)
            }
            Values::Floats(values) => writer.typed::<FloatType>().write_batch(values, def, rep),
            Values::Doubles(values) => writer.typed::<DoubleType>().write_batch(values, def, rep),
            Values::Bytes(values) => {
                let values: Vec<ByteArray> = values.iter().map(|value| value.clone().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, def, rep)
            }
            Values::Fixed(values) => {
                let values: Vec<FixedLenByteArray> =
                    values.iter().map(|value| ByteArray::from(value.clone()).into()).collect();
                writer.typed::<FixedLenByteArrayType>().write_batch(&values, def, rep)
            }
        }
        .unwrap();
    }

    fn len(&self) -> usize {
        match self {
            Values::Bools(values) => values.len(),
            Values::Ints(values) => values.len(),
            Values::Longs(values) => values.len(),
            Values::Int96s(values) => values.len(),
            Values::Floats(values) => values.len(),
            Values::Doubles(values) => values.len(),
            Values::Bytes(values) | Values::Fixed(values) => values.len(),
        }
    }
}

/// A column: its schema declaration with `NAME` for the name, and its leaves.
#[derive(Debug, Clone)]
struct Column {
    declared: String,
    leaves: Vec<Leaf>,
}

#[derive(Debug, Clone)]
struct Leaf {
    values: Values,
    definition: i16,
    is_repeated: bool,
}

fn flat(declared: &str, values: Values) -> Column {
    let leaf = Leaf { values, definition: 1, is_repeated: false };
    Column { declared: format!("optional {declared};"), leaves: vec![leaf] }
}

/// Writes a file with these named columns.
fn write(path: &Path, columns: &[(String, Column)]) {
    write_with(path, columns, WriterProperties::builder().build());
}

fn write_with(path: &Path, columns: &[(String, Column)], properties: WriterProperties) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let declared: String = columns.iter().map(|(name, column)| column.declared.replace("NAME", name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {declared} }}")).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut leaves = columns.iter().flat_map(|(_, column)| &column.leaves);
    while let Some(mut column) = rows.next_column().unwrap() {
        let leaf = leaves.next().unwrap();
        leaf.values.write(&mut column, leaf.definition, leaf.is_repeated);
        column.close().unwrap();
    }
    rows.close().unwrap();
    writer.close().unwrap();
}

fn texts(texts: &[&str]) -> Values {
    Values::Bytes(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

/// Returns for each type two valid values and two that may be invalid.
fn types() -> Vec<(&'static str, Column, Column)> {
    let mut types = Vec::new();
    let mut both = |name: &'static str, declared: &str, good: Values, odd: Values| {
        types.push((name, flat(declared, good), flat(declared, odd)));
    };
    both("boolean", "boolean NAME", Values::Bools(vec![true, false]), Values::Bools(vec![false, true]));
    for (name, kind) in [
        ("int32", ""),
        ("int8", "(INT_8)"),
        ("uint8", "(UINT_8)"),
        ("int16", "(INT_16)"),
        ("uint16", "(UINT_16)"),
        ("int32 annotated", "(INT_32)"),
        ("uint32", "(UINT_32)"),
        ("decimal in 32", "(DECIMAL(9,2))"),
        ("date", "(DATE)"),
        ("time ms", "(TIME_MILLIS)"),
        ("time ms, logical", "(TIME(MILLIS,true))"),
    ] {
        let declared = format!("int32 NAME {kind}");
        both(name, &declared, Values::Ints(vec![7, 20_000]), Values::Ints(vec![i32::MIN, i32::MAX]));
    }
    for (name, kind) in [
        ("int64", ""),
        ("int64 annotated", "(INT_64)"),
        ("uint64", "(UINT_64)"),
        ("decimal in 64", "(DECIMAL(18,2))"),
        ("time us", "(TIME_MICROS)"),
        ("time ns", "(TIME(NANOS,false))"),
        ("timestamp ms", "(TIMESTAMP_MILLIS)"),
        ("timestamp us", "(TIMESTAMP_MICROS)"),
        ("timestamp ns", "(TIMESTAMP(NANOS,true))"),
        ("timestamp us, local", "(TIMESTAMP(MICROS,false))"),
    ] {
        let declared = format!("int64 NAME {kind}");
        both(name, &declared, Values::Longs(vec![7, 20_000]), Values::Longs(vec![i64::MIN, i64::MAX]));
    }
    both("int96", "int96 NAME", Values::Int96s(vec![[0, 0, 2_460_000]; 2]), Values::Int96s(vec![[u32::MAX; 3]; 2]));
    both("float", "float NAME", Values::Floats(vec![1.5, -2.0]), Values::Floats(vec![f32::NAN, f32::INFINITY]));
    both("double", "double NAME", Values::Doubles(vec![1.5, -2.0]), Values::Doubles(vec![f64::NAN, f64::MIN]));
    let odd_bytes = || Values::Bytes(vec![b"a\xff\xfe\x80b".to_vec(), b"\xf0\x9f\xed\xa0\x80".to_vec()]);
    for (name, kind) in [
        ("bytes", ""),
        ("utf8", "(UTF8)"),
        ("string", "(STRING)"),
        ("json", "(JSON)"),
        ("bson", "(BSON)"),
        ("enum", "(ENUM)"),
    ] {
        both(name, &format!("binary NAME {kind}"), texts(&["{\"a\":\"b\"}", "plain"]), odd_bytes());
    }
    let decimals = || Values::Bytes(vec![vec![1, 2], vec![0]]);
    both("decimal in bytes", "binary NAME (DECIMAL(9,2))", decimals(), Values::Bytes(vec![vec![0x80; 16], vec![]]));
    for (name, length, kind) in [
        ("fixed", 5, ""),
        ("fixed 16", 16, ""),
        ("uuid", 16, "(UUID)"),
        ("interval", 12, "(INTERVAL)"),
        ("float16", 2, "(FLOAT16)"),
        ("decimal in fixed", 8, "(DECIMAL(18,2))"),
    ] {
        let declared = format!("fixed_len_byte_array({length}) NAME {kind}");
        let values = |byte| Values::Fixed(vec![vec![byte; length]; 2]);
        both(name, &declared, values(0x31), values(0xff));
    }

    let nested = |declared: &str, leaves: Vec<(Values, i16, bool)>| {
        let leaf = |(values, definition, is_repeated)| Leaf { values, definition, is_repeated };
        Column { declared: declared.to_owned(), leaves: leaves.into_iter().map(leaf).collect() }
    };
    let member = "optional group NAME { optional binary type; optional binary username (JSON); }";
    let list = "optional group NAME (LIST) { repeated group list { optional binary element (ENUM); } }";
    let map = "optional group NAME (MAP) { repeated group key_value { required binary key; optional binary value; } }";
    let numbered =
        "optional group NAME (MAP) { repeated group key_value { required int32 key; optional binary value; } }";
    let of_dates = "optional group NAME { optional int32 day (DATE); optional int32 clock (TIME_MILLIS); }";
    for (name, values) in [("good", texts(&["x", "y"])), ("odd", odd_bytes())] {
        let columns = [
            nested(member, vec![(values.clone(), 2, false), (values.clone(), 2, false)]),
            nested(list, vec![(values.clone(), 3, true)]),
            nested(map, vec![(values.clone(), 2, true), (values.clone(), 3, true)]),
            nested(numbered, vec![(Values::Ints(vec![1, 2]), 2, true), (values.clone(), 3, true)]),
            nested(of_dates, vec![(Values::Ints(vec![1, i32::MAX]), 2, false); 2]),
        ];
        for (kind, column) in ["struct", "list", "map", "map by number", "struct of dates"].into_iter().zip(columns) {
            if name == "good" {
                types.push((kind, column.clone(), column));
            } else if let Some((_, _, odd)) = types.iter_mut().find(|(known, _, _)| *known == kind) {
                *odd = column;
            }
        }
    }
    types
}

/// Our columns of every kind: text, boolean, JSON, event identity, and sources of derived fields.
const OURS: [&str; 10] = [
    "eventname",
    "useridentity",
    "readonly",
    "requestparameters",
    "responseelements",
    "eventid",
    "recipientaccountid",
    "resources",
    "useragent",
    "sourceipaddress",
];

/// Returns the number of rows of all columns of a file, or the error.
fn rows(file: &Path) -> Result<usize, Error> {
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    RUNTIME.block_on(async {
        let stores = Stores::default();
        let sources = [file.display().to_string()];
        let files = trail::parquet_files(&stores, &sources, true).await?.unwrap();
        let athena = layout::shipped()?.into_iter().find(|layout| layout.name == "athena");
        let data = Columnar::open(&engine, &stores, files, athena).await?;
        let sql = "SELECT * FROM cloudtrail";
        let asked = Query { sql, rule: None, range: Range::default(), with_duplicates: true };
        let answer = query::run(&engine, &data, asked).await?.answer;
        Ok(answer.rows.iter().map(arrow::array::RecordBatch::num_rows).sum())
    })
}

#[test]
fn every_parquet_type_is_read_for_each_column() {
    let folder = tempfile::tempdir().unwrap();
    let time = flat("binary NAME (UTF8)", texts(&["2026-09-01T00:00:00Z", "2026-09-01T00:00:01Z"]));
    for (number, (name, good, odd)) in types().into_iter().enumerate() {
        for (kind, column) in [("good", &good), ("odd", &odd)] {
            let file = folder.path().join(format!("{number}-{kind}.parquet"));
            let mut columns = vec![("eventtime".to_owned(), time.clone())];
            columns.extend(OURS.map(|ours| (ours.to_owned(), column.clone())));
            write(&file, &columns);
            assert_eq!(rows(&file).map_err(|error| format!("{error:?}")), Ok(2), "{name}, {kind}");

            // A time column gives times or null, or is refused by name.
            columns[0].1 = column.clone();
            let file = file.with_extension("time.parquet");
            write(&file, &columns);
            match rows(&file) {
                Ok(rows) => assert_eq!(rows, 2, "{name}, {kind}, as the time"),
                Err(error) => panic!("{name}, {kind}, as the time: {error:?}"),
            }
        }
    }
}

#[test]
fn column_of_bytes_in_one_file_and_numbers_in_another_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let time = flat("binary NAME (UTF8)", texts(&["2026-09-01T00:00:00Z", "2026-09-01T00:00:01Z"]));
    let of_texts = |values: &[&str]| flat("binary NAME", texts(values));
    let columns = |api: Column, id: &str| {
        let ids = [format!("{id}1"), format!("{id}2")];
        let names = ["eventtime", "eventname", "useridentity", "apiversion", "eventid"].map(str::to_owned);
        let ids = of_texts(&[&ids[0], &ids[1]]);
        names
            .into_iter()
            .zip([time.clone(), of_texts(&["A", "B"]), of_texts(&["{}", "{}"]), api, ids])
            .collect::<Vec<_>>()
    };
    let data = folder.path().join("data");
    write(&data.join("a.parquet"), &columns(of_texts(&["7", "x"]), "a"));
    write(&data.join("b.parquet"), &columns(flat("int32 NAME", Values::Ints(vec![7, 65])), "b"));
    write(&data.join("c.parquet"), &columns(of_texts(&["7", "65"]), "c"));
    let sql = "SELECT \"apiVersion\" AS v, count(*) AS n FROM cloudtrail GROUP BY 1 ORDER BY 1";
    let output = tawny(&["query", sql, data.to_str().unwrap(), "--format", "csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "v,n\n65,2\n7,3\nx,1\n");
}

/// Returns three failed sign-ins as columns of a table; `agent` is the bytes of each user agent.
fn burst(declared: &str, user: &[u8], agent: &[u8]) -> Vec<(String, Column)> {
    let three = |bytes: &[u8]| Values::Bytes(vec![bytes.to_vec(); 3]);
    let bytes = |values| flat(&format!("binary NAME {declared}"), values);
    let identity = Column {
        declared: format!(
            "optional group NAME {{ optional binary type {declared}; optional binary username {declared}; }}"
        ),
        leaves: vec![
            Leaf { values: three(b"IAMUser"), definition: 2, is_repeated: false },
            Leaf { values: three(user), definition: 2, is_repeated: false },
        ],
    };
    let times = ["2026-09-01T00:00:00Z", "2026-09-01T00:00:01Z", "2026-09-01T00:00:02Z"];
    [
        ("eventtime", bytes(texts(&times))),
        ("eventid", bytes(texts(&["a", "b", "c"]))),
        ("eventname", bytes(three(b"ConsoleLogin"))),
        ("eventsource", bytes(three(b"signin.amazonaws.com"))),
        ("useridentity", identity),
        ("recipientaccountid", bytes(three(b"111122223333"))),
        ("responseelements", bytes(three(b"{\"ConsoleLogin\":\"Failure\"}"))),
        ("additionaleventdata", bytes(three(b"{\"MFAUsed\":\"Yes\"}"))),
        ("useragent", bytes(three(agent))),
    ]
    .into_iter()
    .map(|(name, column)| (name.to_owned(), column))
    .collect()
}

#[test]
fn invalid_utf8_is_replaced_and_counted_for_every_declared_type() {
    let folder = tempfile::tempdir().unwrap();
    for (number, declared) in ["", "(UTF8)", "(STRING)", "(JSON)", "(ENUM)", "(BSON)"].into_iter().enumerate() {
        let data = folder.path().join(number.to_string());
        write(&data.join("a.parquet"), &burst(declared, b"an\xe9", b"Mozilla\xff\xfe/5.0"));
        let output = tawny(&["hunt", data.to_str().unwrap(), "--format", "jsonl"]);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{declared}: {talk}");
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["event_ids"], serde_json::json!(["a", "b", "c"]), "{declared}");
        assert_eq!(found["user_agents"], serde_json::json!(["Mozilla\u{fffd}\u{fffd}/5.0"]), "{declared}");
        assert!(found["group"].to_string().contains("an\u{fffd}"), "{declared}: {found}");
        assert!(talk.contains("note: 3 invalid UTF-8 sequences replaced"), "{declared}: {talk}");
    }
    let data = folder.path().join("valid");
    write(&data.join("a.parquet"), &burst("(UTF8)", b"anaya", b"Mozilla"));
    let output = tawny(&["hunt", data.to_str().unwrap(), "--format", "jsonl"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 2);
}

#[test]
fn embedded_arrow_schema_does_not_skip_utf8_validation() {
    // The embedded schema declares all columns as text, the file does not.
    let folder = tempfile::tempdir().unwrap();
    let columns = burst("", b"anaya", b"\xff\xff\xff");
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, _)| match name.as_str() {
            "useridentity" => group(name, vec![text("type"), text("username")]),
            name => text(name),
        })
        .collect();
    let hint = parquet::arrow::encode_arrow_schema(&Schema::new(fields));
    let hint = KeyValue::new("ARROW:schema".to_owned(), hint);
    let file = folder.path().join("a.parquet");
    write_with(&file, &columns, WriterProperties::builder().set_key_value_metadata(Some(vec![hint])).build());
    let output = tawny(&["hunt", file.to_str().unwrap(), "--format", "jsonl"]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{talk}");
    assert!(talk.contains("note: 3 invalid UTF-8 sequences replaced"), "{talk}");
}
