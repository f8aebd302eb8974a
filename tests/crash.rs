//! Every mutating use case, killed before, in and after every call that it makes to the machine.
//!
//! After the restart the caller retries, and everything is right; in another world the caller gives up and deletes
//! everything, and nothing is left. Then the same with every call failing once instead: a final answer leaves nothing
//! behind, any other is continued by asking again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod common;

use common::cases::{self, Sum};
use common::sweep::{Down, How};
use common::{PoolFs, pools, remote, run};

fn swept(what: &str, fs: PoolFs, sum: Sum) {
    assert!(sum.points > 0);
    println!("{what} on {fs:?}: {} use cases, {} crash points, {} worlds", sum.cases, sum.points, sum.worlds);
}

macro_rules! sweeps {
    ($($name:ident: $how:expr, $cases:path;)*) => {
        $(
            #[test]
            fn $name() {
                for fs in PoolFs::ALL {
                    let sum = run($cases($how, fs));
                    swept(stringify!($name), fs, sum);
                }
            }
        )*
    };
}

sweeps! {
    a_crash_while_creating_leaks_nothing: How::Down(Down::Crash), cases::creating;
    a_crash_while_changing_leaks_nothing: How::Down(Down::Crash), cases::changing;
    a_crash_while_cutting_leaks_nothing: How::Down(Down::Crash), cases::cutting;
    a_crash_while_replacing_leaks_nothing: How::Down(Down::Crash), cases::replacing;
    a_crash_while_making_or_taking_off_pools_leaks_nothing: How::Down(Down::Crash), pools::pools;
    a_failure_while_making_or_taking_off_pools_is_continued: How::Failures, pools::pools;
    a_crash_on_the_node_is_continued_by_kubelet: How::Down(Down::Crash), cases::using;
    a_failure_on_the_node_leaves_nothing_or_is_continued: How::Failures, cases::using;
    a_failure_while_creating_leaves_nothing_or_is_continued: How::Failures, cases::creating;
    a_failure_while_changing_leaves_nothing_or_is_continued: How::Failures, cases::changing;
    a_failure_while_cutting_leaves_nothing_or_is_continued: How::Failures, cases::cutting;
    a_crash_while_cutting_a_part_of_a_group_leaks_nothing: How::Down(Down::Crash), remote::parts;
    a_failure_while_cutting_a_part_of_a_group_leaves_nothing_or_is_continued: How::Failures, remote::parts;
    a_crash_while_copying_from_another_node_is_continued: How::Down(Down::Crash), remote::copies;
    a_failure_while_copying_from_another_node_leaves_nothing_or_is_continued: How::Failures, remote::copies;
    a_failure_while_replacing_leaves_nothing_or_is_continued: How::Failures, cases::replacing;
}
