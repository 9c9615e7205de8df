//! Legs that are handed over, and begin where another stood.

use super::*;
use crate::leg::hand_over::HandOver;

/// Hands over the leg on this disk, by an object in a folder.
fn hand_over(disk: &SimDisk, folder: &Path, name: &str) -> PathBuf {
    let shared: stream::disk::SharedDisk = Arc::new(disk.clone());
    let (owner, state) = sink::files::hand_over::hand_over(&shared, &dir()).unwrap().unwrap();
    assert_eq!((owner.leg, &state), ("files".to_owned(), &verify(disk, &dir()).unwrap().state));
    let path = folder.join(name);
    std::fs::write(&path, HandOver::of(TOPIC, "files", &state).text().unwrap()).unwrap();
    path
}

/// The entries once more, behind all that is there.
fn once_more(entries: &[Entry]) -> Vec<Entry> {
    let mut offset = entries.last().map_or(0, Entry::end_offset);
    let again = |entry: &Entry| {
        let entry = Entry { offset, ..entry.clone() };
        offset = entry.end_offset();
        entry
    };
    entries.iter().map(again).collect()
}

#[test]
fn what_was_handed_over_is_delivered_once_by_both_together() {
    for seed in 0..40 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (mailbox, entries, folder) = (Mailbox::new(&key()), journal(&mut dice), tempfile::tempdir().unwrap());
        let half = dice.random_range(1..entries.len());
        let [alone, before, after] = [SimDisk::new(), SimDisk::new(), SimDisk::new()];
        feed(&mut leg(&alone, &mailbox).unwrap(), &entries, &mut dice).unwrap();
        let mut first = leg(&before, &mailbox).unwrap();
        feed(&mut first, &entries[..half], &mut dice).unwrap();
        let path = hand_over(&before, folder.path(), "object.json");
        let handed_over = verify(&before, &dir()).unwrap().state;

        let all = [&entries[..], &once_more(&entries)].concat();
        for _ in 0..2 {
            after.lose_power_after(dice.random_range(0..60));
            let ran = leg_from(&after, &mailbox, b"", 0, Some(&path));
            let ran = ran.and_then(|mut leg| feed(&mut leg, &all, &mut dice));
            assert!(ran.is_ok() || after.power_is_gone(), "{ran:?}");
            after.power_loss(&mut dice);
        }
        let begun = leg_from(&after, &mailbox, b"", 0, Some(&path)).unwrap();
        assert!(begun.positions()[0].offset >= handed_over.position(HERE).offset, "seed {seed}");
        drop(begun);
        std::fs::remove_file(&path).unwrap();
        feed(&mut leg_from(&after, &mailbox, b"", 0, Some(&path)).unwrap(), &all, &mut dice).unwrap();

        let mut found = [lines(&before, &dir()), lines(&after, &dir())].concat();
        found.sort_unstable();
        assert_eq!(found, expected().0, "seed {seed}");
        let [report, whole] = [&after, &alone].map(|disk| verify(disk, &dir()).unwrap());
        assert_eq!(report.findings, [], "seed {seed}");
        let (fates, ours) = (report.state.fates, handed_over.fates);
        assert_eq!(fates.total() + ours.total(), 120, "seed {seed}: each record has one fate");
        assert!(fates.doubles >= ours.total(), "seed {seed}: all that was handed over came again");
        let taken = |state: sink::LegState| -> Vec<_> { state.sources.into_values().map(|s| s.taken).collect() };
        assert_eq!(taken(report.state), taken(whole.state), "seed {seed}: the union of both");
    }
}

#[test]
fn there_and_back_three_times_each_record_is_delivered_once_and_no_old_leg_goes_on() {
    for seed in 0..40 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (mailbox, entries, folder) = (Mailbox::new(&key()), journal(&mut dice), tempfile::tempdir().unwrap());
        let all = [&entries[..], &once_more(&entries)].concat();
        let (here, mut found, mut object) = (SimDisk::new(), Vec::new(), None::<PathBuf>);
        let refusal = |begin: Option<&Path>| leg_from(&here, &mailbox, b"", 0, begin).map(|_| ()).unwrap_err();
        for round in 0..3 {
            let cut = |part: usize| &all[..all.len() * (2 * round + part) / 7];
            let mut old = leg_from(&here, &mailbox, b"", 0, object.as_deref()).unwrap();
            feed(&mut old, cut(1), &mut dice).unwrap();
            let there = SimDisk::new();
            let to = hand_over(&here, folder.path(), "there.json");
            assert!(feed(&mut old, &all, &mut dice).is_err(), "seed {seed}: the old leg is shut out");
            here.power_loss(&mut dice);
            assert!(matches!(refusal(None), LegError::HandedOver { .. }), "seed {seed}");
            if let Some(old) = &object {
                let said = refusal(Some(old)).to_string();
                assert!(said.contains("where the leg stood when it was handed over"), "seed {seed}: {said}");
            }
            assert_eq!(
                hand_over(&here, folder.path(), "again.json").metadata().unwrap().len(),
                to.metadata().unwrap().len()
            );
            feed(&mut leg_from(&there, &mailbox, b"", 0, Some(&to)).unwrap(), cut(2), &mut dice).unwrap();
            object = Some(hand_over(&there, folder.path(), "back.json"));
            found.extend(lines(&there, &dir()));
            assert_eq!(verify(&there, &dir()).unwrap().findings, [], "seed {seed}");
        }
        feed(&mut leg_from(&here, &mailbox, b"", 0, object.as_deref()).unwrap(), &all, &mut dice).unwrap();
        found.extend(lines(&here, &dir()));
        found.sort_unstable();
        assert_eq!(found, expected().0, "seed {seed}");
        assert_eq!(verify(&here, &dir()).unwrap().findings, [], "seed {seed}");
    }
}

