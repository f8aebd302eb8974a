//! Every mutating use case, with a power cut at every call that it makes to the machine.
//!
//! What was acknowledged survives with its bytes, though nothing else may; what was not leaves nothing, or an intent
//! that the next start undoes. And what the retry acknowledges is durable at once: the power fails again right then.

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
    ($($name:ident: $cases:path;)*) => {
        $(
            #[test]
            fn $name() {
                for fs in PoolFs::ALL {
                    let sum = run($cases(How::Down(Down::Power), fs));
                    swept(stringify!($name), fs, sum);
                }
            }
        )*
    };
}

sweeps! {
    a_power_cut_while_creating_loses_nothing_acknowledged: cases::creating;
    a_power_cut_while_changing_loses_nothing_acknowledged: cases::changing;
    a_power_cut_while_cutting_loses_nothing_acknowledged: cases::cutting;
    a_power_cut_while_making_or_taking_off_pools_is_continued: pools::pools;
    a_power_cut_on_the_node_is_continued_by_kubelet: cases::using;
    a_power_cut_while_cutting_a_part_of_a_group_loses_nothing_acknowledged: remote::parts;
    a_power_cut_while_copying_from_another_node_is_continued: remote::copies;
    a_power_cut_while_replacing_loses_nothing_acknowledged: cases::replacing;
}
