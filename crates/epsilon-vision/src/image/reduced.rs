//! JPEGs decoded at a half, a quarter or an eighth of their size: of each block of 8 x 8 coefficients (ITU-T T.81) the lowest
//! alone become pixels, and the others are stepped over. Only what most photographs are is read: sequential, with Huffman codes,
//! all components in one scan, grey or Y'CbCr. All else, and whatever is damaged, is left to the decoder of whole pictures.

use ::image::{DynamicImage, GrayImage, RgbImage};

const HUFFMAN: u8 = 0xC4;
const RESTART: u8 = 0xD0;
const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;
const QUANTISATION: u8 = 0xDB;
const RESTART_INTERVAL: u8 = 0xDD;
const ADOBE: u8 = 0xEE;

/// Places of a block's coefficients, row by row, in the order of the file (T.81, figure A.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A file that can be decoded at a smaller size.
pub(super) struct Reduced<'a> {
    width: u32,
    height: u32,
    components: Vec<Component>,
    /// Units between restarts, or none.
    restart: usize,
    /// The scan's coded data, and all that follows.
    data: &'a [u8],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    blocks: [usize; 2],
    quantisation: [f32; 64],
    /// Which of the tables for the first coefficient and for the others it uses.
    tables: [usize; 2],
}

impl<'a> Reduced<'a> {
    /// Reads a file up to its scan, if it is one that can be read here.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[0xFF, START_OF_IMAGE])?;
        let mut quantisation = [None; 4];
        let mut frame: Option<Components> = None;
        let mut this = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            restart: 0,
            data: &[],
            dc: Default::default(),
            ac: Default::default(),
        };
        loop {
            let (&[0xFF, marker], after) = rest.split_first_chunk()? else {
                return None;
            };
            if marker == 0xFF {
                rest = &rest[1..];
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
            let (segment, after) = after.split_at_checked(length)?;
            let content = segment.get(2..)?;
            match marker {
                HUFFMAN => this.huffman(content)?,
                QUANTISATION => quantise(content, &mut quantisation)?,
                0xC0 | 0xC1 if frame.is_none() => frame = Some(components(content)?),
                // Progressive, lossless, arithmetic, or a second frame.
                0xC0..=0xCF => return None,
                RESTART_INTERVAL => {
                    this.restart = u16::from_be_bytes(*content.first_chunk()?).into();
                }
                // Colours that are not Y'CbCr.
                ADOBE if content.starts_with(b"Adobe") && content.get(11) != Some(&1) => {
                    return None;
                }
                START_OF_SCAN => {
                    let (width, height, found) = frame?;
                    (this.width, this.height) = (width, height);
                    for (mut component, table) in found {
                        component.quantisation = quantisation[table]?;
                        this.components.push(component);
                    }
                    this.scan(content)?;
                    this.data = after;
                    return Some(this);
                }
                _ => {}
            }
            rest = after;
        }
    }

    /// Tables of codes (T.81, B.2.4.2).
    fn huffman(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&class, rest)) = content.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let table = Table::new(counts, symbols)?;
            let tables = if class >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            *tables.get_mut(usize::from(class & 15))? = Some(table);
            content = rest;
        }
        Some(())
    }

    /// The header of the scan: all components in their order (T.81, B.2.3).
    fn scan(&mut self, content: &[u8]) -> Option<()> {
        let (&count, rest) = content.split_first()?;
        let (named, end) = rest.split_at_checked(2 * usize::from(count))?;
        if usize::from(count) != self.components.len() || end != [0, 63, 0] {
            return None;
        }
        for (component, named) in self.components.iter_mut().zip(named.chunks_exact(2)) {
            let tables = [named[1] >> 4, named[1] & 15].map(usize::from);
            let known = tables[0] < 4 && tables[1] < 4;
            if named[0] != component.id || !known {
                return None;
            }
            component.tables = tables;
        }
        let ids: Vec<u8> = self.components.iter().map(|one| one.id).collect();
        (ids != *b"RGB").then_some(())
    }

    /// Width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Blocks of a unit at most, across and down.
    fn most(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let blocks = self.components.iter().map(|one| one.blocks[axis]);
            blocks.max().unwrap_or(1)
        })
    }

    /// Units across and down.
    fn units(&self) -> [usize; 2] {
        let most = self.most();
        let units = |side: u32, most: usize| (side as usize).div_ceil(8 * most);
        [units(self.width, most[0]), units(self.height, most[1])]
    }

    /// Bytes of memory that decoding takes with `side` pixels of a block's 8, the pixels included.
    pub(super) fn memory(&self, side: usize) -> u64 {
        2 * self.components.len() as u64 * self.pixels(side) + (1 << 16)
    }

    /// Pixels with `side` of a block's 8, those included that fill the last units.
    pub(super) fn pixels(&self, side: usize) -> u64 {
        let (units, most) = (self.units(), self.most());
        (units[0] * units[1] * most[0] * most[1] * side * side) as u64
    }

    /// The picture in `side` (1, 2 or 4) pixels for 8 of a side, the last of which may lie partly behind the edge; nothing where
    /// anything is unusual or wrong.
    pub(super) fn decode(&self, side: usize) -> Option<DynamicImage> {
        let (units, most) = (self.units(), self.most());
        let mut planes = Vec::with_capacity(self.components.len());
        let stride = units[0] * most[0] * side;
        for component in &self.components {
            // Colours of half the width have twice the pixels in a block, and so are as large as brightness.
            let sides = [0, 1].map(|axis| side * most[axis] / component.blocks[axis]);
            let tables = (
                self.dc[component.tables[0]].as_ref()?,
                self.ac[component.tables[1]].as_ref()?,
            );
            planes.push(Plane {
                blocks: component.blocks,
                kernel: Kernel::new(sides, &component.quantisation),
                tables,
                before: 0,
                stride,
                samples: vec![0; stride * units[1] * most[1] * side],
            });
        }
        self.units_into(&mut planes, units)?;
        let out = |full: u32| (full as usize * side).div_ceil(8);
        picture(&planes, [out(self.width), out(self.height)])
    }

    fn units_into(&self, planes: &mut [Plane<'_>], units: [usize; 2]) -> Option<()> {
        let mut bits = Bits::new(self.data);
        let mut left = self.restart;
        let mut restarts = 0;
        let count = units[0] * units[1];
        for unit in 0..count {
            let (column, row) = (unit % units[0], unit / units[0]);
            for plane in planes.iter_mut() {
                let [across, down] = plane.blocks;
                for block in 0..across * down {
                    let x = column * across + block % across;
                    let y = row * down + block / across;
                    plane.block(&mut bits, x, y)?;
                }
            }
            if bits.is_short() {
                return None;
            }
            if self.restart > 0 {
                left -= 1;
                if left == 0 && unit + 1 < count {
                    bits.restart(RESTART + restarts % 8)?;
                    restarts = (restarts + 1) % 8;
                    left = self.restart;
                    planes.iter_mut().for_each(|plane| plane.before = 0);
                }
            }
        }
        // Another scan would change what was decoded.
        (bits.marker()? == END_OF_IMAGE).then_some(())
    }
}

