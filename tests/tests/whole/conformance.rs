//! What every journal behind the seam must do, run on the embedded log and on Kafka: the same client, the same checks, the
//! topics made by admin. What they cannot both do is in `Capabilities`, and named here.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::deployment::Deployment;
use harness::kafka::Clusters;
use journal::{AnyJournal, Capabilities, Entry, Journal, KeptPosition, Reader, Topic};
use serde_json::json;
use stream::config::{Compression, StreamConfig};
use stream::facts::{Place, Position};
use stream::provenance::SourceId;
use stream::wire::RefusalReason;
use stream::{Batch, BatchBuilder, Kind};
use tokio::task::JoinSet;
use tokio::time::timeout;

const STREAM: &str = "test.journal.conforms";
/// How long anything may take; topics have to be made first.
const WITHIN: Duration = Duration::from_secs(60);
const APPENDS: u64 = 500;

/// The journal of a running deployment, and a stream in it.
struct Ground {
    journal: AnyJournal,
    config: StreamConfig,
    topic: Topic,
}

#[test]
fn the_embedded_log_conforms() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let deployment = Deployment::start_bare(scratch.path())?;
    conforms(&deployment, Capabilities { retention_waits: true, packs: false })
}

#[test]
fn kafka_conforms() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let journal = format!("kafka={};failover={}", clusters.normal_bootstrap(), clusters.failover_bootstrap());
    let mut deployment = Deployment::new(&scratch.path().join("data"), &["--no-first-stream", "--journal", &journal])?;
    deployment.start()?;
    conforms(&deployment, Capabilities { retention_waits: false, packs: true })
}

fn conforms(deployment: &Deployment, capabilities: Capabilities) -> Result<()> {
    deployment.create_stream(&json!({"id": STREAM}))?;
    let config = deployment.api("GET", &format!("/api/v1/streams/{STREAM}"), None)?.json()?;
    let config: StreamConfig = serde_json::from_value(config)?;
    let address = deployment.api("GET", "/api/v1/journal", None)?.json()?;
    let address = address["address"].as_str().context("admin knows no journal")?.to_owned();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let journal = AnyJournal::connect(&address)?;
        ensure!(journal.capabilities() == capabilities, "other capabilities than are named");
        let ground = Ground { topic: Topic::of(&config), journal, config };
        let mut reader = ground.every_kind_of_record_comes_back().await?;
        ground.reading_begins_in_the_middle().await?;
        ground.appends_at_once_are_each_there_once(&mut reader).await?;
        ground.what_cannot_be_is_refused().await?;
        ground.bounds_and_positions_are_kept().await
    })
}

impl Ground {
    fn place(&self) -> Place {
        Place { cluster: 0, partition: 0 }
    }

    fn batch(&self, source: u64, records: &[(Kind, u64, Option<i64>, &[u8])]) -> Result<Batch> {
        let mut builder = BatchBuilder::new(0);
        for (kind, end, event_time_ms, body) in records {
            builder.push(*kind, *end, *event_time_ms, body);
        }
        let source = SourceId::derive(7, &[&source.to_be_bytes()]);
        let batch = builder.take(&self.config.spec.id, self.config.incarnation, source);
        batch.context("an empty batch")
    }

