//! The second source: a real lighttpd with ranges, with and without TLS, Python's server that has no ranges, and a scripted one
//! that cuts, lies and drips.

mod support;

use mainstay::transport::backoff::Bounds;
use mainstay::transport::{BulkStatus, Depot, HttpsConfig, HttpsSource};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::seam::PieceSource;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::objects;
use support::pki::Pki;
use support::web::{Fake, Folder, Web, answer_range, range_of};

type Statuses = Arc<Mutex<Vec<BulkStatus>>>;

fn plain(port: u16) -> HttpsConfig {
    HttpsConfig {
        url: format!("http://127.0.0.1:{port}/mainstay/"),
        allow_plain: true,
        window_kib: 1024,
        reconnect: Bounds { first: Duration::from_millis(50), max: Duration::from_millis(200) },
        ..HttpsConfig::default()
    }
}

fn source(config: &HttpsConfig, alone: bool) -> (HttpsSource, Arc<AtomicBool>, Statuses) {
    let (cancel, statuses) = (Arc::new(AtomicBool::new(false)), Statuses::default());
    let log = statuses.clone();
    let depot = Depot::new(config).expect("the configuration is good");
    let source =
        HttpsSource::new(&depot, cancel.clone(), alone, move |status| log.lock().unwrap().push(status));
    (source, cancel, statuses)
}

/// A route of 100 pieces of up to 96 KiB, and two objects that are in none.
fn folder() -> Folder {
    let mut all = objects::make(102, 96 * 1024);
    let objects = all.split_off(100);
    Folder::new(all, objects)
}

#[test]
fn a_route_comes_from_lighttpd_in_ranges_of_neighbours_once() {
    let folder = folder();
    let Some(web) = Web::lighttpd(folder.folder.path(), None) else { return };
    let (mut source, _, statuses) = source(&plain(web.port), true);
    for (name, object) in &folder.objects {
        assert_eq!(source.fetch(name, 96 * 1024).expect("fetched"), object.as_slice());
        source.release(name);
    }
    folder.pull(&mut source, |_| true).expect("pulled");
    let stats = source.stats();
    let all: usize = folder.pieces.iter().chain(&folder.objects).map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((stats.objects, stats.bytes), (102, all as u64), "not a byte twice");
    drop(source);
    let gets = web.stop().len();
    assert!((5..60).contains(&gets), "groups, not pieces: {gets} GETs");
    assert_eq!(statuses.lock().unwrap().last(), Some(&BulkStatus::Pulling));
}

#[test]
fn only_what_is_wanted_of_a_route_is_asked_for() {
    let folder = folder();
    let Some(web) = Web::lighttpd(folder.folder.path(), None) else { return };
    let (mut source, ..) = source(&plain(web.port), true);
    let wanted = |n: usize| n % 10 < 3;
    folder.pull(&mut source, wanted).expect("pulled");
    let all = folder.pieces.iter().enumerate().filter(|(n, _)| wanted(*n)).map(|(_, (_, p))| p.len() as u64);
    assert_eq!(source.stats().bytes, all.sum::<u64>());
}

#[test]
fn over_tls_the_server_is_proven_by_its_ca_and_we_by_our_certificate() {
    let (folder, pki) = (folder(), Pki::new("localhost"));
    let Some(web) = Web::lighttpd(folder.folder.path(), Some(&pki)) else { return };
    let config = HttpsConfig {
        url: format!("https://localhost:{}/mainstay", web.port),
        ca: pki.ca.clone(),
        identity: Some((pki.client.cert.clone(), pki.client.key.clone())),
        window_kib: 1024,
        ..HttpsConfig::default()
    };
    let (mut good, ..) = source(&config, true);
    folder.pull(&mut good, |_| true).expect("pulled");
    let other = Pki::new("localhost");
    let cases = [
        (HttpsConfig { identity: None, ..config.clone() }, "certificate"),
        (HttpsConfig { ca: other.ca.clone(), ..config.clone() }, "certificate"),
        (HttpsConfig { url: format!("https://127.0.0.1:{}/", web.port), ..config }, "certificate"),
    ];
    for (config, words) in cases {
        let (mut refused, ..) = source(&config, false);
        let fault = refused.fetch(&folder.objects[0].0, 0).expect_err("not proven");
        assert!(fault.what.contains("web server") && fault.what.contains(words), "{fault}");
    }
}

