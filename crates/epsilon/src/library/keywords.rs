//! The keywords that photographs have already: what other programs and people wrote into XMP sidecars and into the pictures
//! themselves, and the names of folders. What this program wrote, and nobody approved, is none of them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use epsilon_data::labels::composed;
use epsilon_data::paths::{self, shown};
use epsilon_vision::image::{Limits, metadata};
use rayon::prelude::*;
use roxmltree::{Document, Node};

use super::ownership::{List, Lists, Subject, folded, standing};
use super::sidecar::{self, Name, SidecarError};
use super::told::{self, Told};
use super::{Owned, Photo, State, xmp};

/// Names of a keyword and those above it.
const MOST_NAMES: usize = 16;
/// Bytes of one of them.
const LONGEST: usize = 1_000;

/// Keywords that programs keep for themselves, by the topmost name: darktable's, and digiKam's.
const INTERNAL: [&str; 2] = ["darktable", "_digikam_internal_tags_"];

/// A property of XMP: its namespace and its name.
type Form = (&'static str, &'static str);

/// Lists of keywords beside those of [`List`], and what stands between the names of one.
const FORMS: [(Form, char); 5] = [
    (
        ("http://ns.microsoft.com/photo/1.0/", "LastKeywordXMP"),
        '/',
    ),
    (("http://ns.microsoft.com/photo/1.0", "LastKeywordXMP"), '/'),
    (
        (
            "http://ns.iview-multimedia.com/mediapro/1.0/",
            "CatalogSets",
        ),
        '|',
    ),
    (("http://ns.acdsee.com/iptc/1.0/", "keywords"), '|'),
    (("http://ns.acdsee.com/iptc/1.0/", "Keywords"), '|'),
];
/// ACDSee's categories: XML in a text.
const CATEGORIES: Form = ("http://ns.acdsee.com/iptc/1.0/", "categories");
/// When a photograph was taken.
const TAKEN: [Form; 2] = [
    ("http://ns.adobe.com/exif/1.0/", "DateTimeOriginal"),
    ("http://ns.adobe.com/photoshop/1.0/", "DateCreated"),
];

/// What is said of a photograph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Its keywords, each once, those of sidecars first. Where one has parents, no other says the same name, or one of the
    /// parents, alone: programs write `dog` and perhaps `animal` beside `animal|dog`.
    pub keywords: Vec<Subject>,
    /// When it was taken, in local time, as [`metadata::moment`] counts it: EXIF's word, then that of the XMP of a sidecar, then of
    /// the picture's.
    pub taken: Option<i64>,
    /// What makes no sense, each with its file. The other fields hold what does.
    pub flaws: Vec<String>,
    /// What the system did not give, each with its file: it may do so the next time.
    pub unread: Vec<String>,
}

/// What is said of many photographs, in their order. `ours` is what this program wrote into sidecars: [`super::Ledger::snapshot`].
///
/// The start of a file is read, and the rest only where metadata may stand there; pixels are not decoded.
pub fn of_all(photos: &[Photo], ours: &BTreeMap<String, Owned>, limits: &Limits) -> Vec<Said> {
    let photos = photos.par_iter();
    photos.map(|photo| keywords(photo, ours, limits)).collect()
}

/// What is said of a photograph, in its sidecars and in the picture itself; see [`of_all`].
pub fn keywords(photo: &Photo, ours: &BTreeMap<String, Owned>, limits: &Limits) -> Said {
    let mut found = Found {
        name: photo.id.rsplit('/').next().unwrap_or_default().into(),
        ..Found::default()
    };
    for name in Name::ALL {
        let ours = ours.get(&name.key(&photo.id));
        found.sidecar(&name.of(&photo.path), ours);
    }
    found.picture(&photo.path, limits);
    Said {
        keywords: merged(found.keywords),
        taken: found.taken_exif.or(found.taken_xmp),
        flaws: found.flaws,
        unread: found.unread,
    }
}

