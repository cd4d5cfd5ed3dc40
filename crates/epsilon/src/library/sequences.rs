//! Random sequences of what happens to a library and its sidecars: rounds with other words and names, kills at any moment,
//! other programs' edits, photographs that break, come and go, a disk that is away for a while, and their owner's word on
//! labels. These promises hold after every step: others' content is never lost, labels of ours never stay behind after a completed
//! round, nor does one that the owner rejected, those that are approved are there, and nothing is said twice.
//!
//! `EPSILON_TEST_SEQUENCES` is their number (300 where it is not set), `EPSILON_TEST_SEED` where they begin; a failure names
//! the seed that repeats it alone.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::ownership::{List, Lists, Subject, folded};
use super::sidecar::Name;
use super::upkeep::Step;
use super::{
    Correction, Corrections, Entry, Facts, Failed, Journal, Label, Labelled, Ledger, Line, Opinion,
    Outcome, Photo, Places, Reviewed, Scan, Sidecars, State, Verdict, told, unseen, xmp,
};

const PHOTOS: [&str; 5] = ["a.jpg", "a.png", "b.jpg", "s/c.jpg", "s/c.png"];
/// Lists of words to tag with.
const WORDS: [&[&str]; 3] = [&["sea", "sky"], &["dog", "Sea", "sun"], &["pet|dog", "sky"]];
/// What other programs' users type.
const TYPED: [&str; 6] = ["holiday", "SKY", "sea", "dog", "pet|dog", "Rome"];

thread_local! {
    /// Moments until the program is killed; never at none.
    static KILL: Cell<Option<u32>> = const { Cell::new(None) };
    static LEDGER: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) };
    /// Bytes of the ledger that are surely on the disk.
    static SYNCED: Cell<u64> = const { Cell::new(0) };
}

/// How a killed program unwinds: nothing is told, and what it held is dropped.
struct Killed;

fn moment(step: Step) {
    if step == Step::Intended {
        let length = LEDGER.with_borrow(|path| fs::metadata(path).map_or(0, |m| m.len()));
        SYNCED.set(length);
    }
    die_if_it_is_time();
}

fn die_if_it_is_time() {
    match KILL.get() {
        Some(0) => resume_unwind(Box::new(Killed)),
        left => KILL.set(left.map(|left| left - 1)),
    }
}

/// What is true of a sidecar, whoever asks.
#[derive(Debug, Default, Clone)]
struct Truth {
    /// What others typed and did not take out.
    others: Lists,
    /// Remarks of others elsewhere in the file.
    remarks: Vec<String>,
    /// Whether anybody else has written into it since it was made.
    touched: bool,
}

/// A photograph's file.
#[derive(Debug, Clone, Copy)]
struct File {
    version: u64,
    broken: bool,
}

struct World {
    rng: ChaCha8Rng,
    folder: TempDir,
    files: BTreeMap<String, File>,
    /// Whether the folder `s` cannot be read.
    hidden: bool,
    truths: BTreeMap<String, Truth>,
    /// What was on the disk that is mounted on the folder `s`, while it is away.
    away: Option<Disk>,
    said: Vec<String>,
}

/// The photographs of a disk that is away, and what is true of its sidecars.
struct Disk {
    files: BTreeMap<String, File>,
    truths: BTreeMap<String, Truth>,
}

/// Where the disk is mounted.
const MOUNT: &str = "s/";

