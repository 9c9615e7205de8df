//! Single transitions, each as a person would ask for it.

use super::*;
use crate::job::LegText;

fn id(number: u8) -> Id {
    Id::try_from(format!("{number:032x}")).unwrap()
}

fn text(insert: &str) -> Text {
    let leg = LegText { sink_table: "t".into(), insert: insert.into(), hidden_in: None };
    Text { source: "s".into(), tables: Vec::new(), legs: vec![leg], settings: Vec::new() }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { number, path: format!("/{number}") }
}

fn attempt() -> Attempt {
    Attempt { job: id(1), text: text("a"), begin: Begin::State(checkpoint(3)), epoch: 0 }
}

fn job(number: u8, status: Status, newest: u64) -> Job {
    Job { id: id(number), status, newest: Some(checkpoint(newest)), stop: None, cause: None }
}

fn retained(number: u64) -> Option<Option<Retained>> {
    left(number, None)
}

fn seen(jobs: Option<Vec<Job>>) -> Seen {
    Seen { session: Sighting::Unknown, jobs, retained: Some(None), prepared: None, answer: None, fresh: id(9) }
}

fn prepared(insert: &str) -> Option<Prepared> {
    Some(Prepared { session: Session("s".into()), text: text(insert) })
}

fn running() -> Memory {
    Memory { state: State::Running { attempt: attempt() }, mark: Some(checkpoint(7)), ..Memory::default() }
}

fn idle(end: End) -> Memory {
    Memory { state: State::Idle { last: attempt(), end, since_ms: 0 }, mark: Some(checkpoint(7)), ..Memory::default() }
}

fn run(insert: &str) -> Wanted {
    text(insert).into()
}

#[test]
fn a_cluster_that_does_not_answer_proves_nothing() {
    for memory in [Memory::default(), running(), idle(End::Gone)] {
        for wanted in [run("a"), run("b"), Wanted::Stopped, Wanted::Removed] {
            let unknown =
                Seen { session: Sighting::Gone, retained: retained(9), prepared: prepared("a"), ..seen(None) };
            assert_eq!(next(&memory, &wanted, &unknown, 1_000_000), (memory.clone(), Action::Wait));
        }
    }
}

#[test]
fn a_cluster_without_the_job_lets_it_begin_at_the_newest_checkpoint() {
    let (memory, action) = next(&running(), &run("a"), &seen(Some(vec![])), 10_000);
    assert!(matches!(&memory.state, State::Idle { end: End::Gone, .. }) && action == Action::Wait);
    let ready = Seen { retained: retained(8), prepared: prepared("a"), ..seen(Some(vec![])) };
    assert_eq!(next(&memory, &run("a"), &ready, 10_500).1, Action::Wait, "not before its back-off is over");
    let (memory, action) = next(&memory, &run("a"), &ready, 20_000);
    let State::Submitting { attempt, .. } = &memory.state else { panic!("{memory:?}") };
    assert_eq!((&attempt.begin, attempt.job, action), (&Begin::State(checkpoint(8)), id(9), Action::Submit));
}

#[test]
fn an_older_checkpoint_than_the_newest_is_refused_by_both_names() {
    let older = Seen { retained: retained(5), prepared: prepared("a"), ..seen(Some(vec![])) };
    let (memory, action) = next(&idle(End::Gone), &run("a"), &older, 1_000_000);
    assert_eq!(action, Action::Wait);
    let problem = memory.problem.unwrap();
    assert!(problem.contains("5 at /5") && problem.contains("7 at /7"), "{problem}");
    let put_back = Seen { retained: retained(7), ..older };
    assert_eq!(next(&idle(End::Gone), &run("a"), &put_back, 1_000_000).1, Action::Submit);
}

#[test]
fn a_job_that_began_at_an_older_checkpoint_is_cancelled() {
    let (memory, action) = next(&running(), &run("a"), &seen(Some(vec![job(1, Status::Running, 3)])), 10_000);
    assert_eq!(action, Action::Cancel(id(1)));
    assert!(memory.problem.unwrap().contains("7 at /7"));
}

