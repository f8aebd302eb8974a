//! Connections of kubelet, whose `:authority` is the path of a socket.
//!
//! Kubelet's plugin manager dials a registration socket without giving the connection an authority, so Go's gRPC makes
//! one of the path: `%2Fvar%2Flib%2Fkubelet%2F…`. That is no authority by RFC 3986, and our HTTP/2 library ends such a
//! request with PROTOCOL_ERROR before anybody sees it. So what kubelet sends goes through here, and the value is
//! replaced by `localhost` in the header blocks. Nothing is decompressed for that: a block is a row of fields whose
//! lengths can be read. Our side's table of fields then holds shorter ones than kubelet's, so it forgets them later,
//! and every index that kubelet uses still means the same. Whatever does not look as expected is passed on as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What every connection begins with.
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame.
const FRAME: usize = 9;
/// The type of a frame with header fields.
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// A header block longer than this is not looked at.
const LIMIT: usize = 64 << 10;
/// `:authority` in the table of fields that is the same everywhere.
const AUTHORITY: usize = 1;
/// A text of nine bytes that is not compressed.
const LOCALHOST: &[u8] = b"\x09localhost";

/// A connection whose requests come with an authority that can be read.
#[derive(Debug)]
pub struct Named<S> {
    stream: S,
    /// Read, and not yet looked at.
    raw: Vec<u8>,
    /// To be handed on.
    out: Vec<u8>,
    /// Bytes that are passed on as they are: the preface, frames of data.
    pass: usize,
}

impl<S> Named<S> {
    /// The same connection, with a readable authority.
    pub fn new(stream: S) -> Self {
        Named { stream, raw: Vec::new(), out: Vec::new(), pass: PREFACE }
    }

    /// Moves what is complete from `raw` to `out`.
    fn advance(&mut self) {
        loop {
            let passed = self.pass.min(self.raw.len());
            self.out.extend(self.raw.drain(..passed));
            self.pass -= passed;
            if self.pass > 0 || self.raw.len() < FRAME {
                return;
            }
            let length =
                usize::from(self.raw[0]) << 16 | usize::from(self.raw[1]) << 8 | usize::from(self.raw[2]);
            let whole = FRAME + length;
            if self.raw[3] != HEADERS || length > LIMIT {
                self.pass = whole;
            } else if self.raw.len() < whole {
                return;
            } else {
                match renamed(&self.raw[..whole]) {
                    Some(frame) => {
                        self.out.extend(frame);
                        self.raw.drain(..whole);
                    }
                    None => self.pass = whole,
                }
            }
        }
    }
}

/// A frame of headers with another authority; `None` where it is not as expected.
fn renamed(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at_checked(FRAME)?;
    let flags = head[4];
    if flags & END_HEADERS == 0 {
        return None;
    }
    let (mut from, mut to) = (0, payload.len());
    if flags & PADDED != 0 {
        from = 1;
        to = to.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        from += 5;
    }
    let mut fields = Fields { block: payload.get(from..to)?, at: 0 };
    let mut changed = payload[..from].to_vec();
    while fields.at < fields.block.len() {
        let begin = fields.at;
        let value = fields.next()?;
        match value {
            Some(value) => {
                changed.extend(&fields.block[begin..value]);
                changed.extend(LOCALHOST);
            }
            None => changed.extend(&fields.block[begin..fields.at]),
        }
    }
    changed.extend(&payload[to..]);
    let length = u32::try_from(changed.len()).ok()?.to_be_bytes();
    Some([&length[1..], &head[3..], &changed].concat())
}

/// The fields of a header block (RFC 7541).
struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    /// Goes to the end of a field. If it is an authority, gives back where its value begins. `None` at damage.
    fn next(&mut self) -> Option<Option<usize>> {
        let first = *self.block.get(self.at)?;
        let bits = match first {
            // Name and value from the table.
            0x80.. => return self.number(7).map(|_| None),
            // Name, and a value that goes into the table.
            0x40.. => 6,
            // A new size of the table.
            0x20.. => return self.number(5).map(|_| None),
            _ => 4,
        };
        let name = self.number(bits)?;
        if name == 0 {
            self.text()?;
        }
        let value = self.at;
        self.text()?;
        Some((name == AUTHORITY).then_some(value))
    }

    fn text(&mut self) -> Option<()> {
        let length = self.number(7)?;
        self.at = self.at.checked_add(length).filter(|end| *end <= self.block.len())?;
        Some(())
    }

    /// A number that begins in the lower bits of a byte.
    fn number(&mut self, bits: u32) -> Option<usize> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(*self.block.get(self.at)?) & most;
        self.at += 1;
        if number < most {
            return Some(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(*self.block.get(self.at)?);
            self.at += 1;
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Named<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.out.is_empty() {
            let mut space = [0; 4096];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The end. A frame that is not whole is for the server to complain about.
                this.out.append(&mut this.raw);
                break;
            }
            this.raw.extend_from_slice(read.filled());
            this.advance();
        }
        let count = this.out.len().min(buf.remaining());
        buf.put_slice(&this.out[..count]);
        this.out.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Named<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for Named<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// As Go's gRPC sends it: indexed fields, the path and the authority of this socket, and a field of its own name.
    fn block(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x45, 5];
        block.extend(b"/a/Ge");
        block.push(0x41);
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend(authority);
        block.extend(b"\x40\x02te\x08trailers\x5f\x10application/grpc");
        block
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    async fn through(bytes: &[u8], at_once: usize) -> Vec<u8> {
        let mut source = Named::new(Slow(bytes, at_once));
        let mut out = Vec::new();
        source.read_to_end(&mut out).await.unwrap();
        out
    }

    /// Gives so many bytes with each read.
    struct Slow<'a>(&'a [u8], usize);

    impl AsyncRead for Slow<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buf.put_slice(now);
            self.0 = later;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_authority_is_replaced_and_all_else_is_as_it_was() {
        let path = b"%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fx-reg.sock";
        let connection = |authority: &[u8], padding: bool| {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frame(4, 0, &[0, 3, 0, 0, 0, 100]));
            let block = block(authority);
            if padding {
                let payload = [&[2, 0, 0, 0, 0, 16][..], &block, &[0, 0]].concat();
                bytes.extend(frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload));
            } else {
                bytes.extend(frame(HEADERS, END_HEADERS, &block));
            }
            bytes.extend(frame(0, 1, b"\0\0\0\0\0"));
            bytes
        };
        for padding in [false, true] {
            for at_once in [1, 7, 4096] {
                let out = through(&connection(path, padding), at_once).await;
                assert_eq!(out, connection(b"localhost", padding), "{padding} {at_once}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_passed_on() {
        let preface = [b'x'; PREFACE];
        let damaged = [&[0x41, 100, 1][..], &[0x41], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x00]];
        for block in damaged {
            let bytes = [&preface[..], &frame(HEADERS, END_HEADERS, block)].concat();
            assert_eq!(through(&bytes, 5).await, bytes, "{block:?}");
        }
        for short in [0, 3, PREFACE, PREFACE + 4, PREFACE + FRAME] {
            let bytes = [&preface[..], &frame(HEADERS, END_HEADERS, &block(b"x"))].concat();
            assert_eq!(through(&bytes[..short], 3).await, bytes[..short], "{short}");
        }
    }
}
