//! The place of a waiter in line for the resources that its workflow asks for. It stands there only while there is a job
//! for it: who waits for jobs keeps nobody from a resource.

use std::time::Duration;

use super::Sought;
use crate::error::Result;
use crate::resource::claim::{self, Claimant};
use crate::resource::expired;
use crate::resource::line::{self, Me};
use crate::resource::want::Want;

/// A place in line, if it stands there; given up when dropped.
#[derive(Default)]
pub struct Turn {
    place: Option<(Vec<Want>, Me)>,
}

impl Turn {
    /// Whether all that is wanted can be had, or a fetch would take it back first, and nobody else comes first. First in
    /// line, then a look: what comes free in between is seen by the one, what comes free later wakes the other.
    pub fn has_come(&mut self, sought: &Sought) -> Result<bool> {
        if sought.wants.is_empty() {
            self.step_aside();
            return Ok(true);
        }
        let claimant = Claimant {
            workflow: &sought.workflow.name,
            worker: sought.worker.as_deref(),
            by_session: sought.by_session,
        };
        line::stand_on(&sought.wants, claimant.me());
        self.place = Some((sought.wants.clone(), claimant.me()));
        Ok(claim::is_free(&sought.wants, &claimant)? || expired::fetch_would_end(&sought.wants, claimant.me())?)
    }

    /// For how long it can sleep, because it stands behind others, who wake it when they leave.
    pub fn sleeps(&self) -> Option<Duration> {
        self.place.as_ref().and_then(|(wants, me)| line::sleeps(wants, *me))
    }

    /// Leaves with the turn: it is that of the fetch that follows.
    pub fn take_along(&mut self) {
        self.place.take().into_iter().for_each(|(wants, me)| line::promise(&wants, me));
    }

    /// Lets the others go first.
    pub fn step_aside(&mut self) {
        self.place.take().into_iter().for_each(|(wants, me)| line::give_up(&wants, me, false));
    }
}

impl Drop for Turn {
    /// Who leaves with nothing, at its deadline or because it was cancelled.
    fn drop(&mut self) {
        self.place.take().into_iter().for_each(|(wants, me)| line::give_up(&wants, me, true));
    }
}