/// When a photograph was taken, see [`Said::taken`].
pub fn taken(photo: &Photo, limits: &Limits) -> Option<i64> {
    keywords(photo, &BTreeMap::new(), limits).taken
}

/// The names of the folders that a photograph lies in, from the outermost, as keywords. A name that says nothing of pictures is
/// none: dates and numbers (`2023-05`), what cameras and telephones name folders (`DCIM`, `100CANON`), `Photos`; and a date in
/// front of others is left away.
///
/// ```
/// use epsilon::library::keywords::folder_keywords;
///
/// let keywords = folder_keywords("Animals/2023-05-01 Zoo/DCIM/100CANON/IMG_0001.JPG");
/// let names: Vec<&str> = keywords.iter().map(|keyword| &*keyword.name).collect();
/// assert_eq!(names, ["Animals", "Zoo"]);
/// ```
pub fn folder_keywords(id: &str) -> Vec<Subject> {
    let folders = id.rsplit_once('/').map_or("", |(folders, _)| folders);
    let mut seen = HashSet::new();
    // A name that is not UTF-8 is no word.
    let names = folders
        .split('/')
        .filter_map(|name| paths::path(name).to_str().map(String::from));
    let names = names.filter_map(|name| telling(&name).map(|name| composed(name).into_owned()));
    names
        .filter(|name| seen.insert(folded(name)))
        .map(|name| Subject {
            name,
            parents: Vec::new(),
        })
        .collect()
}

/// What a folder's name tells of the pictures in it.
fn telling(name: &str) -> Option<&str> {
    const EMPTY: [&str; 16] = [
        "dcim", "dcf", "img", "dsc", "pict", "misc", "camera", "roll", "uploads", "photo",
        "photos", "picture", "pictures", "image", "images", "raw",
    ];
    let words = || {
        name.split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
    };
    let is_number = |word: &str| word.chars().all(|c| c.is_ascii_digit());
    let is_empty = |word: &str| is_number(word) || EMPTY.contains(&&*word.to_lowercase());
    // As dates begin: with a year, or with year, month and day in one.
    let dates = |word: &str| {
        let year = word.starts_with("19") || word.starts_with("20");
        is_number(word) && year && matches!(word.len(), 4 | 8)
    };
    if words().all(is_empty) || is_of_camera(name) {
        return None;
    }
    match words().next().is_some_and(dates) {
        true => {
            let dated = |c: char| c.is_ascii_digit() || !c.is_alphanumeric();
            Some(name.trim_start_matches(dated).trim_end())
        }
        false => Some(name.trim()),
    }
}

/// A folder as cameras name them (DCF 2.0, 3.2.2): three digits from 100 and five letters, digits or `_`.
fn is_of_camera(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (digits, rest) = bytes.split_at(bytes.len().min(3));
    let free = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    bytes.len() == 8
        && digits.iter().all(u8::is_ascii_digit)
        && digits[0] != b'0'
        && rest.iter().all(free)
}

/// What was read of a photograph so far.
#[derive(Default)]
struct Found {
    /// Names of keywords, from the top down.
    keywords: Vec<Vec<String>>,
    taken_exif: Option<i64>,
    taken_xmp: Option<i64>,
    flaws: Vec<String>,
    unread: Vec<String>,
    /// The name of the photograph's file.
    name: String,
    /// What flaws call the file that is being read.
    file: String,
}

impl Found {
    fn sidecar(&mut self, path: &Path, ours: Option<&Owned>) {
        self.file = shown(path);
        match sidecar::look(path) {
            Ok(found) => {
                if let Some(text) = found.text {
                    let ours = ours.filter(|ours| ours.is_of(&text));
                    self.xmp(&text, ours.map(|ours| &ours.lists));
                }
            }
            Err(error @ SidecarError::File { .. }) => self.unread.push(error.to_string()),
            Err(error @ SidecarError::Form { .. }) => self.flaws.push(error.to_string()),
        }
    }

