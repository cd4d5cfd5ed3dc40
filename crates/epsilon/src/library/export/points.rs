//! Points for a collection of the vector database Qdrant, one a line as its API takes them, and the collection that they fit.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Export, ExportError, Item, failed};
use crate::library::{Tag, dates};
use epsilon_data::files;

/// A point: the M vectors of a photograph, and what is known of it.
#[derive(Serialize)]
struct Point<'a> {
    id: String,
    vector: Vec<&'a [f32]>,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    photo: &'a str,
    path: String,
    date: String,
    labels: &'a [Tag],
}

impl Export<'_> {
    /// The collection that the points fit, as the body of Qdrant's "create collection": multivectors that are compared by their
    /// dot products, of which the largest counts (`max_sim`).
    pub fn collection(&self) -> Value {
        json!({
            "vectors": {
                "size": self.vectors().width,
                "distance": "Dot",
                "multivector_config": { "comparator": "max_sim" },
            },
        })
    }

    /// Writes the photographs as points, one a line in JSON, whole or not at all. `done` is told how many are written.
    ///
    /// A point has `id`, a UUID that depends on the photograph's path in the library alone; `vector`, `[M, E]`; and `payload` with
    /// `photo`, the path in the library, `path`, where it lies, `date`, and `labels` as `epsilon search --json` has them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_points(
        &self,
        path: &Path,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), ExportError> {
        files::replace(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 18, file);
            for (written, (place, item)) in (1..).zip(&self.rows) {
                let vectors = self.index.dot_vectors(*place);
                serde_json::to_writer(&mut out, &self.point(item, &vectors))?;
                out.write_all(b"\n")?;
                done(written);
            }
            out.flush()
        })
        .map_err(|source: io::Error| failed(path, source))
    }

    fn point<'a>(&self, item: &'a Item, vectors: &'a [f32]) -> Point<'a> {
        Point {
            id: uuid(&item.id),
            vector: vectors.chunks_exact(self.vectors().width).collect(),
            payload: Payload {
                photo: &item.id,
                path: self.path(item),
                date: dates::text(item.date),
                labels: &item.labels,
            },
        }
    }
}

/// A UUID of version 8 (RFC 9562): the first 128 bits of a text's SHA-256, but for the version and the variant.
fn uuid(text: &str) -> String {
    let mut digits: Vec<char> = files::sha256(text.as_bytes()).chars().take(32).collect();
    digits[12] = '8';
    let variant = digits[16].to_digit(16).unwrap_or(0);
    digits[16] = char::from_digit(8 | variant & 3, 16).unwrap_or('8');
    let mut uuid: String = digits.into_iter().collect();
    for place in [20, 16, 12, 8] {
        uuid.insert(place, '-');
    }
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.sha256(b"a/b.jpg").hexdigest()` begins 4a51636246e7c418bb925ee98492950a.
    #[test]
    fn an_id_by_hand() {
        assert_eq!(uuid("a/b.jpg"), "4a516362-46e7-8418-bb92-5ee98492950a");
    }
}