/// Width, height, and each component with its number of a quantisation table.
type Components = (u32, u32, Vec<(Component, usize)>);

/// Precision, height, width, and of each component its name, its blocks across and down, and a table (T.81, B.2.2).
fn components(content: &[u8]) -> Option<Components> {
    let (&[precision, y1, y0, x1, x0, count], rest) = content.split_first_chunk()?;
    let (width, height) = (u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0]));
    let alone = count == 1;
    if precision != 8
        || width == 0
        || height == 0
        || !(alone || count == 3)
        || rest.len() != 3 * usize::from(count)
    {
        return None;
    }
    let mut found = Vec::new();
    for component in rest.chunks_exact(3) {
        // A component by itself is not in units.
        let blocks = match alone {
            true => [1, 1],
            false => [component[1] >> 4, component[1] & 15].map(usize::from),
        };
        let table = usize::from(component[2]);
        if blocks.iter().any(|count| ![1, 2].contains(count)) || table > 3 {
            return None;
        }
        let component = Component {
            id: component[0],
            blocks,
            quantisation: [0.0; 64],
            tables: [0; 2],
        };
        found.push((component, table));
    }
    Some((width.into(), height.into(), found))
}

/// Tables of steps (T.81, B.2.4.1), in the order of a block's rows.
fn quantise(mut content: &[u8], tables: &mut [Option<[f32; 64]>; 4]) -> Option<()> {
    while let Some((&kind, rest)) = content.split_first() {
        let wide = kind >> 4 != 0;
        let (steps, rest) = rest.split_at_checked(if wide { 128 } else { 64 })?;
        let mut table = [0.0; 64];
        for (at, place) in ZIGZAG.iter().enumerate() {
            table[usize::from(*place)] = match wide {
                true => u16::from_be_bytes([steps[2 * at], steps[2 * at + 1]]).into(),
                false => steps[at].into(),
            };
        }
        *tables.get_mut(usize::from(kind & 15))? = Some(table);
        content = rest;
    }
    Some(())
}