#[test]
fn a_server_without_ranges_is_read_through_once_for_all_that_is_wanted() {
    let folder = folder();
    let Some(web) = Web::python(folder.folder.path()) else { return };
    let (mut source, ..) = source(&plain(web.port), true);
    folder.pull(&mut source, |n| n % 3 == 0).expect("pulled");
    for (name, object) in &folder.objects {
        assert_eq!(source.fetch(name, 96 * 1024).expect("fetched"), object.as_slice());
        source.release(name);
    }
    assert_eq!((source.stats().objects, source.requests()), (36, 3), "the route, and two objects");
    drop(web);
}

#[test]
fn a_connection_that_is_cut_is_gone_on_with_at_the_piece_that_is_missing() {
    let folder = folder();
    let row = std::fs::read(folder.row()).unwrap();
    let whole = row.len();
    let mut asked = 0;
    let cut = Arc::new(AtomicUsize::new(0));
    let counted = cut.clone();
    let fake = Fake::start(move |request, stream| {
        let Some((first, last)) = range_of(request) else { return false };
        asked += 1;
        if asked % 4 != 2 {
            return answer_range(stream, &row, (first, last));
        }
        counted.fetch_add(1, Ordering::SeqCst);
        let head = format!(
            "HTTP/1.1 206 x\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/*\r\n\r\n",
            last - first + 1
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&row[first..(first + 100_000).min(last)]);
        false
    });
    let (mut source, ..) = source(&plain(fake.port), true);
    let begun = Instant::now();
    folder.pull(&mut source, |_| true).expect("pulled");
    // How many requests there are depends on how many pieces are announced before it is their turn: a busy machine makes few.
    let (connections, cut) = (fake.connections.load(Ordering::SeqCst), cut.load(Ordering::SeqCst));
    println!("with {connections} connections, {cut} cut, in {:?}", begun.elapsed());
    assert!(cut > 0 && connections > cut, "{connections} connections, {cut} cut");
    assert_eq!(source.stats().bytes, whole as u64, "no piece that had come was asked for again");
}

#[test]
fn what_a_hostile_server_says_is_refused_by_name_and_within_bounds() {
    let folder = folder();
    let bytes = folder.pieces[0].1.len();
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}\r\n");
    let length = |more: i64| format!("Content-Length: {}\r\n", bytes as i64 + more);
    let range = |first: usize, last: usize| format!("Content-Range: bytes {first}-{last}/999999999\r\n");
    #[rustfmt::skip]
    let cases: [(String, usize, &str, FaultKind); 11] = [
        ("x".repeat(100_000),                                           0, "expected a head of at most 8192 bytes", FaultKind::Full),
        (head("200 OK", "Content-Length: 1\r\nContent-Length: 2\r\n"),    2, "two fields Content-Length",             FaultKind::Corrupt),
        (head("206 x", &(length(0) + &range(1, bytes))),                bytes, "asked for bytes 0 to",               FaultKind::Corrupt),
        (head("206 x", &length(0)),                                     bytes, "found none",                         FaultKind::Corrupt),
        (head("206 x", &(length(-9) + &range(0, bytes - 1))),           bytes - 9, "and the end",                    FaultKind::Corrupt),
        (head("301 Moved", "Location: http://elsewhere/\r\nContent-Length: 0\r\n"), 0, "redirects are not followed", FaultKind::Refused),
        (head("404 Not Found", "Content-Length: 3\r\n"),                3, "not there (status 404)",                 FaultKind::NotFound),
        (head("416 x", "Content-Length: 0\r\n"),                        0, "shorter than its route",                 FaultKind::NotFound),
        (head("503 Busy", "Content-Length: 0\r\n"),                     0, "expected status 200 or 206, found 503",  FaultKind::Disconnected),
        (head("103 Early", "").repeat(9),                               0, "interim answers",                        FaultKind::Corrupt),
        (head("206 x", &("Transfer-Encoding: chunked\r\n".to_string() + &range(0, bytes - 1))), 1000, "chunks: expected a line",  FaultKind::Full),
    ];
    for (head, body, words, kind) in cases {
        let fake = Fake::start(move |_, stream| {
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&vec![b'7'; body]);
            false
        });
        let (mut source, ..) = source(&plain(fake.port), false);
        let fault = folder.pull(&mut source, |n| n == 0).expect_err(words);
        assert!(fault.what.contains(words), "expected {words}, found {fault}");
        assert_eq!((fault.kind, source.stats().objects), (kind, 0), "{fault}");
    }
}

