//! A line of `tags.jsonl` as a catalog holds it, read without a map or a text for each of its labels: a search reads the lines of all
//! photographs before it finds one.
//!
//! Ordinary lines are read here. Any other, such as one of a photograph that could not be tagged, a damaged one, or one with fields that
//! this version does not know, is left to [`Entry`], which says what a line is, and what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};

use super::catalog::Item;
use super::corrections::{Labelled, State};
use super::journal::{Entry, Outcome};
use super::kinds::{Kinds, Number, Tag, Values};
use super::lines::below;

/// What a line says, without its owner's word.
///
/// # Errors
/// Those of reading an [`Entry`].
pub(super) fn item(line: &[u8], kinds: &mut Kinds) -> serde_json::Result<Item> {
    // An array in the fields' order would be taken for an object here, and is no entry.
    let quick = match line.first() {
        Some(b'{') => serde_json::from_slice(line).ok(),
        _ => None,
    };
    let item = match quick {
        Some(quick) => of_ordinary(quick, kinds),
        None => of_entry(serde_json::from_slice(line)?, kinds),
    };
    below(&item.id)?;
    Ok(item)
}

fn of_ordinary(line: Ordinary<'_>, kinds: &mut Kinds) -> Item {
    let tags = line.labels.iter().map(|label| Tag {
        kind: kinds.kind(&label.name, &label.parents, label.seen, State::Automatic),
        values: Values {
            score: label.score,
            probability: label.probability,
        },
    });
    let tags = tags.collect();
    let file = (line.bytes, line.modified);
    let mut item = Item::new(line.photo.into_owned(), file, line.taken);
    (item.labels, item.doubt) = (tags, line.doubt);
    item.settings = kinds.settings(&line.settings);
    item
}

fn of_entry(entry: Entry, kinds: &mut Kinds) -> Item {
    let (labels, error) = match entry.outcome {
        Outcome::Labels(labels) => (labels, None),
        Outcome::Error(reason) => (Vec::new(), Some(reason)),
    };
    let tags = labels.into_iter().map(|label| {
        let state = State::Automatic;
        kinds.tag(&Labelled { label, state })
    });
    let tags = tags.collect();
    let file = (entry.bytes, entry.modified);
    let mut item = Item::new(entry.photo, file, entry.taken);
    (item.labels, item.error, item.doubt) = (tags, error, entry.doubt);
    item.settings = kinds.settings(&entry.settings);
    item
}

/// An [`Entry`] with labels. It must take no line that `Entry` does not take, nor read one otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordinary<'a> {
    #[serde(borrow)]
    photo: Cow<'a, str>,
    bytes: u64,
    modified: u64,
    #[serde(borrow)]
    settings: Cow<'a, str>,
    labels: Vec<Given<'a>>,
    #[serde(default, rename = "content")]
    _content: bool,
    #[serde(default)]
    taken: Option<i64>,
    #[serde(default)]
    doubt: Option<f32>,
}

/// A [`Label`](super::Label).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    parents: Vec<Text<'a>>,
    #[serde(default)]
    score: Number,
    #[serde(default)]
    probability: Number,
    seen: bool,
}

/// A text of a list, borrowed where it stands as it is.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Number {
    /// As `Option<f32>` is read within an [`Entry`]: rounded from the number in 64 bits, where a plain f32 would be rounded once.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Numbers)
    }
}

struct Numbers;

