//! The first blocks of an image, which whoever wrote to the volume chose: none panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut read = |offset: u64, into: &mut [u8]| {
        for (n, byte) in into.iter_mut().enumerate() {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(n);
            *byte = bytes.get(at).copied().unwrap_or_default();
        }
        Ok::<(), ()>(())
    };
    let _ = offshoot::volume::superblock::identify(bytes.len() as u64, &mut read).is_ok();
});
