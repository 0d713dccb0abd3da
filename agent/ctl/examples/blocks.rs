//! What of an image's zstd can be opened and closed again: `cargo run --profile tool -p mainstayctl --example blocks -- IMAGE`.
//!
//! Opens every block of whatever looks like a frame, closes it, compares, and prints how many came out the same and how long that took.

use mainstay_core::bundle::recode::Tables;
use mainstayctl::zstd::{MAGIC, header_bytes};
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let image = std::fs::read(std::env::args().nth(1).ok_or("expected an image")?)?;
    let (mut opening, mut closing) = (Box::<Tables>::default(), Box::<Tables>::default());
    let (mut opened, mut closed) = (vec![0; 1 << 20], vec![0; 1 << 18]);
    let (mut blocks, mut same, mut bytes, mut at) = (0, 0, 0, 0);
    let mut took = [Duration::ZERO; 2];
    while let Some(found) = image[at..].windows(4).position(|four| four == MAGIC) {
        at += found;
        let mut here = at + header_bytes(&image[at..]);
        opening.forget();
        closing.forget();
        at += MAGIC.len();
        while let Some(block) = image.get(here..) {
            let begun = Instant::now();
            let Ok((used, made)) = opening.open(block, &mut opened) else { break };
            took[0] += begun.elapsed();
            let begun = Instant::now();
            let again = closing.close(&opened[..made], &mut closed);
            took[1] += begun.elapsed();
            same += u32::from(again.is_ok_and(|(_, written)| closed[..written] == block[..used]));
            (blocks, bytes, here) = (blocks + 1, bytes + used, here + used);
            if block[0] & 1 == 1 {
                at = here;
                break;
            }
        }
    }
    println!(
        "{blocks} blocks of {bytes} bytes, {same} came out the same; opened in {:?}, closed in {:?}",
        took[0], took[1]
    );
    Ok(())
}
