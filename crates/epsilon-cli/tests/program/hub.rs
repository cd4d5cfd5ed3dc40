//! The default model from a hub to sidecars: a hub of the test's own on this machine serves a tiny network under the default's
//! id; then the hub is gone, and what was downloaded is all there is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::backbones::put;
use crate::world::{Ended, World, assert_same_files, files};

const COMMIT: &str = "c0ffee5c0ffee5c0ffee5c0ffee5c0ffee5c0ffe";

/// A hub with one repository, as far as its clients ask: the list of its files, and ranges of them.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves what the folder holds as the repository `id`, from a thread that ends with the test's process.
    fn serve(id: &str, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, id, held) = (asked.clone(), id.to_string(), files(folder));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no fault of the hub's.
                let _ = answer(stream.unwrap(), &id, &held, &log);
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request and closes.
fn answer(
    mut stream: TcpStream,
    id: &str,
    held: &BTreeMap<PathBuf, Vec<u8>>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    let head: Vec<String> = lines
        .map_while(|line| line.ok().filter(|line| !line.is_empty()))
        .collect();
    let target = head[0].split(' ').nth(1).unwrap_or_default().to_string();
    log.lock().unwrap().push(target.clone());
    let range = head.iter().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("range: bytes=")
            .map(String::from)
    });
    let file = target.strip_prefix(&format!("/{id}/resolve/main/"));
    let (status, more, body) = match file.and_then(|name| Some((name, held.get(Path::new(name))?)))
    {
        Some((name, bytes)) => {
            let range = range.unwrap_or("0-".into());
            let (first, last) = range.split_once('-').unwrap();
            let first: usize = first.parse().unwrap();
            let end = last.parse().map_or(bytes.len(), |last: usize| last + 1);
            // Large files stand under their SHA-256, small ones under a git hash.
            let etag = match name.ends_with(".safetensors") {
                true => epsilon_data::files::sha256(bytes),
                false => format!("{:040x}", name.len()),
            };
            let more = format!(
                "ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {first}-{}/{}\r\n",
                end - 1,
                bytes.len()
            );
            ("206 Partial Content", more, bytes[first..end].to_vec())
        }
        None if target == format!("/api/models/{id}/revision/main") => {
            let names: Vec<Value> = held
                .keys()
                .map(|name| json!({ "rfilename": name }))
                .collect();
            let info = json!({ "siblings": names, "sha": COMMIT });
            ("200 OK", String::new(), info.to_string().into_bytes())
        }
        None => ("404 Not Found", String::new(), Vec::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

/// A world with photographs in a folder, and a tiny SigLIP beside it.
fn with_photographs() -> World {
    let world = World::of(4, 4);
    put(&world, "../siglip/siglip", "served");
    fs::remove_file(world.path("served/expected.safetensors")).unwrap();
    fs::create_dir(world.path("photos")).unwrap();
    for name in ["test-0004.png", "test-0005.png", "test-0006.jpg"] {
        fs::copy(world.path(name), world.path("photos").join(name)).unwrap();
    }
    world
}

/// The id of the default model, its megabytes and its licence, as `epsilon models` lists them.
fn default_model(world: &World) -> (String, String, String) {
    let listed = world.run("models").done();
    let line = listed.lines().find(|line| line.contains("(the default)"));
    let name = line.unwrap().split(' ').next().unwrap();
    let models = world.run("models --json").json();
    let models = models.as_array().unwrap().iter();
    let model = models.into_iter().find(|model| model["name"] == name);
    let model = model.unwrap();
    let text = |key: &str| model[key].as_str().unwrap().to_string();
    let megabytes = model["bytes"].as_u64().unwrap() / 1_000_000;
    (text("id"), format!("{megabytes} MB"), text("licence"))
}

/// The program with caches of the world's own, and no variable of the hub but these.
fn run(world: &World, arguments: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = world.command(arguments);
    for name in [
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
    ] {
        command.env_remove(name);
    }
    command
        .env("XDG_CACHE_HOME", world.path("caches"))
        .envs(variables.iter().copied());
    world.end(command, arguments)
}

/// Random weights are sure of nothing, so both words are kept.
const TAG: &str = "tag photos --labels beach,dog --top 2 --xmp";

#[test]
fn the_default_model_from_an_empty_cache_to_sidecars_and_again_without_a_hub() {
    let world = with_photographs();
    let (id, megabytes, licence) = default_model(&world);
    let hub = Hub::serve(&id, &world.path("served"));
    let endpoint = [("HF_ENDPOINT", hub.endpoint.as_str())];

    // Nobody is there to answer, so nothing is downloaded: the refusal says what it would be.
    let refused = run(&world, TAG, &endpoint);
    refused.refused(&[&megabytes, &licence, "--yes", "epsilon models"]);
    assert_eq!(hub.asked(), [""; 0], "nothing without leave");
    assert!(!world.path("caches/huggingface").exists());

    let tagged = run(&world, &format!("{TAG} --yes"), &endpoint);
    assert_eq!(tagged.code, Some(0), "{tagged:?}");
    for said in [&megabytes, &licence] {
        assert!(tagged.stderr.contains(said), "{tagged:?}");
    }
    let asked = hub.asked();
    assert!(
        asked.iter().any(|file| file.ends_with("spiece.model")),
        "{asked:?}"
    );
    let last = asked.last().unwrap();
    assert!(
        last.ends_with("model.safetensors"),
        "weights last: {asked:?}"
    );
    let first = world.files("photos");
    let sidecars = first
        .keys()
        .filter(|name| name.extension() == Some("xmp".as_ref()));
    assert_eq!(sidecars.count(), 3, "{:?}", first.keys());

    // Nobody listens any more where the hub was: the same bytes from what is there.
    let gone = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    for variables in [gone, [("HF_HUB_OFFLINE", "1")]] {
        for name in first.keys() {
            if name.components().count() > 1 || name.extension() == Some("xmp".as_ref()) {
                fs::remove_file(world.path("photos").join(name)).unwrap();
            }
        }
        fs::remove_dir_all(world.path("caches/epsilon")).unwrap();
        let again = run(&world, TAG, &variables).done();
        assert_eq!(again, tagged.stdout);
        assert_same_files(&world.files("photos"), &first);
    }
    assert_eq!(hub.asked(), asked, "the hub was not asked again");
}

#[test]
fn without_a_network_it_is_said_what_to_copy_where() {
    let world = with_photographs();
    let (id, ..) = default_model(&world);
    let caches = world.path("caches/huggingface/hub");
    let folder = format!("models--{}", id.replace('/', "--"));
    let place = caches.to_str().unwrap();
    // `--yes` is no leave to go on without weights.
    let offline = [("HF_HUB_OFFLINE", "1")];
    for yes in ["", " --yes"] {
        let refused = run(&world, &format!("{TAG}{yes}"), &offline);
        refused.refused(&["HF_HUB_OFFLINE", place, &folder, "copy"]);
    }
    let gone = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    let refused = run(&world, &format!("{TAG} --yes"), &gone);
    refused.refused(&["cannot be had from the hub", place, &folder]);
    assert!(!world.path("photos/.epsilon").exists());

    // What it says helps: the folder of another machine's cache, copied there.
    let copied = format!("caches/huggingface/hub/{folder}");
    put(
        &world,
        "../siglip/siglip",
        &format!("{copied}/snapshots/{COMMIT}"),
    );
    fs::create_dir_all(world.path(&copied).join("refs")).unwrap();
    world.write(&format!("{copied}/refs/main"), COMMIT);
    run(&world, TAG, &offline).done();
    assert!(world.path("photos/test-0004.png.xmp").exists());
}
