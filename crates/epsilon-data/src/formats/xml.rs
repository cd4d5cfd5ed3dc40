//! XML from anybody: a text is parsed if that takes work and memory in proportion to its length. What could make them grow faster is
//! bounded by [`NAMESPACES`], [`ATTRIBUTES`], [`DEPTH`] and [`NODES`], far above what any program writes.

use roxmltree::{Document, ParsingOptions};

/// Declarations of namespaces in a file: each element that declares some is given all that hold around it, too.
pub const NAMESPACES: usize = 512;
/// Attributes of one element: each is compared with all others.
pub const ATTRIBUTES: usize = 1_000;
/// Elements within each other.
pub const DEPTH: usize = 256;
/// Elements, texts and comments of a file.
pub const NODES: u32 = 500_000;

/// Why a text is not parsed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// More of something than any program writes.
    #[error("has more than {limit} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// The most of it.
        limit: usize,
    },
    /// It is no XML.
    #[error("cannot be read as XML: {0}")]
    Form(roxmltree::Error),
}

/// Parses a text.
///
/// ```
/// use epsilon_data::formats::xml::{ATTRIBUTES, parse};
///
/// assert!(parse("<a b='c'/>").is_ok());
/// let many: String = (0..=ATTRIBUTES).map(|i| format!(" a{i}=''")).collect();
/// assert!(parse(&format!("<a{many}/>")).unwrap_err().to_string().contains("attributes"));
/// ```
///
/// # Errors
/// [`XmlError`].
pub fn parse(text: &str) -> Result<Document<'_>, XmlError> {
    bounded(text)?;
    let options = ParsingOptions {
        nodes_limit: NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(XmlError::Form)
}

/// Refuses what would take the parser more than time and memory in proportion to the text.
fn bounded(text: &str) -> Result<(), XmlError> {
    let above = |what, limit| Err(XmlError::Bound { what, limit });
    if text.matches("xmlns").take(NAMESPACES + 1).count() > NAMESPACES {
        return above("declarations of namespaces", NAMESPACES);
    }
    let (mut rest, mut depth) = (text, 0_usize);
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let marked = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        let special = marked.iter().find(|(begin, _)| rest.starts_with(begin));
        let end = match special {
            Some((_, end)) => rest.find(end).map(|at| at + end.len()),
            None => {
                let Tag { end, attributes } = tag(rest);
                if attributes > ATTRIBUTES {
                    return above("attributes in one element", ATTRIBUTES);
                }
                end
            }
        };
        // What does not end is no XML, as the parser will say.
        let Some(end) = end else { break };
        let whole = &rest[..end];
        if whole.starts_with("</") {
            depth = depth.saturating_sub(1);
        } else if special.is_none() && !whole.ends_with("/>") {
            depth += 1;
        }
        if depth > DEPTH {
            return above("elements within each other", DEPTH);
        }
        rest = &rest[end..];
    }
    Ok(())
}

/// Where a tag at the beginning of a text ends, and how many attributes it has.
struct Tag {
    end: Option<usize>,
    attributes: usize,
}

fn tag(text: &str) -> Tag {
    let (mut quote, mut attributes) = (None, 0);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => {
                return Tag {
                    end: Some(at + 1),
                    attributes,
                };
            }
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'=') => attributes += 1,
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    Tag {
        end: None,
        attributes,
    }
}
