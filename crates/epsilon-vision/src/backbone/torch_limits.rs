//! What a PyTorch file may cost: looked at before it is read, because its reader keeps a value for every operation of its
//! pickle, unpacks what is packed, and repeats a tensor's values as often as its strides say.

use std::io::{Cursor, Read};

use epsilon_data::formats::pickle::operations;
use zip::ZipArchive;
use zip::read::ZipReadOptions;

/// Operations of a file's pickles. A tensor takes about 40; the reader needs some 200 bytes for one.
const MOST_OPERATIONS: usize = 1 << 21;

/// How often an archive's entries, unpacked, may be as large as itself. `torch.save` packs nothing.
const MOST_UNPACKED: u64 = 4;

/// How often all tensors together may be as large as their file, in which several may share their values.
pub(super) const MOST_SHARED: u64 = 16;

/// Pickles that follow each other in a file of PyTorch before 1.6: magic number, version, system, content, keys.
const PICKLES: usize = 5;

/// Whether a PyTorch file may be read; the reason where not.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"PK") {
        return check_zip(bytes);
    }
    if bytes.first() != Some(&0x80) {
        return Err(
            "a tar archive, as PyTorch before 0.1.10 (2017) wrote them: load it with PyTorch and save it again".into(),
        );
    }
    check_pickles(bytes)
}

fn check_zip(bytes: &[u8]) -> Result<(), String> {
    let failed = |error: zip::result::ZipError| format!("zip archive: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    let most = MOST_UNPACKED.saturating_mul(bytes.len() as u64);
    let mut unpacked = 0_u64;
    let mut pickles = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(failed)?;
        unpacked = unpacked.saturating_add(entry.size());
        if entry.name().map_err(failed)?.ends_with("data.pkl") {
            pickles.push(index);
        }
    }
    if unpacked > most {
        return Err(format!(
            "it unpacks to {unpacked} bytes, more than {MOST_UNPACKED} times its size: unpack it and zip it without compression, \
             or save it again with torch.save"
        ));
    }
    for index in pickles {
        // Checksums are the reader's business.
        let options = ZipReadOptions::new().ignore_crc32(true);
        let entry = archive.by_index_with_options(index, options);
        let mut pickle = Vec::new();
        let mut entry = entry.map_err(failed)?.take(most);
        entry
            .read_to_end(&mut pickle)
            .map_err(|error| format!("zip archive: {error}"))?;
        check_pickles(&pickle)?;
    }
    Ok(())
}

fn check_pickles(mut bytes: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for _ in 0..PICKLES {
        let found = operations::count(bytes);
        count += found.count;
        if count > MOST_OPERATIONS {
            return Err(format!(
                "its pickle has more than {MOST_OPERATIONS} operations, which no state dict needs: save the model's \
                 state_dict() alone"
            ));
        }
        match found.length {
            Some(length) => bytes = &bytes[length..],
            // What is damaged, the reader says.
            None => break,
        }
    }
    Ok(())
}
