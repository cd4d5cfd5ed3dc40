//! The journal of corrections: several that add, damage, withdrawal, names, and photographs that move.

use std::fs;

use super::super::scan::scan;
use super::*;

fn said(photo: &str, label: &str, verdict: Verdict) -> Line {
    Line::Label(Correction {
        photo: photo.into(),
        label: label.into(),
        parents: Vec::new(),
        verdict,
        at: 7,
        by: None,
    })
}

fn reviewed(photo: &str, reviewed: bool) -> Line {
    Line::Photo(Reviewed {
        photo: photo.into(),
        reviewed,
        at: 8,
    })
}

fn label(name: &str) -> Label {
    Label {
        name: name.into(),
        parents: Vec::new(),
        score: Some(0.5),
        probability: Some(0.25),
        seen: true,
    }
}

/// Names of labels with the first letters of their states.
fn applied(corrections: &Corrections, photo: &str, labels: &[&str]) -> String {
    let labels = labels.iter().map(|name| label(name)).collect();
    let applied = corrections.apply(photo, labels).into_iter();
    let words = applied.map(|l| format!("{} {}", l.label.name, &format!("{:?}", l.state)[..2]));
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn two_that_add_in_turn_read_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Corrections::open(folder.path()).unwrap();
    let mut second = Corrections::open(folder.path()).unwrap();
    let mut reader = Corrections::read(folder.path()).unwrap();
    assert!(!folder.path().join(NAME).exists(), "reading makes no file");
    assert!(!reader.refresh().unwrap());
    first.add(&[said("a", "sea", Verdict::Approved)]).unwrap();
    second.add(&[said("a", "sky", Verdict::Rejected)]).unwrap();
    first.add(&[said("b", "dog", Verdict::Approved)]).unwrap();
    second.add(&[reviewed("b", true)]).unwrap();
    assert!(first.refresh().unwrap() && !second.refresh().unwrap());
    assert!(reader.refresh().unwrap() && !reader.refresh().unwrap());
    for each in [&first, &second, &reader] {
        assert_eq!(each.opinions, first.opinions);
    }
    let of_a = applied(&reader, "a", &["sky", "sun"]);
    assert_eq!(of_a, "sky Re, sun Au, sea Ap");
    assert_eq!(applied(&reader, "b", &["sky", "dog"]), "sky Re, dog Ap");
    assert_eq!(applied(&reader, "c", &["sky"]), "sky Au");
    assert_eq!(fs::read_to_string(&reader.path).unwrap().lines().count(), 4);
}

#[test]
fn many_that_add_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for who in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let mut corrections = Corrections::open(folder).unwrap();
                for number in 0..25 {
                    let label = format!("{who} {number}");
                    let line = said("a", &label, Verdict::Approved);
                    corrections.add(&[line]).unwrap();
                }
            });
        }
    });
    let there = Corrections::read(folder.path()).unwrap();
    assert_eq!(there.of("a").unwrap().labels.len(), 100);
}

#[test]
fn a_half_line_at_the_end_is_dropped_and_a_damaged_one_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let mut corrections = Corrections::open(folder.path()).unwrap();
    corrections
        .add(&[said("a", "sea", Verdict::Approved)])
        .unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!(
        whole,
        "{\"photo\":\"a\",\"label\":\"sea\",\"verdict\":\"approved\",\"at\":7}\n"
    );
    let half = format!("{whole}{{\"photo\":\"b\",\"label\":\"sk");
    fs::write(&path, &half).unwrap();
    let there = Corrections::read(folder.path()).unwrap();
    assert_eq!(there.photos().count(), 1);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        half,
        "reading changes nothing"
    );
    corrections
        .add(&[said("c", "dog", Verdict::Rejected)])
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with(&whole) && text.lines().count() == 2,
        "{text}"
    );

    // One that an editor left without its end is kept.
    fs::write(&path, whole.trim_end()).unwrap();
    corrections
        .add(&[said("c", "dog", Verdict::Rejected)])
        .unwrap();
    assert_eq!(applied(&corrections, "a", &[]), "sea Ap");
    assert_eq!(corrections.photos().count(), 2);

    fs::write(&path, format!("{whole}no\n{whole}")).unwrap();
    let errors = [
        Corrections::read(folder.path()).err(),
        corrections
            .add(&[said("a", "sky", Verdict::Approved)])
            .err(),
    ];
    for error in errors {
        let error = error.unwrap().to_string();
        for part in ["corrections.jsonl", "line 2", "mend the line"] {
            assert!(error.contains(part), "{error}");
        }
    }
    // Mended, it holds again, also for one that had read it before.
    fs::write(&path, format!("{whole}{whole}")).unwrap();
    assert!(corrections.refresh().unwrap());
    assert_eq!(applied(&corrections, "a", &[]), "sea Ap");
    fs::remove_file(&path).unwrap();
    assert!(corrections.refresh().unwrap() && !corrections.refresh().unwrap());
    assert_eq!(corrections.photos().count(), 0);
}

