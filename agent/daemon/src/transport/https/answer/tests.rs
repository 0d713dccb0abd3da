//! Tables of heads and bodies: what is taken, what is refused and by which name.

use super::*;

fn head(text: &str) -> Result<Head, String> {
    match Head::parse(text.as_bytes()) {
        Ok(Some((head, length))) => {
            assert_eq!(length, text.len());
            Ok(head)
        }
        Ok(None) => Err("not whole".into()),
        Err(fault) => Err(fault.to_string()),
    }
}

#[test]
fn heads_of_real_servers_are_taken() {
    #[rustfmt::skip]
    let cases = [
        ("HTTP/1.1 206 Partial Content\r\nServer: nginx\r\nContent-Length: 4096\r\nContent-Range: bytes 0-4095/65536\r\n\r\n",
            Head { status: 206, body: Body::Length(4096), range: Some((0, 4095)), keeps: true }),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
            Head { status: 200, body: Body::Chunked, range: None, keeps: true }),
        ("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n",
            Head { status: 200, body: Body::Length(7), range: None, keeps: false }),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length:\t7 \r\n\r\n",
            Head { status: 200, body: Body::Length(7), range: None, keeps: true }),
        ("HTTP/1.1 200 OK\r\n\r\n",
            Head { status: 200, body: Body::UntilClose, range: None, keeps: false }),
        ("HTTP/1.1 404 Not Found\r\nConnection: x, close\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n",
            Head { status: 404, body: Body::Length(9), range: None, keeps: false }),
        ("HTTP/1.1 100\r\n\r\n",
            Head { status: 100, body: Body::Length(0), range: None, keeps: true }),
        ("HTTP/1.1 206 x\r\nContent-Range: bytes 5-4/9\r\nContent-Length: 1\r\n\r\n",
            Head { status: 206, body: Body::Length(1), range: None, keeps: true }),
    ];
    for (text, expected) in cases {
        assert_eq!(head(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_by_name() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
    #[rustfmt::skip]
    let cases = [
        ("HTTP/2 200 OK\r\n\r\n",                                                "expected HTTP/1.1 and a status"),
        ("HTTP/1.1 99 x\r\n\r\n",                                                "expected HTTP/1.1 and a status"),
        ("HTTP/1.1 2000\r\n\r\n",                                                "expected HTTP/1.1 and a status"),
        ("SSH-2.0-OpenSSH\r\n\r\n",                                              "expected HTTP/1.1 and a status"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",    "two fields Content-Length that differ"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "contradict each other"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",                        "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",      "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",                        "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",                                "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n",                                "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n",                                  "expected a field of the head"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",          "Transfer-Encoding: expected chunked"),
        ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",                    "Content-Encoding: expected none"),
        (many.as_str(),                                                          "at most 64 fields"),
        (long.as_str(),                                                          "expected a head of at most 8192 bytes"),
    ];
    for (text, words) in cases {
        let found = head(text).unwrap_err();
        assert!(found.contains(words), "{}: {found}", shown(text));
    }
}

#[test]
fn a_head_that_is_not_whole_is_waited_for() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for cut in 0..text.len() {
        assert_eq!(Head::parse(&text.as_bytes()[..cut]), Ok(None), "{cut}");
    }
}

/// Gives a body in bits of every size, and puts together what came out.
fn body(kind: Body, bytes: &[u8], bit: usize) -> Result<(Vec<u8>, bool), String> {
    let (mut framing, mut out) = (Framing::new(kind), Vec::new());
    for mut bit in bytes.chunks(bit) {
        while !bit.is_empty() && !framing.is_over() {
            let (taken, of_body) = framing.take(bit).map_err(|fault| fault.to_string())?;
            assert!(taken > 0 && of_body <= taken);
            out.extend_from_slice(&bit[taken - of_body..taken]);
            bit = &bit[taken..];
        }
    }
    Ok((out, framing.is_over()))
}

#[test]
fn bodies_are_the_same_in_whatever_bits_they_come() {
    let chunks =
        b"4\r\nwiki\r\n6;x=y\r\npedia \r\nE \r\nin \r\n\r\nchunks.\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1";
    for bit in 1..chunks.len() {
        assert_eq!(
            body(Body::Chunked, chunks, bit),
            Ok((b"wikipedia in \r\n\r\nchunks.".to_vec(), true)),
            "{bit}"
        );
        assert_eq!(body(Body::Length(6), chunks, bit), Ok((b"4\r\nwik".to_vec(), true)), "{bit}");
        assert_eq!(body(Body::UntilClose, b"abc", bit), Ok((b"abc".to_vec(), false)), "{bit}");
    }
    assert!(Framing::new(Body::Length(0)).is_over());
}

#[test]
fn chunks_that_do_not_read_are_refused_by_name() {
    let (long, trailers) =
        (vec![b'1'; 300], [&b"0\r\n"[..], &b"a: bbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(50)].concat());
    let cases: [(&[u8], &str); 7] = [
        (b"x\r\n", "expected a size"),
        (b"-1\r\n", "expected a size"),
        (b"\r\n", "expected a size"),
        (b"1\n", "expected a size"),
        (b"1\r\nab\r\n", "expected a size"),
        (&long, "a line of at most 256 bytes"),
        (&trailers, "at most 1024 bytes of trailers"),
    ];
    for (bytes, words) in cases {
        let found = body(Body::Chunked, bytes, 7).unwrap_err();
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn a_connection_may_end_behind_a_body_but_not_within_it() {
    let cases =
        [(Body::Length(1), false), (Body::Chunked, false), (Body::UntilClose, true), (Body::Length(0), true)];
    for (kind, may) in cases {
        assert_eq!(Framing::new(kind).closed().is_ok(), may, "{kind:?}");
    }
}
