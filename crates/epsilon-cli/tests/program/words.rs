//! Weights, words, tables and trainings as people really have them, and files from somebody who means harm: each with what is to
//! come of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;

use crate::world::{Ended, World, backbone, files};

const MODEL: &str = "out/seed-1/model.safetensors";

/// The program without any variable of the hub but these.
fn run_with(world: &World, arguments: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = world.command(arguments);
    for name in [
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "XDG_CACHE_HOME",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    world.end(command, arguments)
}

/// The world's backbone under keys, as a training program saves it.
fn checkpoint(keys: &[(&str, u64)]) -> Vec<u8> {
    let networks: Vec<(&str, Vec<u8>)> = keys
        .iter()
        .map(|&(key, seed)| (key, backbone(seed)))
        .collect();
    let parts: Vec<(&str, SafeTensors)> = networks
        .iter()
        .map(|(key, bytes)| (*key, SafeTensors::deserialize(bytes).unwrap()))
        .collect();
    let mut tensors = Vec::new();
    for (key, part) in &parts {
        let named = part.tensors().into_iter();
        tensors.extend(named.map(|(name, tensor)| (format!("{key}.{name}"), tensor)));
    }
    let (_, header) = SafeTensors::read_metadata(&networks[0].1).unwrap();
    safetensors::serialize(tensors, header.metadata().clone()).unwrap()
}

#[test]
fn w01_a_key_chooses_among_the_networks_of_a_checkpoint() {
    let world = World::of(6, 4);
    world.write("backbone.safetensors", checkpoint(&[("model", 1)]));
    world.run("backbone check backbone.safetensors").done();
    world.write(
        "backbone.safetensors",
        checkpoint(&[("model", 1), ("model_ema", 2)]),
    );
    world.run("extract recipe.toml --out out").refused(&[
        "weights-key",
        "\"model\"",
        "\"model_ema\"",
    ]);
    world
        .run("backbone check backbone.safetensors --weights-key model")
        .done();
    world.edit(
        "recipe.toml",
        "weights = \"backbone.safetensors\"\n",
        "weights = \"backbone.safetensors\"\nweights-key = \"model_ema\"\n",
    );
    world.run("train recipe.toml --out out").done();
    // The model file knows which it was, and that another is another.
    world
        .run(&format!("predict --model {MODEL} test-0007.png --json"))
        .done();
    world.write("other.safetensors", checkpoint(&[("model", 2)]));
    world
        .run(&format!(
            "predict --model {MODEL} test-0007.png --backbone other.safetensors"
        ))
        .refused(&["weights-key", "names none of its networks"]);
}

/// Puts the world's backbone into the hub's cache as `owner/net`.
fn fill_cache(world: &World, cache: &str) {
    let repository = world.path(cache).join("models--owner--net");
    fs::create_dir_all(repository.join("snapshots/c0ffee")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "c0ffee").unwrap();
    fs::write(
        repository.join("snapshots/c0ffee/model.safetensors"),
        backbone(1),
    )
    .unwrap();
}

#[test]
fn w02_the_hubs_own_variables_say_where_its_cache_is() {
    let world = World::of(1, 1);
    let (cache, home) = (world.path("cache"), world.path("home"));
    let (cache, home) = (cache.to_str().unwrap(), home.to_str().unwrap());
    fill_cache(&world, "cache");
    let check = "backbone check hf:owner/net";
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        run_with(
            &world,
            check,
            &[(name, cache), ("HF_HOME", home), ("HF_HUB_OFFLINE", "1")],
        )
        .done();
    }
    fill_cache(&world, "home/huggingface/hub");
    run_with(
        &world,
        check,
        &[("XDG_CACHE_HOME", home), ("HF_HUB_OFFLINE", "1")],
    )
    .done();
    run_with(
        &world,
        check,
        &[("HF_HUB_CACHE", home), ("HF_HUB_OFFLINE", "1")],
    )
    .refused(&["HF_HUB_OFFLINE", home]);
}

#[test]
fn w03_a_header_that_counts_one_word_too_many_is_warned_of() {
    let world = World::of(1, 1);
    let words = world.text("vectors.txt");
    let count = words.lines().count();
    for promised in [count - 1, count + 1] {
        world.write("vectors.vec", format!("{promised} 4\n{words}"));
        let found = world.run("embed --labels seen.txt --vectors vectors.vec");
        assert_eq!(found.code, Some(0), "{found:?}");
        let said = format!("promises {promised} vectors and it holds {count}");
        assert!(found.stderr.contains(&said), "{found:?}");
    }
    // Breaks off within its last line, or long before its end.
    let cut = &words[..words.len() - 2];
    for text in [
        format!("{count} 4\n{}", &words[..words.len() / 2]),
        format!("{} 4\n{cut}", count + 1),
    ] {
        world.write("vectors.vec", text);
        world
            .run("embed --labels seen.txt --vectors vectors.vec")
            .refused(&["vectors.vec"]);
    }
}