#[test]
fn the_later_word_holds_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut corrections = Corrections::open(folder.path()).unwrap();
    let mut say = |lines: &[Line]| {
        corrections.add(lines).unwrap();
        applied(&corrections, "a", &["sea", "sky"])
    };
    assert_eq!(
        say(&[said("a", "sea", Verdict::Rejected)]),
        "sea Re, sky Au"
    );
    assert_eq!(
        say(&[said("a", "SEA", Verdict::Approved)]),
        "SEA Ap, sky Au"
    );
    assert_eq!(say(&[reviewed("a", true)]), "SEA Ap, sky Re");
    assert_eq!(say(&[reviewed("a", false)]), "SEA Ap, sky Au");
    assert_eq!(
        say(&[said("a", "sea ", Verdict::Withdrawn)]),
        "sea Au, sky Au"
    );
    assert!(corrections.of("a").is_none());
}

#[test]
fn case_and_unicode_form_make_no_other_label() {
    let folder = tempfile::tempdir().unwrap();
    let mut corrections = Corrections::open(folder.path()).unwrap();
    corrections
        .add(&[said("a", "CAFE\u{301}", Verdict::Rejected)])
        .unwrap();
    assert_eq!(applied(&corrections, "a", &["caf\u{e9}"]), "caf\u{e9} Re");
    assert_eq!(
        corrections.of("a").unwrap().state("Caf\u{e9}"),
        State::Rejected
    );
    for name in ["", "  ", "a\nb", "\u{1b}[2J"] {
        let lines = [
            said("b", "sea", Verdict::Approved),
            said("b", name, Verdict::Approved),
        ];
        let error = corrections.add(&lines).unwrap_err().to_string();
        assert!(error.contains("is no name of a label"), "{error}");
    }
    assert!(
        corrections.of("b").is_none(),
        "of a list with a wrong name nothing is added"
    );
}

#[test]
fn what_is_approved_has_the_owners_parents() {
    let folder = tempfile::tempdir().unwrap();
    let mut corrections = Corrections::open(folder.path()).unwrap();
    let Line::Label(dog) = said("a", "Dog", Verdict::Approved) else {
        unreachable!()
    };
    let parents = vec!["animal".to_string()];
    let by = Some(Proposal {
        model: "m".into(),
        probability: Some(0.5),
    });
    corrections
        .add(&[Line::Label(Correction { parents, by, ..dog })])
        .unwrap();
    let again = Corrections::read(folder.path()).unwrap();
    assert_eq!(again.opinions, corrections.opinions);
    let labels = again.apply("a", vec![label("dog")]);
    assert_eq!(labels.len(), 1);
    let dog = &labels[0].label;
    assert_eq!(
        (&*dog.name, &*dog.parents),
        ("Dog", &["animal".to_string()][..])
    );
    assert_eq!(dog.probability, Some(0.25));
}

#[test]
fn a_renamed_photograph_keeps_what_was_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, library) = (folder.path().join("p"), folder.path().join("lib"));
    fs::create_dir_all(photos.join("s")).unwrap();
    fs::create_dir(&library).unwrap();
    let described = Library::new("m".into(), "i".into(), photos.clone());
    described.write(&library).unwrap();
    let write = |name: &str, content: &str| fs::write(photos.join(name), content).unwrap();
    write("a.jpg", "first");
    write("b.jpg", "other");
    let mut corrections = Corrections::open(&library).unwrap();
    for (photo, name) in [("a.jpg", "sea"), ("b.jpg", "sky"), ("nowhere.jpg", "dog")] {
        corrections
            .add(&[said(photo, name, Verdict::Approved)])
            .unwrap();
    }
    corrections.add(&[reviewed("a.jpg", true)]).unwrap();
    let text = fs::read_to_string(library.join(NAME)).unwrap();
    assert_eq!(
        text.matches("sha256").count(),
        2,
        "each content once: {text}"
    );

    let mut follow = |known: &[&str]| {
        let is_known = |id: &str| known.contains(&id);
        corrections
            .follow(&photos, &scan(&photos), is_known, &HashSet::new())
            .unwrap()
    };
    assert_eq!(follow(&[]), 0, "nothing has moved");
    // A copy is another photograph, and one of the same content that was there before is no new name.
    fs::copy(photos.join("a.jpg"), photos.join("copy.jpg")).unwrap();
    assert_eq!(follow(&[]), 0);
    fs::rename(photos.join("a.jpg"), photos.join("s/new.jpg")).unwrap();
    // Of the same size and another content.
    write("c.jpg", "third");
    assert_eq!(follow(&["copy.jpg"]), 1);
    assert_eq!(follow(&["copy.jpg"]), 0);
    let again = Corrections::read(&library).unwrap();
    let ids: Vec<&str> = again.photos().map(|(id, _)| id).collect();
    assert_eq!(ids, ["b.jpg", "nowhere.jpg", "s/new.jpg"]);
    assert!(again.of("s/new.jpg").unwrap().reviewed);

    // One that was edited is known by its new content.
    write("b.jpg", "edited");
    let mut corrections = Corrections::open(&library).unwrap();
    corrections
        .follow(&photos, &scan(&photos), |_| true, &HashSet::new())
        .unwrap();
    fs::rename(photos.join("b.jpg"), photos.join("d.jpg")).unwrap();
    assert_eq!(
        corrections
            .follow(&photos, &scan(&photos), |_| false, &HashSet::new())
            .unwrap(),
        1
    );
    assert_eq!(applied(&corrections, "d.jpg", &[]), "sky Ap");
}