/// How a round is run.
#[derive(Debug, Clone, Copy)]
struct Run {
    words: usize,
    name: Option<Name>,
    prune: bool,
    believe: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.unwrap();
        fs::create_dir_all(folder.path().join("p/s")).unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        LEDGER.set(folder.path().join("lib/sidecars.jsonl"));
        KILL.set(None);
        let file = File {
            version: 1,
            broken: false,
        };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            folder,
            files: PHOTOS[..4]
                .iter()
                .map(|id| (id.to_string(), file))
                .collect(),
            hidden: false,
            truths: BTreeMap::new(),
            away: None,
            said: Vec::new(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn photos(&self) -> PathBuf {
        self.folder.path().join("p")
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("lib")
    }

    fn step(&mut self) {
        match self.below(13) {
            0..=4 => self.any_round(),
            5..=6 => self.edit(),
            7..=8 => self.judge(),
            9 => self.mount(),
            _ => self.change_photos(),
        }
        self.nothing_of_others_is_lost();
    }

    /// The disk goes away with all that it holds, and its empty mount point may stay; or it comes back.
    fn mount(&mut self) {
        let (mount, disk) = (self.photos().join("s"), self.folder.path().join("disk"));
        let Some(Disk { files, truths }) = self.away.take() else {
            fs::rename(&mount, &disk).unwrap();
            let stays = self.one_in(2);
            if stays {
                fs::create_dir(&mount).unwrap();
            }
            self.said.push(format!(
                "the disk goes away, the mount point stays: {stays}"
            ));
            self.away = Some(Disk {
                files: of_disk(&mut self.files),
                truths: of_disk(&mut self.truths),
            });
            return;
        };
        self.said.push("the disk comes back".into());
        if mount.exists() {
            fs::remove_dir(&mount).expect("nothing is written into an empty mount point");
        }
        fs::rename(disk, mount).unwrap();
        self.files.extend(files);
        self.truths.extend(truths);
    }

    /// Whether a photograph or a sidecar is on a disk that is away.
    fn is_away(&self, key: &str) -> bool {
        self.away.is_some() && key.starts_with(MOUNT)
    }

    fn change_photos(&mut self) {
        let id = PHOTOS[self.below(PHOTOS.len())].to_string();
        let what = self.below(5);
        if self.is_away(&id) {
            return;
        }
        self.said.push(format!("photo {id}: {what}"));
        let file = self.files.get(&id).copied();
        match (what, file) {
            (0, Some(_)) => drop(self.files.remove(&id)),
            (1, _) => self.hidden = !self.hidden,
            (2, Some(file)) => {
                let broken = !file.broken;
                self.files.insert(id, File { broken, ..file });
            }
            (_, file) => {
                let version = 1 + file.map_or(0, |file| file.version);
                let broken = false;
                self.files.insert(id, File { version, broken });
            }
        }
    }

    /// The owner says something of a photograph, there or not.
    fn judge(&mut self) {
        let photo = PHOTOS[self.below(PHOTOS.len())].to_string();
        let words = [WORDS.concat(), TYPED.to_vec()].concat();
        let word = words[self.below(words.len())];
        let subject = Subject::of_path(word.split('|').map(String::from).collect()).unwrap();
        let verdicts = [Verdict::Approved, Verdict::Rejected, Verdict::Withdrawn];
        let line = match self.one_in(6) {
            true => Line::Photo(Reviewed {
                photo,
                reviewed: self.one_in(2),
                at: 1,
            }),
            false => Line::Label(Correction {
                photo,
                label: subject.name,
                parents: subject.parents,
                verdict: verdicts[self.below(3)],
                at: 1,
                by: None,
            }),
        };
        self.said.push(format!("{line:?}"));
        self.corrections().add(&[line]).unwrap();
    }

    fn corrections(&self) -> Corrections {
        Corrections::open(&self.library()).unwrap()
    }

    /// Those of its labels that belong to a photograph.
    fn kept(&self, id: &str, words: usize) -> Vec<Subject> {
        let labels = self.corrections().apply(id, self.labels(id, words));
        let kept = labels.into_iter().filter(Labelled::is_kept);
        kept.map(|kept| kept.label.subject()).collect()
    }

    fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        if self.hidden {
            scan.failed.push(Failed {
                path: self.photos().join("s"),
                reason: "permission denied".into(),
            });
        }
        let seen = self
            .files
            .iter()
            .filter(|(id, _)| !self.hidden || !id.starts_with("s/"));
        scan.photos = seen
            .map(|(id, file)| Photo {
                id: id.clone(),
                path: self.photos().join(id),
                bytes: file.version,
                modified: u64::from(file.broken),
            })
            .collect();
        scan
    }

