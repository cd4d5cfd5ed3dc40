//! XMP sidecars: labels in `dc:subject`, and where they have parents in `lr:hierarchicalSubject` and `digiKam:TagsList`.
//!
//! A sidecar that is there is edited, never written anew: the text is parsed to find places, and everything but the entries
//! that are added or taken out stays byte for byte as it was (XMP specification, part 1, 7: serialisation as RDF/XML).

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use epsilon_data::files;

/// The largest sidecar that is read, in bytes: far above what any program writes of one photograph.
const LARGEST: u64 = 8 << 20;

const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
/// A sidecar that says nothing yet.
const EMPTY: &str = concat!(
    "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n",
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n",
    " <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n",
    "  <rdf:Description rdf:about=\"\">\n",
    "  </rdf:Description>\n",
    " </rdf:RDF>\n",
    "</x:xmpmeta>\n",
    "<?xpacket end=\"w\"?>\n",
);

/// Why a sidecar could not be written. It is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The sidecar.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is there and is no XMP that can be added to.
    #[error("{}: {reason}; it was left as it is", path.display())]
    Form {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A label in a sidecar: its name, and its parents from the top down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The label.
    pub name: String,
    /// Its parents, such as `animal` of `dog`; none for most.
    pub parents: Vec<String>,
}

/// A list of texts in XMP.
struct Property {
    namespace: &'static str,
    prefix: &'static str,
    name: &'static str,
    container: &'static str,
    /// What it says of a subject, if anything.
    entry: fn(&Subject) -> Option<String>,
}

const PROPERTIES: [Property; 3] = [
    Property {
        namespace: "http://purl.org/dc/elements/1.1/",
        prefix: "dc",
        name: "subject",
        container: "Bag",
        entry: |subject| Some(subject.name.clone()),
    },
    Property {
        namespace: "http://ns.adobe.com/lightroom/1.0/",
        prefix: "lr",
        name: "hierarchicalSubject",
        container: "Bag",
        entry: |subject| subject.path("|"),
    },
    Property {
        namespace: "http://www.digikam.org/ns/1.0/",
        prefix: "digiKam",
        name: "TagsList",
        container: "Seq",
        entry: |subject| subject.path("/"),
    },
];

impl Subject {
    fn path(&self, between: &str) -> Option<String> {
        let whole = || [&self.parents[..], std::slice::from_ref(&self.name)].concat();
        (!self.parents.is_empty()).then(|| whole().join(between))
    }
}

/// Adds subjects to a photograph's sidecar, which is made where there is none, and takes out those of `before` that are not
/// among them any more: what an earlier call has added. Gives what this or an earlier call has added: subjects that somebody
/// else had put there are not ours to take out.
///
/// # Errors
/// [`SidecarError`].
pub fn update(
    path: &Path,
    subjects: &[Subject],
    before: &[Subject],
) -> Result<Vec<Subject>, SidecarError> {
    let file = |source| SidecarError::File {
        path: path.into(),
        source,
    };
    let form = |reason: String| SidecarError::Form {
        path: path.into(),
        reason,
    };
    let found = match files::read(path, LARGEST) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| form("is not UTF-8 text".into()))?;
            Some(text)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(file(error)),
    };
    // Nothing to say is no reason for a file.
    if found.is_none() && subjects.is_empty() {
        return Ok(Vec::new());
    }
    let (text, added) =
        merged(found.as_deref().unwrap_or(EMPTY), subjects, before).map_err(form)?;
    if found.as_deref() != Some(&text) {
        files::write(path, text.as_bytes()).map_err(file)?;
    }
    Ok(added)
}

/// The text with subjects added and taken out, and which of the subjects are ours.
fn merged(
    text: &str,
    subjects: &[Subject],
    before: &[Subject],
) -> Result<(String, Vec<Subject>), String> {
    let mut text = text.to_string();
    let there = entries(&text, &PROPERTIES[0])?;
    let ours = subjects
        .iter()
        .filter(|subject| before.contains(subject) || !there.contains(&subject.name))
        .cloned()
        .collect();
    for property in &PROPERTIES {
        let of = |subjects: &[Subject]| -> Vec<String> {
            subjects.iter().filter_map(property.entry).collect()
        };
        let (wanted, mut gone) = (of(subjects), of(before));
        gone.retain(|entry| !wanted.contains(entry));
        text = edited(&text, property, &wanted, &gone)?;
    }
    Ok((text, ours))
}

