//! Keywords in the forms of other programs, written by exiftool as those programs document or show them, are read from pictures of
//! every format and from sidecars.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use epsilon::library::keywords::{Said, keywords, of_all};
use epsilon::library::{Ledger, Photo, scan};
use epsilon_vision::image::Limits;

/// Pictures without metadata, from the fixtures of the package that decodes them.
const PICTURES: [&str; 14] = [
    "image/rgb.jpg",
    "image/rgb.png",
    "image/lossy.webp",
    "image/lossless.webp",
    "formats/grey.tif",
    "formats/chroma_420.heic",
    "formats/chroma_420.avif",
    "formats/lossy.jxl",
    "formats/turned.dng",
    "formats/turned.nef",
    "formats/turned.cr2",
    "formats/turned.arw",
    "formats/turned.orf",
    "formats/turned.rw2",
];

/// Keywords of the sea, and of a dog, which is an animal, as each program writes them.
const PROGRAMS: [(&str, &[&str]); 8] = [
    (
        "Lightroom Classic",
        &[
            "-IPTC:CodedCharacterSet=UTF8",
            "-IPTC:Keywords=animal",
            "-IPTC:Keywords=dog",
            "-IPTC:Keywords=sea",
            "-XMP-dc:Subject=animal",
            "-XMP-dc:Subject=dog",
            "-XMP-dc:Subject=sea",
            "-XMP-lr:HierarchicalSubject=animal|dog",
            "-XMP-lr:HierarchicalSubject=sea",
        ],
    ),
    (
        "digiKam",
        &[
            "-XMP-digiKam:TagsList=_Digikam_Internal_Tags_/Color Label None",
            "-XMP-digiKam:TagsList=animal/dog",
            "-XMP-digiKam:TagsList=sea",
            "-XMP-microsoft:LastKeywordXMP=animal/dog",
            "-XMP-microsoft:LastKeywordXMP=sea",
            "-XMP-lr:HierarchicalSubject=animal|dog",
            "-XMP-lr:HierarchicalSubject=sea",
            "-XMP-mediapro:CatalogSets=animal|dog",
            "-XMP-mediapro:CatalogSets=sea",
            "-XMP-acdsee:Categories=<Categories><Category Assigned=\"0\">animal<Category Assigned=\"1\">dog</Category></Category>\
             <Category Assigned=\"1\">sea</Category></Categories>",
            "-XMP-dc:Subject=dog",
            "-XMP-dc:Subject=sea",
            "-IPTC:Keywords=dog",
            "-IPTC:Keywords=sea",
        ],
    ),
    (
        "darktable",
        &[
            "-XMP-dc:Subject=animal",
            "-XMP-dc:Subject=darktable",
            "-XMP-dc:Subject=dog",
            "-XMP-dc:Subject=exported",
            "-XMP-dc:Subject=format",
            "-XMP-dc:Subject=jpg",
            "-XMP-dc:Subject=sea",
            "-XMP-lr:HierarchicalSubject=animal|dog",
            "-XMP-lr:HierarchicalSubject=darktable|exported",
            "-XMP-lr:HierarchicalSubject=darktable|format|jpg",
            "-XMP-lr:HierarchicalSubject=sea",
        ],
    ),
    (
        "Windows Photo Gallery",
        &[
            "-XMP-microsoft:LastKeywordXMP=animal/dog",
            "-XMP-microsoft:LastKeywordXMP=sea",
            "-XMP-dc:Subject=animal/dog",
            "-XMP-dc:Subject=sea",
            "-EXIF:XPKeywords=animal/dog;sea",
        ],
    ),
    (
        "Shotwell",
        &[
            "-IPTC:Keywords=animal",
            "-IPTC:Keywords=dog",
            "-IPTC:Keywords=sea",
            "-XMP-dc:Subject=animal",
            "-XMP-dc:Subject=dog",
            "-XMP-dc:Subject=sea",
            "-XMP-lr:HierarchicalSubject=animal",
            "-XMP-lr:HierarchicalSubject=animal|dog",
            "-XMP-digiKam:TagsList=animal",
            "-XMP-digiKam:TagsList=animal/dog",
            "-XMP-microsoft:LastKeywordXMP=animal",
            "-XMP-microsoft:LastKeywordXMP=animal/dog",
        ],
    ),
    (
        "ACDSee",
        &[
            "-XMP-acdsee:Categories=<Categories><Category Assigned=\"1\">animal<Category Assigned=\"1\">dog</Category></Category>\
             </Categories>",
            "-XMP-acdsee:Keywords=sea",
        ],
    ),
    (
        "XnView MP",
        &[
            "-XMP-dc:Subject=dog",
            "-XMP-dc:Subject=sea",
            "-XMP-lr:HierarchicalSubject=animal|dog",
            "-XMP-lr:HierarchicalSubject=sea",
            "-IPTC:Keywords=dog",
            "-IPTC:Keywords=sea",
        ],
    ),
    (
        "Apple Photos, flat as it is",
        &[
            "-XMP-dc:Subject=animal|dog",
            "-XMP-dc:Subject=sea",
            "-IPTC:Keywords=animal|dog",
            "-IPTC:Keywords=sea",
        ],
    ),
];

