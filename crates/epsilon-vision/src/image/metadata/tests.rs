//! Files made by hand, whole, damaged and hostile. What exiftool writes in the forms of other programs is read by a test of the
//! package that gives keywords their meaning.

use std::fs;

use proptest::prelude::*;

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!(
        "{}/tests/fixtures/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

fn read_bytes(bytes: &[u8]) -> Metadata {
    parse("photo".as_ref(), bytes).unwrap()
}

/// The segments, a scan's beginning, and some data.
fn jpeg(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut file = b"\xff\xd8".to_vec();
    for (marker, content) in segments {
        let length = u16::try_from(content.len() + 2).unwrap();
        file.extend([&[0xFF, *marker], &length.to_be_bytes()[..], content].concat());
    }
    file.extend(b"\xff\xda\0\x03\x01data\xff\xd9");
    file
}

fn png(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in chunks {
        let length = (content.len() as u32).to_be_bytes();
        file.extend([&length[..], *kind, content, &[0; 4]].concat());
    }
    file
}

fn webp(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    for (kind, content) in chunks {
        let length = (content.len() as u32).to_le_bytes();
        let filling = vec![0; content.len() % 2];
        file.extend([*kind, &length[..], content, &filling].concat());
    }
    file
}

/// A directory of bytes by their tags, and one below with a date.
fn tiff(entries: &[(u16, Vec<u8>)], taken: &str) -> Vec<u8> {
    let directory = |entries: &[(u16, u16, u32, u32)]| {
        let mut bytes = (entries.len() as u16).to_be_bytes().to_vec();
        for (tag, kind, count, value) in entries {
            bytes.extend([tag.to_be_bytes(), kind.to_be_bytes()].concat());
            bytes.extend([count.to_be_bytes(), value.to_be_bytes()].concat());
        }
        bytes.extend([0; 4]);
        bytes
    };
    let below = 8 + 2 + 12 * (entries.len() as u32 + 1) + 4;
    let mut place = below + 2 + 12 + 4;
    let (mut main, mut data) = (Vec::new(), format!("{taken}\0").into_bytes());
    let date = (0x9003, 2, data.len() as u32, place);
    place += data.len() as u32;
    for (tag, bytes) in entries {
        assert!(bytes.len() > 4, "fewer stand in the entry itself");
        main.push((*tag, 1, bytes.len() as u32, place));
        place += bytes.len() as u32;
        data.extend(bytes);
    }
    main.push((0x8769, 4, 1, below));
    let file = [
        b"MM\0*\0\0\0\x08".to_vec(),
        directory(&main),
        directory(&[date]),
        data,
    ];
    file.concat()
}

fn field(record: u8, set: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[0x1C, record, set], &length[..], value].concat()
}

fn resource(number: u16, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let filling = vec![0; content.len() % 2];
    // A name of three letters.
    let head = [b"8BIM".as_slice(), &number.to_be_bytes(), b"\x03abc"].concat();
    [&head[..], &length, content, &filling].concat()
}

const TAKEN: &str = "2023:05:01 10:11:12";

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// All that there may be, in a JPEG.
fn whole() -> Vec<u8> {
    let segment = |start: &[u8], content: &[u8]| [start, content].concat();
    let resources = [
        resource(0x03ED, b"odd"),
        resource(
            0x0404,
            &[
                field(1, 90, b"\x1b%G"),
                field(2, 25, "caf\u{e9}".as_bytes()),
            ]
            .concat(),
        ),
    ];
    let resources = resources.concat();
    let (one, other) = resources.split_at(30);
    let extended = |at: u32, part: &str| {
        let numbers = [10u32.to_be_bytes(), at.to_be_bytes()].concat();
        let content = [&[b'0'; 32][..], &numbers, part.as_bytes()].concat();
        (
            0xE1,
            segment(b"http://ns.adobe.com/xmp/extension/\0", &content),
        )
    };
    let exif = tiff(&[(0x9C9E, utf_16("sea; b\u{e4}r;"))], TAKEN);
    jpeg(&[
        (0xE0, b"JFIF\0".to_vec()),
        (0xE1, segment(b"Exif\0\0", &exif)),
        extended(5, "/more"),
        (
            0xE1,
            segment(b"http://ns.adobe.com/xap/1.0/\0", b"<main/>\0\0"),
        ),
        extended(0, "<more"),
        (0xED, segment(b"Photoshop 3.0\0", one)),
        (0xED, segment(b"Photoshop 3.0\0", other)),
    ])
}

