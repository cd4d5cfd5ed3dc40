//! Networks that rank words without training, in place of a model: a classifier with word vectors, and CLIP's two towers.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;

use crate::backbones::put;
use crate::export::export_agrees;
use crate::server::{Server, form};
use crate::world::{Ended, Random, World};

/// The words of the built-in list.
fn everyday() -> Vec<String> {
    let list = include_str!("../../../epsilon/assets/everyday.txt");
    list.lines().map(String::from).collect()
}

/// A world with photographs in a folder, a classifier, the names of its classes and vectors of the everyday words.
pub(crate) fn with_classifier() -> World {
    let world = World::of(8, 4);
    put(&world, "timm_gap.safetensors", "net.safetensors");
    let check = world.run("backbone check net.safetensors --json").json();
    let classes = check["classes"].as_u64().unwrap() as usize;
    let words = everyday();
    let mut random = Random(3);
    let vectors: String = words
        .iter()
        .filter(|word| !word.contains(' '))
        .map(|word| {
            let values: Vec<String> = (0..6)
                .map(|_| format!("{:.4}", random.unit() - 0.5))
                .collect();
            format!("{word} {}\n", values.join(" "))
        })
        .collect();
    world.write("words.vec.txt", vectors);
    let names: String = (0..classes)
        .map(|class| format!("{}, {}\n", words[3 * class], words[3 * class + 1]))
        .collect();
    world.write("classes.txt", names);
    fs::create_dir(world.path("photos")).unwrap();
    for number in [8, 9, 10, 11] {
        let ending = if number % 3 == 0 { "jpg" } else { "png" };
        let name = format!("test-{number:04}.{ending}");
        fs::copy(world.path(&name), world.path("photos").join(&name)).unwrap();
    }
    world
}

/// The program with the caches in the world.
pub(crate) fn run(world: &World, arguments: &str) -> Ended {
    let mut command = world.command(arguments);
    command.env("XDG_CACHE_HOME", world.path("caches"));
    world.end(command, arguments)
}

pub(crate) const NET: &str =
    "--model net.safetensors --vectors words.vec.txt --classes classes.txt";

fn names(labels: &Value) -> Vec<&str> {
    let labels = labels.as_array().unwrap().iter();
    labels
        .map(|label| label["name"].as_str().unwrap())
        .collect()
}

#[test]
fn a_classifier_ranks_words_that_nobody_trained_on() {
    let world = with_classifier();
    let predict = "predict test-0008.png";
    run(&world, &format!("{predict} --model net.safetensors")).refused(&[
        "net.safetensors",
        "word vectors",
        "--vectors",
    ]);
    let vectors = "--model net.safetensors --vectors words.vec.txt";
    run(&world, &format!("{predict} {vectors}")).refused(&["classes", "--classes"]);
    let cut = world.text("classes.txt");
    world.write("short.txt", cut.split_once('\n').unwrap().1);
    run(&world, &format!("{predict} {vectors} --classes short.txt")).refused(&[
        "short.txt",
        "lines",
        "classes",
    ]);

    let few = "--labels tent,castle,fire --top 3";
    let ranked = run(&world, &format!("{predict} {NET} {few} --json")).json();
    let labels = &ranked[0]["labels"];
    assert_eq!(names(labels).len(), 3);
    for label in labels.as_array().unwrap() {
        let probability = label["probability"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&probability) && label["seen"] == false);
    }
    // Nothing was trained, so nothing is said of what was.
    let text = run(&world, &format!("{predict} {NET} {few}")).done();
    assert!(text.contains('%') && !text.contains("unseen"), "{text}");
    // Without words the built-in list is ranked.
    let own = run(&world, &format!("{predict} {NET} --top 1000 --json")).json();
    let own = names(&own[0]["labels"]).len();
    assert!((500..=everyday().len()).contains(&own), "{own}");
}