#[test]
fn another_job_of_the_name_is_cancelled_unless_it_may_be_the_only_one() {
    let both = seen(Some(vec![job(1, Status::Running, 8), job(2, Status::Running, 8)]));
    assert_eq!(next(&running(), &run("a"), &both, 10_000).1, Action::Cancel(id(2)));
    let (memory, action) = next(&Memory::default(), &run("a"), &both, 10_000);
    assert!(action == Action::Wait && memory.problem.is_some());
    let over = Seen { retained: Some(None), ..seen(Some(vec![job(2, Status::Finished, 8)])) };
    assert_eq!(next(&Memory::default(), &run("a"), &over, 10_000).1, Action::Prepare(text("a")));
}

#[test]
fn checkpoints_of_a_job_that_nothing_is_remembered_of_are_not_passed_over() {
    let left = Seen { retained: retained(4), prepared: prepared("a"), ..seen(Some(vec![])) };
    let (memory, action) = next(&Memory::default(), &run("a"), &left, 10_000);
    assert!(action == Action::Wait && memory.problem.unwrap().contains("4 at /4"));
}

#[test]
fn a_submission_without_an_answer_is_closed_before_anything_else() {
    let state = State::Submitting { attempt: attempt(), session: Session("s".into()) };
    let memory = Memory { state, ..Memory::default() };
    let look = |session| Seen { session, retained: retained(3), ..seen(Some(vec![])) };
    assert_eq!(next(&memory, &run("a"), &look(Sighting::Present), 0).1, Action::Close(Session("s".into())));
    assert_eq!(next(&memory, &run("a"), &look(Sighting::Unknown), 0), (memory.clone(), Action::Wait));
    let (after, _) = next(&memory, &run("a"), &look(Sighting::Gone), 0);
    assert!(matches!(&after.state, State::Idle { end: End::Open, .. }));
    // The same id again: Flink refuses it if the first has arrived after all. For another text it is waited for.
    let ready = |insert| Seen { prepared: prepared(insert), ..look(Sighting::Unknown) };
    let (again, action) = next(&after, &run("a"), &ready("a"), 1_000_000);
    assert_eq!((again.attempt(), action), (Some(&attempt()), Action::Submit));
    assert_eq!(next(&after, &run("b"), &ready("b"), TURN_UP_MS - 1), (after.clone(), Action::Wait));
    let (other, action) = next(&after, &run("b"), &ready("b"), TURN_UP_MS);
    assert_eq!((other.attempt().unwrap().job, action), (id(9), Action::Submit));
    let lived = Seen { retained: retained(4), ..look(Sighting::Gone) };
    assert!(matches!(next(&memory, &run("a"), &lived, 0).0.state, State::Idle { end: End::Gone, .. }));
}

#[test]
fn somebody_elses_object_is_begun_from_once() {
    let wanted = |object: &str| Wanted::Run { text: text("a"), begin_from: Some(object.into()) };
    let ready = |left| Seen { retained: left, prepared: prepared("a"), ..seen(Some(vec![])) };
    let (memory, action) = next(&Memory::default(), &wanted("o"), &ready(Some(None)), 0);
    let begun = |memory: &Memory| memory.attempt().map(|attempt| (attempt.begin.clone(), attempt.epoch));
    assert_eq!((begun(&memory), action), (Some((Begin::HandOver("o".into()), 0)), Action::Submit));
    assert_eq!(memory.begun_from.as_deref(), Some("o"));
    // What has begun from it goes on from its own state; another object counts after a clean stop only.
    let stopped = |end| Memory { begun_from: Some("o".into()), ..idle(end) };
    let again = |end, object| next(&stopped(end), &wanted(object), &ready(retained(8)), 1_000_000);
    assert_eq!(begun(&again(End::Clean, "o").0), Some((Begin::State(checkpoint(8)), 0)));
    let (memory, action) = again(End::Clean, "p");
    assert_eq!((begun(&memory), action), (Some((Begin::HandOver("p".into()), 1)), Action::Submit));
    assert_eq!((memory.begun_from.as_deref(), memory.checkpoints_before), (Some("p"), 7));
    for end in [End::Gone, End::Open] {
        let (memory, action) = again(end, "p");
        assert_eq!((begun(&memory), action), (begun(&stopped(end)), Action::Wait), "{end:?}");
        assert!(memory.problem.unwrap().contains("was not stopped with a savepoint"));
    }
}

