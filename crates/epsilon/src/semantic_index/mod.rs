//! The semantic vectors of many photographs on disk, to rank them for any word: score = max_m S_m . v, and with an anchor
//! score = max_m S_m . v + p . e + b, of a query `[v, e]`.
//!
//! A folder holds `index.json` (what it is and how much of the other two counts), `rows-G.bin` (a record for every photograph:
//! its vectors in bytes, and what is kept for the anchor) and `ids-G.jsonl` (a line for every record: the photograph's id; or
//! the number of a record that does not count any more). Records are only ever appended, and count from
//! the moment that `index.json` says so, so that a reader and a killed writer never see half of something. G is a generation:
//! where half of the records are dead, the rest is written into new files.

mod dots;
mod ids;
mod manifest;
mod ranked;
mod record;
mod rows;
mod search;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use ranked::{Searchers, assist};
pub use search::{Hit, Index, Selection};
pub use writer::IndexWriter;

/// What can go wrong with an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {reason}; delete the folder to have it made anew", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An index of another model.
    #[error("{}: holds the vectors of another model; give another folder, or delete it", folder.display())]
    OtherModel {
        /// The folder.
        folder: PathBuf,
    },
    /// A photograph that an index does not hold.
    #[error("{photo}: the index holds no vectors of it: it was not tagged yet, or could not be")]
    Unknown {
        /// Its id.
        photo: String,
    },
    /// Another rank of the job cannot search.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// Its number.
        rank: usize,
        /// Why.
        reason: String,
    },
    /// Rows or a query that are not of the index's sizes, or not finite.
    #[error("{0}")]
    Vectors(String),
}

impl Index {
    /// Whether a folder holds one. A first writer that was killed leaves none.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(manifest::MANIFEST).is_file()
    }

    /// When the index in a folder was last changed: whoever keeps one open knows by it that there is another now.
    ///
    /// # Errors
    /// Where there is none.
    pub fn written(folder: &Path) -> Result<SystemTime, IndexError> {
        let path = folder.join(manifest::MANIFEST);
        let about = path.metadata().and_then(|about| about.modified());
        about.map_err(|source| failed(&path, source))
    }
}

/// What an index is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// [`crate::model::Model::identity`] of the model that made the vectors.
    pub model: String,
    /// M, vectors of a photograph.
    pub groups: usize,
    /// d_w, their width.
    pub width: usize,
    /// Classes of the model's anchor, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
}

fn failed(path: &Path, source: io::Error) -> IndexError {
    IndexError::File {
        path: path.into(),
        source,
    }
}