#[test]
fn a_jpeg_says_all_that_there_is() {
    let expected = Metadata {
        xmp: vec!["<main/>".into(), "<more/more".into()],
        keywords_iptc: vec!["caf\u{e9}".into()],
        keywords_xp: vec!["sea".into(), "b\u{e4}r".into()],
        taken: moment(TAKEN),
        flaws: Vec::new(),
    };
    assert_eq!(read_bytes(&whole()), expected);
    assert_eq!(expected.taken, Some(1_682_935_872));
}

#[test]
fn what_is_cut_short_says_so_and_what_stands_before_is_read() {
    let file = whole();
    let scan = file.windows(2).position(|two| two == b"\xff\xda").unwrap();
    let mut most = 0;
    for length in 3..file.len() {
        let found = read_bytes(&file[..length]);
        // Behind the head of the scan are pixels alone.
        assert_eq!(
            found.flaws.is_empty(),
            length >= scan + 5,
            "{length}: {found:?}"
        );
        most = most.max(found.xmp.len());
        assert!(
            found.xmp.len() == most,
            "{length}: nothing is lost that was read"
        );
    }
    let tiff = tiff(&[(700, b"<x/> ".to_vec())], TAKEN);
    for length in 8..tiff.len() {
        assert!(!read_bytes(&tiff[..length]).flaws.is_empty(), "{length}");
    }
    assert_eq!(read_bytes(&tiff).xmp, ["<x/> "]);
}

#[test]
fn iptc_is_read_in_its_character_set() {
    let read = |fields: &[Vec<u8>]| {
        let content = [
            b"Photoshop 3.0\0".to_vec(),
            resource(0x0404, &fields.concat()),
        ]
        .concat();
        read_bytes(&jpeg(&[(0xED, content)]))
            .keywords_iptc
            .join(" ")
    };
    let (utf_8, latin) = ("caf\u{e9}".as_bytes(), &b"caf\xe9"[..]);
    assert_eq!(
        read(&[field(2, 25, utf_8), field(2, 25, latin)]),
        "caf\u{e9} caf\u{e9}"
    );
    assert_eq!(
        read(&[field(1, 90, b"\x1b%G"), field(2, 25, utf_8)]),
        "caf\u{e9}"
    );
    assert_eq!(
        read(&[field(1, 90, b"\x1b.A"), field(2, 25, utf_8)]),
        "caf\u{c3}\u{a9}"
    );
    let long = [&b"\x1c\x02\x19\x80\x04\0\0\0\x03"[..], b"sea"].concat();
    assert_eq!(
        read(&[field(2, 5, b"title"), long, field(2, 25, b" \0")]),
        "sea"
    );
}

#[test]
fn texts_of_a_png_are_read_before_and_behind_its_pixels() {
    let packed = |text: &[u8]| fdeflate::compress_to_vec(text);
    let itxt = |packed: u8, text: &[u8]| {
        [
            &[b"XML:com.adobe.xmp\0", &[packed, 0][..], b"\0\0"].concat(),
            text,
        ]
        .concat()
    };
    let profile = |name: &str, bytes: &[u8]| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "\n{name}\n{:8}\n{}\n",
            bytes.len(),
            digits.join("").as_str()
        );
        (
            format!("Raw profile type {name}\0").into_bytes(),
            text.into_bytes(),
        )
    };
    let (name, text) = profile("iptc", &resource(0x0404, &field(2, 25, b"sea")));
    let exif = [b"Exif\0\0".to_vec(), tiff(&[], TAKEN)].concat();
    let (exif_name, exif_text) = profile("APP1", &exif);
    let file = png(&[
        (b"IHDR", vec![0; 13]),
        (b"iTXt", itxt(0, b"<one/>")),
        (b"zTXt", [&name[..], &[0], &packed(&text)].concat()),
        (b"IDAT", vec![1; 100]),
        (b"iTXt", itxt(1, &packed(b"<two/>"))),
        (b"tEXt", [exif_name, exif_text].concat()),
        (b"tEXt", b"Comment\0no profile".to_vec()),
        (b"IEND", Vec::new()),
    ]);
    let found = read_bytes(&file);
    assert_eq!(found.xmp, ["<one/>", "<two/>"]);
    assert_eq!(
        (found.keywords_iptc, found.taken),
        (vec!["sea".to_string()], moment(TAKEN))
    );
    assert!(found.flaws.is_empty(), "{:?}", found.flaws);

    // Some kilobytes that unpack to many megabytes, again and again.
    let bomb = packed(&vec![0; LARGEST + 1]);
    assert!(bomb.len() < LARGEST / 20);
    let chunks = vec![(b"iTXt", itxt(1, &bomb)); 50];
    let begun = std::time::Instant::now();
    let found = read_bytes(&png(&chunks));
    assert!(
        found.xmp.is_empty() && found.flaws[0].contains("bytes of packed text"),
        "{:?}",
        found.flaws
    );
    assert!(begun.elapsed().as_secs() < 5, "work is bounded");
    let found = read_bytes(&png(&[(b"iTXt", itxt(0, &vec![b' '; 10 << 20]))]));
    assert!(
        found.xmp.is_empty() && found.flaws[0].contains("bytes of XMP"),
        "{:?}",
        found.flaws
    );
    let found = read_bytes(&png(&[
        (b"iTXt", itxt(1, b"nothing packed")),
        (b"IEND", Vec::new()),
    ]));
    assert_eq!(found.flaws, ["a packed text in it is damaged"]);
}