#[test]
fn a_changed_text_begins_from_the_hand_over_of_a_clean_stop() {
    let object = || Some(Some(Retained { checkpoint: checkpoint(8), hand_over: Some("o".into()) }));
    let ready = |insert| Seen { retained: object(), prepared: prepared(insert), ..seen(Some(vec![])) };
    let begin = |memory: &Memory, insert| {
        let (memory, action) = next(memory, &run(insert), &ready(insert), 1_000_000);
        assert_eq!(action, Action::Submit);
        memory.attempt().map(|attempt| (attempt.begin.clone(), attempt.epoch))
    };
    assert_eq!(begin(&idle(End::Clean), "b"), Some((Begin::HandOver("o".into()), 1)));
    assert_eq!(begin(&idle(End::Clean), "a"), Some((Begin::State(checkpoint(8)), 0)));
    assert_eq!(
        begin(&idle(End::Gone), "b"),
        Some((Begin::State(checkpoint(8)), 0)),
        "the same sinks: Flink's own state"
    );
    // Other sinks, and no clean stop: the old text first.
    let mut other = text("b");
    other.legs[0].sink_table = "u".into();
    let (_, action) = next(&idle(End::Gone), &other.into(), &ready("b"), 1_000_000);
    assert_eq!(action, Action::Prepare(text("a")));
}

fn left(number: u64, hand_over: Option<&str>) -> Option<Option<Retained>> {
    Some(Some(Retained { checkpoint: checkpoint(number), hand_over: hand_over.map(str::to_owned) }))
}

/// A job that has ended so, and may have left files hidden; with its text.
fn hides(end: End) -> (Memory, Text) {
    let mut last = attempt();
    last.text.legs[0].hidden_in = Some("/out".into());
    let text = last.text.clone();
    (Memory { state: State::Idle { last, end, since_ms: 0 }, ..idle(end) }, text)
}

fn end(memory: &Memory) -> Option<End> {
    match memory.state {
        State::Idle { end, .. } => Some(end),
        _ => None,
    }
}

#[test]
fn what_a_job_left_hidden_is_shown_before_anybody_else_goes_on() {
    let ((clean, text), (showing, _)) = (hides(End::Clean), hides(End::Showing));
    let object = Seen { retained: left(8, Some("o")), ..seen(Some(vec![])) };
    let show = Action::Show(vec!["/out".into()]);
    for wanted in [text.clone().into(), run("b"), Wanted::Stopped] {
        // That it will be is durable first; from then on it is, whatever is to be seen of the job's own state.
        let (after, action) = next(&clean, &wanted, &object, 1_000_000);
        assert_eq!((end(&after), action), (Some(End::Showing), Action::Wait), "{wanted:?}");
        for retained in [None, Some(None), left(8, None)] {
            let gone = Seen { retained, ..object.clone() };
            assert_eq!(next(&showing, &wanted, &gone, 1_000_000).1, show, "{wanted:?}");
        }
        let shown = Seen { answer: Some(Answer::Shown), ..object.clone() };
        let (after, action) = next(&showing, &wanted, &shown, 1_000_000);
        assert_eq!((end(&after), action), (Some(End::Shown), Action::Unmark(vec!["/out".into()])));
    }
    // What fails is tried again, ever more rarely.
    let failed = Seen { answer: Some(Answer::Failed("no".into())), ..object.clone() };
    let (after, _) = next(&showing, &Wanted::Stopped, &failed, 1_000_000);
    assert_eq!((end(&after), after.problem.as_deref()), (Some(End::Showing), Some("no")));
    assert_eq!(next(&after, &Wanted::Stopped, &object, 1_000_000).1, Action::Wait);
    assert_eq!(next(&after, &Wanted::Stopped, &object, after.until_ms).1, show);
    // A cluster that brings the job back has it go on from files that are not hidden any more.
    let back = seen(Some(vec![job(1, Status::Running, 8)]));
    for (memory, _) in [hides(End::Showing), hides(End::Shown)] {
        let (after, action) = next(&memory, &text.clone().into(), &back, 1_000_000);
        assert_eq!((end(&after), action), (end(&memory), Action::Cancel(id(1))));
    }
}

