//! One decoder for many objects gives the records of each, and the columns that are wanted.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute;
use proptest::prelude::*;
use tawny::event::{self, batch::BatchBuilder};
use tawny::statistics::ScanStatistics;
use tawny::store::{Object, ObjectError, ReadSettings};
use tawny::time::Instant;
use tawny::trail::{self, DecodeOptions, Decoder, Prefilter};

use crate::oracle;
use crate::records::failed_sign_in;

fn object(name: &str, size: usize) -> Object {
    let path = PathBuf::from(name);
    Object { real: path.clone(), path, size: size as u64, modified: Instant::EPOCH, tag: None }
}

/// Decodes each object on its own.
fn decode_each(objects: &[Vec<u8>]) -> (RecordBatch, Vec<u128>, ScanStatistics) {
    let (mut batches, mut hashes, mut statistics) = (Vec::new(), Vec::new(), ScanStatistics::default());
    let prefilter = Prefilter::default();
    let options = DecodeOptions { prefilter: &prefilter, hash_records: true };
    for (number, bytes) in objects.iter().enumerate() {
        let object = object(&format!("{number}.json"), bytes.len());
        let decoded = trail::decode(&object, Ok(bytes), &ReadSettings::default(), options).unwrap();
        batches.extend(decoded.batches);
        hashes.extend(decoded.hashes);
        statistics.add(decoded.statistics);
    }
    (compute::concat_batches(&event::schema(), &batches).unwrap(), hashes, statistics)
}

/// Decodes objects with one decoder, to the columns with these indexes.
fn decode_together(objects: &[Vec<u8>], columns: &[usize]) -> (RecordBatch, ScanStatistics) {
    let schema = Arc::new(event::schema().project(columns).unwrap());
    let (mut batches, mut statistics) = (Vec::new(), ScanStatistics::default());
    let prefilter = Prefilter::default();
    let options = DecodeOptions { prefilter: &prefilter, hash_records: false };
    let mut decoder = Decoder::new(BatchBuilder::new(Arc::clone(&schema)));
    for (number, bytes) in objects.iter().enumerate() {
        let object = object(&format!("{number}.json"), bytes.len());
        statistics.add(decoder.decode(&object, Ok(bytes), &ReadSettings::default(), options));
        if number % 3 == 2 {
            batches.extend(decoder.take_batches().unwrap());
        }
    }
    decoder.finish_batch();
    batches.extend(decoder.take_batches().unwrap());
    (compute::concat_batches(&schema, &batches).unwrap(), statistics)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn tar(members: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Returns objects that are read, rejected as a whole, and rejected after some of their records were read.
fn objects() -> Vec<Vec<u8>> {
    let ann = failed_sign_in("ann", "2026-09-01T10:00:00Z", "1").to_string();
    let bob = failed_sign_in("bob", "2026-09-02T10:00:00.5Z", "2").to_string();
    let odd = r#"{"eventName":"A","eventname":"B","eventTime":17,"readOnly":"maybe","userAgent":{"a":1},"new":[]}"#;
    let more = r#"{"eventName":"A","eventName":"B","EVENTID":"3","eventTime":"x","apiVersion":1.50,"readOnly":"true"}"#;
    let good = format!("{{\"Records\":[{ann},{odd},{{\"broken\":}}]}}");
    let lines = format!("{ann}\n{more}\n{odd}\n");
    let cut = format!("{ann}\n{odd}\nno record");
    let archive = tar(&[("a.json", &good), ("b.json", &cut), ("c.json", &bob)]);
    vec![
        good.clone().into_bytes(),
        lines.into_bytes(),
        cut.clone().into_bytes(),
        gzip(good.as_bytes()),
        gzip(&archive),
        archive[..archive.len() - 1_500].to_vec(),
        archive,
        b"{\"Records\":[".to_vec(),
        b"{\"Records\":[{\"broken\":}]}".to_vec(),
        Vec::new(),
    ]
}

fn all_columns() -> Vec<usize> {
    (0..event::schema().fields().len()).collect()
}

proptest! {
    #![proptest_config(oracle::config(100))]

    #[test]
    fn shared_batches_have_the_records_of_each_object(
        objects in prop::collection::vec(prop::sample::select(objects()), 0..8),
        columns in prop::sample::subsequence(all_columns(), 0..=all_columns().len()).prop_shuffle(),
    ) {
        let (each, hashes, statistics) = decode_each(&objects);
        prop_assert_eq!(each.num_rows(), hashes.len());
        let (together, same_statistics) = decode_together(&objects, &all_columns());
        prop_assert_eq!(&together, &each);
        prop_assert_eq!(&same_statistics, &statistics);
        let (wanted, same_statistics) = decode_together(&objects, &columns);
        prop_assert_eq!(wanted, each.project(&columns).unwrap());
        prop_assert_eq!(same_statistics, statistics);
    }
}

/// An object may fill several batches before it turns out to be cut off.
#[test]
fn all_batches_of_a_rejected_object_are_discarded() {
    let line = |number: usize| format!("{{\"eventName\":\"A\",\"eventID\":\"{number}\"}}\n");
    let lines: String = (0..20_000).map(line).collect();
    let good = line(0).into_bytes();
    let cut = format!("{lines}no record").into_bytes();
    let objects = vec![good.clone(), cut, good];
    let (each, hashes, statistics) = decode_each(&objects);
    assert_eq!((each.num_rows(), hashes.len(), statistics.objects.rejected), (2, 2, 1));
    let (together, same_statistics) = decode_together(&objects, &all_columns());
    assert_eq!((together, same_statistics), (each, statistics));
}

#[test]
fn an_object_that_cannot_be_fetched_is_rejected() {
    let mut decoder = Decoder::new(BatchBuilder::default());
    let prefilter = Prefilter::default();
    let options = DecodeOptions { prefilter: &prefilter, hash_records: false };
    let failed = Err(ObjectError::Disk("denied".to_owned()));
    let statistics = decoder.decode(&object("a.json", 1), failed, &ReadSettings::default(), options);
    assert_eq!((statistics.objects.rejected, statistics.faults[0].reason.as_str()), (1, "denied"));
    decoder.finish_batch();
    assert!(decoder.take_batches().unwrap().is_empty());
}