/// A component's pixels.
struct Plane<'a> {
    blocks: [usize; 2],
    kernel: Kernel,
    tables: (&'a Table, &'a Table),
    /// The first coefficient of the block before.
    before: i32,
    stride: usize,
    samples: Vec<u8>,
}

impl Plane<'_> {
    /// Decodes the next block into its place.
    fn block(&mut self, bits: &mut Bits<'_>, x: usize, y: usize) -> Option<()> {
        let mut coefficients = [0; 64];
        let last = self.coefficients(bits, &mut coefficients)?;
        let [across, down] = self.kernel.sides;
        let at = y * down * self.stride + x * across;
        let samples = self.samples.get_mut(at..)?;
        self.kernel
            .pixels(&coefficients, last, samples, self.stride)
    }

    /// The coefficients of the next block that are needed; returns the place in the file's order of the last of these that is
    /// not zero (T.81, F.2.2).
    fn coefficients(&mut self, bits: &mut Bits<'_>, out: &mut [i32; 64]) -> Option<usize> {
        let (dc, ac) = self.tables;
        bits.fill();
        let size = dc.symbol(bits)?;
        if size > 11 {
            return None;
        }
        self.before += bits.number(size);
        // Within 12 bits where nothing is wrong.
        if self.before.abs() > 1 << 15 {
            return None;
        }
        out[0] = self.before;
        let (mut at, mut last) = (1, 0);
        while at < self.kernel.needed {
            bits.fill();
            let symbol = ac.symbol(bits)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 {
                if zeros < 15 {
                    return Some(last);
                }
                at += 16;
                continue;
            }
            at += zeros;
            let number = bits.number(size);
            if at < self.kernel.needed {
                out[usize::from(ZIGZAG[at])] = number;
                last = at;
            }
            at += 1;
        }
        // Of the others only the lengths matter.
        while at < 64 {
            bits.fill();
            let step = ac.steps[bits.next(LOOKED_UP) as usize];
            if step != 0 {
                bits.skip(u32::from(step & 0xFF));
                at += usize::from(step >> 8);
                continue;
            }
            let symbol = ac.symbol(bits)?;
            bits.skip(u32::from(symbol & 15));
            at += stepped(symbol);
        }
        (at <= 64 || at >= END).then_some(last)
    }
}

/// Coefficients that a symbol stands for, or more than there can be where it ends the block.
fn stepped(symbol: u8) -> usize {
    match symbol {
        0xF0 => 16,
        _ if symbol & 15 == 0 => END,
        _ => usize::from(symbol >> 4) + 1,
    }
}

