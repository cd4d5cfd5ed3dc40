//! XMP as text: the lists of labels in it, and edits of them that leave every other byte as it was.
//!
//! The text is parsed to find places, and only entries that are added or taken out change (XMP specification, part 1, 7:
//! serialisation as RDF/XML). Work and memory grow with the length of the text.

use std::collections::HashSet;
use std::ops::Range;

use epsilon_data::formats::xml;
use roxmltree::{Document, Node};

use super::ownership::{List, Lists, without};

pub(super) const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
/// A sidecar that says nothing yet.
pub const EMPTY: &str = concat!(
    "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n",
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n",
    " <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n",
    "  <rdf:Description rdf:about=\"\">\n",
    "  </rdf:Description>\n",
    " </rdf:RDF>\n",
    "</x:xmpmeta>\n",
    "<?xpacket end=\"w\"?>\n",
);

/// How a list is written.
pub(super) struct Property {
    pub(super) namespace: &'static str,
    prefix: &'static str,
    pub(super) name: &'static str,
    container: &'static str,
}

pub(super) fn property(list: List) -> Property {
    let (namespace, prefix, name, container) = match list {
        List::Subject => ("http://purl.org/dc/elements/1.1/", "dc", "subject", "Bag"),
        List::Hierarchical => (
            "http://ns.adobe.com/lightroom/1.0/",
            "lr",
            "hierarchicalSubject",
            "Bag",
        ),
        List::Tags => (
            "http://www.digikam.org/ns/1.0/",
            "digiKam",
            "TagsList",
            "Seq",
        ),
    };
    Property {
        namespace,
        prefix,
        name,
        container,
    }
}

/// The lists of a text.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Lists, String> {
    let document = parse(body(text))?;
    lists(&descriptions(&document)?)
}

fn lists(descriptions: &[Node]) -> Result<Lists, String> {
    let entries = |list| -> Result<Vec<String>, String> {
        let element = element(descriptions, &property(list))?;
        Ok(element.into_iter().flat_map(items).map(said).collect())
    };
    Ok(Lists {
        subject: entries(List::Subject)?,
        hierarchical: entries(List::Hierarchical)?,
        tags: entries(List::Tags)?,
    })
}

/// The text with entries taken out, one occurrence each, and others added.
///
/// # Errors
/// What is wrong with it.
pub fn edit(text: &str, gone: &Lists, new: &Lists) -> Result<String, String> {
    let cannot = || "its list of labels is of a form that cannot be edited".to_string();
    let body = body(text);
    let document = parse(body)?;
    let descriptions = descriptions(&document)?;
    let there = lists(&descriptions)?;
    let (mut edits, mut properties) = (Vec::new(), String::new());
    for list in List::ALL {
        let (gone, new, property) = (gone.get(list), new.get(list), property(list));
        match element(&descriptions, &property)? {
            Some(element) => edits.extend(list_edits(body, element, new, gone)),
            None if new.is_empty() => {}
            None => properties += &new_property(descriptions[0], &property, new),
        }
    }
    if !properties.is_empty() {
        edits.push(inside(body, descriptions[0], &properties));
    }
    let mark = &text[..text.len() - body.len()];
    let edited = format!("{mark}{}", apply(body, edits).ok_or_else(cannot)?);
    // Whatever stood there, what comes out says what was meant.
    let expected = Lists::of(|list| {
        let kept = without(there.get(list), gone.get(list));
        [&kept[..], new.get(list)].concat()
    });
    match read(&edited) {
        Ok(found) if found == expected => Ok(edited),
        _ => Err(cannot()),
    }
}

pub(super) fn parse(text: &str) -> Result<Document<'_>, String> {
    xml::parse(text).map_err(|error| error.to_string())
}

/// The text without its byte order mark.
pub(super) fn body(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The descriptions of an XMP document; there is at least one.
pub(super) fn descriptions<'a>(document: &'a Document) -> Result<Vec<Node<'a, 'a>>, String> {
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

/// The list in a property's element.
fn element<'a>(
    descriptions: &[Node<'a, 'a>],
    property: &Property,
) -> Result<Option<Node<'a, 'a>>, String> {
    let name = (property.namespace, property.name);
    let mut children = descriptions.iter().flat_map(roxmltree::Node::children);
    let Some(element) = children.find(|node| node.has_tag_name(name)) else {
        return Ok(None);
    };
    match list_in(element) {
        Some(list) => Ok(Some(list)),
        None => Err(format!(
            "its {}:{} is no list",
            property.prefix, property.name
        )),
    }
}

/// The list that a property's element holds.
pub(super) fn list_in<'a>(element: Node<'a, 'a>) -> Option<Node<'a, 'a>> {
    let kinds = ["Bag", "Seq", "Alt"];
    let is_list = |node: &Node| kinds.iter().any(|kind| node.has_tag_name((RDF, *kind)));
    element.children().find(is_list)
}