fn parse(text: &str) -> Result<Document<'_>, String> {
    Document::parse(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("cannot be read as XML: {error}"))
}

/// The descriptions of an XMP document; there is at least one.
fn descriptions<'a>(document: &'a Document) -> Result<Vec<Node<'a, 'a>>, String> {
    let of = |node: &Node| node.has_tag_name((RDF, "Description"));
    let rdf = document
        .descendants()
        .find(|n| n.has_tag_name((RDF, "RDF")));
    let rdf = rdf.ok_or("holds no rdf:RDF, so it is no XMP")?;
    let found: Vec<Node> = rdf.children().filter(of).collect();
    match found.is_empty() {
        true => Err("holds no rdf:Description".into()),
        false => Ok(found),
    }
}

/// The property's element and the list in it.
fn list<'a>(
    descriptions: &[Node<'a, 'a>],
    property: &Property,
) -> Result<Option<Node<'a, 'a>>, String> {
    let name = (property.namespace, property.name);
    let children = descriptions
        .iter()
        .flat_map(|description| description.children());
    let Some(element) = children.into_iter().find(|node| node.has_tag_name(name)) else {
        return Ok(None);
    };
    let is_list = |node: &Node| {
        ["Bag", "Seq", "Alt"]
            .iter()
            .any(|kind| node.has_tag_name((RDF, *kind)))
    };
    match element.children().find(is_list) {
        Some(list) => Ok(Some(list)),
        None => Err(format!(
            "its {}:{} is no list",
            property.prefix, property.name
        )),
    }
}

fn items<'a>(list: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    list.children()
        .filter(|node| node.has_tag_name((RDF, "li")))
}

fn said(item: Node) -> String {
    let texts = item.descendants().filter(|node| node.is_text());
    let text: String = texts.filter_map(|node| node.text()).collect();
    text.trim().to_string()
}

/// What the property says.
fn entries(text: &str, property: &Property) -> Result<Vec<String>, String> {
    let document = parse(text)?;
    let list = list(&descriptions(&document)?, property)?;
    Ok(list.into_iter().flat_map(items).map(said).collect())
}

/// The text with entries of one property added, where they are not there, and taken out.
fn edited(
    text: &str,
    property: &Property,
    wanted: &[String],
    gone: &[String],
) -> Result<String, String> {
    let there = entries(text, property)?;
    let new: Vec<&String> = wanted
        .iter()
        .filter(|entry| !there.contains(entry))
        .collect();
    if new.is_empty() && !gone.iter().any(|entry| there.contains(entry)) {
        return Ok(text.to_string());
    }
    let body = text.trim_start_matches('\u{feff}');
    let mark = &text[..text.len() - body.len()];
    let edits = {
        let document = parse(text)?;
        let descriptions = descriptions(&document)?;
        match list(&descriptions, property)? {
            Some(list) => list_edits(body, list, &new, gone),
            None => vec![new_property(body, descriptions[0], property, &new)],
        }
    };
    let edited = format!("{mark}{}", apply(body, edits));
    // Whatever stood there, what comes out says what was meant.
    let mut expected: Vec<&String> = there.iter().filter(|e| !gone.contains(e)).collect();
    expected.extend(&new);
    if entries(&edited, property)?.iter().ne(expected) {
        return Err("its list of labels is of a form that cannot be edited".into());
    }
    Ok(edited)
}

/// A place in a text and what goes there.
type Edit = (Range<usize>, String);

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = text.to_string();
    for (range, new) in edits.into_iter().rev() {
        text.replace_range(range, &new);
    }
    text
}