/// From a block's coefficients to fewer pixels than 8 of a side: the inverse transform of that size, of the lowest coefficients.
struct Kernel {
    /// Pixels across and down.
    sides: [usize; 2],
    /// Coefficients that are needed, in the file's order.
    needed: usize,
    /// The steps, and the sizes' ratio.
    steps: [f32; 64],
    /// For each pixel across the weights of the coefficients, and the same down.
    across: [[f32; 8]; 8],
    down: [[f32; 8]; 8],
}

impl Kernel {
    fn new(sides: [usize; 2], quantisation: &[f32; 64]) -> Self {
        let inside =
            |place: u8| usize::from(place % 8) < sides[0] && usize::from(place / 8) < sides[1];
        let needed = ZIGZAG.iter().rposition(|place| inside(*place));
        let weights = |side: usize| {
            let mut weights = [[0.0; 8]; 8];
            for (pixel, row) in weights.iter_mut().enumerate().take(side) {
                for (order, weight) in row.iter_mut().enumerate().take(side) {
                    let angle =
                        ((2 * pixel + 1) * order) as f32 * std::f32::consts::PI / (2 * side) as f32;
                    let scale = if order == 0 {
                        1.0
                    } else {
                        std::f32::consts::SQRT_2
                    };
                    // An orthonormal transform of 8 into one of fewer: the mean stays the same.
                    *weight = scale * angle.cos() / 8f32.sqrt();
                }
            }
            weights
        };
        Self {
            sides,
            needed: needed.map_or(0, |last| last + 1),
            steps: *quantisation,
            across: weights(sides[0]),
            down: weights(sides[1]),
        }
    }

    fn pixels(
        &self,
        coefficients: &[i32; 64],
        last: usize,
        out: &mut [u8],
        stride: usize,
    ) -> Option<()> {
        let value = |place: usize| coefficients[place] as f32 * self.steps[place];
        let [across, down] = self.sides;
        let mean = value(0) / 8.0 + 128.5;
        match self.sides {
            _ if last == 0 => {
                for row in out.chunks_mut(stride).take(down) {
                    row.get_mut(..across)?.fill(mean as u8);
                }
            }
            [2, 2] => {
                let [right, below, both] = [1, 8, 9].map(|place| value(place) / 8.0);
                let (above, under) = (mean + below, mean - below);
                let (top, bottom) = (right + both, right - both);
                let first = out.get_mut(..2)?;
                first[0] = (above + top) as u8;
                first[1] = (above - top) as u8;
                let second = out.get_mut(stride..stride + 2)?;
                second[0] = (under + bottom) as u8;
                second[1] = (under - bottom) as u8;
            }
            _ => {
                // Columns first: each pixel down, of the coefficients across.
                let mut columns = [[0f32; 8]; 8];
                for order in 0..down {
                    for place in 0..across {
                        let value = value(8 * order + place);
                        for (pixel, row) in columns.iter_mut().enumerate().take(down) {
                            row[place] += self.down[pixel][order] * value;
                        }
                    }
                }
                for (row, column) in out.chunks_mut(stride).zip(&columns[..down]) {
                    for (sample, weights) in row.get_mut(..across)?.iter_mut().zip(&self.across) {
                        let products = weights
                            .iter()
                            .zip(column)
                            .map(|(weight, value)| weight * value);
                        *sample = (products.sum::<f32>() + 128.5) as u8;
                    }
                }
            }
        }
        Some(())
    }
}