    fn picture(&mut self, path: &Path, limits: &Limits) {
        self.file = shown(path);
        let metadata = match metadata::read(path, limits) {
            Ok(metadata) => metadata,
            Err(error) => {
                let place = match error.is_content() {
                    true => &mut self.flaws,
                    false => &mut self.unread,
                };
                return place.push(error.to_string());
            }
        };
        for text in metadata.xmp {
            self.xmp(&text, None);
        }
        for keyword in metadata.keywords_iptc {
            self.add(keyword.split('|'));
        }
        for keyword in metadata.keywords_xp {
            self.add(keyword.split('/'));
        }
        for flaw in metadata.flaws {
            self.flaw(&flaw);
        }
        self.taken_exif = metadata.taken;
    }

    fn flaw(&mut self, what: &str) {
        let flaw = format!("{}: {what}", self.file);
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }

    /// Adds what a text says, but for what this program wrote and nobody approved. `ours` are the entries that it wrote, where
    /// that is known.
    fn xmp(&mut self, text: &str, ours: Option<&Lists>) {
        let document = match xmp::parse(xmp::body(text)) {
            Ok(document) => document,
            Err(reason) => return self.flaw(&format!("its XMP {reason}")),
        };
        let descriptions = descriptions(&document);
        let there = Lists::of(|list| {
            let property = xmp::property(list);
            values(&descriptions, (property.namespace, property.name))
        });
        let before = self.keywords.len();
        for list in List::ALL {
            let entries = there.get(list).iter();
            entries.for_each(|entry| self.add(entry.split(between(list))));
        }
        for (form, between) in FORMS {
            let entries = values(&descriptions, form).into_iter();
            entries.for_each(|entry| self.add(entry.split(between)));
        }
        for categories in values(&descriptions, CATEGORIES) {
            self.categories(&categories);
        }
        let told = match text.contains(told::NAMESPACE) {
            true => told::read(text).unwrap_or_default(),
            false => Vec::new(),
        };
        let automatic = automatic(ours.map(|ours| (ours, &there)), &told, &self.name);
        let mut added = self.keywords.split_off(before);
        added.retain(|names| !automatic.contains(&key(names)));
        self.keywords.append(&mut added);
        let taken = TAKEN.iter().flat_map(|form| values(&descriptions, *form));
        let taken = taken.filter_map(|text| metadata::moment(&text)).next();
        self.taken_xmp = self.taken_xmp.or(taken);
    }

    /// `<Categories><Category Assigned="0">Animals<Category Assigned="1">Dog</Category></Category></Categories>`.
    fn categories(&mut self, text: &str) {
        let document = match xmp::parse(text) {
            Ok(document) => document,
            Err(reason) => {
                return self.flaw(&format!("its XMP has categories: this text {reason}"));
            }
        };
        let is_category = |node: &Node| node.has_tag_name("Category");
        let assigned = |node: &Node| is_category(node) && node.attribute("Assigned") == Some("1");
        for node in document.descendants().filter(assigned) {
            let categories = node.ancestors().filter(is_category);
            let names = categories.map(|node| node.text().unwrap_or_default());
            let mut names: Vec<&str> = names.collect();
            names.reverse();
            self.add(names.into_iter());
        }
    }

    /// Adds a keyword by its names from the top down.
    fn add<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<&str> = names.take(MOST_NAMES + 1).collect();
        if names.len() > MOST_NAMES {
            self.flaw(&format!("has a keyword of more than {MOST_NAMES} names"));
        } else if names.iter().any(|name| name.len() > LONGEST) {
            self.flaw(&format!("has a keyword of more than {LONGEST} bytes"));
        } else if !names.is_empty() {
            let names = names.into_iter().map(|name| composed(name).into_owned());
            self.keywords.push(names.collect());
        }
    }
}

/// What stands between the names of a list's entry. A name in the flat list may have parents, too.
fn between(list: List) -> char {
    match list {
        List::Subject | List::Hierarchical => '|',
        List::Tags => '/',
    }
}

