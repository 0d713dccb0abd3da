//! GUID partition tables, as they lie on a medium that may be damaged, or made to harm.
//!
//! Claims: reading is total and holds little; every partition that is found lies on the device, is not empty and has a
//! number of its own.

use crate::allocations::bounded;
use arbitrary::{Arbitrary, Unstructured};
use mainstay_board_support::slots::Gpt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// What an input says.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    large_blocks: bool,
    /// The CRCs of the primary header, of its entries are made right.
    mend: [bool; 2],
    /// The entries stand right behind the header, and are not many: else their CRC would seldom be made right.
    near: bool,
    sectors: u8,
    data: &'a [u8],
}

/// A structure, then the device's bytes from its second block on.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let block = if input.large_blocks { 4096 } else { 512 };
    let mut bytes = vec![0; block];
    bytes.extend_from_slice(input.data);
    bytes.resize(bytes.len().max(block * 2) + usize::from(input.sectors) * 64, 0);
    mend(&input, block, &mut bytes);
    let length = bytes.len() as u64;
    FILE.with(|mut file: &File| {
        file.set_len(0).and_then(|()| file.write_all_at(&bytes, 0)).expect("a file in memory can be written");
        file.flush().expect("nothing is buffered");
        // 1024 entries of a label and a UUID.
        bounded(1024 * 512, || {
            let Ok(gpt) = Gpt::read(file, length) else { return };
            for (i, partition) in gpt.partitions.iter().enumerate() {
                assert!(
                    partition.size > 0
                        && partition.offset.checked_add(partition.size).is_some_and(|end| end <= length)
                );
                assert!(gpt.partitions[..i].iter().all(|before| before.number < partition.number));
                let _ = gpt.find(&partition.label).is_ok();
                assert!(gpt.find(&partition.number.to_string()).is_ok());
            }
        });
    });
}

fn mend(input: &Input<'_>, block: usize, bytes: &mut [u8]) {
    let le =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")) as usize;
    let put =
        |bytes: &mut [u8], at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    if input.mend != [false; 2] {
        bytes[block..block + 8].copy_from_slice(b"EFI PART");
        put(bytes, block + 24, 1);
        put(bytes, block + 28, 0);
    }
    if input.near {
        put(bytes, block + 72, 2);
        put(bytes, block + 76, 0);
        bytes[block + 81..block + 84].fill(0);
        put(bytes, block + 84, 128);
    }
    if input.mend[1] {
        let (at, count, size) = (le(bytes, block + 72), le(bytes, block + 80), le(bytes, block + 84));
        let from = at.checked_mul(block);
        let entries = from.and_then(|from| bytes.get(from..from.checked_add(count.checked_mul(size)?)?));
        if let Some(crc) = entries.map(|entries| CRC.checksum(entries)) {
            put(bytes, block + 88, crc);
        }
    }
    if input.mend[0] {
        let length = le(bytes, block + 12).clamp(92, 512);
        put(bytes, block + 12, length as u32);
        put(bytes, block + 16, 0);
        let crc = CRC.checksum(&bytes[block..block + length]);
        put(bytes, block + 16, crc);
    }
}

thread_local! {
    static FILE: File = tempfile::tempfile_in(crate::memory_folder()).expect("a file in memory");
}
