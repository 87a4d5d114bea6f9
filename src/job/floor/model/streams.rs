//! How much a fetch reads while rows pass something that is in the way.

use super::*;

/// Rows that pass in each of the tests below.
const PASSING: usize = 50_000;
/// Rows that wait in the tests with a backlog.
const BACKLOG: usize = 5_000;
/// Rows inserted, and taken, at a time.
const BATCH: usize = 50;
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
/// Whoever is in the way.
const OTHER: usize = 2;
const ANOTHER: usize = 3;

fn flow(id_step: usize) -> World {
    let style = Style { sessions: 4, steps: 0, patience: 1, rows: 0, limit: 0, id_step, singles: 0 };
    World { walked: Some(0), next_xid: 3, end: 3, drawn: Vec::new(), ..World::new(0, style) }
}

impl World {
    fn produce(&mut self, session: usize, rows: usize) -> usize {
        for _ in 0..rows {
            self.next_id += self.style.id_step as i64;
            self.insert(session, 4, self.next_id);
        }
        self.rows.len() - rows
    }

    fn produce_singly(&mut self, rows: usize) {
        for _ in 0..rows {
            self.produce(PRODUCER, 1);
            self.end(PRODUCER, true);
        }
    }

    /// Takes a batch; what is stuck does not count against the limit.
    fn consume(&mut self, session: usize, demand: usize) -> usize {
        self.fetch(session, demand, 4 * MAX_SKIPPED + demand)
    }

    /// The most that a fetch walked over while rows passed, `singly` or a batch in a transaction.
    fn pass(&mut self, singly: bool) -> usize {
        let mut most = 0;
        for _ in 0..PASSING / BATCH {
            if singly {
                self.produce_singly(BATCH);
            } else {
                self.produce(PRODUCER, BATCH);
                self.end(PRODUCER, true);
            }
            assert_eq!(self.consume(CONSUMER, BATCH), BATCH);
            most = most.max(self.walked.unwrap());
            self.end(CONSUMER, true);
        }
        most
    }
}

/// What the tests below allow: the last batch, the next one, and all that a run may hold beside each stuck row.
fn bound(stuck: usize) -> usize {
    2 * BATCH + stuck * (MAX_GAP as usize + 1)
}

#[test]
fn a_stuck_row_costs_nothing_later() {
    for singly in [true, false] {
        let mut world = flow(1);
        let row = world.produce(PRODUCER, 1);
        world.end(PRODUCER, true);
        world.hold(OTHER, row, Kind::Lock);
        let most = world.pass(singly);
        assert!(most <= bound(1), "walked over {most} entries");
    }
}

#[test]
fn an_open_transaction_costs_nothing_later() {
    let mut world = flow(1);
    world.produce(OTHER, BATCH);
    let most = world.pass(true);
    assert!(most <= bound(0), "walked over {most} entries");
    world.end(OTHER, true);
    assert_eq!(world.consume(CONSUMER, 2 * BATCH), BATCH);
    assert!(world.walked.unwrap() <= bound(0), "walked over {:?} entries", world.walked);
}

#[test]
fn an_uncommitted_claim_costs_nothing_later() {
    for (id_step, singly) in [(1, true), (1, false), (MAX_GAP as usize + 1, true), (MAX_GAP as usize + 1, false)] {
        let mut world = flow(id_step);
        world.produce(PRODUCER, 100);
        world.end(PRODUCER, true);
        assert_eq!(world.consume(OTHER, 100), 100);
        let most = world.pass(singly);
        assert!(most <= bound(100), "walked over {most} entries, ids {id_step} apart");
    }
}

#[test]
fn a_claim_of_more_transactions_than_there_are_runs_costs_nothing_later() {
    let mut world = flow(1);
    world.produce_singly(3 * MAX_SKIPPED);
    assert_eq!(world.consume(OTHER, 3 * MAX_SKIPPED), 3 * MAX_SKIPPED);
    let most = world.pass(true);
    assert!(most <= bound(3 * MAX_SKIPPED), "walked over {most} entries");
    world.end(OTHER, false);
    assert_eq!(world.consume(CONSUMER, PASSING), 3 * MAX_SKIPPED);
}