impl Visitor<'_> for Numbers {
    type Value = Number;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number or null")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number(number as f32))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number(number as f32))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
        Ok(Number(number as f32))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Number, E> {
        Ok(Number::NONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The line as it is read here, and as an [`Entry`] is: each as the photograph, or what is wrong.
    fn both(line: &[u8]) -> [Result<Item, String>; 2] {
        let mut kinds = Kinds::default();
        let plain = serde_json::from_slice(line).and_then(|entry| {
            let item = of_entry(entry, &mut kinds);
            below(&item.id).map(|()| item)
        });
        [item(line, &mut kinds), plain].map(|read| read.map_err(|error| error.to_string()))
    }

    fn is_quick(line: &[u8]) -> bool {
        serde_json::from_slice::<Ordinary<'_>>(line).is_ok()
    }

    const BEGIN: &str = r#""photo":"a/é \"b.jpg","bytes":7,"modified":2500000000,"settings":"s""#;
    const LABEL: &str =
        r#"{"name":"dog","parents":["ani\u006dal"],"score":0.25,"probability":0.1,"seen":true}"#;

    #[test]
    fn ordinary_lines_are_read_here() {
        let quick = [
            format!("{{{BEGIN},\"labels\":[]}}\n"),
            format!(
                "{{{BEGIN},\"labels\":[{LABEL},{LABEL}],\"content\":false,\"taken\":-5,\"doubt\":1.5}}"
            ),
            format!(
                r#"{{"labels":[{{"seen":false,"name":"x","score":null}}],{BEGIN},"doubt":null}}"#
            ),
        ];
        for line in quick {
            assert!(is_quick(line.as_bytes()), "{line}");
            let [here, plain] = both(line.as_bytes());
            assert_eq!(here, plain, "{line}");
            assert_eq!(here.unwrap().id, "a/é \"b.jpg");
        }
    }

    /// Numbers of every form, old and unknown fields, and what a person might make of a line.
    #[test]
    fn all_other_lines_are_read_as_entries() {
        let mut lines: Vec<String> = Vec::new();
        for number in [
            "3",
            "-3",
            "16777217",
            "9007199791611905",
            "-9007199791611905",
            "1e300",
            "-1e300",
            "1e400",
            "1.00000005960464478",
            "5e-46",
            "-0.0",
            "\"1\"",
            "true",
            "[]",
            "NaN",
        ] {
            for field in ["score", "probability"] {
                lines.push(format!(
                    "{{{BEGIN},\"labels\":[{{\"name\":\"x\",\"{field}\":{number},\"seen\":true}}]}}"
                ));
            }
            lines.push(format!("{{{BEGIN},\"labels\":[],\"doubt\":{number}}}"));
            lines.push(format!("{{{BEGIN},\"labels\":[],\"taken\":{number}}}"));
        }
        for rest in [
            r#""error":"no""#,
            r#""error":"no","content":true"#,
            r#""error":null"#,
            r#""labels":null"#,
            r#""labels":{}"#,
            r#""error":"no","labels":[]"#,
            r#""labels":[],"error":"no""#,
            r#""error":null,"labels":[]"#,
            r#""labels":[],"labels":[]"#,
            r#""labels":[],"bytes":8"#,
            r#""labels":[],"sidecar":[["a"]]"#,
            r#""labels":[],"sidecar":3"#,
            r#""labels":[],"new":{"a":[1]}"#,
            r#""labels":[{"name":"x"}]"#,
            r#""labels":[{"name":"x","seen":true,"new":1}]"#,
            r#""labels":[{"name":"x","name":"y","seen":true}]"#,
            r#""labels":[["x",[],1,0.5,true]]"#,
            r#""labels":[["x"]]"#,
            r#""labels":[{"name":"\ud800","seen":true}]"#,
            r#""labels":[],"content":null"#,
            r#""labels":[]}"#,
            r#""labels":[]"x"#,
        ] {
            lines.push(format!("{{{BEGIN},{rest}}}"));
        }
        lines.push(r#"["a",1,2,"s",[],false,null,null]"#.into());
        lines.push(r#" {"photo":"a","bytes":1,"modified":1,"settings":"s","labels":[]}"#.into());
        lines.extend(["", "{}", "no", "null"].map(String::from));
        for line in lines {
            let [here, plain] = both(line.as_bytes());
            assert_eq!(here, plain, "{line}");
        }
    }

    proptest! {
        /// A damaged line is read, or refused, as an [`Entry`].
        #[test]
        fn damage_is_named_as_ever(
            end in 0..400_usize, changes in proptest::collection::vec((0..400_usize, any::<u8>()), 0..4),
        ) {
            let line = format!("{{{BEGIN},\"labels\":[{LABEL},{LABEL}],\"taken\":5,\"doubt\":1.5}}\n");
            let mut line = line.into_bytes();
            line.truncate(line.len().min(end.max(200)));
            for (place, byte) in changes {
                let place = place % line.len();
                // Half of the changes are such as keep the form.
                line[place] = if byte < 128 { b"{}[]\":,0 "[usize::from(byte) % 9] } else { byte };
            }
            let [here, plain] = both(&line);
            prop_assert_eq!(here, plain);
        }
    }
}
