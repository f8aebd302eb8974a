//! Asking an NFS server whether it is there, before the kernel is told to mount from it.
//!
//! The kernel waits minutes for a server behind a firewall, in a state that no signal ends, and then says "connection
//! timed out" about nothing in particular. So the server is dialled first, with a limit, and asked the null procedure of
//! ONC RPC (RFC 5531), which every server answers: what fails is said with its address and port. NFSv3 has its mount
//! protocol on a port that only the port mapper (RFC 1833) knows; that one is asked too.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::host::{Cause, HostError, HostResult, NfsVersion};

/// How long connecting, and each answer, may take.
const LIMIT: Duration = Duration::from_secs(5);

const NFS: u32 = 100_003;
const NFS_PORT: u16 = 2049;
const MOUNT: u32 = 100_005;
const PORT_MAPPER: u32 = 100_000;
const PORT_MAPPER_PORT: u16 = 111;
const GETPORT: u32 = 3;
const TCP: u32 = 6;
const GETADDR: u32 = 3;
const TCP6: u32 = u32::from_be_bytes(*b"tcp6");

/// An answer that is longer than this is none of the procedures that are called here.
const MAX_ANSWER: usize = 1024;

/// Asks a server for NFS of that version, and for what it needs beside it. The address of this machine from which it
/// was reached.
pub(super) fn answers(server: IpAddr, version: NfsVersion) -> HostResult<IpAddr> {
    let what = format!("NFSv{}", version.major());
    let mut nfs = dial(server, NFS_PORT, &what)?;
    let said = |port, what: &str, why: String| refuse(server, port, what, &why);
    call(&mut nfs, NFS, version.major(), 0, &[]).map_err(|why| said(NFS_PORT, &what, why))?;
    if version == NfsVersion::V3 {
        let what = "the port mapper that NFSv3 needs";
        let mut mapper = dial(server, PORT_MAPPER_PORT, what)?;
        // The old question is about version 4 of IP only; the newer one names the transport, and is answered with an address.
        let asked = match server {
            IpAddr::V4(_) => call(&mut mapper, PORT_MAPPER, 2, GETPORT, &[MOUNT, 3, TCP, 0]),
            IpAddr::V6(_) => call(&mut mapper, PORT_MAPPER, 3, GETADDR, &[MOUNT, 3, 4, TCP6, 0, 0]),
        };
        let answer = asked.map_err(|why| said(PORT_MAPPER_PORT, what, why))?;
        let port = match server {
            IpAddr::V4(_) => answer.first().copied().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            IpAddr::V6(_) => universal_port(&answer).unwrap_or(0),
        };
        if port == 0 {
            let why = "it knows no mount service of version 3 over TCP; use NFSv4, or start it there";
            return Err(refuse(server, PORT_MAPPER_PORT, what, why));
        }
        dial(server, port, "the mount service that NFSv3 needs")?;
    }
    let local = nfs.local_addr().map_err(|error| said(NFS_PORT, &what, error.to_string()))?;
    Ok(local.ip())
}

fn dial(server: IpAddr, port: u16, what: &str) -> HostResult<TcpStream> {
    let said = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::TimedOut => "; a firewall between this node and the server may drop it",
            std::io::ErrorKind::ConnectionRefused => {
                "; the service does not run there, or a firewall refuses it"
            }
            _ => "",
        };
        refuse(server, port, what, &format!("{error}{hint}"))
    };
    let stream = TcpStream::connect_timeout(&SocketAddr::new(server, port), LIMIT).map_err(said)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(said)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(said)?;
    Ok(stream)
}

fn refuse(server: IpAddr, port: u16, what: &str, why: &str) -> HostError {
    let detail = format!("no {what} at {} over TCP: {why}", SocketAddr::new(server, port));
    let at = server.to_string();
    HostError::new("reach the NFS server", Path::new(&at), Cause::Unreachable, detail)
}