/// Of planes as large as each other, without what fills their units.
fn picture(planes: &[Plane<'_>], [width, height]: [usize; 2]) -> Option<DynamicImage> {
    let rows = |plane: usize| {
        let plane = planes.get(plane)?;
        Some(
            plane
                .samples
                .chunks(plane.stride)
                .map(move |row| &row[..width])
                .take(height),
        )
    };
    let (wide, high) = (width as u32, height as u32);
    let y = rows(0)?;
    if planes.len() == 1 {
        let pixels = y.flatten().copied().collect();
        return GrayImage::from_raw(wide, high, pixels).map(DynamicImage::from);
    }
    let mut pixels = Vec::with_capacity(3 * width * height);
    for ((y, cb), cr) in y.zip(rows(1)?).zip(rows(2)?) {
        for ((y, cb), cr) in y.iter().zip(cb).zip(cr) {
            // JFIF, section 7, in 16 bits after the point.
            let (y, cb, cr) = (
                (i32::from(*y) << 16) + (1 << 15),
                i32::from(*cb) - 128,
                i32::from(*cr) - 128,
            );
            let level = |value: i32| (value >> 16).clamp(0, 255) as u8;
            pixels.extend([
                level(y + 91_881 * cr),
                level(y - 22_554 * cb - 46_802 * cr),
                level(y + 116_130 * cb),
            ]);
        }
    }
    RgbImage::from_raw(wide, high, pixels).map(DynamicImage::from)
}

/// Bits of a code that are looked up at once.
const LOOKED_UP: u32 = 10;
/// Beyond the last coefficient, however many zeros come before it.
const END: usize = 128;

/// Codes and what they stand for (T.81, annex C).
struct Table {
    /// For the next bits: the code's length and its symbol, or 0 for a longer one.
    short: Box<[u16; 1 << LOOKED_UP]>,
    /// The same for what is stepped over: bits of the code and its number, and coefficients.
    steps: Box<[u16; 1 << LOOKED_UP]>,
    /// For each length, what is behind its last code, and the place of its first symbol less that code.
    ends: [u32; 17],
    places: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            short: Box::new([0; 1 << LOOKED_UP]),
            steps: Box::new([0; 1 << LOOKED_UP]),
            ends: [0; 17],
            places: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, count) in (1u32..).zip(counts) {
            table.places[length as usize] = place as i32 - code as i32;
            for _ in 0..*count {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOKED_UP {
                    let free = LOOKED_UP - length;
                    let entry = (length as u16) << 8 | u16::from(symbols[place]);
                    let first = (code << free) as usize;
                    table.short[first..first + (1 << free)].fill(entry);
                    let bits = length as u16 + u16::from(symbols[place] & 15);
                    let step = (stepped(symbols[place]) as u16) << 8 | bits;
                    table.steps[first..first + (1 << free)].fill(step);
                }
                code += 1;
                place += 1;
            }
            table.ends[length as usize] = code;
            code <<= 1;
        }
        Some(table)
    }

    /// The symbol of the next code. Afterwards there are bits for a number.
    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let entry = self.short[bits.next(LOOKED_UP) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry >> 8));
            return Some(entry as u8);
        }
        self.long(bits)
    }

    #[cold]
    fn long(&self, bits: &mut Bits<'_>) -> Option<u8> {
        for length in LOOKED_UP + 1..=16 {
            let code = bits.next(length);
            if code < self.ends[length as usize] {
                bits.skip(length);
                let place = self.places[length as usize] + code as i32;
                return self.symbols.get(usize::try_from(place).ok()?).copied();
            }
        }
        None
    }
}

