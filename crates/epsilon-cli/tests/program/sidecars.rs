//! Who owns a label in a sidecar, and what a look at a folder may forget: cases that people met, on the real program.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::world::{Ended, World};

const MODEL: &str = "out/seed-1/model.safetensors";

/// A trained model, the lists of words `A` and `B`, and a folder `p` with three photographs, one in a folder of its own.
fn world() -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    fs::create_dir_all(world.path("p/sub")).unwrap();
    for (from, to) in [
        ("test-0024.jpg", "p/a.jpg"),
        ("test-0025.png", "p/b.png"),
        ("test-0027.jpg", "p/sub/c.jpg"),
    ] {
        fs::copy(world.path(from), world.path(to)).unwrap();
    }
    world.write("A", "red\ncyan\n");
    world.write("B", "purple\n");
    world
}

/// Tags `p` with all words of a list.
fn tag(world: &World, words: &str, more: &str) -> Ended {
    world.run(&command(words, more))
}

fn command(words: &str, more: &str) -> String {
    format!("tag --model {MODEL} p --labels {words} --top 2 {more}")
}

/// What stands in the lists of a sidecar, in its order, each list in brackets; nothing where there is no sidecar.
fn said(world: &World, sidecar: &str) -> String {
    let Ok(text) = fs::read_to_string(world.path(sidecar)) else {
        return String::new();
    };
    let items = text.split("li>").filter(|item| item.ends_with("</rdf:"));
    let items: Vec<&str> = items.map(|item| item.trim_end_matches("</rdf:")).collect();
    items.join(" ")
}

fn sidecar(subjects: &[&str]) -> String {
    let items: String = subjects
        .iter()
        .map(|s| format!("<rdf:li>{s}</rdf:li>"))
        .collect();
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:subject><rdf:Bag>{items}\
         </rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>\n"
    )
}

fn ids(world: &World, library: &str) -> Vec<String> {
    let text = world.text(&format!("{library}/tags.jsonl"));
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| line["photo"].as_str().unwrap().into())
        .collect()
}

/// The program without the right of the superuser to read what is not to be read; none where that cannot be taken away.
fn restricted(world: &World, arguments: &str) -> Option<Ended> {
    let bounded = ["--bounding-set=-dac_override,-dac_read_search", "--"];
    let tried = Command::new("setpriv").args(bounded).arg("true").output();
    let (program, is_root) = (
        world.command(arguments),
        fs::metadata("/proc/self").is_ok_and(is_of_root),
    );
    if !is_root {
        return Some(world.end(program, arguments));
    }
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: setpriv is not installed");
        return None;
    }
    let mut command = Command::new("setpriv");
    command
        .args(bounded)
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(world.path("."));
    Some(world.end(command, arguments))
}