#[test]
fn a_stuck_row_of_a_transaction_that_was_passed_costs_nothing_later() {
    let mut world = flow(1);
    let most_urgent: Vec<usize> = (1..=10 * BATCH as i64).map(|id| world.insert(OTHER, 0, -id)).collect();
    let first = world.produce(OTHER, BACKLOG);
    world.produce_singly(1);
    assert_eq!(world.consume(CONSUMER, 1), 1);
    world.end(CONSUMER, true);
    world.end(OTHER, true);
    let stuck = [most_urgent[9], first, first + 10 * MAX_GAP as usize];
    for row in stuck {
        world.hold(OTHER, row, Kind::Lock);
    }
    let mut most = 0;
    for _ in 1..(most_urgent.len() + BACKLOG) / BATCH {
        // Only what is needed: a scan that goes on to the end of the backlog would have to walk over it.
        assert_eq!(world.fetch(CONSUMER, BATCH, BATCH + stuck.len()), BATCH);
        most = most.max(world.walked.unwrap());
        world.end(CONSUMER, true);
    }
    assert!(most <= bound(stuck.len()), "walked over {most} entries");
}

/// Claims of two others overlap in time and lie close together, so that something is always pending beside the end of
/// the run that begins with the stuck row.
#[test]
fn a_run_does_not_grow_with_what_is_claimed_beside_it() {
    const FEW: usize = 3;
    let mut world = flow(1);
    let first = world.produce(PRODUCER, BACKLOG);
    world.end(PRODUCER, true);
    world.hold(OTHER, first, Kind::Lock);
    let mut most = 0;
    for round in 1..BACKLOG / FEW / 3 {
        let another = if round % 2 == 0 { ANOTHER } else { PRODUCER };
        world.end(another, true);
        assert_eq!(world.fetch(another, FEW, 4 * FEW), FEW);
        // The second time what the first one passed is tidied.
        for _ in 0..2 {
            assert_eq!(world.fetch(CONSUMER, FEW, 4 * FEW), FEW);
            most = most.max(world.walked.unwrap());
            world.end(CONSUMER, true);
        }
    }
    assert!(most <= bound(2 * FEW), "walked over {most} entries");
}

#[test]
fn a_run_that_falls_apart_stays_within_the_list() {
    let apart = MAX_GAP as usize + 1;
    let mut world = flow(1);
    let first = world.produce(PRODUCER, 2 * MAX_SKIPPED * apart);
    world.end(PRODUCER, true);
    for row in (first..world.rows.len()).step_by(apart) {
        world.hold(OTHER, row, Kind::Lock);
    }
    // Both calls are checked for the length of the list.
    while world.fetch(ANOTHER, PASSING, PASSING) > 0 {}
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 0);
    assert_eq!(world.sessions[CONSUMER].floor.skipped.len(), 1);
    world.end(ANOTHER, true);
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 0);
    world.end(OTHER, false);
    assert_eq!(world.fetch(CONSUMER, PASSING, PASSING), 2 * MAX_SKIPPED);
}

#[test]
fn a_stuck_row_above_where_a_full_list_stopped_the_floor_is_read_once() {
    let mut world = flow(1);
    for _ in 0..=MAX_OPEN {
        world.produce(OTHER, 1);
        world.prepare(OTHER);
    }
    let row = world.produce(PRODUCER, 1);
    world.end(PRODUCER, true);
    world.hold(ANOTHER, row, Kind::Lock);
    for _ in 0..2 {
        assert_eq!(world.consume(CONSUMER, BATCH), 0);
    }
    let floor = &world.sessions[CONSUMER].floor;
    assert_eq!((floor.open.len(), floor.skipped.len()), (MAX_OPEN, 0));
    while !world.prepared.is_empty() {
        world.end_prepared(0, true);
    }
    assert_eq!(world.consume(CONSUMER, 2 * MAX_OPEN), MAX_OPEN + 1);
}

#[test]
fn neighbours_by_id_with_a_mass_of_rows_between_are_two_runs() {
    let mut world = flow(2);
    world.produce(PRODUCER, BACKLOG / 2);
    world.next_id = 2;
    let second = world.produce(OTHER, BACKLOG / 2);
    world.end(PRODUCER, true);
    world.end(OTHER, true);
    let (last, near) = (second - 1, world.rows.len() - 1);
    assert!(is_near(world.rows[last].key, world.rows[near].key));
    world.hold(OTHER, last, Kind::Lock);
    world.hold(OTHER, near, Kind::Lock);
    while world.consume(ANOTHER, BACKLOG) > 0 {
        world.end(ANOTHER, true);
    }
    assert_eq!(world.consume(CONSUMER, 1), 0);
    let most = world.pass(true);
    assert!(most <= bound(2), "walked over {most} entries");
}