pub(super) fn items<'a>(list: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    list.children()
        .filter(|node| node.has_tag_name((RDF, "li")))
}

pub(super) fn said(item: Node) -> String {
    let texts = item.descendants().filter(roxmltree::Node::is_text);
    let text: String = texts.filter_map(|node| node.text()).collect();
    text.trim().to_string()
}

/// A place in a text and what goes there.
pub(super) type Edit = (Range<usize>, String);

/// The text with its edits; none where two of them are about the same place.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut edited, mut at) = (String::with_capacity(text.len()), 0);
    for (range, new) in edits {
        edited += text.get(at..range.start)?;
        edited += &new;
        at = range.end;
    }
    Some(edited + text.get(at..)?)
}

/// Entries into a list, and out of it, one occurrence each.
fn list_edits(text: &str, list: Node, new: &[String], gone: &[String]) -> Vec<Edit> {
    let mut gone: HashSet<&str> = gone.iter().map(String::as_str).collect();
    let out = items(list).filter(|item| gone.remove(said(*item).as_str()));
    let out = out.map(|item| (with_space_before(text, item.range()), String::new()));
    let mut edits: Vec<Edit> = out.collect();
    if new.is_empty() {
        return edits;
    }
    let prefix = raw_prefix(text, list);
    let last = items(list).last();
    // As the last entry stands, on a line of its own or not.
    let space = match last {
        Some(last) => &text[with_space_before(text, last.range()).start..last.range().start],
        None => "",
    };
    let lines: String = new
        .iter()
        .map(|entry| format!("{space}<{prefix}li>{}</{prefix}li>", escape(entry)))
        .collect();
    edits.push(match last {
        Some(last) => (last.range().end..last.range().end, lines),
        None => inside(text, list, &lines),
    });
    edits
}

/// A property that was not there.
fn new_property(description: Node, property: &Property, new: &[String]) -> String {
    let (prefix, declared) = prefixed(description, property.namespace, property.prefix);
    let (rdf, rdf_declared) = prefixed(description, RDF, "rdf");
    let Property {
        name, container, ..
    } = property;
    let lines: String = new
        .iter()
        .map(|entry| format!("\n     <{rdf}li>{}</{rdf}li>", escape(entry)))
        .collect();
    format!(
        "\n   <{prefix}{name}{declared}{rdf_declared}>\n    <{rdf}{container}>{lines}\n    </{rdf}{container}>\n   \
         </{prefix}{name}>"
    )
}

/// The prefix that the file itself uses for a namespace, with its colon; otherwise the usual one and its declaration.
pub(super) fn prefixed(description: Node, namespace: &str, usual: &str) -> (String, String) {
    match description.lookup_prefix(namespace) {
        Some(prefix) => (format!("{prefix}:"), String::new()),
        None => (
            format!("{usual}:"),
            format!(" xmlns:{usual}=\"{namespace}\""),
        ),
    }
}