#[test]
fn a_folder_is_tagged_searched_and_explained_without_a_model() {
    let world = with_classifier();
    let words = "--labels tent,castle,fire";
    run(&world, &format!("tag photos {NET} {words} --top 2 --xmp")).done();
    assert!(world.path("photos/test-0008.png.xmp").exists());
    let again = run(&world, &format!("tag photos {NET} {words} --top 2 --xmp"));
    assert_eq!(again.done(), "", "all are known");
    // The library knows what its model was given.
    let found = run(&world, "search photos castle --json").json();
    assert_eq!(found.as_array().unwrap().len(), 4);
    let ranked = run(
        &world,
        &format!(
            "predict {} {NET} --labels castle,tent --json --top 2",
            "photos/test-0008.png"
        ),
    );
    let score = |name: &str, of: &Value| -> f64 {
        let labels = of[0]["labels"].as_array().unwrap();
        let label = labels.iter().find(|label| label["name"] == name);
        label.unwrap()["score"].as_f64().unwrap()
    };
    // A search gives the score that a prediction has.
    let ranked = ranked.json();
    let hit = found.as_array().unwrap().iter();
    let mut hit = hit.filter(|hit| hit["photo"].as_str().unwrap().ends_with("test-0008.png"));
    let hit = hit.next().unwrap()["score"].as_f64().unwrap();
    let expected = score("castle", &ranked);
    assert!((hit - expected).abs() < 0.02, "{hit} {expected}");
    // Another program's dot products are its power of e.
    run(&world, "index export photos --to out.jsonl").done();
    export_agrees(&world, "castle tent", f64::ln);
    let explained = run(
        &world,
        &format!("explain test-0008.png {NET} --label castle --out maps --json"),
    );
    let picture = &explained.json()[0]["pictures"][0];
    assert_eq!(picture["what"], "occlusion");
    assert_eq!(picture["grid"], serde_json::json!([7, 7]));
    assert!(world.path(picture["file"].as_str().unwrap()).exists());
}

#[test]
fn a_network_is_evaluated_without_training() {
    let world = with_classifier();
    let colours = "seen.txt unseen.txt"
        .split(' ')
        .map(|list| world.text(list));
    let mut vectors = world.text("words.vec.txt");
    for (place, colour) in colours.collect::<String>().lines().enumerate() {
        let values: Vec<String> = (0..6).map(|i| format!("{}.5", (place + i) % 5)).collect();
        if !vectors
            .lines()
            .any(|line| line.starts_with(&format!("{colour} ")))
        {
            vectors += &format!("{colour} {}\n", values.join(" "));
        }
    }
    world.write("words.vec.txt", vectors);
    let given = NET.replace("--model ", "");
    run(&world, &format!("eval {given}")).refused(&["--data"]);
    let figures = run(&world, &format!("eval {given} --data recipe.toml --json")).json();
    assert_eq!(figures["gzsl"]["images_total"], 4);
    run(&world, "eval nowhere.safetensors").refused(&["nowhere.safetensors"]);
    world.write("photos/broken.png", b"no picture");
    fs::write(world.path("test-0008.png"), b"no picture").unwrap();
    run(&world, &format!("eval {given} --data recipe.toml")).partly(&["failed: ", "test-0008.png"]);
}