/// A folder with a folder of photographs, one in it, and the folder of its library.
fn with_photo(id: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (photos, library) = (folder.path().join("p"), folder.path().join("lib"));
    let photo = photos.join(id);
    fs::create_dir_all(photo.parent().unwrap()).unwrap();
    fs::create_dir(&library).unwrap();
    let described = Library::new("m".into(), "i".into(), photos.clone());
    described.write(&library).unwrap();
    fs::write(photo, "first").unwrap();
    (folder, photos, library)
}

/// A disk may be away whose photographs come back, or a folder may have been renamed: in either case nothing is lost.
#[test]
fn a_photograph_that_may_be_away_keeps_what_is_said_of_its_copy_too() {
    let (folder, photos, library) = with_photo("disk/a.jpg");
    let mut corrections = Corrections::open(&library).unwrap();
    let lines = [
        said("disk/a.jpg", "sea", Verdict::Approved),
        said("disk/a.jpg", "sky", Verdict::Rejected),
        reviewed("disk/a.jpg", true),
    ];
    corrections.add(&lines).unwrap();
    fs::rename(photos.join("disk"), folder.path().join("away")).unwrap();
    fs::write(photos.join("copy.jpg"), "first").unwrap();
    let mut follow = |doubted: &[&str], known: &[&str]| {
        let doubted = doubted.iter().copied().collect();
        let is_known = |id: &str| known.contains(&id);
        corrections
            .follow(&photos, &scan(&photos), is_known, &doubted)
            .unwrap()
    };
    assert_eq!(follow(&["disk/a.jpg"], &["disk/a.jpg"]), 1);
    let both = ["copy.jpg", "disk/a.jpg"];
    assert_eq!(follow(&["disk/a.jpg"], &both), 0, "once");
    assert_eq!(follow(&[], &["copy.jpg"]), 0, "gone after all");
    let there = Corrections::read(&library).unwrap();
    let ids: Vec<&str> = there.photos().map(|(id, _)| id).collect();
    assert_eq!(ids, both);
    assert_eq!(there.of("copy.jpg"), there.of("disk/a.jpg"));
    assert_eq!(applied(&there, "copy.jpg", &["sky"]), "sky Re, sea Ap");
}

/// A folder was moved and doubted, so that its photograph was spoken of under both names; what was said since goes along when it is
/// moved again.
#[test]
fn of_two_that_are_gone_the_one_that_was_spoken_of_last_is_followed() {
    let (_folder, photos, library) = with_photo("a/old.jpg");
    let mut corrections = Corrections::open(&library).unwrap();
    let first = said("a/old.jpg", "sea", Verdict::Approved);
    corrections.add(&[first]).unwrap();
    let mut moved = |from: &str, to: &str, doubted: &[&str], said_then: &[Line]| {
        fs::rename(photos.join(from), photos.join(to)).unwrap();
        let doubted = doubted.iter().copied().collect();
        let found = corrections.follow(&photos, &scan(&photos), |_| false, &doubted);
        assert_eq!(found.unwrap(), 1, "{to}");
        corrections.add(said_then).unwrap();
    };
    let Line::Label(later) = said("b.jpg", "moon", Verdict::Approved) else {
        unreachable!()
    };
    let later = Line::Label(Correction {
        at: later.at + 60,
        ..later
    });
    moved("a/old.jpg", "b.jpg", &["a/old.jpg"], &[later]);
    moved("b.jpg", "c.jpg", &[], &[]);
    let there = Corrections::read(&library).unwrap();
    assert_eq!(
        applied(&there, "c.jpg", &["sky"]),
        "sky Au, moon Ap, sea Ap"
    );
    assert!(there.of("b.jpg").is_none() && there.of("a/old.jpg").is_some());
}

#[test]
fn what_is_no_place_of_a_photograph_is_not_noted() {
    let library = tempfile::tempdir().unwrap();
    let mut corrections = Corrections::open(library.path()).unwrap();
    for photo in ["", "../a.jpg", "/photos/a.jpg"] {
        let refused = corrections.add(&[said(photo, "sea", Verdict::Approved)]);
        assert!(
            matches!(refused, Err(LibraryError::Photo { .. })),
            "{photo}"
        );
    }
    assert!(Corrections::read(library.path()).is_ok());
}