#[test]
fn what_was_shown_goes_on_from_the_object_and_nothing_else() {
    let (memory, text) = hides(End::Shown);
    let prepared = Some(Prepared { session: Session("s".into()), text: text.clone() });
    let ready = |retained| Seen { prepared: prepared.clone(), retained, ..seen(Some(vec![])) };
    let (after, action) = next(&memory, &text.clone().into(), &ready(left(8, Some("o"))), 1_000_000);
    let begun = after.attempt().map(|attempt| (attempt.begin.clone(), attempt.epoch));
    assert_eq!((begun, action), (Some((Begin::HandOver("o".into()), 1)), Action::Submit));
    let (after, action) = next(&memory, &text.into(), &ready(left(8, None)), 1_000_000);
    assert!(action == Action::Wait && after.problem.unwrap().contains("put the object back"));
}

#[test]
fn without_the_savepoints_object_its_own_state_goes_on_and_shows_them() {
    let (memory, text) = hides(End::Clean);
    let prepared = Some(Prepared { session: Session("s".into()), text: text.clone() });
    let without = Seen { retained: left(8, None), prepared, ..seen(Some(vec![])) };
    let (after, action) = next(&memory, &text.clone().into(), &without, 1_000_000);
    let begin = after.attempt().map(|attempt| attempt.begin.clone());
    assert_eq!((begin, action), (Some(Begin::State(checkpoint(8))), Action::Submit));
    // An older one's object says nothing of the savepoint.
    for retained in [left(8, None), left(6, Some("o")), Some(None)] {
        let (after, action) = next(&memory, &Wanted::Stopped, &Seen { retained, ..without.clone() }, 1_000_000);
        assert!(action == Action::Wait && after.problem.unwrap().contains("stay hidden"));
    }
    let unknown = Seen { retained: None, ..without.clone() };
    for wanted in [Wanted::Stopped, text.clone().into()] {
        assert_eq!(next(&memory, &wanted, &unknown, 1_000_000), (memory.clone(), Action::Wait));
    }
    // Somebody else's object makes it dispensable.
    let wanted = Wanted::Run { text, begin_from: Some("p".into()) };
    assert_eq!(end(&next(&memory, &wanted, &without, 1_000_000).0), Some(End::Showing));
}

#[test]
fn what_a_job_left_hidden_is_shown_before_it_is_forgotten_however_it_ended() {
    let nothing = seen(Some(vec![]));
    let late = TURN_UP_MS + 1_000_000;
    let remove = |memory: &Memory, seen: &Seen| next(memory, &Wanted::Removed, seen, late);
    for ended in [End::Open, End::Gone, End::Clean] {
        let (memory, _) = hides(ended);
        let (after, action) = remove(&memory, &nothing);
        assert_eq!((end(&after), action), (Some(End::Showing), Action::Wait), "{ended:?}");
        // It never came to a checkpoint.
        let unborn = Memory { mark: None, ..memory };
        let unknown = Seen { retained: None, ..nothing.clone() };
        assert_eq!(remove(&unborn, &unknown).1, Action::Wait);
        assert_eq!(remove(&unborn, &nothing).1, Action::Forget);
    }
    let showing = hides(End::Showing).0;
    assert_eq!(remove(&showing, &nothing), (showing.clone(), Action::Show(vec!["/out".into()])));
    let failed = Seen { answer: Some(Answer::Failed("no".into())), ..nothing.clone() };
    assert_eq!(remove(&showing, &failed).1, Action::Wait);
    let shown = Seen { answer: Some(Answer::Shown), ..nothing.clone() };
    assert_eq!(end(&remove(&showing, &shown).0), Some(End::Shown));
    assert_eq!(next(&hides(End::Shown).0, &Wanted::Removed, &nothing, 1_000_000).1, Action::Forget);
    assert_eq!(next(&hides(End::Gone).0, &Wanted::Stopped, &nothing, 1_000_000).1, Action::Wait);
}