/// What of a text's keywords this program wrote and nobody approved. That is what the ledger says and still stands there; without
/// a ledger, what `epsilon:Labels` tells of. Copies of it in other lists, as programs make them when they write all that they
/// have read, are the same.
fn automatic(ours: Option<(&Lists, &Lists)>, told: &[Told], photo: &str) -> HashSet<Vec<String>> {
    let is_approved = |told: &&Told| {
        let its = told.photo.as_deref().is_none_or(|name| name == photo);
        its && told.state == State::Approved
    };
    let approved: HashSet<String> = told
        .iter()
        .filter(is_approved)
        .map(|t| folded(&t.name))
        .collect();
    let mut automatic: HashSet<Vec<String>> = HashSet::new();
    match ours {
        Some((ours, there)) => {
            for list in List::ALL {
                for entry in standing(there.get(list), ours.get(list)) {
                    automatic.insert(entry.split(between(list)).map(folded).collect());
                }
            }
        }
        None => {
            for told in told {
                automatic.insert(vec![folded(&told.name)]);
                let parents = told.parents.iter().map(|name| folded(name));
                automatic.insert(parents.chain([folded(&told.name)]).collect());
            }
        }
    }
    automatic.retain(|names| names.last().is_none_or(|name| !approved.contains(name)));
    automatic
}

/// The descriptions of an XMP document.
fn descriptions<'a>(document: &'a Document) -> Vec<Node<'a, 'a>> {
    let is = |name: &'static str| move |node: &Node| node.has_tag_name((xmp::RDF, name));
    let rdf = document.descendants().filter(is("RDF"));
    rdf.flat_map(|node| node.children())
        .filter(is("Description"))
        .collect()
}

/// The values of a property, be it a list, a text or an attribute.
fn values(descriptions: &[Node], form: Form) -> Vec<String> {
    let mut values = Vec::new();
    for description in descriptions {
        values.extend(description.attribute(form).map(String::from));
        for element in description
            .children()
            .filter(|node| node.has_tag_name(form))
        {
            match xmp::list_in(element) {
                Some(list) => values.extend(xmp::items(list).map(xmp::said)),
                None => values.push(xmp::said(element)),
            }
        }
    }
    values
}

/// Keywords with the same of it are the same.
fn key(names: &[String]) -> Vec<String> {
    names.iter().map(|name| folded(name)).collect()
}