    /// Appends, again while the topic is being made.
    async fn append(&self, batch: &Batch) -> Result<u64> {
        let appended = async {
            loop {
                match self.journal.append(&self.topic.key, self.place(), batch, Compression::Zstd).await {
                    Ok(appended) => return Ok(appended.offset),
                    Err(refusal) if refusal.reason == RefusalReason::TooLarge => bail!("{refusal}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(WITHIN, appended).await?
    }

    fn read(&self, offset: u64) -> Reader {
        self.journal.read(&self.topic, Position::at(self.place(), offset))
    }

    /// Entries until they hold so many records.
    async fn entries(&self, reader: &mut Reader, records: usize) -> Result<Vec<Entry>> {
        let (mut entries, mut have): (Vec<Entry>, usize) = (Vec::new(), 0);
        while have < records {
            // After a refusal the reader goes on by itself.
            let Ok(chunk) = timeout(WITHIN, reader.next()).await? else { continue };
            ensure!(chunk.start_offset <= chunk.end_offset, "{} behind {}", chunk.start_offset, chunk.end_offset);
            have += chunk.entries.iter().map(|entry| entry.batch.len()).sum::<usize>();
            entries.extend(chunk.entries);
        }
        Ok(entries)
    }

    /// A reader that was there first reads every kind of record as it was appended, identity, time and bytes.
    async fn every_kind_of_record_comes_back(&self) -> Result<Reader> {
        let mut reader = self.read(0);
        let first = self.batch(
            1,
            &[
                (Kind::Event, 4, None, b"\xff\0 \n"),
                (Kind::Mark, 9, None, b""),
                (Kind::Event, 10, Some(-5), b""),
                (Kind::End, 10, None, b""),
            ],
        )?;
        let second = self.batch(2, &[(Kind::Event, 3, Some(1_795_420_800_000), "ü".as_bytes())])?;
        let offsets = [self.append(&first).await?, self.append(&second).await?];
        ensure!(offsets == [0, 4], "offsets {offsets:?}");
        let entries = self.entries(&mut reader, 5).await?;
        let read: Vec<_> = entries.iter().flat_map(|entry| entry.batch.records()).collect();
        let expected: Vec<_> = [&first, &second].into_iter().flat_map(Batch::records).collect();
        ensure!(read == expected, "{read:?} is not {expected:?}");
        let sources: Vec<SourceId> = entries.iter().map(|entry| entry.batch.source).collect();
        ensure!(sources == [first.source, second.source], "{sources:?}");
        let times: Vec<i64> = entries.iter().map(|entry| entry.append_time_ms).collect();
        ensure!(times.is_sorted() && times[0] > 1_700_000_000_000, "append times {times:?}");
        Ok(reader)
    }

    /// The first entry covers the offset that was asked for, and what comes behind it follows.
    async fn reading_begins_in_the_middle(&self) -> Result<()> {
        let entries = self.entries(&mut self.read(2), 3).await?;
        let first = entries.first().context("nothing is read")?;
        ensure!(first.offset <= 2 && first.end_offset() > 2, "{}..{}", first.offset, first.end_offset());
        ensure!(entries.last().is_some_and(|last| last.end_offset() == 5), "what lies behind is missing");
        Ok(())
    }

    /// Many appends at a time are answered with places of their own, and read once each, in the order of the offsets.
    async fn appends_at_once_are_each_there_once(&self, reader: &mut Reader) -> Result<()> {
        let mut appends = JoinSet::new();
        for n in 0..APPENDS {
            let batch = self.batch(100 + n, &[(Kind::Event, 1, None, n.to_string().as_bytes())])?;
            let (journal, key, place) = (self.journal.clone(), self.topic.key.clone(), self.place());
            appends.spawn(async move { (n, journal.append(&key, place, &batch, Compression::Lz4).await) });
        }
        let mut answered = Vec::new();
        while let Some(appended) = timeout(WITHIN, appends.join_next()).await? {
            let (n, appended) = appended?;
            answered.push((appended?.offset, n));
        }
        answered.sort_unstable();
        let entries = self.entries(reader, APPENDS as usize).await?;
        let read: Vec<(u64, u64)> = entries
            .iter()
            .map(|entry| {
                Ok((entry.offset, std::str::from_utf8(&entry.batch.records().next().context("empty")?.body)?.parse()?))
            })
            .collect::<Result<_>>()?;
        ensure!(read == answered, "what was answered is not what is read");
        ensure!(read.iter().map(|(offset, _)| *offset).eq(5..5 + APPENDS), "the offsets have holes");
        Ok(())
    }

    /// Refusals have the reason that a gateway acts upon.
    async fn what_cannot_be_is_refused(&self) -> Result<()> {
        let batch = self.batch(1, &[(Kind::Event, 1, None, b"x")])?;
        let unknown = self.journal.append("test.journal.nobody@1", self.place(), &batch, Compression::None).await;
        let reason = unknown.err().map(|refusal| refusal.reason);
        ensure!(reason == Some(RefusalReason::UnknownStream), "an unknown topic: {reason:?}");
        let large = self.batch(1, &[(Kind::Event, 1, None, &vec![b'x'; 4 << 20])])?;
        let reason = self
            .journal
            .append(&self.topic.key, self.place(), &large, Compression::None)
            .await
            .err()
            .map(|refusal| refusal.reason);
        ensure!(reason == Some(RefusalReason::TooLarge), "a batch of 4 MiB: {reason:?}");
        Ok(())
    }

    /// Bounds tell of every place, and whoever states a position is thanked.
    async fn bounds_and_positions_are_kept(&self) -> Result<()> {
        let bounds = self.journal.bounds(std::slice::from_ref(&self.topic.key)).await?;
        let places: Vec<Place> = bounds.iter().map(|bounds| bounds.place).collect();
        ensure!(places == self.journal.places(&self.config), "bounds of {places:?}");
        let here = bounds.iter().find(|bounds| bounds.place == self.place()).context("no bounds")?;
        ensure!((here.start_offset, here.end_offset) == (0, 5 + APPENDS), "{here:?}");
        let none = self.journal.bounds(&["test.journal.nobody@1".to_owned()]).await?;
        ensure!(none.is_empty(), "bounds of an unknown topic: {none:?}");
        let (topic, reader) = (self.topic.key.clone(), "files".to_owned());
        let position = KeptPosition { topic, place: self.place(), reader, offset: 5, gone: false };
        Ok(self.journal.keep(position).await?)
    }
}
