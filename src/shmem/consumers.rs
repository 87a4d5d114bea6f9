//! What the consumers of a queue last did, by workflow.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::words::cut;

/// Workflows of one queue that are remembered; with more, those of which nothing was heard for longest are forgotten.
const MAX_WORKFLOWS: usize = 16;

/// One workflow.
#[derive(Default)]
pub struct Consumer {
    name: u64,
    /// When a fetch last ran, microseconds; 0: unknown.
    pub fetched_at: i64,
    /// When a job last failed or was to be tried again, microseconds; 0: unknown.
    pub failed_at: i64,
    /// Why.
    pub reason: heapless::String<200>,
}

/// The workflows of one queue.
#[derive(Default)]
pub struct Consumers(heapless::Vec<Consumer, MAX_WORKFLOWS>);

/// How a workflow's name is kept.
fn mark(workflow: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    workflow.hash(&mut hasher);
    hasher.finish()
}

impl Consumers {
    /// What is known of a workflow.
    pub fn get(&self, workflow: &str) -> Option<&Consumer> {
        let name = mark(workflow);
        self.0.iter().find(|consumer| consumer.name == name)
    }

    /// A fetch of the workflow has run.
    pub fn fetched(&mut self, workflow: &str, now: i64) {
        if let Some(consumer) = self.of(workflow) {
            consumer.fetched_at = now;
        }
    }

    /// A job of the workflow failed, or is to be tried again.
    pub fn failed(&mut self, workflow: &str, reason: &str, now: i64) {
        if let Some(consumer) = self.of(workflow) {
            consumer.failed_at = now;
            consumer.reason = cut(reason);
        }
    }

    fn of(&mut self, workflow: &str) -> Option<&mut Consumer> {
        let name = mark(workflow);
        let known = self.0.iter().position(|consumer| consumer.name == name);
        if known.is_none() && self.0.is_full() {
            let heard = |consumer: &Consumer| consumer.fetched_at.max(consumer.failed_at);
            let stalest = (0..self.0.len()).min_by_key(|at| heard(&self.0[*at]))?;
            self.0.swap_remove(stalest);
        }
        let at = match known {
            Some(at) => at,
            None => {
                self.0.push(Consumer { name, ..Consumer::default() }).ok()?;
                self.0.len() - 1
            }
        };
        self.0.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_workflow_makes_room() {
        let mut consumers = Consumers::default();
        let names: Vec<String> = (0..=MAX_WORKFLOWS).map(|n| format!("workflow {n}")).collect();
        for (at, name) in names.iter().enumerate() {
            consumers.fetched(name, at as i64 + 1);
            consumers.failed(&names[0], "late", at as i64 + 1);
        }
        assert!(consumers.get(&names[1]).is_none());
        assert_eq!(consumers.get(&names[0]).map(|c| (c.fetched_at, c.reason.as_str())), Some((1, "late")));
        assert!(names[2..].iter().all(|name| consumers.get(name).is_some()));
    }
}