#[test]
fn w04_names_are_compared_whatever_form_their_letters_have() {
    let world = World::new();
    // The list has `café` as four letters and an accent, the table and the vectors have four letters.
    for name in ["labels.tsv", "vectors.txt"] {
        world.write(name, world.text(name).replace("red", "caf\u{e9}"));
    }
    world.edit("seen.txt", "red", "cafe\u{301}");
    world.run("train recipe.toml --out out").done();
    // Asked for in either form, as the model's own label and of a vector file.
    for word in ["cafe\u{301}", "caf\u{e9}"] {
        world.write("words.txt", format!("{word}\nblue\n"));
        for vectors in ["", "--vectors vectors.txt"] {
            let ranked = world.run(&format!(
                "predict --model {MODEL} test-0025.png --labels words.txt {vectors} --json"
            ));
            let ranked = ranked.json();
            let names = ranked[0]["labels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|label| label["name"].as_str().unwrap());
            assert!(
                names.into_iter().any(|name| name == "caf\u{e9}"),
                "{ranked}"
            );
        }
    }
}

#[test]
fn w05_a_pointer_or_a_page_in_a_files_place_is_said_to_be_one() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let page = "<!doctype HTML>\n<html><body>Not found</body></html>\n";
    for (content, said) in [(pointer, "git lfs pull"), (page, "HTML page")] {
        for name in [
            "vectors.txt",
            "labels.tsv",
            "seen.txt",
            "backbone.safetensors",
        ] {
            let world = World::of(6, 4);
            world.write(name, content);
            world
                .run("train recipe.toml --out out")
                .refused(&[name, said]);
        }
        let world = World::of(1, 1);
        world.write("model.safetensors", content);
        world
            .run("predict --model model.safetensors test-0001.png")
            .refused(&["model.safetensors", said]);
    }
}