/// Each keyword once, without what programs keep for themselves and what another one says with its parents.
fn merged(keywords: Vec<Vec<String>>) -> Vec<Subject> {
    let mut implied: HashSet<Vec<String>> = HashSet::new();
    for names in keywords.iter().filter(|names| names.len() > 1) {
        let names = key(names);
        // Some programs write all names into a list of single ones.
        implied.insert(vec![names.join("/")]);
        implied.extend((2..names.len()).map(|length| names[..length].to_vec()));
        implied.extend(names.into_iter().map(|name| vec![name]));
    }
    let mut said = HashSet::new();
    let keywords = keywords.into_iter().filter(|names| {
        let key = key(names);
        let internal = key.len() > 1 && INTERNAL.contains(&&*key[0]);
        !internal && !implied.contains(&key) && said.insert(key)
    });
    keywords.filter_map(Subject::of_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keywords: &[Subject]) -> Vec<String> {
        let path = |keyword: &Subject| {
            [&keyword.parents[..], std::slice::from_ref(&keyword.name)].concat()
        };
        keywords
            .iter()
            .map(|keyword| path(keyword).join("|"))
            .collect()
    }

    fn merge(keywords: &str) -> String {
        let path = |text: &str| text.split('|').map(String::from).collect();
        names(&merged(keywords.split_whitespace().map(path).collect())).join(" ")
    }

    #[test]
    fn a_keyword_with_parents_is_no_other_than_its_leaf() {
        assert_eq!(merge("sea sky SEA"), "sea sky");
        assert_eq!(
            merge("dog animal sea animal|dog Animal|Dog"),
            "sea animal|dog"
        );
        assert_eq!(
            merge("animal|dog animal animal|dog|poodle"),
            "animal|dog|poodle"
        );
        // The same name below others is another.
        assert_eq!(
            merge("animal|seal office|seal seal"),
            "animal|seal office|seal"
        );
        // The whole path as a flat keyword.
        assert_eq!(merge("places/rome places|rome rome"), "places|rome");
        assert_eq!(merge("cafe\u{301} CAF\u{c9}"), "cafe\u{301}");
    }

    #[test]
    fn what_programs_keep_for_themselves_is_no_keyword() {
        let darktable = "darktable exported format nef sea darktable|exported darktable|format|nef";
        assert_eq!(merge(darktable), "sea");
        let digikam = "_Digikam_Internal_Tags_|Color_Label_None sea";
        assert_eq!(merge(digikam), "sea");
        assert_eq!(merge("darktable"), "darktable", "somebody's own word");
    }

    #[test]
    fn folders_name_what_is_in_them() {
        let of = |id: &str| names(&folder_keywords(id)).join(" ");
        for none in [
            "1.jpg",
            "2023/1.jpg",
            "2023-05/2023_05_01/1.jpg",
            "20230501/1.jpg",
            "DCIM/100CANON/1.jpg",
            "DCIM/Camera/101_PANA/102MSDCF/103ND750/1.jpg",
            "Photos/IMG/IMG_2023/Camera Roll/1.jpg",
            "Camera Uploads/05.2023/1.jpg",
            "caf\\xe9/1.jpg",
        ] {
            assert_eq!(of(none), "", "{none}");
        }
        assert_eq!(of("Pets/dogs/Pets/1.jpg"), "Pets dogs");
        assert_eq!(of("2023-05-01 Rome, the Forum/1.jpg"), "Rome, the Forum");
        assert_eq!(of("20230501_Rome/1.jpg"), "Rome");
        assert_eq!(
            of("3 Sisters/100 Days/Area 51/1.jpg"),
            "3 Sisters 100 Days Area 51"
        );
        assert_eq!(of("cafe\u{301}/1.jpg"), "caf\u{e9}");
    }

    fn read(text: &str, ours: Option<&Lists>) -> Found {
        let mut found = Found::default();
        found.xmp(text, ours);
        found
    }

    fn document(properties: &str) -> String {
        let description = "<rdf:Description rdf:about=\"\">";
        xmp::EMPTY.replace(description, &format!("{description}{properties}"))
    }

    #[test]
    fn what_is_ours_is_left_out() {
        let new = Lists {
            subject: vec!["sea".into(), "dog".into(), "sky".into()],
            hierarchical: vec!["animal|dog".into()],
            tags: vec!["animal/dog".into()],
        };
        let text = xmp::edit(xmp::EMPTY, &Lists::default(), &new).unwrap();
        let said = |ours: Option<&Lists>| names(&merged(read(&text, ours).keywords));
        assert_eq!(said(None), ["sea", "sky", "animal|dog"]);
        assert!(said(Some(&new)).is_empty());
        let ours = Lists {
            subject: vec!["sky".into(), "dog".into(), "gone".into()],
            ..Lists::default()
        };
        // Somebody else has it with its parent.
        assert_eq!(said(Some(&ours)), ["sea", "animal|dog"]);
        // Another program has copied all that it read into a list of its own.
        let copied = document(
            r#"<m:LastKeywordXMP xmlns:m="http://ns.microsoft.com/photo/1.0/"><rdf:Bag><rdf:li>animal/dog</rdf:li>
            <rdf:li>Sky</rdf:li><rdf:li>moon</rdf:li></rdf:Bag></m:LastKeywordXMP>"#,
        );
        let copied = xmp::edit(&copied, &Lists::default(), &new).unwrap();
        let said = |ours: Option<&Lists>| names(&merged(read(&copied, ours).keywords));
        assert_eq!(said(Some(&new)), ["moon"]);
    }

    #[test]
    fn what_was_approved_counts_though_it_is_ours() {
        let new = Lists {
            subject: vec!["sea".into(), "dog".into(), "sky".into(), "moon".into()],
            hierarchical: vec!["animal|dog".into()],
            ..Lists::default()
        };
        let told = |name: &str, parents: &[&str], state: State, photo: Option<&str>| Told {
            name: name.into(),
            parents: parents.iter().map(ToString::to_string).collect(),
            state,
            model: None,
            probability: None,
            photo: photo.map(String::from),
        };
        let text = xmp::edit(xmp::EMPTY, &Lists::default(), &new).unwrap();
        let labels = [
            told("Dog", &["animal"], State::Approved, None),
            told("sea", &[], State::Automatic, None),
            told("sky", &[], State::Approved, Some("other.jpg")),
        ];
        let text = told::write(&text, &labels).unwrap();
        let said = |ours: Option<&Lists>| names(&merged(read(&text, ours).keywords));
        assert_eq!(said(Some(&new)), ["animal|dog"]);
        // Nobody knows who wrote `moon`, of which nothing is told.
        assert_eq!(said(None), ["moon", "animal|dog"]);
        let ours = Lists {
            subject: vec!["sea".into()],
            ..Lists::default()
        };
        assert_eq!(said(Some(&ours)), ["sky", "moon", "animal|dog"]);
    }

    #[test]
    fn values_are_lists_texts_or_attributes() {
        let text = document(
            r#"<dc:subject xmlns:dc="http://purl.org/dc/elements/1.1/"> one word </dc:subject>"#,
        );
        assert_eq!(read(&text, None).keywords, [["one word"]]);
        let text = xmp::EMPTY.replace(
            "rdf:about=\"\"",
            "rdf:about=\"\" xmlns:p=\"http://ns.adobe.com/photoshop/1.0/\" p:DateCreated=\"2023-05-01\"",
        );
        assert_eq!(read(&text, None).taken_xmp, Some(1_682_899_200));
        let nothing = read("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>", None);
        assert!(nothing.keywords.is_empty() && nothing.flaws.is_empty());
    }

    #[test]
    fn what_would_take_more_than_its_share_is_refused() {
        let list = |entry: &str| {
            document(&format!(
                "<lr:hierarchicalSubject xmlns:lr=\"http://ns.adobe.com/lightroom/1.0/\"><rdf:Bag><rdf:li>{entry}</rdf:li>\
                 <rdf:li>sea</rdf:li></rdf:Bag></lr:hierarchicalSubject>"
            ))
        };
        let nested = "<Category Assigned=\"1\">a".repeat(200) + &"</Category>".repeat(200);
        let nested = nested.replace('<', "&lt;").replace('>', "&gt;");
        let categories = "http://ns.acdsee.com/iptc/1.0/";
        let categories = format!("<a:categories xmlns:a=\"{categories}\">{nested}</a:categories>");
        for (text, part) in [
            (list(&"a|".repeat(40)), "more than 16 names"),
            (list(&"a".repeat(1_001)), "more than 1000 bytes"),
            (document(&categories), "more than 16 names"),
            (
                "<!DOCTYPE x [<!ENTITY a \"a\">]><x>&a;</x>".into(),
                "its XMP cannot be read as XML",
            ),
            ("<x>".repeat(300), "elements within each other"),
        ] {
            let found = read(&text, None);
            assert_eq!(found.flaws.len(), 1, "{:?}", found.flaws);
            assert!(found.flaws[0].contains(part), "{:?}", found.flaws);
            let others = found.keywords.len();
            assert_eq!(
                others,
                if text.contains(">sea<") {
                    1
                } else {
                    others.min(16)
                }
            );
        }
    }
}