/// Entries into a list, and out of it.
fn list_edits(text: &str, list: Node, new: &[&String], gone: &[String]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = items(list)
        .filter(|item| gone.contains(&said(*item)))
        .map(|item| (with_space_before(text, item.range()), String::new()))
        .collect();
    if new.is_empty() {
        return edits;
    }
    let prefix = raw_prefix(text, list);
    // As the last entry stands, on a line of its own or not.
    let space = match items(list).last() {
        Some(last) => text[with_space_before(text, last.range()).start..last.range().start].into(),
        None => String::new(),
    };
    let lines: String = new
        .iter()
        .map(|entry| format!("{space}<{prefix}li>{}</{prefix}li>", escape(entry)))
        .collect();
    edits.push(match items(list).last() {
        Some(last) => (last.range().end..last.range().end, lines),
        None => inside(text, list, &lines),
    });
    edits
}

/// A property that was not there, at the end of a description.
fn new_property(text: &str, description: Node, property: &Property, new: &[&String]) -> Edit {
    // The prefix that the file itself uses; otherwise one that is declared on the spot.
    let prefixed = |namespace: &str, usual: &str| match description.lookup_prefix(namespace) {
        Some(prefix) => (format!("{prefix}:"), String::new()),
        None => (
            format!("{usual}:"),
            format!(" xmlns:{usual}=\"{namespace}\""),
        ),
    };
    let (prefix, declared) = prefixed(property.namespace, property.prefix);
    let (rdf, rdf_declared) = prefixed(RDF, "rdf");
    let Property {
        name, container, ..
    } = property;
    let lines: String = new
        .iter()
        .map(|entry| format!("\n     <{rdf}li>{}</{rdf}li>", escape(entry)))
        .collect();
    let element = format!(
        "\n   <{prefix}{name}{declared}{rdf_declared}>\n    <{rdf}{container}>{lines}\n    </{rdf}{container}>\n   \
         </{prefix}{name}>"
    );
    inside(text, description, &element)
}

/// A text at the end of an element's content, before the space that its end tag stands behind.
fn inside(text: &str, element: Node, new: &str) -> Edit {
    let range = element.range();
    let source = &text[range.clone()];
    if let Some(open) = source.strip_suffix("/>") {
        let name = raw_name(text, element);
        let close = range.start + open.len()..range.end;
        return (close, format!(">{new}</{name}>"));
    }
    // An element's last `</` opens its end tag.
    let content = &source[..source.rfind("</").unwrap_or(source.len())];
    let end = range.start + content.trim_end().len();
    (end..end, new.to_string())
}

/// The name of an element as the file writes it.
fn raw_name<'a>(text: &'a str, element: Node) -> &'a str {
    let source = &text[element.range()][1..];
    let ends = |c: char| c.is_whitespace() || c == '/' || c == '>';
    &source[..source.find(ends).unwrap_or(source.len())]
}

/// Its prefix with the colon.
fn raw_prefix<'a>(text: &'a str, element: Node) -> &'a str {
    let name = raw_name(text, element);
    &name[..name.find(':').map_or(0, |colon| colon + 1)]
}