#[test]
fn chunks_of_webp_boxes_of_jpeg_xl_and_the_preview_of_raf_are_read() {
    let exif = tiff(&[], TAKEN);
    let found = read_bytes(&webp(&[
        (b"VP8X", vec![0; 10]),
        (b"VP8 ", vec![7; 3]),
        (b"EXIF", [b"Exif\0\0".to_vec(), exif.clone()].concat()),
        (b"XMP ", b"<x/>".to_vec()),
    ]));
    assert_eq!(
        (found.xmp, found.taken),
        (vec!["<x/>".to_string()], moment(TAKEN))
    );
    assert!(found.flaws.is_empty(), "{:?}", found.flaws);

    let part = |kind: &[u8; 4], content: &[u8]| {
        let length = (content.len() as u32 + 8).to_be_bytes();
        [&length[..], kind, content].concat()
    };
    let start = b"\0\0\0\x0cJXL \r\n\x87\n".to_vec();
    let parts = [
        part(b"Exif", &[&[0; 4][..], &exif].concat()),
        part(b"xml ", b"<x/>"),
    ];
    let found = read_bytes(&[start.clone(), parts.concat()].concat());
    assert_eq!(
        (found.xmp, found.taken),
        (vec!["<x/>".to_string()], moment(TAKEN))
    );
    let found = read_bytes(&[start, part(b"brob", b"xml packed")].concat());
    assert!(found.flaws[0].contains("Brotli"), "{:?}", found.flaws);

    const CANON: &[u8] = b"\x85\xc0\xb6\x87\x82\x0f\x11\xe0\x81\x11\xf4\xce\x46\x2b\x6a\x48";
    const ADOBE: &[u8] = b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";
    let settings = part(b"uuid", &[CANON, &part(b"CMT2", &exif)].concat());
    let cr3 = [
        part(b"ftyp", b"crx \0\0\0\x01"),
        part(b"moov", &settings),
        part(b"uuid", &[ADOBE, b"<x/>"].concat()),
    ];
    let found = read_bytes(&cr3.concat());
    assert_eq!(
        (found.xmp, found.taken),
        (vec!["<x/>".to_string()], moment(TAKEN))
    );

    // What a preview says of its size makes it one.
    let mut preview = whole();
    preview.splice(2..2, *b"\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0");
    let mut raf = b"FUJIFILMCCD-RAW ".to_vec();
    raf.resize(84, 0);
    raf.extend([92u32, preview.len() as u32].map(u32::to_be_bytes).concat());
    raf.extend(&preview);
    assert_eq!(read_bytes(&raf), read_bytes(&whole()));
}

