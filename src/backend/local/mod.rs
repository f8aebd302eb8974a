//! Volumes as files on the node's own disks.