/// A text at the end of an element's content, before the space that its end tag stands behind.
pub(super) fn inside(text: &str, element: Node, new: &str) -> Edit {
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

pub(super) fn with_space_before(text: &str, range: Range<usize>) -> Range<usize> {
    let before = &text[..range.start];
    before.trim_end().len()..range.end
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Lists {
        Lists {
            subject: names.iter().map(ToString::to_string).collect(),
            ..Lists::default()
        }
    }

    fn nothing() -> Lists {
        Lists::default()
    }

    fn subjects(text: &str) -> Vec<String> {
        read(text).unwrap().subject
    }

    fn with_sky(text: &str) -> String {
        edit(text, &nothing(), &names(&["sky"])).unwrap()
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
    fn a_new_sidecar_holds_all_lists() {
        let new = Lists {
            subject: vec!["beach".into(), "fish & <chips>".into()],
            hierarchical: vec!["animal|pet|dog".into()],
            tags: vec!["animal/pet/dog".into(), "beach".into()],
        };
        let text = edit(EMPTY, &nothing(), &new).unwrap();
        assert_eq!(read(&text).unwrap(), new);
        // What was made stays when the entries go, and takes new ones.
        let empty = edit(&text, &new, &nothing()).unwrap();
        assert!(read(&empty).unwrap().is_empty());
        assert_eq!(read(&edit(&empty, &nothing(), &new).unwrap()).unwrap(), new);
    }

    #[test]
    fn their_fields_stay_byte_for_byte() {
        let text = with_sky(THEIRS);
        assert_eq!(
            text,
            THEIRS.replace(
                "<rdf:li>sea</rdf:li>",
                "<rdf:li>sea</rdf:li>\n     <rdf:li>sky</rdf:li>"
            )
        );
        let next = edit(&text, &names(&["sky"]), &names(&["dog"])).unwrap();
        assert_eq!(subjects(&next), ["holiday", "sea", "dog"]);
        assert_eq!(edit(&next, &names(&["dog"]), &nothing()).unwrap(), THEIRS);
        // One occurrence goes, another stays.
        let twice = with_sky(&text);
        assert_eq!(edit(&twice, &names(&["sky"]), &nothing()).unwrap(), text);
    }

    #[test]
    fn other_forms_are_added_to() {
        let closed = r#"<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about="a" b="c"/></r:RDF>"#;
        let text = with_sky(closed);
        assert_eq!(subjects(&text), ["sky"]);
        assert!(
            text.contains("<r:Description r:about=\"a\" b=\"c\">"),
            "{text}"
        );
        let all = Lists::of(|_| vec!["sky".to_string()]);
        let text = edit(closed, &nothing(), &all).unwrap();
        assert_eq!(read(&text).unwrap(), all);
        let empty = THEIRS
            .replace("<rdf:li>holiday</rdf:li>", "")
            .replace("<rdf:li>sea</rdf:li>", "");
        assert_eq!(subjects(&with_sky(&empty)), ["sky"]);
        let bag = r#"<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"><r:Description><dc:subject><r:Bag/></dc:subject></r:Description></r:RDF>"#;
        assert_eq!(subjects(&with_sky(bag)), ["sky"]);
        let marked = with_sky(&format!("\u{feff}{THEIRS}"));
        assert!(marked.starts_with('\u{feff}') && subjects(&marked).len() == 3);
    }

    #[test]
    fn what_is_no_xmp_is_refused() {
        let no_list = THEIRS.replace("rdf:Bag>", "rdf:bag>");
        for bad in ["", "no xml", "<a/>", &THEIRS[..400], &no_list] {
            assert!(read(bad).is_err(), "{bad}");
            assert!(edit(bad, &nothing(), &names(&["sky"])).is_err(), "{bad}");
        }
    }

    /// A file of this body: within the limits it is read, and both ways take no longer than its size allows.
    fn hostile(body: &str) -> Result<Lists, String> {
        let text = THEIRS.replace("<!-- kept -->", body);
        let start = Instant::now();
        let found = read(&text);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        found
    }

    #[test]
    fn a09_hostile_files_are_refused_at_once() {
        let nested = |n: usize| {
            let open: String = (0..n).map(|i| format!("<x xmlns:n{i}=\"u{i}\">")).collect();
            open + &"</x>".repeat(n)
        };
        assert!(hostile(&nested(6000)).unwrap_err().contains("namespaces"));
        assert!(hostile(&nested(200)).is_ok());
        let attributes = |n: usize| {
            let all: String = (0..n).map(|i| format!(" a{i}=\"\"")).collect();
            format!("<x{all}/>")
        };
        assert!(
            hostile(&attributes(25_000))
                .unwrap_err()
                .contains("attributes")
        );
        assert!(hostile(&attributes(900)).is_ok());
        let deep = |n: usize| "<x>".repeat(n) + &"</x>".repeat(n);
        assert!(
            hostile(&deep(100_000))
                .unwrap_err()
                .contains("elements within")
        );
        assert!(hostile(&deep(200)).is_ok());
        assert!(hostile(&"<x/>".repeat(600_000)).is_err());
        // What looks like many is counted where it is some.
        assert!(hostile(&format!("<!-- {} -->", "= <a> ".repeat(20_000))).is_ok());
        assert!(hostile(&format!("<x a='{}'/>", "=>".repeat(20_000))).is_ok());
    }

    #[test]
    fn a09_editing_takes_time_in_proportion_to_the_size() {
        let many = |n: usize| -> Vec<String> { (0..n).map(|i| format!("word {i}")).collect() };
        let all = names(&many(60_000).iter().map(String::as_str).collect::<Vec<_>>());
        let start = Instant::now();
        let text = edit(THEIRS, &nothing(), &all).unwrap();
        assert_eq!(edit(&text, &all, &nothing()).unwrap(), THEIRS);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_holds_the_labels(text in ".{0,200}") {
            if let Ok(edited) = edit(&text, &nothing(), &names(&["sky"])) {
                prop_assert!(subjects(&edited).contains(&"sky".to_string()));
            }
        }

        #[test]
        fn any_labels_come_and_go(names in proptest::collection::btree_set("[^\\x00-\\x1f\\x7f]{1,12}", 0..6)) {
            let names = names.iter().map(|n| n.trim().to_string()).filter(|n| !n.is_empty());
            let names: std::collections::BTreeSet<String> = names.collect();
            let new = Lists { subject: names.into_iter().collect(), ..Lists::default() };
            // A name that XML cannot hold is refused; any other is read back.
            if let Ok(text) = edit(THEIRS, &nothing(), &new) {
                prop_assert_eq!(&subjects(&text)[2..], &new.subject[..]);
                prop_assert_eq!(edit(&text, &new, &nothing()).unwrap(), THEIRS);
            }
        }
    }
}