#[test]
fn an_object_beside_a_newer_one_of_the_same_job_is_refused() {
    let (disk, mailbox, folder) = (SimDisk::new(), Mailbox::new(&key()), tempfile::tempdir().unwrap());
    let path_of = |checkpoint| folder.path().join(format!("job-{checkpoint}.json"));
    for commit in [9, 10] {
        let state = sink::LegState { commit, positions: vec![Position::at(HERE, commit)], ..sink::LegState::default() };
        std::fs::write(path_of(commit), HandOver::of(TOPIC, "job", &state).text().unwrap()).unwrap();
    }
    let said = leg_from(&disk, &mailbox, b"", 0, Some(&path_of(9))).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("job-10.json is newer"), "{said}");
    let leg = leg_from(&disk, &mailbox, b"", 0, Some(&path_of(10))).unwrap();
    assert_eq!(leg.positions(), [Position::at(HERE, 10)]);
    let mark = std::fs::read_to_string(folder.path().join("job-10.json.taken")).unwrap();
    assert_eq!(mark, "a.b.c@0000000000000001 files\n", "the job's own connector looks for it");
    assert!(!folder.path().join("job-9.json.taken").exists());
}

#[test]
fn complete_sources_of_an_object_without_last_places_are_not_forgotten_at_once() {
    let (disk, mailbox, folder) = (SimDisk::new(), Mailbox::new(&key()), tempfile::tempdir().unwrap());
    let source = SourceId::derive(100, &[&7_u64.to_le_bytes()]);
    let path = folder.path().join("object.json");
    let text = format!(
        r#"{{"format":"isolane.hand-over.1","topic":"{TOPIC}","horizon_minutes":90,"sources":{{"{source}":
        {{"taken":[[0,400]],"finished":400,"last":[]}}}},"positions":[{{"place":{{"cluster":0,"partition":0}},"offset":9,
        "append_time_ms":9000000,"log":5}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    let mut leg = leg_from(&disk, &mailbox, b"", 0, Some(&path)).unwrap();
    assert_eq!(leg.positions(), [Position { place: HERE, offset: 9, log: 5 }]);
    let entry = |offset, source| Entry { offset, append_time_ms: 9_000_000, batch: batch(source, 0, 40) };
    // Retention has removed all that was handed over, and the leg has read to the end.
    leg.take(arrival(&[entry(9, 8)], 9)).unwrap();
    leg.commit().unwrap();
    leg.take(arrival(&[entry(49, 7)], 9)).unwrap();
    leg.commit().unwrap();
    let state = verify(&disk, &dir()).unwrap().state;
    assert!(state.sources[&source].is_complete());
    assert_eq!((state.horizon_minutes, state.fates.doubles, state.fates.total()), (Some(90), 40, 40));
}

#[test]
fn an_object_that_is_not_to_be_had_or_of_another_topic_stops_the_leg_and_begins_nothing() {
    let (disk, mailbox, folder) = (SimDisk::new(), Mailbox::new(&key()), tempfile::tempdir().unwrap());
    let path = folder.path().join("object.json");
    let fails = || leg_from(&disk, &mailbox, b"", 0, Some(&path)).map(|_| ()).unwrap_err().to_string();
    let said = fails();
    assert!(said.contains("object.json: it cannot be read") && said.contains("begin_from"), "{said}");
    let write = |topic, places: &[Place]| {
        let positions = places.iter().map(|place| Position::at(*place, 3)).collect();
        let state = sink::LegState { positions, ..sink::LegState::default() };
        std::fs::write(&path, HandOver::of(topic, "files", &state).text().unwrap()).unwrap();
    };
    write("a.b.c.0000000000000002", &[HERE]);
    let said = fails();
    assert!(said.contains("of topic a.b.c.0000000000000002") && said.contains(TOPIC), "{said}");
    write(TOPIC, &[HERE, Place { cluster: 1, partition: 0 }]);
    assert!(fails().contains("partition 0 of cluster 1"));
    assert_eq!(verify(&disk, &dir()).unwrap().state, sink::LegState::default(), "nothing was begun");
    write(TOPIC, &[HERE]);
    let leg = leg_from(&disk, &mailbox, b"", 0, Some(&path)).unwrap();
    assert_eq!(leg.positions(), [Position::at(HERE, 3)]);
    write(TOPIC, &[]);
    drop(leg);
    let again = leg_from(&disk, &mailbox, b"", 0, Some(&path)).unwrap();
    assert_eq!(again.positions(), [Position::at(HERE, 3)], "what has begun is not begun again");
}