#[test]
fn r01_two_trainings_into_one_folder() {
    let world = World::new();
    world.edit("recipe.toml", "epochs = 1", "epochs = 400");
    world.run("extract recipe.toml --out out").done();
    let mut first = world
        .command("train recipe.toml --out out")
        .spawn()
        .unwrap();
    let started = Instant::now();
    let metrics = world.path("out/seed-1/metrics.jsonl");
    while !metrics.exists() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = world.run("train recipe.toml --out out --tensorboard");
    second.refused(&["out/seed-1", "another training writes into this folder"]);
    let mut names = fs::read_dir(world.path("out/seed-1")).unwrap();
    let has_events = names.any(|name| {
        name.unwrap()
            .file_name()
            .to_string_lossy()
            .contains("tfevents")
    });
    assert!(!has_events);
    // Another seed, or folder, is another training; and a training that was killed leaves nobody locked out.
    assert!(
        first.try_wait().unwrap().is_none(),
        "the first training ended too soon for this test"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    world.edit("recipe.toml", "epochs = 400", "epochs = 1");
    world.run("train recipe.toml --out out").done();
    assert_eq!(fs::read_to_string(metrics).unwrap().lines().count(), 1);
}

#[test]
fn r02_a_training_is_made_longer_where_its_schedule_allows_it() {
    let world = World::new();
    let epochs = |from: usize, to: usize| {
        world.edit(
            "recipe.toml",
            &format!("epochs = {from}\n"),
            &format!("epochs = {to}\n"),
        );
    };
    world.run("train recipe.toml --out longer").done();
    epochs(1, 3);
    let resumed = world.run("train recipe.toml --out longer --resume");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let said = "goes on from a training of 1 epochs: the same as one of 3";
    assert!(resumed.stderr.contains(said), "{resumed:?}");
    assert_eq!(resumed.epochs().len(), 2);
    world.run("train recipe.toml --out whole").done();
    let model = |out: &str| fs::read(world.path(out).join("seed-1/model.safetensors")).unwrap();
    assert!(model("longer") == model("whole"));
    assert_eq!(world.text("longer/seed-1/metrics.jsonl").lines().count(), 3);
    // A schedule that ends where the training does.
    world.edit(
        "recipe.toml",
        "batch = 8\n",
        "batch = 8\nschedule = { kind = \"cosine\", floor = 0.0 }\n",
    );
    world.run("train recipe.toml --out cosine").done();
    epochs(3, 4);
    let before = files(&world.path("cosine/seed-1/checkpoints"));
    world
        .run("train recipe.toml --out cosine --resume")
        .refused(&["3 epochs", "this one has 4", "constant"]);
    assert!(files(&world.path("cosine/seed-1/checkpoints")) == before);
}

#[test]
fn a13_a_hub_that_a_model_file_names_is_asked_only_with_leave() {
    let world = World::of(6, 4);
    let cache = world.path("cache");
    fill_cache(&world, "cache");
    world.edit("recipe.toml", "backbone.safetensors", "hf:owner/net");
    let cached = [
        ("HF_HUB_CACHE", cache.to_str().unwrap()),
        ("HF_ENDPOINT", "http://127.0.0.1:9"),
    ];
    run_with(&world, "train recipe.toml --out out", &cached).done();
    // What is in the cache is used without asking.
    run_with(
        &world,
        &format!("predict --model {MODEL} test-0007.png"),
        &cached,
    )
    .done();
    fs::remove_dir_all(&cache).unwrap();
    let (photos, maps) = ("photos", "maps");
    fs::create_dir(world.path(photos)).unwrap();
    for arguments in [
        format!("predict --model {MODEL} test-0007.png"),
        format!("tag --model {MODEL} {photos}"),
        format!("explain --model {MODEL} test-0007.png --out {maps}"),
        format!("serve --model {MODEL} --listen 127.0.0.1:0"),
    ] {
        let refused = run_with(&world, &arguments, &cached);
        refused.refused(&["hf:owner/net", "a file names it", "--allow-download"]);
        // With leave, and by the user's own words, the hub is asked: nobody listens there.
        for leave in ["--allow-download", "--backbone hf:owner/net"] {
            let asked = run_with(&world, &format!("{arguments} {leave}"), &cached);
            asked.refused(&["owner/net", "cannot be had from the hub"]);
        }
    }
}

#[test]
fn a14_images_outside_their_folder_are_read_only_where_that_is_meant() {
    let world = World::of(6, 4);
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::rename(
        world.path("train-0001.png"),
        world.path("elsewhere/secret.png"),
    )
    .unwrap();
    fs::create_dir(world.path("images")).unwrap();
    let table = world.text("labels.tsv");
    let absolute = world.path("elsewhere/secret.png");
    for path in ["../elsewhere/secret.png", absolute.to_str().unwrap()] {
        let rows: String = table
            .replace("train-0001.png", path)
            .lines()
            .map(|line| match line.starts_with(path) {
                true => format!("{line}\n"),
                false => format!("{line}\n"),
            })
            .collect();
        world.write("moved.tsv", rows);
        world.write(
            "recipe.toml",
            crate::world::RECIPE.replace("labels.tsv", "moved.tsv"),
        );
        world.edit("recipe.toml", "images = \".\"", "images = \"images\"");
        for (name, _) in table.lines().map(|line| line.split_once('\t').unwrap()) {
            let _ = fs::copy(world.path(name), world.path("images").join(name));
        }
        world.run("extract recipe.toml --out out").refused(&[
            "moved.tsv, line 2",
            path,
            "outside = true",
        ]);
        world.edit(
            "recipe.toml",
            "images = \"images\"",
            "images = \"images\"\noutside = true",
        );
        let out = world.run("extract recipe.toml --out out").done();
        assert!(out.contains("10 images"), "{out}");
        fs::remove_dir_all(world.path("out")).unwrap();
    }
}

#[test]
fn a15_a_table_of_tags_holds_no_formula() {
    let world = World::new();
    for (name, formula) in [
        ("red", "=1+1"),
        ("green", "@SUM"),
        ("blue", "+x"),
        ("yellow", "-x"),
    ] {
        for file in ["seen.txt", "labels.tsv", "vectors.txt"] {
            world.write(file, world.text(file).replace(name, formula));
        }
    }
    world.run("train recipe.toml --out out").done();
    fs::create_dir(world.path("photos")).unwrap();
    fs::copy(world.path("test-0025.png"), world.path("photos/=cmd.png")).unwrap();
    world
        .run(&format!(
            "tag --model {MODEL} photos --top 9 --csv tags.csv"
        ))
        .done();
    let tags = world.text("tags.csv");
    for guarded in ["'=cmd.png,", ",'=1+1,", ",'@SUM,", ",'+x,", ",'-x,"] {
        assert!(tags.contains(guarded), "{guarded}: {tags}");
    }
    // A negative score is a number, not a formula.
    let numbers = tags
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(3).unwrap());
    assert!(
        numbers
            .into_iter()
            .all(|score| score.parse::<f32>().is_ok()),
        "{tags}"
    );
}

#[cfg(unix)]
#[test]
fn a15_a_table_that_cannot_be_written_whole_leaves_the_old_one() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    fs::create_dir(world.path("photos")).unwrap();
    for number in 0..12 {
        let name = format!("photos/{}.png", "a".repeat(100 + number));
        fs::copy(world.path("test-0025.png"), world.path(name)).unwrap();
    }
    world
        .run(&format!("tag --model {MODEL} photos --top 9"))
        .done();
    world.write("tags.csv", "the old table\n");
    // No file may become larger than a block of 512 bytes: as on a disk that is full.
    let program = Path::new(env!("CARGO_BIN_EXE_epsilon"));
    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} tag --model {MODEL} photos --top 9 --csv tags.csv --threads 2",
        program.display()
    );
    let ended = Command::new("sh")
        .args(["-c", &script])
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert_ne!(ended.status.code(), Some(0), "{ended:?}");
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("tags.csv"),
        "{ended:?}"
    );
    assert_eq!(world.text("tags.csv"), "the old table\n");
}
