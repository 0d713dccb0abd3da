//! What a web server answers: heads, and bodies in whatever bits they come.
//!
//! Claims: a head is at most `HEAD_BYTES_MAX` long, and whether it is whole does not depend on what follows it; a body gives the same
//! bytes whole and in bits, never more than were put in, and each step takes at least one byte until the body is over; a body of a
//! length ends after exactly that many.

use mainstay::transport::https::answer::{Body, Framing, HEAD_BYTES_MAX, Head};

/// The first byte says how large the bits are; the rest is what comes.
pub fn run(data: &[u8]) {
    let Some((bit, stream)) = data.split_first() else { return };
    let bit = usize::from(*bit) + 1;
    let parsed = Head::parse(stream);
    let Ok(Some((head, length))) = parsed else { return };
    assert!(length <= HEAD_BYTES_MAX + 4 && length <= stream.len());
    assert_eq!(Head::parse(&stream[..length]), parsed, "what follows does not matter");
    assert_eq!(Head::parse(&stream[..length - 1]), Ok(None), "it is not whole a byte before its end");
    assert!(head.range.is_none_or(|(first, last)| first <= last));
    assert!((100..600).contains(&head.status));
    assert!(!(head.keeps && head.body == Body::UntilClose), "its end is the connection's");

    let rest = &stream[length..];
    let (whole, in_bits) = (body(head.body, rest, rest.len().max(1)), body(head.body, rest, bit));
    assert_eq!(whole.is_ok(), in_bits.is_ok());
    if let (Ok((whole, over)), Ok(found)) = (whole, in_bits) {
        assert_eq!((&whole, over), (&found.0, found.1));
        assert!(whole.len() <= rest.len());
        if let Body::Length(bytes) = head.body {
            assert_eq!(over, whole.len() as u64 == bytes);
        }
    }
}

/// The body's bytes, and whether it is over.
fn body(kind: Body, bytes: &[u8], bit: usize) -> Result<(Vec<u8>, bool), ()> {
    let (mut framing, mut out) = (Framing::new(kind), Vec::new());
    for mut bit in bytes.chunks(bit) {
        while !bit.is_empty() && !framing.is_over() {
            let (taken, of_body) = framing.take(bit).map_err(drop)?;
            assert!(taken > 0 && of_body <= taken && taken <= bit.len());
            out.extend_from_slice(&bit[taken - of_body..taken]);
            bit = &bit[taken..];
        }
    }
    Ok((out, framing.is_over()))
}