#[test]
fn two_towers_rank_any_words_and_keep_their_vectors() {
    let world = World::of(4, 4);
    put(&world, "clip", "clip");
    let predict = "predict test-0004.png --model clip --labels dog,tent --top 2";
    let ranked = run(&world, &format!("{predict} --json")).json();
    assert_eq!(names(&ranked[0]["labels"]).len(), 2);
    let kept = || -> Vec<_> {
        let folder = world.path("caches/epsilon/words");
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    let [file] = &kept()[..] else {
        panic!("{:?}", kept())
    };
    let before = fs::read(file).unwrap();
    let again = run(&world, &format!("{predict} --json")).json();
    assert_eq!(again, ranked, "from the kept vectors");
    assert!(fs::read(file).unwrap() == before);
    // A damaged cache is made anew.
    fs::write(file, &before[..before.len() / 2]).unwrap();
    let again = run(&world, &format!("{predict} --json")).json();
    assert_eq!(again, ranked);
    assert!(fs::read(file).unwrap() == before);
    run(
        &world,
        "predict test-0004.png --model clip --labels dog,dog",
    )
    .refused(&["dog", "twice"]);
    // What two towers do not use is no option of theirs.
    run(&world, &format!("{predict} --classes vectors.txt")).refused(&["vectors.txt", "classes"]);
    run(&world, &format!("{predict} --vectors vectors.txt"))
        .refused(&["vectors.txt", "text tower"]);
}

/// The maps of a network without training, by the server; clients that leave before theirs are made keep nobody from others.
#[test]
fn two_towers_explain_over_http_whoever_leaves() {
    let world = World::of(4, 4);
    put(&world, "clip", "clip");
    let mut serve = world.command("serve --model clip --queue 64 --listen 127.0.0.1:0");
    serve.env("XDG_CACHE_HOME", world.path("caches"));
    let server = Server::started(serve);
    let photo = fs::read(world.path("test-0004.png")).unwrap();
    let asked = form(&[("photo", "a.png", &photo), ("label", "", b"dog")]);
    let explained = server.post("/v1/explain", &asked).json();
    assert_eq!(explained["label"]["name"], "dog");
    assert_eq!(explained["maps"][0]["what"], "occlusion");
    for _ in 0..40 {
        let mut client = TcpStream::connect(&server.address).unwrap();
        let (kind, body) = &asked;
        let length = body.len();
        let head = format!(
            "POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(body).unwrap();
    }
    let predicted = server.post("/v1/predict", &form(&[("photo", "a.png", &photo)]));
    assert_eq!(predicted.status, 200, "{predicted:?}");
    assert_eq!(server.post("/v1/explain", &asked).json(), explained);
}

/// Whoever searches a folder of somebody else asks no hub.
#[test]
fn a13_a_hub_that_a_library_names_is_not_asked() {
    let world = with_classifier();
    run(&world, &format!("tag photos {NET} --labels tent --top 1")).done();
    let library = world.path("photos/.epsilon/library.json");
    let mut described: Value = serde_json::from_slice(&fs::read(&library).unwrap()).unwrap();
    described["model"] = "hf:owner/net".into();
    fs::write(&library, described.to_string()).unwrap();
    // Nobody listens there: an answer would be another refusal.
    let mut command = world.command("search photos castle");
    command
        .env("XDG_CACHE_HOME", world.path("caches"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env_remove("HF_HUB_OFFLINE");
    let ended = world.end(command, "search photos castle");
    ended.refused(&["hf:owner/net", "not in the cache", "epsilon tag PHOTOS"]);
}

#[test]
fn wrong_words_names_and_classes_are_told() {
    let world = with_classifier();
    let predict = "predict test-0008.png";
    // A download that would not serve is not begun, and a wrong name is no file of the system's.
    let mut named = world.command(&format!("{predict} --model deit-tiny"));
    named.env("HF_ENDPOINT", "http://127.0.0.1:9");
    world
        .end(named, "--model deit-tiny")
        .refused(&["deit-tiny", "--vectors"]);
    run(&world, &format!("{predict} --model clip-b99")).refused(&[
        "clip-b99",
        "no such file",
        "epsilon models",
    ]);
    // Synsets before the names are no names.
    let lines = world.text("classes.txt");
    let lines = lines.lines().enumerate();
    let synsets: String = lines
        .map(|(line, names)| format!("n{line:08}\t{names}\n"))
        .collect();
    world.write("synsets.txt", synsets);
    let few = "--labels tent,castle --top 2 --json";
    let ranked = run(&world, &format!("{predict} {NET} {few}")).json();
    let other = NET.replace("classes.txt", "synsets.txt");
    assert_eq!(
        run(&world, &format!("{predict} {other} {few}")).json(),
        ranked
    );
    let strange = world
        .text("classes.txt")
        .replace(|c: char| c.is_alphabetic(), "q");
    world.write("strange.txt", strange);
    let other = NET.replace("classes.txt", "strange.txt");
    run(&world, &format!("{predict} {other} {few}")).refused(&[
        "words.vec.txt",
        "network's",
        "classes",
    ]);
    // A bundle has its own, and takes no others that would change nothing.
    run(
        &world,
        &format!("bundle {NET} -o one.epsilon --labels tent,castle"),
    )
    .done();
    run(
        &world,
        &format!("{predict} --model one.epsilon --classes classes.txt"),
    )
    .refused(&["classes.txt"]);
    run(
        &world,
        &format!("{predict} --model one.epsilon --vectors words.vec.txt"),
    )
    .refused(&["words.vec.txt", "which words"]);
    for command in ["calibrate one.epsilon", "eval one.epsilon"] {
        run(&world, command).refused(&["one.epsilon", "recipe", "--data", "--on"]);
    }
    for licence in ["MIT\u{1b}[31m", " "] {
        let mut command = world.command(&format!("bundle {NET} -o two.epsilon"));
        command.args(["--licence", licence]);
        let refused = world.end(command, "bundle --licence");
        refused.refused(&["licence"]);
        assert!(!world.path("two.epsilon").exists());
    }
}

#[test]
fn an_empty_folder_is_told_and_has_nothing_to_search() {
    let world = with_classifier();
    fs::create_dir(world.path("empty")).unwrap();
    let tagged = run(&world, &format!("tag empty {NET} --labels tent"));
    assert!(
        tagged.stderr.contains("no photographs"),
        "{}",
        tagged.stderr
    );
    run(&world, "search empty tent").refused(&["empty", "no index of photographs"]);
}