    /// The labels of a photograph: some of the words.
    fn labels(&self, id: &str, words: usize) -> Vec<Label> {
        let version = self.files[id].version as usize;
        let chosen = WORDS[words].iter().enumerate();
        let chosen = chosen.filter(|(number, _)| !(version + id.len() + number).is_multiple_of(4));
        let label = |(_, word): (usize, &&str)| {
            let subject = Subject::of_path(word.split('|').map(String::from).collect()).unwrap();
            Label {
                name: subject.name,
                parents: subject.parents,
                score: Some(1.0),
                probability: None,
                seen: true,
            }
        };
        chosen.map(label).collect()
    }

    fn any_round(&mut self) {
        let run = Run {
            words: self.below(WORDS.len()),
            name: [None, Some(Name::Full), Some(Name::Full), Some(Name::Stem)][self.below(4)],
            prune: self.one_in(3),
            // What is away would be taken for gone for good.
            believe: self.one_in(2) && self.away.is_none(),
        };
        let kill = self.one_in(2).then(|| self.below(30) as u32);
        self.said.push(format!("{run:?}, killed at {kill:?}"));
        KILL.set(kill);
        SYNCED.set(fs::metadata(self.library().join("sidecars.jsonl")).map_or(0, |m| m.len()));
        let ended = catch_unwind(AssertUnwindSafe(|| self.round(run)));
        KILL.set(None);
        match ended {
            Ok(seen) => self.round_kept_its_promises(run, &seen),
            Err(cause) if cause.is::<Killed>() => self.lose_what_was_not_synced(),
            Err(cause) => resume_unwind(cause),
        }
        self.forget_what_is_gone();
    }

    /// A round as a `Tagger` runs it, without a network; gives the photographs that were known in the end.
    fn round(&mut self, run: Run) -> BTreeSet<String> {
        let mut journal = Journal::open(&self.library()).unwrap();
        let mut sidecars = Sidecars::open(&self.library(), &self.photos(), &journal).unwrap();
        sidecars.at_each(moment);
        let scan = self.scan();
        let known = journal.known().keys().map(String::as_str);
        let unseen = unseen(known, &scan, &self.photos(), run.believe);
        unseen.gone.iter().for_each(|id| journal.forget(id));
        let places = Places::of(&self.photos(), &scan.photos, &unseen.kept, run.name);
        let settings = format!("words {}", run.words);
        let corrections = self.corrections();
        let mut keep = |key: &str, journal: &Journal| {
            let facts = Facts {
                journal,
                settings: &settings,
                corrections: &corrections,
                model: "m",
            };
            sidecars.keep(&places, key, &facts).unwrap();
        };
        for photo in &scan.photos {
            let known = journal.known().get(&photo.id);
            if known.is_some_and(|known| known.is_of(photo, &settings)) {
                continue;
            }
            die_if_it_is_time();
            let broken = self.files[&photo.id].broken;
            let entry = Entry {
                photo: photo.id.clone(),
                bytes: photo.bytes,
                modified: photo.modified,
                settings: settings.clone(),
                outcome: match broken {
                    true => Outcome::Error("broken".into()),
                    false => Outcome::Labels(self.labels(&photo.id, run.words)),
                },
                content: broken,
                taken: None,
                doubt: None,
                sidecar: None,
            };
            journal.add(&[entry]).unwrap();
            die_if_it_is_time();
            if let Some(name) = run.name {
                keep(&name.key(&photo.id), &journal);
            }
        }
        if run.name.is_some() {
            places.keys().for_each(|key| keep(key, &journal));
        }
        for orphan in sidecars
            .orphans(&places, &corrections, run.believe)
            .unwrap()
        {
            if run.prune {
                sidecars.prune(&orphan, &corrections).unwrap();
            }
        }
        journal.tidy().unwrap();
        die_if_it_is_time();
        sidecars.tidy().unwrap();
        let seen = scan.photos.iter().map(|photo| photo.id.clone());
        seen.chain(unseen.kept).collect()
    }