fn with_space_before(text: &str, range: Range<usize>) -> Range<usize> {
    let before = &text[..range.start];
    before.trim_end().len()..range.end
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn plain(names: &[&str]) -> Vec<Subject> {
        let subject = |name: &&str| Subject {
            name: name.to_string(),
            parents: Vec::new(),
        };
        names.iter().map(subject).collect()
    }

    fn subjects(text: &str) -> Vec<String> {
        entries(text, &PROPERTIES[0]).unwrap()
    }

    #[test]
    fn a_new_sidecar_holds_the_labels_and_their_parents() {
        let mut wanted = plain(&["beach", "fish & <chips>"]);
        wanted.push(Subject {
            name: "dog".into(),
            parents: vec!["animal".into(), "pet".into()],
        });
        let (text, added) = merged(EMPTY, &wanted, &[]).unwrap();
        assert_eq!(added, wanted);
        assert_eq!(subjects(&text), ["beach", "fish & <chips>", "dog"]);
        assert_eq!(entries(&text, &PROPERTIES[1]).unwrap(), ["animal|pet|dog"]);
        assert_eq!(entries(&text, &PROPERTIES[2]).unwrap(), ["animal/pet/dog"]);
        // Again: nothing to do.
        assert_eq!(merged(&text, &wanted, &wanted).unwrap(), (text, wanted));
    }

    /// What darktable writes, in short: attributes, other lists, a comment, its own prefix order.
    const THEIRS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   xmp:Rating="4">
   <!-- kept -->
   <dc:subject>
    <rdf:Bag>
     <rdf:li>holiday</rdf:li>
     <rdf:li>sea</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Us</rdf:li></rdf:Alt></dc:title>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"#;

    #[test]
    fn their_fields_stay_byte_for_byte() {
        let (text, added) = merged(THEIRS, &plain(&["sea", "sky"]), &[]).unwrap();
        assert_eq!(added, plain(&["sky"]), "sea was theirs");
        assert_eq!(
            text,
            THEIRS.replace(
                "<rdf:li>sea</rdf:li>",
                "<rdf:li>sea</rdf:li>\n     <rdf:li>sky</rdf:li>"
            )
        );
        // Other labels the next time: ours goes, theirs stays, and in the end all is as it was.
        let (next, added) = merged(&text, &plain(&["dog"]), &added).unwrap();
        assert_eq!(subjects(&next), ["holiday", "sea", "dog"]);
        let (last, added) = merged(&next, &[], &added).unwrap();
        assert_eq!((last.as_str(), added), (THEIRS, Vec::new()));
    }

    #[test]
    fn other_forms_are_added_to() {
        let closed = r#"<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about="a" b="c"/></r:RDF>"#;
        let (text, _) = merged(closed, &plain(&["sky"]), &[]).unwrap();
        assert_eq!(subjects(&text), ["sky"]);
        assert!(
            text.contains("<r:Description r:about=\"a\" b=\"c\">"),
            "{text}"
        );
        let empty = THEIRS
            .replace("<rdf:li>holiday</rdf:li>", "")
            .replace("<rdf:li>sea</rdf:li>", "");
        assert_eq!(
            subjects(&merged(&empty, &plain(&["sky"]), &[]).unwrap().0),
            ["sky"]
        );
        let bag = r#"<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"><r:Description><dc:subject><r:Bag/></dc:subject></r:Description></r:RDF>"#;
        assert_eq!(
            subjects(&merged(bag, &plain(&["sky"]), &[]).unwrap().0),
            ["sky"]
        );
        let marked = format!("\u{feff}{THEIRS}");
        let (text, _) = merged(&marked, &plain(&["sky"]), &[]).unwrap();
        assert!(text.starts_with('\u{feff}') && subjects(&text).len() == 3);
    }

    #[test]
    fn what_is_no_xmp_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg.xmp");
        let no_list = THEIRS.replace("rdf:Bag>", "rdf:bag>");
        let cut = &THEIRS[..400];
        for bad in ["", "no xml", "<a/>", cut, &no_list] {
            fs::write(&path, bad).unwrap();
            let error = update(&path, &plain(&["sky"]), &[])
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("a.jpg.xmp") && error.contains("left as it is"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        assert!(update(&path, &plain(&["sky"]), &[]).is_err());
        fs::remove_file(&path).unwrap();
        assert_eq!(update(&path, &[], &[]).unwrap(), []);
        assert!(!path.exists(), "nothing to say, no file");
        update(&path, &plain(&["sky"]), &[]).unwrap();
        assert_eq!(subjects(&fs::read_to_string(&path).unwrap()), ["sky"]);
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_holds_the_labels(text in ".{0,200}") {
            if let Ok((merged, _)) = merged(&text, &plain(&["sky"]), &[]) {
                prop_assert!(subjects(&merged).contains(&"sky".to_string()));
            }
        }

        #[test]
        fn any_labels_come_and_go(names in proptest::collection::hash_set("[^\\x00-\\x1f\\x7f]{1,12}", 0..6)) {
            let names: Vec<String> = names.iter().map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect();
            let mut names = names;
            names.sort();
            names.dedup();
            let wanted = plain(&names.iter().map(String::as_str).collect::<Vec<_>>());
            // A name that XML cannot hold is refused; any other is read back.
            if let Ok((text, added)) = merged(THEIRS, &wanted, &[]) {
                let there = subjects(&text);
                for name in &names {
                    prop_assert!(there.contains(name));
                }
                prop_assert_eq!(merged(&text, &[], &added).unwrap().0, THEIRS);
            }
        }
    }
}