/// Ten past ten on the first of May 2023.
const TAKEN: (&str, i64) = ("2023:05:01 10:10:00", 1_682_935_800);

fn fixture(name: &str) -> PathBuf {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../epsilon-vision/tests/fixtures"
    );
    Path::new(fixtures).join(name)
}

/// Whether exiftool is installed; says so where it is not.
fn has_exiftool() -> bool {
    let there = Command::new("exiftool").arg("-ver").output().is_ok();
    if !there {
        println!("skipped: exiftool is not installed");
    }
    there
}

/// Writes into all of these files; what a format has no place for is left out.
fn exiftool(arguments: &[&str], files: &[PathBuf]) {
    let mut command = Command::new("exiftool");
    // -m: what the fixtures lack of real files is no matter.
    command
        .args(["-q", "-m", "-overwrite_original"])
        .args(arguments);
    let output = command.args(files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn said(path: &Path) -> Said {
    // A scan would leave out what this build does not decode, such as AVIF.
    let photo = Photo {
        id: path.file_name().unwrap().to_str().unwrap().into(),
        path: path.into(),
        bytes: 0,
        modified: 0,
    };
    keywords(&photo, &BTreeMap::new(), &Limits::default())
}

/// What the system does not give is no flaw of a file; a name too long for a sidecar has none.
#[test]
fn what_the_system_does_not_give_is_unread() {
    let folder = tempfile::tempdir().unwrap();
    let gone = said(&folder.path().join("gone.png"));
    assert!(gone.flaws.is_empty());
    assert!(gone.unread[0].contains("gone.png"), "{:?}", gone.unread);
    let long = folder.path().join(format!("{}.png", "a".repeat(250)));
    fs::copy(fixture(PICTURES[0]), &long).unwrap();
    let long = said(&long);
    assert!(long.unread.is_empty(), "{:?}", long.unread);
}

/// Its keywords in order of names.
fn names(said: &Said) -> Vec<String> {
    let path = |parents: &[String], name: &String| [parents, std::slice::from_ref(name)].concat();
    let keywords = said.keywords.iter();
    let keywords = keywords.map(|keyword| path(&keyword.parents, &keyword.name).join("|"));
    let mut names: Vec<String> = keywords.collect();
    names.sort();
    names
}

fn pictures(folder: &Path) -> Vec<PathBuf> {
    let copy = |name: &&str| {
        let path = folder.join(Path::new(name).file_name().unwrap());
        fs::copy(fixture(name), &path).unwrap();
        path
    };
    PICTURES.iter().map(copy).collect()
}

#[test]
fn keywords_of_other_programs_are_read_from_pictures() {
    if !has_exiftool() {
        return;
    }
    for (program, arguments) in PROGRAMS {
        let folder = tempfile::tempdir().unwrap();
        let pictures = pictures(folder.path());
        let taken = format!("-EXIF:DateTimeOriginal={}", TAKEN.0);
        exiftool(&[arguments, &[&taken]].concat(), &pictures);
        for picture in pictures {
            let said = said(&picture);
            assert_eq!(
                names(&said),
                ["animal|dog", "sea"],
                "{program}: {picture:?}"
            );
            assert_eq!(said.taken, Some(TAKEN.1), "{program}: {picture:?}");
            assert!(said.flaws.is_empty(), "{program}: {:?}", said.flaws);
        }
    }
}

#[test]
fn keywords_of_other_programs_are_read_from_sidecars() {
    if !has_exiftool() {
        return;
    }
    for (program, arguments) in PROGRAMS {
        let folder = tempfile::tempdir().unwrap();
        let in_xmp = arguments
            .iter()
            .copied()
            .filter(|argument| argument.starts_with("-XMP"));
        let arguments: Vec<&str> = in_xmp
            .chain(["-XMP-photoshop:DateCreated=2023:05:01 10:10:00"])
            .collect();
        let photo = folder.path().join("a.jpg");
        fs::copy(fixture("image/rgb.jpg"), &photo).unwrap();
        for sidecar in ["a.jpg.xmp", "a.xmp"] {
            let sidecar = folder.path().join(sidecar);
            exiftool(&arguments, std::slice::from_ref(&sidecar));
            let said = said(&photo);
            assert_eq!(
                names(&said),
                ["animal|dog", "sea"],
                "{program}: {sidecar:?}"
            );
            assert_eq!(
                (said.taken, said.flaws),
                (Some(TAKEN.1), Vec::new()),
                "{program}"
            );
            fs::remove_file(sidecar).unwrap();
        }
    }
}

/// IPTC alone, as older programs write it, where the format has a place for it, in both character sets.
#[test]
fn iptc_alone_is_read() {
    if !has_exiftool() {
        return;
    }
    for charset in [&["-IPTC:CodedCharacterSet=UTF8"][..], &[]] {
        let folder = tempfile::tempdir().unwrap();
        let mut pictures = pictures(folder.path());
        pictures.retain(|path| {
            ["jpg", "png", "tif", "dng", "nef"]
                .map(Some)
                .contains(&path.extension().and_then(|e| e.to_str()))
        });
        exiftool(
            &[charset, &["-IPTC:Keywords=caf\u{e9}", "-IPTC:Keywords=sea"]].concat(),
            &pictures,
        );
        assert_eq!(pictures.len(), 5);
        for picture in pictures {
            let said = said(&picture);
            assert_eq!(
                names(&said),
                ["caf\u{e9}", "sea"],
                "{charset:?}: {picture:?}"
            );
            assert!(said.flaws.is_empty(), "{:?}", said.flaws);
        }
    }
}

/// Those of both sidecars and of the picture are put together; what a ledger calls ours is left out; damage is named.
#[test]
fn all_that_is_said_of_a_photograph_is_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sidecar = |entries: &str| {
        format!(
            "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
             <rdf:Description xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:subject><rdf:Bag>{entries}</rdf:Bag>\
             </dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
        )
    };
    let items = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("<rdf:li>{name}</rdf:li>"))
            .collect::<String>()
    };
    let jpeg = fs::read(fixture("image/rgb.jpg")).unwrap();
    let xmp = [
        b"http://ns.adobe.com/xap/1.0/\0",
        sidecar(&items(&["Sea", "ours"])).as_bytes(),
    ]
    .concat();
    let length = u16::try_from(xmp.len() + 2).unwrap().to_be_bytes();
    fs::write(
        at("a.jpg"),
        [&jpeg[..2], b"\xff\xe1", &length, &xmp, &jpeg[2..]].concat(),
    )
    .unwrap();
    fs::write(
        at("a.jpg.xmp"),
        sidecar(&items(&["sea", "sky", "ours", "mine"])),
    )
    .unwrap();
    fs::write(at("a.xmp"), sidecar(&items(&["dog"]))).unwrap();
    fs::write(at("b.jpg"), &jpeg[..30]).unwrap();
    fs::write(at("b.jpg.xmp"), "no xmp").unwrap();
    fs::create_dir(at(".epsilon")).unwrap();
    let ledger = "{\"sidecar\":\"a.jpg.xmp\",\"subject\":[\"ours\",\"sky\"]}\n{\"half";
    fs::write(at(".epsilon/sidecars.jsonl"), ledger).unwrap();
    let ours = Ledger::snapshot(&at(".epsilon")).unwrap();
    let photos = scan(folder.path()).photos;
    let said = of_all(&photos, &ours, &Limits::default());
    // Somebody wrote `ours` into the picture itself.
    assert_eq!(names(&said[0]), ["dog", "mine", "ours", "sea"]);
    assert!(said[0].flaws.is_empty());
    let flaws = &said[1].flaws;
    assert!(
        flaws.len() == 2 && flaws[0].contains("b.jpg.xmp: its XMP cannot be read as XML"),
        "{flaws:?}"
    );
    assert!(
        flaws[1].contains("b.jpg: the file's header is cut short"),
        "{flaws:?}"
    );
}