/// Calls one procedure without credentials; the words of its result.
fn call(
    stream: &mut TcpStream,
    program: u32,
    version: u32,
    procedure: u32,
    args: &[u32],
) -> Result<Vec<u32>, String> {
    const ID: u32 = 0x6f66_6673;
    // Call, RPC version 2, then no credentials and no verifier.
    let head = [ID, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let words: Vec<u8> = head.iter().chain(args).flat_map(|word| word.to_be_bytes()).collect();
    let len = u32::try_from(words.len()).unwrap_or(u32::MAX);
    // One fragment, which is the last.
    let mut record = (len | 1 << 31).to_be_bytes().to_vec();
    record.extend(words);
    let silent = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("it takes connections but did not answer within {} s", LIMIT.as_secs())
        }
        _ => error.to_string(),
    };
    stream.write_all(&record).map_err(silent)?;
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).map_err(silent)?;
    let len = (u32::from_be_bytes(mark) & !(1 << 31)) as usize;
    if len > MAX_ANSWER {
        return Err("what answers there is no such service".to_owned());
    }
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).map_err(silent)?;
    result(ID, &answer)
}

/// The port at the end of a universal address (RFC 5665), such as `::1.173.173`.
fn universal_port(answer: &[u32]) -> Option<u16> {
    let (len, words) = answer.split_first()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let text = std::str::from_utf8(bytes.get(..*len as usize)?).ok()?;
    let mut parts = text.rsplit('.').map(|part| part.parse::<u8>().ok());
    let (low, high) = (parts.next()??, parts.next()??);
    Some(u16::from_be_bytes([high, low]))
}

/// The result of an accepted call.
fn result(id: u32, answer: &[u8]) -> Result<Vec<u32>, String> {
    let words: Vec<u32> =
        answer.chunks_exact(4).filter_map(|word| word.try_into().ok().map(u32::from_be_bytes)).collect();
    match words.as_slice() {
        [there, 1, 0, _, verifier, rest @ ..] if *there == id => {
            match rest.get(verifier.div_ceil(4) as usize..) {
                Some([0, result @ ..]) => Ok(result.to_vec()),
                Some([1, ..]) => Err("it does not serve this protocol".to_owned()),
                Some([2, low, high, ..]) => Err(format!(
                    "it serves versions {low} to {high} only; set nfsVersion in the StorageClass, or the mount option vers"
                )),
                _ => Err("it failed while it answered".to_owned()),
            }
        }
        [there, 1, 1, ..] if *there == id => Err("it refuses calls from this node".to_owned()),
        _ => Err("what answers there is no such service".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_the_protocol_has_it() {
        fn check(words: &[u32], expect: Result<&[u32], &str>) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            match (result(7, &bytes), expect) {
                (Ok(result), Ok(expect)) => assert_eq!(result, expect),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (got, expect) => panic!("{got:?} for {words:?}, expected {expect:?}"),
            }
        }
        check(&[7, 1, 0, 0, 0, 0], Ok(&[]));
        check(&[7, 1, 0, 0, 4, 99, 0, 20_048], Ok(&[20_048]));
        check(&[7, 1, 0, 0, 0, 1], Err("does not serve"));
        check(&[7, 1, 0, 0, 0, 2, 3, 3], Err("versions 3 to 3 only"));
        check(&[7, 1, 0, 0, 0, 5], Err("failed"));
        check(&[7, 1, 1, 1, 1], Err("refuses"));
        check(&[8, 1, 0, 0, 0, 0], Err("no such service"));
        check(&[7, 1, 0, 0, u32::MAX, 0], Err("failed"));
        check(&[], Err("no such service"));
    }

    #[test]
    fn the_port_of_a_universal_address_is_its_last_two_numbers() {
        fn check(text: &str, expect: Option<u16>) {
            let mut words = vec![u32::try_from(text.len()).unwrap()];
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(text.len().div_ceil(4) * 4, 0);
            words.extend(bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())));
            assert_eq!(universal_port(&words), expect, "{text}");
        }
        check("::1.173.173", Some(44_461));
        check("fd00::5.8.1", Some(2049));
        check("::", None);
        check("", None);
        check("::1.300.1", None);
        assert_eq!(universal_port(&[99, 0]), None);
    }

    #[test]
    fn a_port_where_nothing_listens_is_named_with_a_hint() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = dial("127.0.0.1".parse().unwrap(), port, "NFSv4").unwrap_err();
        assert_eq!(error.cause, Cause::Unreachable);
        assert!(error.detail.contains(&format!("no NFSv4 at 127.0.0.1:{port}")), "{error}");
        assert!(error.detail.contains("firewall"), "{error}");
    }
}
