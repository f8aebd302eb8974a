//! Time, so that a test decides when it passes.
//!
//! Jobs take seconds and objects lag jobs by up to a minute. A test that slept for that would be slow and would still be a
//! race, so everything here asks this clock, and a virtual one moves only when it is told to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// A source of time: the machine's, or one that a test moves.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    Machine,
    /// A clock that stands still until it is moved.
    Virtual(Arc<watch::Sender<Millis>>),
}

impl Clock {
    /// A virtual clock that starts at 2026-01-01T00:00:00Z.
    pub fn virtual_clock() -> Clock {
        Clock::Virtual(Arc::new(watch::Sender::new(1_767_225_600_000)))
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        match self {
            Clock::Machine => jiff::Timestamp::now().as_millisecond(),
            Clock::Virtual(at) => *at.borrow(),
        }
    }

    /// Moves a virtual clock on. The machine's clock is not ours to move: it stays, and the answer is false.
    pub fn advance(&self, by: Duration) -> bool {
        match self {
            Clock::Machine => false,
            Clock::Virtual(at) => {
                at.send_modify(|now| *now = now.saturating_add(millis(by)));
                true
            }
        }
    }

    /// Returns when this clock shows `by` more than now.
    pub async fn sleep(&self, by: Duration) {
        match self {
            Clock::Machine => tokio::time::sleep(by).await,
            Clock::Virtual(at) => {
                let until = self.now().saturating_add(millis(by));
                // The sender lives in self, so the only end of the wait is the time itself.
                let _ = at.subscribe().wait_for(|now| *now >= until).await;
            }
        }
    }
}

/// A duration in whole milliseconds; one too long for the type is the longest there is.
pub(crate) fn millis(of: Duration) -> Millis {
    Millis::try_from(of.as_millis()).unwrap_or(Millis::MAX)
}

/// RFC 3339 with milliseconds, in UTC: what the API writes. Texts of one length sort as their times do.
pub(crate) fn text(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

/// The day of a time in UTC, `2026-01-31`.
pub(crate) fn day(at: Millis) -> String {
    text(at).chars().take(10).collect()
}

/// The time an RFC 3339 text names.
pub(crate) fn parse(text: &str) -> Option<Millis> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_read_back() {
        fn check(at: Millis, expect: &str) {
            assert_eq!(text(at), expect);
            assert_eq!(parse(expect), Some(at));
        }
        check(1_767_225_600_000, "2026-01-01T00:00:00.000Z");
        check(1_767_225_600_007, "2026-01-01T00:00:00.007Z");
        assert_eq!(day(1_767_225_600_007), "2026-01-01");
    }

    #[tokio::test]
    async fn a_virtual_clock_wakes_a_sleeper_when_it_is_moved_far_enough() {
        let clock = Clock::virtual_clock();
        let sleeper = clock.clone();
        let task = tokio::spawn(async move { sleeper.sleep(Duration::from_secs(3600)).await });
        tokio::task::yield_now().await;
        assert!(clock.advance(Duration::from_secs(1)));
        assert!(!task.is_finished());
        clock.advance(Duration::from_secs(3600));
        task.await.unwrap();
    }
}
