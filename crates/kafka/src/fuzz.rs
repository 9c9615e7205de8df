//! Fuzz targets of what topics hold. Each test is one (decision 0011): with the other tests it runs its corpus in
//! `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code. Answers of brokers are none: the decision
//! says why.

use bolero::check;

use crate::batch::{BatchWriter, HEAD_BYTES, read_batches};

/// Record batches: as they are, or with a checksum that fits the first.
#[test]
fn batches() {
    check!(name = "batches").for_each(|bytes: &[u8]| {
        let Some((how, content)) = bytes.split_first() else { return };
        let mut content = content.to_vec();
        if how & 1 == 1 && content.len() >= HEAD_BYTES {
            let length = (content.len() - 12) as i32;
            content[8..12].copy_from_slice(&length.to_be_bytes());
            content[16] = 2;
            let crc = crc32c::crc32c(&content[21..]);
            content[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let Ok(batches) = read_batches(content.into()) else { return };
        for batch in batches {
            let mut writer = BatchWriter::new(0, 0);
            for record in &batch.records {
                let headers: Vec<(&[u8], &[u8])> =
                    record.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                writer.push(0, record.key.as_deref(), record.value.as_deref(), &headers);
            }
            let again = read_batches(writer.finish(None)).expect("what was written is read");
            let told = |records: &[crate::batch::Record]| {
                records.iter().map(|r| (r.key.clone(), r.value.clone(), r.headers.clone())).collect::<Vec<_>>()
            };
            assert_eq!(told(&again[0].records), told(&batch.records));
        }
    });
}