fn is_of_root(about: fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    about.uid() == 0
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn t01_labels_stay_ours_over_runs_without_sidecars() {
    let world = world();
    world.write("p/b.png.xmp", sidecar(&["holiday", "cyan"]));
    tag(&world, "A", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp").len(), "red cyan".len());
    tag(&world, "B", "").done();
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp"), "purple");
    assert_eq!(said(&world, "p/b.png.xmp"), "holiday cyan purple");
}

#[test]
fn t02_a_folder_that_cannot_be_read_is_not_forgotten() {
    let world = world();
    tag(&world, "A", "--xmp").done();
    set_mode(&world.path("p/sub"), 0o000);
    let ended = restricted(&world, &command("A", "--xmp"));
    set_mode(&world.path("p/sub"), 0o755);
    let Some(ended) = ended else { return };
    ended.partly(&["p/sub", "ermission denied"]);
    assert_eq!(ids(&world, "p/.epsilon"), ["a.jpg", "b.png", "sub/c.jpg"]);
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/sub/c.jpg.xmp"), "purple");
}

#[test]
fn t03_an_empty_folder_is_not_believed() {
    let world = world();
    tag(&world, "A", "--xmp --out lib").done();
    fs::rename(world.path("p"), world.path("away")).unwrap();
    fs::create_dir(world.path("p")).unwrap();
    let parts = [
        "3 known photographs 0 are there",
        "nothing was forgotten",
        "--forget-missing",
    ];
    tag(&world, "A", "--xmp --out lib").partly(&parts);
    assert_eq!(ids(&world, "lib").len(), 3);
    assert_eq!(
        world
            .run("search lib red --json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        3
    );
    fs::remove_dir(world.path("p")).unwrap();
    fs::rename(world.path("away"), world.path("p")).unwrap();
    assert_eq!(
        tag(&world, "A", "--xmp --out lib").done(),
        "",
        "nothing is tagged anew"
    );
    // Told so, it is believed.
    for photo in ["a.jpg", "b.png", "sub/c.jpg"] {
        fs::remove_file(world.path(format!("p/{photo}"))).unwrap();
    }
    let tagged = tag(&world, "A", "--out lib --forget-missing --prune");
    assert_eq!(tagged.code, Some(0), "{tagged:?}");
    assert!(tagged.stderr.contains("no photographs"), "{tagged:?}");
    assert_eq!(ids(&world, "lib").len(), 0);
    assert_eq!(
        world.files("p").len(),
        0,
        "sidecars that only we wrote into are gone, too"
    );
}

#[test]
fn sidecars_that_were_away_with_their_photos_are_known_again() {
    let world = world();
    let (disk, away) = (world.path("p/sub"), world.path("away"));
    tag(&world, "A", "--xmp").done();
    fs::rename(&disk, &away).unwrap();
    tag(&world, "A", "--xmp --prune").done();
    fs::rename(&away, &disk).unwrap();
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/sub/c.jpg.xmp"), "purple");

    // Another photograph with a sidecar of somebody else takes the name: the same word is theirs.
    fs::rename(&disk, &away).unwrap();
    tag(&world, "B", "--xmp").done();
    fs::create_dir(&disk).unwrap();
    fs::copy(world.path("test-0026.png"), disk.join("c.jpg")).unwrap();
    world.write("p/sub/c.jpg.xmp", sidecar(&["purple"]));
    tag(&world, "A", "--xmp").done();
    assert!(said(&world, "p/sub/c.jpg.xmp").starts_with("purple "));

    // Told that it is gone for good, nothing is remembered of it.
    fs::remove_dir_all(&disk).unwrap();
    tag(&world, "A", "--xmp --forget-missing").done();
    assert!(!world.text("p/.epsilon/sidecars.jsonl").contains("sub/"));
}

#[test]
fn nothing_is_written_into_an_empty_mount_point() {
    let world = world();
    tag(&world, "A", "--xmp --out lib").done();
    world.write("commands", "add sub/c.jpg cat\n");
    let mut command = world.command("review lib");
    command.stdin(fs::File::open(world.path("commands")).unwrap());
    world.end(command, "review lib").done();
    fs::rename(world.path("p"), world.path("away")).unwrap();
    fs::create_dir_all(world.path("p/sub")).unwrap();
    tag(&world, "A", "--xmp --out lib").partly(&["nothing was forgotten"]);
    assert_eq!(world.files("p").len(), 0);
    fs::remove_dir_all(world.path("p")).unwrap();
    fs::rename(world.path("away"), world.path("p")).unwrap();
    tag(&world, "B", "--xmp --out lib").done();
    assert_eq!(said(&world, "p/sub/c.jpg.xmp"), "purple cat");
}

#[test]
fn t04_what_could_not_be_read_is_tried_again() {
    let world = world();
    world.write("p/broken.png", b"\x89PNG\r\n\x1a\nno more");
    set_mode(&world.path("p/a.jpg"), 0o000);
    let Some(ended) = restricted(&world, &command("A", "")) else {
        return;
    };
    ended.partly(&["p/a.jpg", "ermission denied", "broken.png"]);
    set_mode(&world.path("p/a.jpg"), 0o644);
    let told = tag(&world, "A", "").partly(&["broken.png"]);
    assert!(
        told.starts_with("a.jpg\t") && told.lines().count() == 1,
        "{told}"
    );
}

#[test]
fn t05_a_photo_that_was_broken_for_a_run_leaves_no_old_labels() {
    let world = world();
    tag(&world, "A", "--xmp").done();
    world.write("p/b.png", b"\x89PNG\r\n\x1a\nno more");
    tag(&world, "B", "--xmp").partly(&["b.png"]);
    fs::copy(world.path("test-0025.png"), world.path("p/b.png")).unwrap();
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/b.png.xmp"), "purple");
}

/// The program while it watches `p`.
struct Watching<'a> {
    world: &'a World,
    child: std::process::Child,
}

impl<'a> Watching<'a> {
    /// Begins, and waits until a photograph is tagged.
    fn begin(world: &'a World, more: &str, photo: &str) -> Self {
        let child = world
            .command(&command("A", &format!("--watch {more}")))
            .spawn()
            .unwrap();
        let watching = Self { world, child };
        watching.tagged(photo);
        watching
    }

    fn tagged(&self, photo: &str) {
        let libraries = ["lib", "p/.epsilon"];
        let tags =
            || libraries.map(|l| fs::read_to_string(self.world.path(format!("{l}/tags.jsonl"))));
        wait(photo, || {
            tags().iter().flatten().any(|tags| tags.contains(photo))
        });
    }

    /// How it ends of itself, and what it said.
    fn end(mut self) -> (ExitStatus, String) {
        wait("the end", || self.child.try_wait().unwrap().is_some());
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn t06_a_watched_folder_that_is_made_anew_ends_the_watch() {
    let world = world();
    let watching = Watching::begin(&world, "--out lib", "c.jpg");
    fs::rename(world.path("p"), world.path("away")).unwrap();
    fs::create_dir(world.path("p")).unwrap();
    let (status, said) = watching.end();
    assert_eq!(status.code(), Some(2));
    assert!(
        said.contains("moved away") && said.contains("/p:"),
        "{said}"
    );
    assert_eq!(ids(&world, "lib").len(), 3, "nothing is forgotten");
}

#[test]
fn t07_a_photo_from_the_future_is_tagged_while_it_watches() {
    let world = world();
    let ahead = SystemTime::now() + Duration::from_secs(86_400);
    let file = fs::File::options().append(true).open(world.path("p/b.png"));
    file.unwrap().set_modified(ahead).unwrap();
    Watching::begin(&world, "", "b.png").kill();
}

#[test]
fn a16_a_library_that_is_deleted_ends_the_watch() {
    let world = world();
    let watching = Watching::begin(&world, "", "c.jpg");
    fs::remove_dir_all(world.path("p/.epsilon")).unwrap();
    let (status, said) = watching.end();
    assert_eq!(status.code(), Some(2));
    assert!(
        said.contains(".epsilon") && said.contains("was removed"),
        "{said}"
    );
}

#[test]
fn t08_photos_of_one_sidecar_share_it() {
    let world = world();
    fs::copy(world.path("test-0026.png"), world.path("p/a.png")).unwrap();
    world.write(
        "all",
        "red\ngreen\nblue\nyellow\nblack\nwhite\ncyan\nmagenta\norange\n",
    );
    let union = || {
        let text = world.text("p/.epsilon/tags.jsonl");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = lines.filter(|line| line["photo"].as_str().unwrap().starts_with("a."));
        let labels = lines.flat_map(|line| line["labels"].as_array().unwrap().clone());
        let mut labels: Vec<String> = labels.map(|l| l["name"].as_str().unwrap().into()).collect();
        labels.sort();
        labels.dedup();
        labels
    };
    let there = || {
        let said = said(&world, "p/a.xmp");
        let mut there: Vec<String> = said.split(' ').map(String::from).collect();
        there.sort();
        there
    };
    tag(&world, "all", "--xmp=stem").done();
    assert_eq!(there(), union());
    for other in ["test-0028.png", "test-0029.png", "test-0031.png"] {
        fs::copy(world.path(other), world.path("p/a.png")).unwrap();
        tag(&world, "all", "--xmp=stem").done();
        assert_eq!(there(), union());
    }
}

#[test]
fn t09_what_should_be_there_is_looked_at() {
    let world = world();
    tag(&world, "B", "--xmp").done();
    // A sidecar that is gone is made again, a label that is gone is written again.
    fs::remove_file(world.path("p/a.jpg.xmp")).unwrap();
    world.write("p/b.png.xmp", sidecar(&["mine"]));
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp"), "purple");
    assert_eq!(said(&world, "p/b.png.xmp"), "mine purple");
    // Under the other name: there all is written, and nothing of ours stays under the first one.
    tag(&world, "B", "--xmp=stem").done();
    assert_eq!(said(&world, "p/a.xmp"), "purple");
    assert_eq!(said(&world, "p/b.png.xmp"), "mine");
    assert!(!world.path("p/a.jpg.xmp").exists());
}

#[test]
fn t14_keywords_in_another_case_are_not_doubled() {
    let world = world();
    world.write("p/a.jpg.xmp", sidecar(&["Red", "CYAN"]));
    tag(&world, "A", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp"), "Red CYAN");
}

#[test]
fn t15_sidecars_of_photos_that_are_gone_are_named_and_pruned() {
    let world = world();
    world.write("p/b.png.xmp", sidecar(&["holiday"]));
    tag(&world, "B", "--xmp").done();
    fs::rename(world.path("p/a.jpg"), world.path("p/new.jpg")).unwrap();
    fs::rename(world.path("p/b.png"), world.path("p/new.png")).unwrap();
    let ended = tag(&world, "B", "--xmp");
    for orphan in ["a.jpg.xmp", "b.png.xmp"] {
        let told = format!("left behind: {orphan}: its photograph is gone");
        assert!(
            ended.stderr.contains(&told) && ended.code == Some(0),
            "{ended:?}"
        );
    }
    assert_eq!(said(&world, "p/a.jpg.xmp"), "purple");
    tag(&world, "B", "--xmp --prune").done();
    assert!(!world.path("p/a.jpg.xmp").exists(), "we made it");
    assert_eq!(
        world.text("p/b.png.xmp"),
        sidecar(&["holiday"]),
        "it was there before"
    );
    assert_eq!(said(&world, "p/new.png.xmp"), "purple");
    tag(&world, "B", "--xmp").done();
}

#[test]
fn t16_photos_are_found_where_they_lie_now() {
    let world = world();
    tag(&world, "A", "").done();
    fs::rename(world.path("p"), world.path("q")).unwrap();
    for hit in world.run("search q red --json").json().as_array().unwrap() {
        let photo = Path::new(hit["photo"].as_str().unwrap());
        assert!(
            photo.exists() && photo.starts_with(world.path("q")),
            "{hit}"
        );
    }
    // The library beside the photographs, both moved.
    fs::create_dir_all(world.path("first")).unwrap();
    fs::rename(world.path("q"), world.path("first/p")).unwrap();
    let tag = format!("tag --model {MODEL} first/p --labels A --top 2 --out first/lib");
    world.run(&tag).done();
    fs::rename(world.path("first"), world.path("second")).unwrap();
    let found = world.run("search second/lib red --json").json();
    let photo = found[0]["photo"].as_str().unwrap();
    assert!(
        Path::new(photo).exists() && photo.contains("second/p/"),
        "{photo}"
    );
}

#[test]
fn t19_a_list_that_digikam_reads_first_holds_flat_labels_too() {
    let world = world();
    let exiftool = |arguments: &[&str]| {
        let mut command = Command::new("exiftool");
        command
            .args(arguments)
            .current_dir(world.path("."))
            .output()
    };
    let begun = exiftool(&["-XMP-digiKam:TagsList=trip/holiday", "p/a.jpg.xmp"]);
    if begun.is_err() {
        println!("skipped: exiftool is not installed");
        return;
    }
    tag(&world, "B", "--xmp").done();
    let read = exiftool(&[
        "-j",
        "-XMP-digiKam:TagsList",
        "-XMP-dc:Subject",
        "p/a.jpg.xmp",
    ]);
    let read: Value = serde_json::from_slice(&read.unwrap().stdout).unwrap();
    assert_eq!(
        read[0]["TagsList"],
        serde_json::json!(["trip/holiday", "purple"])
    );
    assert_eq!(read[0]["Subject"], serde_json::json!("purple"));
    assert!(
        !world.text("p/b.png.xmp").contains("TagsList"),
        "none is begun for flat labels"
    );
}

#[test]
fn a09_hostile_sidecars_are_named_and_left_alone() {
    let world = world();
    let nested: String = (0..6000)
        .map(|i| format!("<x xmlns:n{i}=\"u{i}\">"))
        .collect();
    let nested = sidecar(&["a"]).replace(
        "<dc:subject>",
        &format!("{nested}{}<dc:subject>", "</x>".repeat(6000)),
    );
    world.write("p/a.jpg.xmp", &nested);
    let attributes: String = (0..20_000).map(|i| format!(" a{i}=\"\"")).collect();
    let attributes =
        sidecar(&["a"]).replace("<dc:subject>", &format!("<x{attributes}/><dc:subject>"));
    world.write("p/b.png.xmp", &attributes);
    let fifo = Command::new("mkfifo")
        .arg(world.path("p/sub/c.jpg.xmp"))
        .status();
    assert!(fifo.unwrap().success());
    let start = Instant::now();
    let parts = [
        "a.jpg.xmp",
        "namespaces",
        "b.png.xmp",
        "attributes",
        "c.jpg.xmp",
        "a pipe",
        "left as it is",
    ];
    let told = tag(&world, "A", "--xmp").partly(&parts);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(told.lines().count(), 3, "they are tagged all the same");
    assert_eq!(world.text("p/a.jpg.xmp"), nested);
    assert_eq!(world.text("p/b.png.xmp"), attributes);
}

/// Without `--xmp` a sidecar is nobody's business.
#[cfg(unix)]
#[test]
fn a_sidecar_that_is_a_link_to_nothing_is_named_once() {
    use std::os::unix::fs::symlink;

    let world = world();
    symlink("nowhere", world.path("p/a.jpg.xmp")).unwrap();
    symlink("nowhere", world.path("p/b.xmp")).unwrap();
    tag(&world, "A", "").done();
    let told = tag(&world, "A", "--xmp");
    // The other one has a name that this run does not write.
    for (sidecar, times) in [("p/a.jpg.xmp", 1), ("p/b.xmp", 0)] {
        assert_eq!(told.stderr.matches(sidecar).count(), times, "{told:?}");
    }
    told.partly(&["link to nothing", "left as it is"]);
    assert!(world.path("p/b.png.xmp").is_file());
    assert!(world.path("p/a.jpg.xmp").is_symlink());
    tag(&world, "B", "").done();
}

/// A review of `p` by these commands.
fn review(world: &World, commands: &str) {
    world.write("commands", commands);
    let mut command = world.command("review p");
    command.stdin(fs::File::open(world.path("commands")).unwrap());
    world.end(command, "review p").done();
}

#[test]
fn the_owners_word_holds_in_sidecars() {
    let world = world();
    world.write("p/b.png.xmp", sidecar(&["holiday"]));
    tag(&world, "A", "--xmp").done();
    let before = world.text("p/a.jpg.xmp");
    review(
        &world,
        "reject a.jpg red\nadd a.jpg dog\nreject b.png red\nreject b.png cyan\nreviewed sub/c.jpg\n",
    );
    tag(&world, "A", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp"), "cyan dog");
    assert_eq!(said(&world, "p/b.png.xmp"), "holiday");
    assert_eq!(said(&world, "p/sub/c.jpg.xmp"), "");
    assert_eq!(
        world
            .text("p/sub/c.jpg.xmp")
            .matches("\"rejected\"")
            .count(),
        2
    );
    tag(&world, "B", "--xmp").done();
    assert_eq!(said(&world, "p/a.jpg.xmp"), "dog purple");
    // Taken back, all is as it was, to the byte.
    review(
        &world,
        "withdraw a.jpg red\nwithdraw a.jpg dog\nwithdraw b.png red\nwithdraw b.png cyan\nunreviewed sub/c.jpg\n",
    );
    tag(&world, "A", "--xmp").done();
    assert_eq!(world.text("p/a.jpg.xmp"), before);
    assert_eq!(said(&world, "p/b.png.xmp").split(' ').count(), 3);
    // What is approved stays beside a photograph that is gone, the rest goes.
    review(&world, "approve a.jpg cyan\nadd b.png dog\n");
    tag(&world, "A", "--xmp").done();
    fs::remove_file(world.path("p/a.jpg")).unwrap();
    fs::remove_file(world.path("p/b.png")).unwrap();
    let told = tag(&world, "A", "--xmp --prune --forget-missing");
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(said(&world, "p/a.jpg.xmp"), "cyan");
    assert_eq!(said(&world, "p/b.png.xmp"), "holiday dog");
    tag(&world, "A", "--xmp").done();
    review(&world, "add sub/c.jpg cat\n");
    tag(&world, "A", "--xmp").done();
    // Its new name takes all of it along.
    fs::rename(world.path("p/sub/c.jpg"), world.path("p/sub/new.jpg")).unwrap();
    tag(&world, "A", "--xmp --prune").done();
    assert!(!world.path("p/sub/c.jpg.xmp").exists());
    assert!(said(&world, "p/sub/new.jpg.xmp").ends_with("cat"));
}

#[test]
fn exiftool_reads_and_writes_the_states_of_labels() {
    let world = world();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exiftool/epsilon.config");
    let exiftool = |arguments: &[&str]| {
        let mut command = Command::new("exiftool");
        command.arg("-config").arg(&config).args(arguments);
        command.current_dir(world.path(".")).output()
    };
    if exiftool(&["-ver"]).is_err() {
        println!("skipped: exiftool is not installed");
        return;
    }
    let labels = || -> Value {
        let read = exiftool(&["-j", "-struct", "-XMP-epsilon:Labels", "p/a.jpg.xmp"]).unwrap();
        let read: Value = serde_json::from_slice(&read.stdout).unwrap();
        read[0]["Labels"].clone()
    };
    world
        .run(&format!(
            "calibrate {MODEL} --on recipe.toml --precision 0.5"
        ))
        .done();
    tag(&world, "A", "--xmp").done();
    review(&world, "reject a.jpg red\nadd a.jpg animal|dog\n");
    tag(&world, "A", "--xmp").done();
    let there = labels();
    let of = |name: &str| {
        let labels = there.as_array().unwrap().iter();
        labels.clone().find(|label| label["Name"] == name).unwrap()
    };
    assert_eq!(there.as_array().unwrap().len(), 3, "{there}");
    for (name, state) in [("red", "rejected"), ("cyan", "automatic")] {
        assert_eq!(of(name)["State"], state);
        assert_eq!(of(name)["Model"].as_str().unwrap().len(), 64);
        assert!(of(name)["Probability"].is_number(), "{there}");
    }
    let dog = serde_json::json!({"Name": "dog", "Parents": "animal", "State": "approved"});
    assert_eq!(*of("dog"), dog);
    // Written over by exiftool, in its own form, it is put right again, and the rest of the file is exiftool's.
    let write = "-XMP-epsilon:Labels+={Name=x,State=approved}";
    let written = exiftool(&[
        "-overwrite_original",
        write,
        "-XMP-xmp:Rating=3",
        "p/a.jpg.xmp",
    ]);
    assert!(written.unwrap().status.success());
    assert_eq!(labels().as_array().unwrap().len(), 4);
    tag(&world, "A", "--xmp").done();
    assert_eq!(labels(), there);
    assert!(world.text("p/a.jpg.xmp").contains("<xmp:Rating>3<"));
    let settled = world.text("p/a.jpg.xmp");
    tag(&world, "A", "--xmp").done();
    assert_eq!(world.text("p/a.jpg.xmp"), settled);
}
