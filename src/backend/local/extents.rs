//! The extents of an image as one stream, read from the host page by page.

use std::cell::RefCell;
use std::path::Path;

use crate::host::{Extent, Host, HostError};
use crate::volume::extents::Piece;
use crate::volume::{Error, Result};

/// How many extents are asked for at once.
const PAGE: usize = 1024;

/// Where a stream puts the error that ended it. Whoever used the stream asks for it before believing the result.
#[derive(Debug, Default)]
pub(super) struct Failure(RefCell<Option<HostError>>);

impl Failure {
    /// The result, unless a stream broke off.
    pub(super) fn check<T>(&self, result: T) -> Result<T> {
        match self.0.borrow_mut().take() {
            None => Ok(result),
            Some(error) => Err(Error::from(error)),
        }
    }
}

/// The extents of `image` that end after byte `start`, in order.
pub(super) fn stream<'a>(
    host: &'a dyn Host,
    image: &'a Path,
    start: u64,
    failure: &'a Failure,
) -> impl Iterator<Item = Piece> + 'a {
    let mut next = Some(start);
    std::iter::from_fn(move || {
        let at = next.take()?;
        match host.extents(image, at, PAGE) {
            Ok(page) => {
                let full = page.len() == PAGE;
                // An end that does not lie behind the beginning would be asked for forever.
                next = page
                    .last()
                    .map(|last| last.logical.saturating_add(last.len))
                    .filter(|end| full && *end > at);
                Some(page)
            }
            Err(error) => {
                *failure.0.borrow_mut() = Some(error);
                None
            }
        }
    })
    .flatten()
    .map(piece)
}

fn piece(extent: Extent) -> Piece {
    let Extent { logical, physical, len, shared, unwritten, encoded } = extent;
    // A block that two files have is shared, by definition: what is not shared is not the same as anything, nor is that
    // whose place does not tell what the bytes are (compressed, inline, not yet placed).
    Piece { logical, physical, len, unwritten, shared, encoded: encoded || !shared }
}