fn form(path: &Path, reason: String) -> IndexError {
    IndexError::Form {
        path: path.into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use std::fs;

    use super::*;
    use crate::ranks::{Ranks, Threads};

    fn info(groups: usize, width: usize) -> IndexInfo {
        IndexInfo {
            model: "m".into(),
            groups,
            width,
            classes: None,
        }
    }

    /// The same for a model with an anchor.
    fn anchored(groups: usize, width: usize, classes: usize) -> IndexInfo {
        IndexInfo {
            classes: Some(classes),
            ..info(groups, width)
        }
    }

    fn vectors(count: usize, rng: &mut impl Rng) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn names(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|hit| hit.id.as_str()).collect()
    }

    #[test]
    fn a_small_index_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), &info(2, 2)).unwrap();
        writer.push("a", &[1.0, 0.0, 0.0, 0.5]).unwrap();
        writer.push("b", &[0.0, 1.0, 0.0, -1.0]).unwrap();
        writer.push("c\n\"", &[-1.0, 0.0, 0.0, 0.0]).unwrap();
        assert!(writer.contains("b") && !writer.contains("z"));
        assert!(Index::open(folder.path()).is_err(), "nothing counts yet");
        writer.commit().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let found = index.search(&[0.0, 1.0], 2).unwrap();
        assert_eq!(names(&found), ["b", "a"]);
        assert!((found[0].score - 1.0).abs() < 1e-3 && found[0].group == Some(0));
        assert!((found[1].score - 0.5).abs() < 1e-3 && found[1].group == Some(1));
        assert_eq!(names(&index.search(&[-1.0, 0.0], 1).unwrap()), ["c\n\""]);
        assert_eq!(index.search(&[0.0, 1.0], 0).unwrap(), []);
        assert_eq!(index.search(&[0.0, 0.0], 9).unwrap().len(), 3);
        let selection = index.select(|id| id != "b").unwrap();
        let found = index.search_in(&selection, &[0.0, 1.0], 1).unwrap();
        assert_eq!(names(&found), ["a"]);
        // a . b = -0.5, |a| = sqrt(1.25), |b| = sqrt(2); a . c = -1, |c| = 1
        let found = index.like("a", 9).unwrap();
        assert_eq!(names(&found), ["b", "c\n\""]);
        assert!((found[0].score + 0.5 / 2.5_f32.sqrt()).abs() < 1e-2);
        assert!((found[1].score + 1.0 / 1.25_f32.sqrt()).abs() < 1e-2);
        assert_eq!(found[0].group, None);
        assert_eq!(names(&index.like("c\n\"", 1).unwrap()), ["b"]);
        assert_eq!(
            names(&index.like_in(&selection, "b", 9).unwrap()),
            ["c\n\"", "a"]
        );
        assert_eq!(index.like("a", 0).unwrap(), []);
        let unknown = index.like("z", 1).unwrap_err().to_string();
        assert!(
            unknown.contains("z: the index holds no vectors"),
            "{unknown}"
        );
        for query in [&[1.0][..], &[f32::NAN, 0.0]] {
            assert!(index.search(query, 1).is_err());
        }
        for rows in [&[1.0][..], &[f32::INFINITY, 0.0, 0.0, 0.0]] {
            assert!(writer.push("d", rows).is_err());
        }
    }

    #[test]
    fn ranks_find_what_one_process_finds() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut writer = IndexWriter::open(folder.path(), &info(2, 3)).unwrap();
        for photo in 0..50 {
            // Every second one is the one before it again: of equal ones the earlier is better.
            let mut row = vec![0.25; 6];
            if photo % 2 == 0 {
                row = vectors(6, &mut rng);
            }
            writer.push(&photo.to_string(), &row).unwrap();
        }
        writer.commit().unwrap();
        let search = |index: &Index| {
            let selection = index.select(|id| id != "7").unwrap();
            let words = index.search_in(&selection, &[0.5, -1.0, 0.25], 30).unwrap();
            (
                words,
                index.like("40", 9).unwrap(),
                index.search(&[1.0; 3], 80).unwrap(),
            )
        };
        let alone = search(&Index::open(folder.path()).unwrap());
        assert_eq!((alone.0.len(), alone.2.len()), (30, 50));
        for size in 1..5 {
            Threads::run(size, |rank| {
                if !rank.is_first() {
                    return assist(folder.path(), rank);
                }
                let searchers = Searchers::new(std::sync::Arc::new(rank.clone()));
                let open = || {
                    let index = Index::open(folder.path()).unwrap();
                    index.shared_with(searchers.clone())
                };
                let index = open();
                assert_eq!(search(&index), alone, "{size} ranks");
                // Several threads may search at once, in indexes that were opened at different times.
                std::thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| assert_eq!(search(&open()), alone));
                    }
                });
                assert_eq!(search(&index), alone);
                searchers.dismiss();
                assert_eq!(search(&index), alone, "by the first one alone");
            });
        }
    }

    #[test]
    fn a_rank_that_cannot_search_is_an_error_and_stays() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = || IndexWriter::open(folder.path(), &info(1, 2)).unwrap();
        let mut writer = open();
        for photo in ["a", "b", "c", "d"] {
            writer.push(photo, &[1.0, 0.0]).unwrap();
        }
        writer.commit().unwrap();
        Threads::run(2, |rank| {
            if !rank.is_first() {
                return assist(elsewhere.path(), rank);
            }
            let searchers = Searchers::new(std::sync::Arc::new(rank.clone()));
            let index = Index::open(folder.path()).unwrap();
            let index = index.shared_with(searchers.clone());
            let said = || {
                let found = index.search(&[1.0, 0.0], 9);
                found
                    .map(|hits| hits.len())
                    .map_err(|error| error.to_string())
            };
            let missing = said().unwrap_err();
            assert!(missing.starts_with("rank 1: ") && missing.contains("index.json"));
            let mut other = IndexWriter::open(elsewhere.path(), &info(2, 2)).unwrap();
            other.push("a", &[1.0; 4]).unwrap();
            other.commit().unwrap();
            let differs = said().unwrap_err();
            assert!(differs.contains("search again"), "{differs}");
        });
        Threads::run(2, |rank| {
            if !rank.is_first() {
                return assist(folder.path(), rank);
            }
            let index = Index::open(folder.path()).unwrap();
            let index = index.shared_with(Searchers::new(std::sync::Arc::new(rank.clone())));
            // What was added since it was opened is not searched, by anybody.
            let mut writer = open();
            writer.push("e", &[9.0, 0.0]).unwrap();
            writer.commit().unwrap();
            assert_eq!(index.search(&[1.0, 0.0], 9).unwrap().len(), 4);
            assert_eq!(Index::open(folder.path()).unwrap().len(), 5);
        });
    }

    /// Replaced, taken out and written anew as the records of other models.
    #[test]
    fn an_anchors_row_is_added_to_the_match() {
        let folder = tempfile::tempdir().unwrap();
        let open = || IndexWriter::open(folder.path(), &anchored(2, 1, 3)).unwrap();
        let mut writer = open();
        writer.push("a", &[1.0, 2.0, 0.5, 0.0, 0.0, -1.0]).unwrap();
        writer
            .push("b", &[1.0, -2.0, 0.0, 0.25, 0.001, 0.0])
            .unwrap();
        for id in ["c", "d", "e"] {
            writer.push(id, &[9.0; 6]).unwrap();
        }
        writer.commit().unwrap();
        let scores = |query: &[f32]| -> Vec<(String, usize, f32)> {
            let hits = Index::open(folder.path()).unwrap().search(query, 2);
            let hits = hits.unwrap().into_iter();
            hits.map(|hit| (hit.id, hit.group.unwrap(), hit.score))
                .collect()
        };
        let near = |found: &[(String, usize, f32)], expected: [(&str, usize, f32); 2]| {
            for ((id, group, score), expected) in found.iter().zip(expected) {
                let (expected_id, expected_group, exact) = expected;
                assert_eq!((id.as_str(), *group), (expected_id, expected_group));
                assert!((score - exact).abs() < 1e-2, "{found:?}");
            }
        };
        ["c", "d", "e"].iter().for_each(|id| writer.remove(id));
        writer.commit().unwrap();
        drop(writer);
        // a: 2 * 1 + 0.5 * 4 - 1; b: 1 * 1 + 0.25 * 2 + 0.001 * 1000. The small share counts, though it is 1/250 of the largest.
        let query = [1.0, 4.0, 2.0, 1000.0];
        near(&scores(&query), [("a", 1, 3.0), ("b", 0, 2.5)]);
        let mut writer = open();
        assert!(folder.path().join("rows-1.bin").exists(), "written anew");
        near(&scores(&query), [("a", 1, 3.0), ("b", 0, 2.5)]);
        writer.push("a", &[1.0, 0.0, 0.0, 0.0, 0.0, 7.0]).unwrap();
        writer.commit().unwrap();
        near(
            &scores(&[-1.0, 0.0, 0.0, 0.0]),
            [("a", 1, 7.0), ("b", 1, 2.0)],
        );
        let index = Index::open(folder.path()).unwrap();
        // Likeness goes by the vectors alone: (1, 0) . (1, -2) / sqrt(5).
        let alike = index.like("a", 2).unwrap();
        assert_eq!(names(&alike), ["b"]);
        assert!((alike[0].score - 0.2_f32.sqrt()).abs() < 1e-2, "{alike:?}");
        let said = index.search(&[1.0], 1).unwrap_err().to_string();
        assert!(said.contains("4 wide"), "{said}");
        let said = writer.push("f", &[0.0; 5]).unwrap_err().to_string();
        assert!(said.contains("3 of an anchor"), "{said}");
        assert!(writer.push("f", &[f32::NAN; 6]).is_err());
        let other = IndexWriter::open(folder.path(), &info(2, 1)).err().unwrap();
        assert!(matches!(other, IndexError::OtherModel { .. }), "{other}");
    }

    /// Replaced, taken out, taken up again, and written anew when most is dead; what an older reader sees stays.
    #[test]
    fn records_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let open = || IndexWriter::open(folder.path(), &info(1, 3)).unwrap();
        let mut writer = open();
        for id in ["a", "b", "c", "d", "e"] {
            writer.push(id, &[1.0, 0.0, 0.0]).unwrap();
        }
        writer.commit().unwrap();
        let before = Index::open(folder.path()).unwrap();
        writer.push("b", &[0.0, 1.0, 0.0]).unwrap();
        writer.remove("c");
        writer.remove("nobody");
        writer.commit().unwrap();
        drop(writer);
        let mut writer = open();
        writer.remove("d");
        writer.push("lost", &[0.0, 0.0, 1.0]).unwrap();
        drop(writer);
        let search = || {
            let index = Index::open(folder.path()).unwrap();
            let hits = index.search(&[1.0, 0.5, 0.0], 9).unwrap();
            names(&hits).join(" ")
        };
        assert_eq!(search(), "a d e b", "what was not committed does not count");
        let mut writer = open();
        ["d", "e"].iter().for_each(|id| writer.remove(id));
        writer.commit().unwrap();
        let rows = |generation: u64| folder.path().join(format!("rows-{generation}.bin"));
        assert!(rows(0).exists());
        let mut writer = open();
        assert!(rows(1).exists() && !rows(0).exists());
        assert_eq!(search(), "a b");
        writer.push("f", &[2.0, 0.0, 0.0]).unwrap();
        writer.commit().unwrap();
        assert_eq!(search(), "f a b");
        assert_eq!(before.search(&[1.0, 0.0, 0.0], 9).unwrap().len(), 5);
        let other = IndexWriter::open(folder.path(), &info(2, 3)).err().unwrap();
        assert!(other.to_string().contains("another model"), "{other}");
    }

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), &info(1, 2)).unwrap();
        for id in ["a", "b"] {
            writer.push(id, &[1.0, 0.0]).unwrap();
        }
        writer.commit().unwrap();
        let damages: [(&str, &[u8]); 10] = [
            ("index.json", br#"{"version":1,"model":"m","groups":1,"width":2,"classes":3,"generation":0,"records":2,"ids_bytes":8}"#),
            ("index.json", br#"{"version":2,"model":"m","groups":1,"width":2,"classes":0,"generation":0,"records":2,"ids_bytes":8}"#),
            ("index.json", b""),
            ("index.json", b"{\"version\":1}"),
            ("index.json", br#"{"version":9,"model":"m","groups":1,"width":2,"generation":0,"records":2,"ids_bytes":8}"#),
            ("index.json", br#"{"version":1,"model":"m","groups":1,"width":99999999999,"generation":0,"records":18446744073709551615,"ids_bytes":8}"#),
            ("rows-0.bin", b"short"),
            ("ids-0.jsonl", b"\"a\"\n"),
            ("ids-0.jsonl", b"\"a\"\nnull\n"),
            ("ids-0.jsonl", b"\"a\"\n77\n\"\""),
        ];
        for (name, bytes) in damages {
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let error = Index::open(folder.path()).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
            fs::write(&path, whole).unwrap();
        }
        // A writer mends nothing either, however often it is tried.
        let path = folder.path().join("rows-0.bin");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..40]).unwrap();
        for _ in 0..2 {
            let error = IndexWriter::open(folder.path(), &info(1, 2)).err().unwrap();
            assert!(error.to_string().contains("40 bytes of"), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), 40);
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(Index::open(folder.path()).unwrap().len(), 2);
        // Files of the last generation there can be, all of them dead: there is none to write the rest into.
        let (manifest, last) = (folder.path().join("index.json"), u64::MAX);
        let text = fs::read_to_string(&manifest).unwrap();
        fs::copy(&path, folder.path().join(format!("rows-{last}.bin"))).unwrap();
        let ids = folder.path().join(format!("ids-{last}.jsonl"));
        fs::write(ids, "\"a\"\n0\n\"b\"\n1\n").unwrap();
        let damaged = text.replace("\"generation\":0", &format!("\"generation\":{last}"));
        fs::write(
            &manifest,
            damaged.replace("\"ids_bytes\":8", "\"ids_bytes\":12"),
        )
        .unwrap();
        let error = IndexWriter::open(folder.path(), &info(1, 2)).err().unwrap();
        assert!(
            error.to_string().contains("the last there can be"),
            "{error}"
        );
        fs::write(&manifest, text).unwrap();
        fs::write(folder.path().join("ids-0.jsonl"), "\"a\"\n\"a\"\n").unwrap();
        let twice = IndexWriter::open(folder.path(), &info(1, 2)).err().unwrap();
        assert!(twice.to_string().contains("\"a\" is the id of"), "{twice}");
        fs::write(folder.path().join("ids-0.jsonl"), "\"a\"\n\"\\\"\n").unwrap();
        let index = Index::open(folder.path()).unwrap();
        assert!(
            index.search(&[1.0, 0.0], 2).is_err(),
            "an id that is no text"
        );
    }

    #[test]
    fn a_truncated_record_of_an_anchored_model_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let info = anchored(1, 2, 5);
        let mut writer = IndexWriter::open(folder.path(), &info).unwrap();
        writer.push("a", &[0.5; 8]).unwrap();
        writer.commit().unwrap();
        let path = folder.path().join("rows-0.bin");
        let whole = fs::read(&path).unwrap();
        // Without its constant.
        fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        let opened = [
            Index::open(folder.path()).err(),
            IndexWriter::open(folder.path(), &info).err(),
        ];
        for error in opened {
            let error = error.unwrap().to_string();
            assert!(
                error.contains("rows-0.bin: 108 bytes of 112"),
                "{error} {}",
                whole.len()
            );
        }
    }

    #[test]
    fn extreme_values_neither_overflow_nor_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let width = 2048;
        let mut writer = IndexWriter::open(folder.path(), &info(1, width)).unwrap();
        writer.push("large", &vec![1e30; width]).unwrap();
        writer.push("zero", &vec![0.0; width]).unwrap();
        writer.push("tiny", &vec![1e-44; width]).unwrap();
        writer.commit().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let query = vec![1.0 / (width as f32).sqrt(); width];
        let hits = index.search(&query, 3).unwrap();
        assert_eq!(names(&hits), ["large", "zero", "tiny"]);
        let exact = 1e30 * (width as f32).sqrt();
        assert!(
            (hits[0].score / exact - 1.0).abs() < 1e-2,
            "{}",
            hits[0].score
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Scores are near those of the vectors as they were, and the order is that of the scores, whatever the sizes.
        #[test]
        fn a_search_is_near_a_scan_of_the_vectors(
            groups in 1_usize..5, width in 1_usize..70, classes in 0_usize..70, count in 0_usize..60, top in 1_usize..70, seed: u64,
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let info = match classes {
                0 => info(groups, width),
                classes => anchored(groups, width, classes),
            };
            let mut writer = IndexWriter::open(folder.path(), &info).unwrap();
            let all = groups * width + if classes > 0 { classes + 1 } else { 0 };
            let values = vectors(count * all, &mut rng);
            for (place, values) in values.chunks(all).enumerate() {
                writer.push(&place.to_string(), values).unwrap();
            }
            writer.push("last", &vec![0.0; all]).unwrap();
            writer.commit().unwrap();
            let query = vectors(width + classes, &mut rng);
            let hits = Index::open(folder.path()).unwrap().search(&query, top).unwrap();
            prop_assert_eq!(hits.len(), top.min(count + 1));
            prop_assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let length = query.iter().map(|v| v.abs()).sum::<f32>();
            let score = |place: usize| -> f32 {
                let product = |row: &[f32], query: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
                let (rows, anchor) = values[place * all..][..all].split_at(groups * width);
                let best = rows.chunks(width).map(|row| product(row, &query[..width])).fold(f32::NEG_INFINITY, f32::max);
                best + anchor.split_last().map_or(0.0, |(constant, row)| product(row, &query[width..]) + constant)
            };
            // The anchor's row is held in 16 bits.
            let length = length - query[width..].iter().map(|v| 0.99 * v.abs()).sum::<f32>();
            let error = 0.5 / 127.0 * length * 1.1 + 1e-5;
            for hit in &hits {
                let exact = hit.id.parse().map_or(0.0, score);
                prop_assert!((hit.score - exact).abs() <= error, "{} {exact}", hit.score);
            }
            // Other programs compute the same scores by dot products.
            let index = Index::open(folder.path()).unwrap();
            let dots = index.dot_query(&query).unwrap();
            prop_assert_eq!(dots.len(), info.dot_width());
            let places = index.places().unwrap();
            for hit in &hits {
                let (place, _) = places.iter().find(|(_, id)| *id == hit.id).unwrap();
                let rows = index.dot_vectors(*place);
                prop_assert_eq!(rows.len(), groups * dots.len());
                let products = rows.chunks(dots.len()).map(|row| row.iter().zip(&dots).map(|(a, b)| a * b).sum::<f32>());
                let best = products.fold(f32::NEG_INFINITY, f32::max);
                prop_assert!((best - hit.score).abs() <= 1e-5 * (1.0 + query.len() as f32), "{} {best}", hit.score);
            }
            // Among some it finds those of all, without the others.
            let passes = |id: &str| id.parse().is_ok_and(|place: u64| !(place ^ seed).is_multiple_of(3));
            let some = index.search_in(&index.select(passes).unwrap(), &query, top).unwrap();
            let mut of_all = index.search(&query, usize::MAX).unwrap();
            of_all.retain(|hit| passes(&hit.id));
            of_all.truncate(top);
            prop_assert_eq!(some, of_all);
            let worst = hits.last().unwrap().score;
            let missed = (0..count).filter(|place| score(*place) > worst + 2.0 * error);
            prop_assert_eq!(missed.filter(|p| !names(&hits).contains(&p.to_string().as_str())).count(), 0);
        }
    }
}
