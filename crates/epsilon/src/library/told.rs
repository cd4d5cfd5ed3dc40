//! `epsilon:Labels` in a sidecar: what became of each label of a photograph, for programs that want more than keywords.
//!
//! A bag of structures, wholly this program's and replaced as a whole; every byte around it stays as it was. Its
//! form is in docs/photo-library.md.

use std::collections::HashSet;

use roxmltree::Node;

use super::ownership::folded;
use super::xmp::{
    RDF, apply, body, descriptions, escape, inside, items, list_in, parse, prefixed, said,
    with_space_before,
};
use super::{Judged, Labelled, State};

/// The namespace of the property and of its fields.
pub const NAMESPACE: &str = "urn:epsilon-zsl:xmp:1.0/";
const PREFIX: &str = "epsilon";
const NAME: &str = "Labels";

/// What a sidecar tells of a label.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The label.
    pub name: String,
    /// Its parents, from the top down.
    pub parents: Vec<String>,
    /// What became of it.
    pub state: State,
    /// [`crate::model::Model::identity`] of the model that proposed it; none of a label that the owner added.
    pub model: Option<String>,
    /// How probable it was to the model.
    pub probability: Option<f32>,
    /// The name of the photograph's file, in a sidecar that several share.
    pub photo: Option<String>,
}

impl Told {
    /// Of a label: as the model proposes it now, otherwise as it was when the owner judged.
    pub(super) fn of(labelled: &Labelled, judged: Option<&Judged>, model: &str) -> Self {
        let Labelled { label, state } = labelled;
        let by = judged.and_then(|judged| judged.by.as_ref());
        let (model, probability) = match label.score {
            Some(_) => (Some(model.to_string()), label.probability),
            None => (
                by.map(|by| by.model.clone()),
                by.and_then(|by| by.probability),
            ),
        };
        Self {
            name: label.name.clone(),
            parents: label.parents.clone(),
            state: *state,
            model,
            probability,
            photo: None,
        }
    }

    /// Of a label that the owner judged and the model does not keep.
    pub(super) fn of_judged(judged: &Judged, state: State) -> Self {
        let label = judged.label();
        Self::of(&Labelled { label, state }, Some(judged), "")
    }

    fn key(&self) -> (Option<String>, String) {
        (self.photo.clone(), folded(&self.name))
    }

    /// What of these nothing else is told by now, behind that.
    pub(super) fn and_what_is_left(now: &[Self], before: &[Self]) -> Vec<Self> {
        let keys: HashSet<_> = now.iter().map(Self::key).collect();
        let left = before.iter().filter(|told| !keys.contains(&told.key()));
        now.iter().chain(left).cloned().collect()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("Name", self.name.clone())];
        if !self.parents.is_empty() {
            fields.push(("Parents", self.parents.join("|")));
        }
        fields.push(("State", self.state.name().into()));
        let rest = [
            ("Model", self.model.clone()),
            ("Probability", self.probability.map(|p| p.to_string())),
            ("Photo", self.photo.clone()),
        ];
        fields.extend(
            rest.into_iter()
                .filter_map(|(name, text)| Some((name, text?))),
        );
        fields
    }

    fn read(item: Node) -> Option<Self> {
        let inner = item
            .children()
            .find(|n| n.has_tag_name((RDF, "Description")));
        let item = inner.unwrap_or(item);
        let field = |name: &str| {
            let attribute = item.attribute((NAMESPACE, name)).map(String::from);
            let element = || item.children().find(|n| n.has_tag_name((NAMESPACE, name)));
            attribute.or_else(|| element().map(said))
        };
        let parents = field("Parents").unwrap_or_default();
        let parents = parents.split('|').filter(|parent| !parent.is_empty());
        Some(Self {
            name: field("Name")?,
            parents: parents.map(String::from).collect(),
            state: State::of_name(&field("State")?)?,
            model: field("Model"),
            probability: field("Probability").and_then(|text| text.parse().ok()),
            photo: field("Photo"),
        })
    }
}

/// What a text tells of labels; what is of another form is passed over.
///
/// # Errors
/// What is wrong with the text.
pub fn read(text: &str) -> Result<Vec<Told>, String> {
    let document = parse(body(text))?;
    let Some(element) = element(&descriptions(&document)?) else {
        return Ok(Vec::new());
    };
    let items = list_in(element).into_iter().flat_map(items);
    Ok(items.filter_map(Told::read).collect())
}

