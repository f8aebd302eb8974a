//! Promises of the client, over the simulator in this process.