#[test]
fn an_object_with_other_bytes_is_refuted_and_given_up_to_the_other_source() {
    let folder = folder();
    let mut row = std::fs::read(folder.row()).unwrap();
    row[100] ^= 1;
    std::fs::write(folder.row(), &row).unwrap();
    let Some(web) = Web::lighttpd(folder.folder.path(), None) else { return };
    for (alone, asked) in [(false, 1), (true, 3)] {
        let (mut source, ..) = source(&plain(web.port), alone);
        let fault = folder.pull(&mut source, |n| n == 0).expect_err("a lie");
        assert_eq!(fault.kind, FaultKind::Corrupt);
        assert!(fault.what.contains(&folder.pieces[0].0.to_string()), "{fault}");
        assert_eq!(source.stats().lies, asked);
    }
}

#[test]
fn a_server_that_is_not_there_is_tried_for_ever_alone_and_given_up_beside_another() {
    let port = support::free_port();
    let name = Digest::of(b"x");
    let (mut beside, ..) = source(&plain(port), false);
    let fault = beside.fetch(&name, 10).expect_err("nobody there");
    assert!(fault.what.contains("nothing listens there"), "{fault}");
    let (mut alone, cancel, statuses) = source(&plain(port), true);
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        cancel.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let fault = alone.fetch(&name, 10).expect_err("cancelled");
    assert_eq!(fault.kind, FaultKind::Cancelled);
    assert!(canceller.join().unwrap().elapsed() < Duration::from_millis(500));
    let seen = statuses.lock().unwrap().clone();
    assert!(seen.iter().any(|s| matches!(s, BulkStatus::Connecting { cause: Some(_) })), "{seen:?}");
}

#[test]
fn a_piece_is_there_before_its_group_has_come_whole() {
    let folder = folder();
    let row = std::fs::read(folder.row()).unwrap();
    let cut = folder.pieces[0].1.len() + 40_000; // the first two pieces, and a bit
    let fake = Fake::start(move |request, stream| {
        let Some((from, to)) = range_of(request) else { return false };
        if to < cut {
            return answer_range(stream, &row, (from, to));
        }
        let head = format!(
            "HTTP/1.1 206 x\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{to}/*\r\n\r\n",
            to - from + 1
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&row[from..cut]);
        std::thread::sleep(Duration::from_secs(5));
        stream.write_all(&row[cut..=to]).is_ok()
    });
    let (mut source, ..) = source(&plain(fake.port), true);
    let mut at = 0;
    for (name, piece) in &folder.pieces[..6] {
        source.place(name, piece.len() as u32, mainstay_core::seam::Place { route: folder.route, at });
        at += piece.len() as u64;
        assert!(source.prefetch(name, piece.len() as u32));
    }
    let begun = Instant::now();
    for (name, piece) in &folder.pieces[..2] {
        assert_eq!(source.fetch(name, 0).expect("fetched"), piece.as_slice());
        source.release(name);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