/// The text with the property in place of the one that it has, or without one where nothing is told.
///
/// # Errors
/// What is wrong with the text.
pub fn write(text: &str, told: &[Told]) -> Result<String, String> {
    let body = body(text);
    let document = parse(body)?;
    let descriptions = descriptions(&document)?;
    let edit = match (element(&descriptions), told.is_empty()) {
        (None, true) => return Ok(text.into()),
        (Some(old), true) => (with_space_before(body, old.range()), String::new()),
        (Some(old), false) => (old.range(), property(descriptions[0], told)),
        (None, false) => {
            let new = format!("\n   {}", property(descriptions[0], told));
            inside(body, descriptions[0], &new)
        }
    };
    let cannot = || "its epsilon:Labels is of a form that cannot be edited".to_string();
    let mark = &text[..text.len() - body.len()];
    let edited = format!("{mark}{}", apply(body, vec![edit]).ok_or_else(cannot)?);
    match read(&edited) {
        Ok(found) if found == told => Ok(edited),
        _ => Err(cannot()),
    }
}

fn element<'a>(descriptions: &[Node<'a, 'a>]) -> Option<Node<'a, 'a>> {
    let mut children = descriptions.iter().flat_map(roxmltree::Node::children);
    children.find(|node| node.has_tag_name((NAMESPACE, NAME)))
}

/// A line for each label, with its fields as attributes.
fn property(description: Node, told: &[Told]) -> String {
    let (ours, declared) = prefixed(description, NAMESPACE, PREFIX);
    let (rdf, rdf_declared) = prefixed(description, RDF, "rdf");
    let line = |told: &Told| {
        let fields = told.fields().into_iter();
        let fields: String = fields
            .map(|(name, text)| format!(" {ours}{name}=\"{}\"", attribute(&text)))
            .collect();
        format!("\n     <{rdf}li{fields}/>")
    };
    let lines: String = told.iter().map(line).collect();
    format!(
        "<{ours}{NAME}{declared}{rdf_declared}>\n    <{rdf}Bag>{lines}\n    </{rdf}Bag>\n   </{ours}{NAME}>"
    )
}

/// A text within quotes: what a reader would take for mere space is written out.
fn attribute(text: &str) -> String {
    escape(text)
        .replace('"', "&quot;")
        .replace('\t', "&#9;")
        .replace('\n', "&#10;")
        .replace('\r', "&#13;")
}

#[cfg(test)]
mod tests {
    use super::super::ownership::Lists;
    use super::super::xmp;
    use super::*;

    fn told(name: &str, state: State) -> Told {
        Told {
            name: name.into(),
            parents: Vec::new(),
            state,
            model: Some("aa".into()),
            probability: Some(0.25),
            photo: None,
        }
    }

    const BARE: &str = "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n<r:RDF xmlns:r=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n \
                        <r:Description r:about=\"\">\n  <!-- theirs -->\n </r:Description>\n</r:RDF>\n</x:xmpmeta>\n";

    #[test]
    fn what_is_told_is_read_back_and_goes_without_a_trace() {
        let first = [
            told("dog \"<&>\" \t", State::Approved),
            Told {
                parents: vec!["a".into(), "b & c".into()],
                model: None,
                probability: None,
                photo: Some("a.jpg".into()),
                ..told("x", State::Rejected)
            },
        ];
        let second = [told("sea", State::Automatic)];
        for begin in [BARE, xmp::EMPTY, &format!("\u{feff}{BARE}")] {
            let text = write(begin, &first).unwrap();
            assert_eq!(read(&text).unwrap(), first);
            let next = write(&text, &second).unwrap();
            assert_eq!(read(&next).unwrap(), second);
            assert_eq!(next.matches("Labels").count(), 2, "{next}");
            assert_eq!(write(&next, &[]).unwrap(), begin);
        }
        // It does not look like a list of keywords.
        let text = write(BARE, &first).unwrap();
        assert_eq!(xmp::read(&text).unwrap(), Lists::default());
    }

    #[test]
    fn other_forms_of_the_same_are_read() {
        let fields = "<e:Name>dog</e:Name><e:State>approved</e:State><e:Probability>0.25</e:Probability><e:Model>aa</e:Model>";
        let of = |item: &str| {
            let property = format!(
                "<e:Labels xmlns:e=\"{NAMESPACE}\"><r:Bag>{item}<r:li>no structure</r:li></r:Bag></e:Labels>"
            );
            BARE.replace("<!-- theirs -->", &property)
        };
        for item in [
            format!("<r:li r:parseType=\"Resource\">{fields}</r:li>"),
            format!("<r:li><r:Description>{fields}</r:Description></r:li>"),
        ] {
            let text = of(&item);
            assert_eq!(
                read(&text).unwrap(),
                [told("dog", State::Approved)],
                "{text}"
            );
            let cleared = write(&text, &[]).unwrap();
            assert!(!cleared.contains("Labels"), "{cleared}");
        }
        assert!(read("no xml").is_err() && write("<a/>", &[]).is_err());
    }

    #[test]
    fn what_nothing_is_known_of_now_stays() {
        let (sea, dog) = (told("sea", State::Automatic), told("dog", State::Automatic));
        let now = [told("DOG", State::Rejected)];
        let all = Told::and_what_is_left(&now, &[dog, sea.clone()]);
        assert_eq!(all, [now[0].clone(), sea]);
    }
}