    /// As after a power cut: lines of the ledger that were appended since the last one that was synced may be gone.
    fn lose_what_was_not_synced(&mut self) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.library().join("sidecars.jsonl"));
        let Ok(file) = file else { return };
        let (synced, length) = (SYNCED.get(), file.metadata().unwrap().len());
        if synced < length && self.one_in(2) {
            file.set_len(self.rng.random_range(synced..=length))
                .unwrap();
        }
    }

    fn keys(&self) -> Vec<String> {
        let keys = PHOTOS
            .iter()
            .flat_map(|id| Name::ALL.map(|name| name.key(id)));
        keys.collect::<BTreeSet<String>>().into_iter().collect()
    }

    fn text(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.photos().join(key)).ok()
    }

    fn lists(&self, key: &str) -> Lists {
        self.text(key)
            .map_or(Lists::default(), |text| xmp::read(&text).unwrap())
    }

    /// A sidecar that is gone holds nothing of anybody any more.
    fn forget_what_is_gone(&mut self) {
        let photos = self.photos();
        self.truths.retain(|key, _| photos.join(key).exists());
    }

    /// Another program edits a sidecar.
    fn edit(&mut self) {
        let keys = self.keys();
        let key = &keys[self.below(keys.len())];
        if self.is_away(key) {
            return;
        }
        let path = self.photos().join(key);
        let mut truth = self.truths.get(key).cloned().unwrap_or_default();
        let edited = match self.below(6) {
            0..=2 => self.type_in(key, &mut truth),
            3 => self.take_out(key, &mut truth),
            4 if path.exists() => {
                self.said.push(format!("{key}: deleted"));
                self.truths.remove(key);
                return fs::remove_file(path).unwrap();
            }
            _ => {
                let remark = format!("<!-- remark {} -->", self.below(1000));
                self.said.push(format!("{key}: {remark}"));
                truth.remarks.push(remark.clone());
                let text = self.text(key).unwrap_or(xmp::EMPTY.into());
                let (before, after) = text.split_once("<rdf:Description").unwrap();
                Some(format!("{before}{remark}<rdf:Description{after}"))
            }
        };
        if let Some(edited) = edited {
            truth.touched = true;
            self.truths.insert(key.clone(), truth);
            fs::write(path, edited).unwrap();
        }
    }

    fn type_in(&mut self, key: &str, truth: &mut Truth) -> Option<String> {
        let list = List::ALL[[0, 0, 1, 2][self.below(4)]];
        let typed = TYPED[self.below(TYPED.len())].to_string();
        let there = self.lists(key).get(list).clone();
        // What was ours and was taken out and typed anew between two runs looks as if it had stayed.
        if self.ours(key, list).contains(&typed) && !there.contains(&typed) {
            return None;
        }
        let others = truth.others.get_mut(list);
        // Typed beside ours, both are theirs.
        if there.contains(&typed) && !others.contains(&typed) {
            others.push(typed.clone());
        }
        others.push(typed.clone());
        self.said.push(format!("{key}: {list:?} typed {typed}"));
        let text = self.text(key).unwrap_or(xmp::EMPTY.into());
        Some(xmp::edit(&text, &Lists::default(), &one(list, typed)).unwrap())
    }

    fn take_out(&mut self, key: &str, truth: &mut Truth) -> Option<String> {
        let list = List::ALL[[0, 0, 1, 2][self.below(4)]];
        let there = self.lists(key).get(list).clone();
        if there.is_empty() {
            return None;
        }
        let entry = there[self.below(there.len())].clone();
        let others = truth.others.get_mut(list);
        if let Some(at) = others.iter().position(|text| *text == entry) {
            others.remove(at);
        }
        // Of ours and theirs one is left, and nobody can tell which.
        let left = there.iter().filter(|text| **text == entry).count() - 1;
        if left == 1 && self.ours(key, list).contains(&entry) {
            others.retain(|text| *text != entry);
        }
        self.said.push(format!("{key}: {list:?} took out {entry}"));
        Some(xmp::edit(&self.text(key)?, &one(list, entry), &Lists::default()).unwrap())
    }

    fn ours(&self, key: &str, list: List) -> Vec<String> {
        let journal = Journal::open(&self.library()).unwrap();
        let ledger = Ledger::open(&self.library(), &self.photos(), &journal).unwrap();
        let ours = ledger.of(key);
        // What somebody begins where one was away is theirs from the first word.
        match self.text(key) {
            Some(text) if !ours.is_of(&text) => Vec::new(),
            None if ours.away => Vec::new(),
            _ => ours.lists.get(list).clone(),
        }
    }

    /// What stands in a list beside what others typed, which is all there.
    fn besides(&self, key: &str, list: List) -> Vec<String> {
        let mut there = self.lists(key).get(list).clone();
        let truth = self.truths.get(key).cloned().unwrap_or_default();
        for entry in truth.others.get(list) {
            let at = there.iter().position(|text| text == entry);
            let at = at.unwrap_or_else(|| panic!("{key}: {list:?}: {entry} is lost"));
            there.remove(at);
        }
        there
    }

    fn nothing_of_others_is_lost(&self) {
        for (key, truth) in &self.truths {
            let text = self.text(key).unwrap_or_default();
            for remark in &truth.remarks {
                assert!(text.contains(remark), "{key}: {remark} is lost");
            }
            List::ALL
                .iter()
                .for_each(|list| drop(self.besides(key, *list)));
        }
    }

    fn round_kept_its_promises(&mut self, run: Run, seen: &BTreeSet<String>) {
        for key in self.keys() {
            let mut of: Vec<(&String, Name)> = Vec::new();
            for name in Name::ALL {
                let its = seen.iter().filter(|id| name.key(id) == key);
                of.extend(its.map(|id| (id, name)));
            }
            let hidden = |id: &str| self.hidden && id.starts_with("s/");
            let known =
                |id: &str| !hidden(id) && self.files.get(id).is_some_and(|file| !file.broken);
            let done = match of.is_empty() {
                true => run.prune,
                false => run.name.is_some() && of.iter().all(|(id, _)| known(id)),
            };
            let named = of
                .iter()
                .filter(|(id, name)| Some(*name) == run.name && known(id));
            let labels: Vec<Subject> = named.flat_map(|(id, _)| self.kept(id, run.words)).collect();
            // A sidecar of which nothing is known in this round is not looked at.
            if done || !labels.is_empty() {
                self.nothing_is_said_twice(&key);
            }
            match (done, of.is_empty()) {
                (false, _) => {}
                (true, false) => {
                    self.only_what_is_wanted_is_there(&key, &labels, true);
                    self.all_is_told(&key, run);
                }
                (true, true) => {
                    self.only_what_is_wanted_is_there(&key, &self.approved(&key), false);
                }
            }
        }
    }

    fn nothing_is_said_twice(&self, key: &str) {
        for list in List::ALL {
            let others = self.truths.get(key).cloned().unwrap_or_default().others;
            let others = others.get(list).iter().map(|text| text.to_lowercase());
            let mut said: BTreeSet<String> = others.collect();
            for entry in self.besides(key, list) {
                assert!(
                    said.insert(entry.to_lowercase()),
                    "{key}: {list:?}: {entry} twice"
                );
            }
        }
    }

    /// What the owner approved of photographs that may have this sidecar.
    fn approved(&self, key: &str) -> Vec<Subject> {
        let corrections = self.corrections();
        let its = PHOTOS.iter();
        let its = its.filter(|id| Name::ALL.iter().any(|name| name.key(id) == key));
        let labels = its.flat_map(|id| corrections.apply(id, Vec::new()));
        labels.map(|labelled| labelled.label.subject()).collect()
    }

    /// The sidecar says what became of every label of its photographs.
    fn all_is_told(&self, key: &str, run: Run) {
        let text = self.text(key);
        let told = text.map_or(Vec::new(), |text| told::read(&text).unwrap());
        let there: BTreeSet<(String, State)> = told
            .iter()
            .map(|told| (folded(&told.name), told.state))
            .collect();
        let corrections = self.corrections();
        let mut expected = BTreeSet::new();
        for id in PHOTOS.iter().filter(|id| self.files.contains_key(**id)) {
            if run.name.is_none_or(|name| name.key(id) != key) {
                continue;
            }
            let labels = corrections.apply(id, self.labels(id, run.words));
            expected.extend(labels.iter().map(|l| (folded(&l.label.name), l.state)));
            let rejected = corrections.of(id).into_iter().flat_map(Opinion::rejected);
            expected.extend(rejected.map(|judged| (folded(&judged.name), State::Rejected)));
        }
        assert_eq!(there, expected, "{key}: what is told");
    }

    fn only_what_is_wanted_is_there(&self, key: &str, labels: &[Subject], all: bool) {
        let truth = self.truths.get(key).cloned().unwrap_or_default();
        let said = |texts: &[String], text: &str| {
            texts
                .iter()
                .any(|said| said.to_lowercase() == text.to_lowercase())
        };
        for list in List::ALL {
            let wanted = labels.iter().map(|label| list.entry(label));
            let mut allowed: Vec<String> = wanted.clone().collect();
            let others = truth.others.get(list);
            let parents = labels.iter().any(|label| !label.parents.is_empty());
            let must = match list {
                List::Subject => true,
                List::Hierarchical => !others.is_empty() || parents,
                List::Tags => !others.is_empty(),
            };
            if list == List::Hierarchical && others.is_empty() && parents {
                allowed.extend(truth.others.subject.iter().cloned());
            }
            let besides = self.besides(key, list);
            for entry in &besides {
                assert!(
                    allowed.contains(entry),
                    "{key}: {list:?}: {entry} stayed behind"
                );
            }
            let there = self.lists(key).get(list).clone();
            for entry in wanted.filter(|_| must && all) {
                assert!(said(&there, &entry), "{key}: {list:?}: {entry} is missing");
            }
        }
        let told = self.text(key).map(|text| told::read(&text).unwrap());
        if labels.is_empty() && told.unwrap_or_default().is_empty() && !truth.touched {
            assert!(
                self.text(key).is_none(),
                "{key}: an empty sidecar of ours stayed"
            );
        }
    }
}