#[test]
fn a_job_waits_for_an_earlier_life_of_its_stream() {
    let after = Wanted::After("a.b.c@000000000000001e".parse().unwrap());
    assert_eq!(next(&Memory::default(), &after, &seen(Some(vec![])), 0).1, Action::Wait);
    let alive = seen(Some(vec![job(1, Status::Running, 7)]));
    assert!(matches!(next(&running(), &after, &alive, 0).1, Action::Stop(..)));
}

#[test]
fn a_job_that_cannot_be_stopped_with_a_savepoint_is_cancelled_in_the_end() {
    let restarting = seen(Some(vec![job(1, Status::Unsettled, 7)]));
    let (memory, action) = next(&running(), &Wanted::Stopped, &restarting, 1_000);
    assert_eq!(action, Action::Stop(id(1), id(9)));
    assert_eq!(next(&memory, &Wanted::Stopped, &restarting, 2_000).1, Action::Stop(id(1), id(9)), "the same request");
    let late = 2_000 + STOP_PATIENCE_MS;
    assert_eq!(next(&memory, &Wanted::Stopped, &restarting, late).1, Action::Cancel(id(1)));
    // A savepoint that is under way is Flink's to give up.
    let mut saves = job(1, Status::Running, 7);
    saves.stop = Some(Stop::InProgress);
    let saves = seen(Some(vec![saves]));
    assert_eq!(next(&memory, &Wanted::Stopped, &saves, late).1, Action::Wait);
    assert_eq!(next(&memory, &Wanted::Stopped, &saves, 2_000 + SAVEPOINT_MS).1, Action::Cancel(id(1)));
    let cancelled = seen(Some(vec![job(1, Status::Canceled, 7)]));
    let (memory, _) = next(&memory, &Wanted::Removed, &cancelled, late);
    assert_eq!(next(&memory, &Wanted::Removed, &cancelled, late).1, Action::Forget);
}

#[test]
fn a_clean_stop_is_known_by_its_savepoint_even_while_the_cluster_shows_an_older_checkpoint() {
    let state = State::Stopping { attempt: attempt(), trigger: id(8), since_ms: 0 };
    let memory = Memory { state, ..Memory::default() };
    let stopped = Seen { retained: retained(8), ..seen(Some(vec![job(1, Status::Finished, 7)])) };
    let unknown = Seen { retained: None, ..stopped.clone() };
    assert_eq!(next(&memory, &Wanted::Stopped, &unknown, 0), (memory.clone(), Action::Wait));
    let (memory, _) = next(&memory, &Wanted::Stopped, &stopped, 0);
    assert_eq!(memory.mark, Some(checkpoint(8)));
    assert!(matches!(memory.state, State::Idle { end: End::Clean, .. }));
}

#[test]
fn what_may_still_turn_up_is_not_forgotten_at_once() {
    let nothing = seen(Some(vec![]));
    assert_eq!(next(&idle(End::Open), &Wanted::Removed, &nothing, 1_000).1, Action::Wait);
    assert_eq!(next(&idle(End::Open), &Wanted::Removed, &nothing, TURN_UP_MS).1, Action::Forget);
    let late = seen(Some(vec![job(1, Status::Running, 3)]));
    let memory = Memory { mark: None, ..idle(End::Open) };
    assert!(matches!(next(&memory, &Wanted::Removed, &late, 1_000).0.state, State::Running { .. }));
}

#[test]
fn failures_wait_longer_each_time_until_a_checkpoint_is_complete() {
    let mut memory = running();
    let mut waits = Vec::new();
    for _ in 0..9 {
        memory.state = State::Running { attempt: attempt() };
        memory = next(&memory, &run("a"), &seen(Some(vec![job(1, Status::Failed, 7)])), 0).0;
        waits.push(memory.until_ms);
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    memory.state = State::Running { attempt: attempt() };
    let (memory, _) = next(&memory, &run("a"), &seen(Some(vec![job(1, Status::Running, 8)])), 0);
    assert_eq!((memory.failures, memory.problem), (0, None));
}

#[test]
fn what_is_remembered_is_read_back() {
    for memory in [Memory::default(), running(), idle(End::Open)] {
        let bytes = serde_json::to_vec(&memory).unwrap();
        assert_eq!(serde_json::from_slice::<Memory>(&bytes).unwrap(), memory);
    }
}
