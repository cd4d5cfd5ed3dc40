//! How many operations a pickle has, and where it ends, without carrying any of them out: what a reader that keeps a value for
//! each of them is asked first.

/// The operations of a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// How many there are, up to the end or up to the first that is damaged.
    pub count: usize,
    /// Bytes up to its end; `None` where it has none.
    pub length: Option<usize>,
}

/// What follows the code of an operation.
enum Argument {
    Bytes(usize),
    /// Bytes as many as a number of so many bytes says.
    Sized(usize),
    Lines(usize),
}

/// Counts the operations of the pickle that `bytes` begin with, of any protocol.
///
/// ```
/// use epsilon_data::formats::pickle::operations;
///
/// let found = operations::count(b"\x80\x02K\x07.and more");
/// assert_eq!((found.count, found.length), (3, Some(5)));
/// assert_eq!(operations::count(b"\x80\x02K").length, None);
/// ```
pub fn count(bytes: &[u8]) -> Operations {
    let (mut count, mut place) = (0, 0);
    loop {
        let next = bytes.get(place).and_then(|&code| {
            let after = skip(bytes, place + 1, argument(code)?)?;
            Some((code, after))
        });
        let Some((code, after)) = next else {
            return Operations {
                count,
                length: None,
            };
        };
        count += 1;
        place = after;
        if code == b'.' {
            return Operations {
                count,
                length: Some(place),
            };
        }
    }
}

/// The arguments of the operation, by Python's `pickletools`; `None` for a code that is none.
fn argument(code: u8) -> Option<Argument> {
    Some(match code {
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Argument::Bytes(1),
        b'M' | 0x83 => Argument::Bytes(2),
        b'J' | b'j' | b'r' | 0x84 => Argument::Bytes(4),
        b'G' | 0x95 => Argument::Bytes(8),
        b'U' | b'C' | 0x8a | 0x8c => Argument::Sized(1),
        b'T' | b'X' | b'B' | 0x8b => Argument::Sized(4),
        0x8d | 0x8e | 0x96 => Argument::Sized(8),
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'P' => Argument::Lines(1),
        b'c' | b'i' => Argument::Lines(2),
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'e'
        | b'l'
        | b'o'
        | b's'
        | b't'
        | b'u'
        | b')'
        | b']'
        | b'}'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Argument::Bytes(0),
        _ => return None,
    })
}

/// The place after an argument that begins at `place`.
fn skip(bytes: &[u8], place: usize, argument: Argument) -> Option<usize> {
    let after = match argument {
        Argument::Bytes(count) => place.checked_add(count)?,
        Argument::Sized(width) => {
            let size = bytes.get(place..place + width)?;
            let size = size
                .iter()
                .rev()
                .fold(0, |size, &byte| size << 8 | u64::from(byte));
            usize::try_from(size).ok()?.checked_add(place + width)?
        }
        Argument::Lines(count) => {
            let mut after = place;
            for _ in 0..count {
                after += bytes[after..].iter().position(|&byte| byte == b'\n')? + 1;
            }
            after
        }
    };
    (after <= bytes.len()).then_some(after)
}