/// Takes out what is of the disk.
fn of_disk<T>(all: &mut BTreeMap<String, T>) -> BTreeMap<String, T> {
    let (of_disk, rest) = std::mem::take(all)
        .into_iter()
        .partition(|(key, _)| key.starts_with(MOUNT));
    *all = rest;
    of_disk
}

/// An entry of one list.
fn one(list: List, entry: String) -> Lists {
    let mut lists = Lists::default();
    lists.get_mut(list).push(entry);
    lists
}

#[test]
fn t01_sidecars_keep_their_promises_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("EPSILON_TEST_SEED").unwrap_or(1);
    let sequences = number("EPSILON_TEST_SEQUENCES").unwrap_or(300);
    for seed in first..first + sequences {
        let mut world = World::new(seed);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..20 {
                world.step();
            }
        }));
        if let Err(cause) = ended {
            println!("EPSILON_TEST_SEED={seed} EPSILON_TEST_SEQUENCES=1");
            println!("{}", world.said.join("\n"));
            resume_unwind(cause);
        }
    }
}

#[test]
fn a07_a_kill_at_any_moment_leaves_nothing_behind() {
    let run = |words| Run {
        words,
        name: Some(Name::Full),
        prune: false,
        believe: false,
    };
    for kill in 0..30 {
        let mut world = World::new(u64::from(kill));
        KILL.set(Some(kill));
        let ended = catch_unwind(AssertUnwindSafe(|| world.round(run(0))));
        KILL.set(None);
        if ended.is_err() {
            world.lose_what_was_not_synced();
        }
        let seen = world.round(run(1));
        world.round_kept_its_promises(run(1), &seen);
    }
}

#[test]
fn a_folder_goes_away_and_comes_back_with_its_sidecars() {
    let run = |words| Run {
        words,
        name: Some(Name::Full),
        prune: true,
        believe: false,
    };
    for seed in 0..8 {
        let mut world = World::new(seed);
        let words = |world: &World| world.lists("s/c.jpg.xmp").subject;
        world.round(run(0));
        assert_eq!(words(&world), ["sky"]);
        world.mount();
        world.round(run(2));
        world.mount();
        let seen = world.round(run(1));
        // What the first round wrote was ours all the time.
        assert_eq!(words(&world), ["Sea", "sun"]);
        world.round_kept_its_promises(run(1), &seen);
    }
}