#[test]
fn lengths_that_lie_are_named() {
    let photoshop = |content: &[u8]| jpeg(&[(0xED, [b"Photoshop 3.0\0", content].concat())]);
    let mut long = field(2, 25, b"sea");
    long[3] = 0x7F;
    let mut digits = field(2, 25, b"sea");
    digits[3] = 0xFF;
    let mut resource_of_more = resource(0x0404, &field(2, 25, b"sea"));
    resource_of_more[10] = 0x7F;
    let exif = |entries: &[u8]| {
        let tiff = [b"II*\0\x08\0\0\0", entries].concat();
        jpeg(&[(0xE1, [b"Exif\0\0".to_vec(), tiff].concat())])
    };
    let extended = [
        &b"http://ns.adobe.com/xmp/extension/\0"[..],
        &[b'0'; 36],
        b"\0\0\0\0<x/>",
    ];
    for (file, part) in [
        (
            photoshop(&resource(0x0404, &long)),
            "a field of its IPTC is cut",
        ),
        (
            photoshop(&resource(0x0404, &digits)),
            "a field of its IPTC is cut",
        ),
        (
            photoshop(&resource(0x0404, b"no fields")),
            "its IPTC is damaged",
        ),
        (photoshop(&resource_of_more), "a Photoshop resource is cut"),
        (
            photoshop(b"no resources"),
            "Photoshop resources are damaged",
        ),
        (exif(b"\xff\xff"), "directory is cut"),
        (
            exif(b"\x01\0\xbc\x02\x01\0\xff\xff\xff\x7f\0\0\0\0\0\0\0\0"),
            "points to is cut",
        ),
        (
            jpeg(&[(0xE1, b"Exif\0\0nothing".to_vec())]),
            "EXIF does not begin",
        ),
        (
            jpeg(&[(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff".to_vec())]),
            "not UTF-8",
        ),
        (
            jpeg(&[(0xE1, extended.concat())]),
            "extended XMP is incomplete",
        ),
        (b"II+\0\x08\0\0\0".to_vec(), "BigTIFF"),
    ] {
        let found = read_bytes(&file);
        assert_eq!(found.flaws.len(), 1, "{part}: {:?}", found.flaws);
        assert!(found.flaws[0].contains(part), "{part}: {:?}", found.flaws);
    }
    let many = field(2, 25, b"a").repeat(MOST_KEYWORDS + 5);
    let found = read_bytes(&tiff(&[(0x83BB, many)], TAKEN));
    assert_eq!(found.keywords_iptc.len(), MOST_KEYWORDS);
    assert!(found.flaws[0].contains("keywords"), "{:?}", found.flaws);
}

/// Places of no length would make memory of some megabytes for each byte of a file.
#[test]
fn a_heic_whose_places_take_no_bytes_is_refused() {
    let mut bytes = fixture("formats/chroma_420.heic");
    assert!(read_bytes(&bytes).flaws.is_empty());
    let at = bytes.windows(4).position(|four| four == b"iloc").unwrap();
    bytes[at + 8] = 0;
    let found = read_bytes(&bytes);
    assert!(
        found.flaws[0].contains("list of its parts"),
        "{:?}",
        found.flaws
    );
    let error = super::super::decode("a.heic".as_ref(), &bytes, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("have no length"), "{error}");
}

#[test]
fn the_rest_of_a_file_is_read_where_it_may_hold_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.jpg");
    let filling: Vec<(u8, Vec<u8>)> = vec![(0xE2, vec![1; 60_000]); 6];
    let xmp = (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>".to_vec());
    let far = jpeg(&[&filling[..], std::slice::from_ref(&xmp)].concat());
    assert!(Found::of(&path, &far[..HEAD as usize]).unwrap().more);
    let mut near = jpeg(&[xmp]);
    near.resize(1 << 20, 1);
    assert!(!Found::of(&path, &near[..HEAD as usize]).unwrap().more);
    for file in [far, near] {
        fs::write(&path, file).unwrap();
        let found = read(&path, &Limits::default()).unwrap();
        assert_eq!(found.xmp, ["<x/>"]);
        assert!(found.flaws.is_empty(), "{:?}", found.flaws);
    }
    let small = Limits {
        max_file_bytes: 1_000,
        ..Limits::default()
    };
    assert!(matches!(
        read(&path, &small),
        Err(ImageError::FileTooLarge { .. })
    ));
    fs::write(&path, "just some words").unwrap();
    assert!(matches!(
        read(&path, &small),
        Err(ImageError::NotAnImage { .. })
    ));
    assert!(matches!(
        read(&folder.path().join("no"), &small),
        Err(ImageError::Missing { .. })
    ));
}

#[test]
fn days_are_counted_as_calendars_do() {
    for (text, expected) in [
        ("1969-12-31T23:59:59", Some(-1)),
        ("1900:01:01 00:00:00", Some(-2_208_988_800)),
        ("2000-02-29", Some(951_782_400)),
        ("2000-03-01", Some(951_868_800)),
        ("1900-02-29", None),
        ("2023-04-31", None),
        ("2023-13-01", None),
        ("2023-05-01T24:00", None),
        ("2023-05-01T10:11+02:00", Some(1_682_935_860)),
        ("2023-05-01T10", None),
        ("    :  :     :  :  ", None),
        ("caf\u{e9} is no date", None),
    ] {
        assert_eq!(moment(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn damage_never_panics(position in 0usize..100_000, value: u8, which in 0usize..9) {
        let tiff = || tiff(&[(700, b"<x/>  ".to_vec()), (0x83BB, field(2, 25, b"sea"))], TAKEN);
        let mut bytes = match which {
            0 | 1 => whole(),
            2 => tiff(),
            3 => webp(&[(b"EXIF", tiff()), (b"XMP ", b"<x/>".to_vec())]),
            4 => png(&[(b"eXIf", tiff()), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>".to_vec())]),
            5 => fixture("formats/chroma_420.heic"),
            6 => fixture("formats/turned.cr3"),
            7 => fixture("formats/turned.jxl"),
            _ => fixture("formats/turned.nef"),
        };
        let position = position % bytes.len();
        bytes[position] = value;
        let _ = parse("photo".as_ref(), &bytes);
    }
}
