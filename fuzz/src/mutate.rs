//! Damage: how an input is made of another.

use crate::coverage;

/// Random numbers that a seed repeats (splitmix64).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, or 0 where that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let from = self.below(length);
        let span = 1 + self.below(most.min(length.saturating_sub(from)));
        from..(from + span).min(length)
    }
}

/// Numbers at which arithmetic turns.
const EDGES: [u64; 18] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];
/// Texts that readers of many formats know, or trip over.
const TEXTS: [&str; 34] = [
    "-1",
    "0",
    "1e999",
    "NaN",
    "-inf",
    "1e-310",
    "18446744073709551616",
    "9007199254740993",
    "00",
    "\r\n",
    "\n",
    "\t",
    ",",
    "\"",
    "'",
    "\0",
    "\u{feff}",
    "\u{e4}",
    "\u{1F600}",
    "e\u{301}",
    "../",
    "/etc/passwd",
    "[[[[[[[[",
    "{\"\":",
    "null",
    "true",
    "{}",
    "[]",
    "<!ENTITY a \"b\">",
    "&#0;",
    "%00",
    "\\u0000",
    "train",
    "test",
];

/// Changes an input in one to eight ways; `others` and `words` are what else may stand in it.
pub(crate) fn damaged(
    random: &mut Random,
    input: &[u8],
    other: &[u8],
    words: &[&str],
    most: usize,
) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 << random.below(4) {
        once(random, &mut bytes, other, words);
    }
    bytes.truncate(most);
    bytes
}

fn once(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let place = random.below(bytes.len());
    match random.below(14) {
        0 => bytes[place] ^= 1 << random.below(8),
        1 => bytes[place] = random.next() as u8,
        2 => {
            bytes[place] = bytes[place]
                .wrapping_add(random.below(71) as u8)
                .wrapping_sub(35);
        }
        3 => number(random, bytes, place, |random, _| {
            EDGES[random.below(EDGES.len())]
        }),
        4 => number(random, bytes, place, |random, old| {
            old.wrapping_add(random.below(64) as u64).wrapping_sub(32)
        }),
        5 => {
            let gone = random.range(bytes.len(), 64);
            bytes.drain(gone);
        }
        6 => bytes.truncate(place),
        7 => {
            let again = random.range(bytes.len(), 512);
            let copy = bytes[again].to_vec();
            let times = 1 + random.below(4);
            bytes.splice(place..place, copy.repeat(times));
        }
        8 if !other.is_empty() => {
            let taken = random.range(other.len(), other.len());
            bytes.splice(place..place, other[taken].iter().copied());
        }
        9 if !other.is_empty() => {
            // The start of one, the end of the other.
            bytes.truncate(place);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        10 | 11 => {
            let all = words.len() + TEXTS.len();
            let which = random.below(all);
            let word = words
                .get(which)
                .or(TEXTS.get(which - which.min(words.len())));
            let word = word.map_or(&b""[..], |word| word.as_bytes());
            let end = match random.below(2) {
                0 => place,
                _ => (place + word.len()).min(bytes.len()),
            };
            bytes.splice(place..end, word.iter().copied());
        }
        12 => digits(random, bytes, place),
        _ => wanted(random, bytes),
    }
}

/// Writes a number over one of 1, 2, 4 or 8 bytes, either end first.
fn number(
    random: &mut Random,
    bytes: &mut [u8],
    place: usize,
    of: impl Fn(&mut Random, u64) -> u64,
) {
    let width = (1 << random.below(4)).min(bytes.len() - place);
    let big = random.below(2) == 0;
    let field = &mut bytes[place..place + width];
    if big {
        field.reverse();
    }
    let mut old = [0; 8];
    old[..width].copy_from_slice(field);
    let new = of(random, u64::from_le_bytes(old)).to_le_bytes();
    field.copy_from_slice(&new[..width]);
    if big {
        field.reverse();
    }
}

/// Writes another number over the digits at or behind a place.
fn digits(random: &mut Random, bytes: &mut Vec<u8>, place: usize) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[place..].iter().position(digit) else {
        return;
    };
    let start = place + start;
    let length = bytes[start..].iter().take_while(|byte| digit(byte)).count();
    let edge = EDGES[random.below(EDGES.len())];
    let new = match random.below(3) {
        0 => edge.to_string(),
        1 => format!("-{}", random.below(300)),
        _ => random.below(300).to_string(),
    };
    bytes.splice(start..start + length, new.bytes());
}

/// Where a number stands that was compared with another, writes the other.
fn wanted(random: &mut Random, bytes: &mut [u8]) {
    let (a, b) = coverage::pair(random.next());
    let (from, to) = match random.below(2) {
        0 => (a, b),
        _ => (b, a),
    };
    for width in [8, 4, 2] {
        let fits = |number: u64| width == 8 || number >> (8 * width) == 0;
        if from == to || !fits(from) || !fits(to) {
            continue;
        }
        for big in [false, true] {
            let field = |number: u64| -> Vec<u8> {
                let mut field = number.to_le_bytes()[..width].to_vec();
                if big {
                    field.reverse();
                }
                field
            };
            let (from, to) = (field(from), field(to));
            let found = bytes.windows(width).position(|window| window == from);
            if let Some(place) = found {
                bytes[place..place + width].copy_from_slice(&to);
                return;
            }
        }
    }
}