/// The bits of coded data, in which a byte 0xFF is followed by 0 unless a marker begins with it.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on.
    buffer: u64,
    count: u32,
    /// Bits that were made up behind the data's end.
    added: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            buffer: 0,
            count: 0,
            added: 0,
        }
    }

    /// Makes 32 bits available at least: a code and its number.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        let next = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk());
        if let Some(next) = next {
            let word = u64::from_be_bytes(*next);
            // No byte of 0xFF among them.
            if (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= word >> self.count;
                let whole = (63 - self.count) / 8;
                self.at += whole as usize;
                self.count += 8 * whole;
                return;
            }
        }
        self.fill_slowly();
    }

    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF) | None, _) => {
                    self.added += 8;
                    0
                }
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Whether more bits were used than there were.
    fn is_short(&self) -> bool {
        self.added > self.count
    }

    #[inline(always)]
    fn next(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// A number of so many bits, of which the lower half stands for negative ones (T.81, F.2.2.1).
    #[inline(always)]
    fn number(&mut self, size: u8) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.next(size.into()) as i32;
        self.skip(size.into());
        match bits >> (size - 1) {
            0 => bits - (1 << size) + 1,
            _ => bits,
        }
    }

    /// The marker behind the data that was used, which must end there.
    fn marker(&mut self) -> Option<u8> {
        self.fill_slowly();
        // What is left are the filling of the last byte and what was made up.
        if self.added + 7 < self.count {
            return None;
        }
        let rest = self.bytes.get(self.at..)?;
        let filling = rest.iter().take_while(|byte| **byte == 0xFF).count();
        self.at += filling + 1;
        (filling > 0).then(|| rest.get(filling).copied())?
    }

    fn restart(&mut self, expected: u8) -> Option<()> {
        (self.marker()? == expected).then_some(())?;
        (self.buffer, self.count, self.added) = (0, 0, 0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::{ImageEncoder, imageops};
    use proptest::prelude::*;

    use super::*;

    /// Smooth, so that its pixels at a smaller size hardly depend on the filter.
    fn smooth(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = |at: u32, period: f32| (127.0 + 100.0 * (at as f32 / period).sin()) as u8;
            [wave(x, 41.0), wave(y, 29.0), wave(x + y, 67.0)].into()
        })
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        let (width, height) = image.dimensions();
        encoder
            .write_image(image, width, height, ::image::ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    #[test]
    fn a_smaller_picture_is_the_mean_of_the_larger() {
        for (width, height) in [(320, 240), (333, 241), (65, 9), (8, 8), (1, 1)] {
            let image = smooth(width, height);
            let bytes = jpeg(&image);
            let reduced = Reduced::open(&bytes).unwrap();
            assert_eq!(reduced.size(), (width, height));
            for side in [1, 2, 4] {
                let small = reduced.decode(side).unwrap().into_rgb8();
                let each = 8 / side as u32;
                assert_eq!(
                    small.dimensions(),
                    (width.div_ceil(each), height.div_ceil(each))
                );
                // Without the last ones, which may lie partly behind the edge.
                let (wide, high) = (width / each, height / each);
                let whole = imageops::crop_imm(&image, 0, 0, wide * each, high * each).to_image();
                for (x, y, pixel) in imageops::crop_imm(&small, 0, 0, wide, high)
                    .to_image()
                    .enumerate_pixels()
                {
                    let block =
                        imageops::crop_imm(&whole, x * each, y * each, each, each).to_image();
                    for channel in 0..3 {
                        let sum: u32 = block.pixels().map(|pixel| u32::from(pixel[channel])).sum();
                        let mean = sum / (each * each);
                        let by = u32::from(pixel[channel]).abs_diff(mean);
                        assert!(
                            by <= 8,
                            "{width} x {height}, {side} of 8, at {x}, {y}: {by}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_others() {
        for (name, read) in [
            ("rgb.jpg", true),
            ("subsampled.jpg", true),
            ("grey.jpg", true),
            ("progressive.jpg", false),
            ("cmyk.jpg", false),
        ] {
            let path = format!("{}/tests/fixtures/image/{name}", env!("CARGO_MANIFEST_DIR"));
            let bytes = std::fs::read(path).unwrap();
            let decoded = Reduced::open(&bytes).and_then(|reduced| reduced.decode(2));
            assert_eq!(decoded.is_some(), read, "{name}");
            for length in 0..bytes.len() - 2 {
                let cut = [&bytes[..length], &[0xFF, END_OF_IMAGE]].concat();
                let decoded = Reduced::open(&cut).and_then(|reduced| reduced.decode(2));
                assert!(decoded.is_none(), "{name} cut to {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn damage_is_nothing_or_a_picture(places in prop::collection::vec((0usize..10_000, any::<u8>()), 1..6), side in 0usize..3) {
            let mut bytes = jpeg(&smooth(70, 50));
            for (place, value) in places {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            if let Some(reduced) = Reduced::open(&bytes).filter(|reduced| reduced.memory(4) < 50_000_000) {
                let _ = reduced.decode([1, 2, 4][side]);
            }
        }
    }
}
