//! Who is talked to: certificates, names, proxies, keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn fails(dct: &Dct, expect: &[&str]) {
    let failure = dct.engines(Filter::all()).await.unwrap_err();
    for expect in expect {
        assert!(failure.to_string().contains(expect), "{failure}");
    }
    assert!(!failure.to_string().contains("1.simulated"), "{failure}");
}

async fn works(dct: &Dct) {
    assert_eq!(dct.engines(Filter::all()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused_and_the_setting_is_named() {
    let (world, other) = (World::new().await, World::new().await);
    world.write("ca.pem", &other.sim.ca_pem);
    let dct = world.dct();
    fails(&dct, &["is not from the authorities in ca-file", "put the authority that signed it into ca-file"])
        .await;
    let failure = dct.provision(&world.provision("one")).await.unwrap_err();
    assert_eq!(failure.fault(), &Fault::Unreachable, "a change that never left is not ambiguous: {failure}");
    assert_eq!(world.sim.traffic().log, [""; 0]);
    // An authority that is exchanged is used without a restart, and a file that is bad for a moment does no harm.
    world.write("ca.pem", &world.sim.ca_pem);
    works(&dct).await;
    world.write("ca.pem", "no certificate");
    works(&dct).await;
    let machine = world.dct_with(|settings| settings.ca_file = None);
    fails(&machine, &["is not from the authorities of this machine"]).await;
}

#[tokio::test]
async fn a_file_of_authorities_that_is_bad_from_the_start_is_named() {
    let world = World::new().await;
    for (text, expect) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n!\n", "ca-file")] {
        world.write("ca.pem", text);
        fails(&world.dct(), &["ca-file: ", expect]).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_taken_for_the_name_that_is_given() {
    let world =
        World::of(offshoot_dct_sim::Config::default(), offshoot_dct_sim::Clock::Machine, &["dct.corp"]).await;
    let named = |name: &str| world.dct_with(|settings| settings.server_name = Some(name.to_owned()));
    works(&named("dct.corp")).await;
    fails(&named("other.corp"), &["is for another name", "server-name"]).await;
}

#[tokio::test]
async fn a_certificate_is_not_checked_only_where_that_is_set_and_doctor_says_so() {
    let world = World::new().await;
    let careless = world.dct_with(|settings| {
        settings.ca_file = None;
        settings.insecure_skip_verify = true;
    });
    works(&careless).await;
    let certificate = careless.check().await.into_iter().find(|check| check.name == "certificate").unwrap();
    assert_eq!(certificate.health, Health::Warn);
    assert!(certificate.detail.contains("insecure-skip-verify"), "{}", certificate.detail);
}

#[tokio::test]
async fn a_host_that_is_not_there_is_named() {
    let world = World::new().await;
    let at = |url: &str| {
        world.dct_with(|settings| {
            settings.url = url.to_owned();
            settings.timing.retry_for = Duration::ZERO;
        })
    };
    fails(&at("https://127.0.0.1:1"), &["`prod` (127.0.0.1:1)", "refuses connections", "the port in url"])
        .await;
    fails(&at("https://no-such-host.invalid"), &["no-such-host.invalid", "is not known", "check url"]).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = plain.accept().await {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    fails(&at(&format!("https://127.0.0.1:{port}")), &["does not speak TLS as it should", "check url"]).await;
}

/// A proxy that connects to wherever it is told, and counts.
async fn proxy(answer: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(tcp);
                let (mut to, mut line) = (String::new(), String::new());
                while client.read_line(&mut line).await.unwrap_or(0) > 2 {
                    if let Some(rest) = line.strip_prefix("CONNECT ") {
                        to = rest.split(' ').next().unwrap_or_default().to_owned();
                    }
                    assert!(!line.to_ascii_lowercase().contains("apk"), "the key is for the DCT only");
                    line.clear();
                }
                counted.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer {
                    let _ = client.write_all(answer.as_bytes()).await;
                    return;
                }
                let mut server = TcpStream::connect(&to).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_proxy_is_used_where_it_is_set() {
    let world = World::new().await;
    let (address, count) = proxy(None).await;
    let dct = world.dct_with(|settings| settings.proxy = Some(address));
    works(&dct).await;
    works(&dct).await;
    assert_eq!(count.load(Ordering::SeqCst), 1, "one connection serves both");
    let (address, _) = proxy(Some("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    let dct = world.dct_with(|settings| {
        settings.proxy = Some(address.clone());
        settings.timing.retry_for = Duration::ZERO;
    });
    fails(&dct, &["through proxy", &address]).await;
}

#[tokio::test]
async fn a_key_is_exchanged_without_a_restart() {
    let world = World::new().await;
    let dct = world.dct();
    works(&dct).await;
    // The file first, as it should be done: the new key is refused until the DCT knows it.
    world.write("key", "1.second");
    world.sim.set_key("1.second");
    world.sim.clear_traffic();
    works(&dct).await;
    assert_eq!(
        world.asked("POST /management/engines/search"),
        1,
        "a file that changed is read before it is used"
    );
    // A change is repeated as well: a request that was refused was not done.
    world.sim.fault(offshoot_dct_sim::Rule::next("*", offshoot_dct_sim::Fault::Unauthorized));
    let vdb = world.vdb(&dct, "one").await;
    assert_eq!(dct.vdbs(Filter::all()).await.unwrap(), [vdb]);
    world.write("key", " \n");
    works(&dct).await;
}

#[tokio::test]
async fn a_key_that_is_not_accepted_is_said_to_be_so_after_one_repetition() {
    let world = World::new().await;
    world.write("key", "1.wrong");
    let dct = world.dct();
    let failure = dct.vdb("v").await.unwrap_err();
    assert_eq!((failure.fault(), failure.kind()), (&Fault::Denied, crate::volume::Kind::Denied));
    assert!(failure.to_string().contains("does not accept the key in key-file"), "{failure}");
    assert!(!failure.to_string().contains("1.wrong"), "{failure}");
    let shown = format!("{dct:?} {:?}", dct.settings());
    assert!(!shown.contains("1.wrong"), "{shown}");
    for (text, expect) in [("", "holds no key"), ("two words", "does not hold a key")] {
        world.write("key", text);
        fails(&world.dct(), &["key-file: ", expect]).await;
    }
    std::fs::remove_file(world.dir.path().join("key")).unwrap();
    fails(&world.dct(), &["key-file: ", "No such file"]).await;
}
