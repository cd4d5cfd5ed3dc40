//! `epsilon serve --library`: what its API lists, shows and takes down, and whom it refuses.

use std::fs;

use serde_json::{Value, json};

use crate::server::{Reply, Server, until};
use crate::world::World;

pub(crate) const MODEL: &str = "out/seed-1/model.safetensors";
const CORRECTIONS: &str = "/v1/library/corrections";

/// A calibrated model and a tagged folder `photos` of five pictures and a broken one.
pub(crate) fn world() -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    world.run(&format!("calibrate {MODEL}")).done();
    fs::create_dir_all(world.path("photos/sub/deep")).unwrap();
    for (from, to) in [
        ("test-0024.jpg", "photos/a.jpg"),
        ("test-0025.png", "photos/b.png"),
        ("test-0026.png", "photos/c d.png"),
        ("test-0027.jpg", "photos/sub/e.JPG"),
        ("test-0028.png", "photos/sub/deep/f.png"),
    ] {
        fs::copy(world.path(from), world.path(to)).unwrap();
    }
    world.write("photos/broken.png", b"\x89PNG\r\n\x1a\nno more");
    world
        .run(&format!("tag --model {MODEL} photos --top 3"))
        .partly(&["broken.png"]);
    world
}

fn ids(listed: &Value) -> Vec<&str> {
    let photos = listed["photos"].as_array().unwrap().iter();
    photos.map(|photo| photo["id"].as_str().unwrap()).collect()
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    server.post_as("application/json", path, body.to_string().as_bytes())
}

fn say(server: &Server, photo: &str, label: &str, verdict: &str) -> Value {
    let said = json!({"labels": [{"photo": photo, "label": label, "verdict": verdict}]});
    let reply = post(server, CORRECTIONS, &said);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The state of a photograph's label; nothing where it has none of that name.
fn state(photo: &Value, label: &str) -> Option<String> {
    let mut labels = photo["labels"].as_array().unwrap().iter();
    let found = labels.find(|known| known["name"] == label)?;
    Some(found["state"].as_str().unwrap().into())
}

fn refused(reply: &Reply, status: u16, code: &str, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{reply:?}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(part), "{reply:?}");
}

#[test]
fn photographs_are_listed_searched_and_filtered() {
    let world = world();
    let server = Server::of_library(&world, "photos");
    let about = server.get("/v1/library").json();
    assert_eq!(about["photographs"], 6);
    assert_eq!(
        (&about["broken"], &about["search"]),
        (&json!(1), &json!(true))
    );
    let list = |query: &str| server.get(&format!("/v1/library/photos?{query}")).json();
    let all = [
        "a.jpg",
        "b.png",
        "broken.png",
        "c d.png",
        "sub/deep/f.png",
        "sub/e.JPG",
    ];
    assert_eq!(ids(&list("")), all);
    assert_eq!(ids(&list("folder=sub")), all[4..]);
    assert_eq!(ids(&list("folder=sub/deep")), all[4..5]);
    assert_eq!(ids(&list("broken=true")), ["broken.png"]);
    assert_eq!(ids(&list("since=2000&until=2001")), [""; 0]);
    assert_eq!(ids(&list("since=2020")).len(), 6);
    let broken = list("broken=true");
    let error = broken["photos"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("broken.png: "), "{error}");

    // A word that nobody tagged with, as `epsilon search` ranks it; and in parts.
    let found = list("q=purple");
    let searched = world.run("search photos purple --json").json();
    let expected: Vec<&str> = searched
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| {
            let photo = hit["photo"].as_str().unwrap();
            photo.split_once("photos/").unwrap().1
        })
        .collect();
    assert_eq!(ids(&found), expected);
    assert_eq!(found["total"], 5);
    let selection = found["selection"].as_u64().unwrap();
    let part = list(&format!("selection={selection}&offset=1&limit=2"));
    assert_eq!(ids(&part), expected[1..3]);
    assert_eq!(ids(&list("q=purple&folder=sub")).len(), 2);
    let like = list("like=a.jpg");
    assert_eq!(like["total"], 4);
    assert!(!ids(&like).contains(&"a.jpg"));

    let labels = server.get("/v1/library/labels").json();
    let first = labels[0]["name"].as_str().unwrap();
    let with = list(&format!("label={first}"));
    assert_eq!(with["total"], labels[0]["photographs"]);
    assert_eq!(list(&format!("label={first}&probability=1"))["total"], 0);
    let folders = server.get("/v1/library/folders").json();
    let counted =
        |name: &str, photographs: usize| json!({"name": name, "photographs": photographs});
    assert_eq!(folders, json!([counted("sub", 2), counted("sub/deep", 1)]));

    for (query, status, code) in [
        ("order=size", 400, "query"),
        ("colour=red", 400, "query"),
        ("since=yesterday", 422, "date"),
        ("probability=2", 422, "probability"),
        ("probability=-0.5", 422, "probability"),
        ("probability=NaN", 422, "probability"),
        ("q=gren", 422, "labels"),
        ("like=nobody", 404, "photo"),
        ("like=broken.png", 422, "photo"),
        ("selection=99", 410, "selection"),
    ] {
        refused(
            &server.get(&format!("/v1/library/photos?{query}")),
            status,
            code,
            "",
        );
    }
}

#[test]
fn every_route_that_is_described_answers_as_described() {
    let world = world();
    let server = Server::of_library(&world, "photos");
    let document = server.get("/openapi.json").json();
    assert!(document["paths"]["/v1/library/thumb"].is_object());
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let reply = match method.as_str() {
                "get" => server.get(path),
                _ => server.post_as("text/plain", path, b""),
            };
            let described = &methods[method]["responses"];
            assert!(
                described[reply.status.to_string()].is_object(),
                "{path}: {reply:?}"
            );
        }
    }
}

#[test]
fn what_the_owner_says_is_kept_and_undone() {
    let world = world();
    let library = "photos/.epsilon";
    let server = Server::of_library(&world, "photos");
    let photo = |id: &str| server.get(&format!("/v1/library/photo?id={id}")).json();
    let first = photo("a.jpg");
    let label = first["labels"][0]["name"].as_str().unwrap();
    assert_eq!(state(&first, label).unwrap(), "automatic");
    let rejected = say(&server, "a.jpg", label, "rejected");
    assert_eq!(state(&rejected["photos"][0], label).unwrap(), "rejected");
    assert_eq!(photo("a.jpg"), rejected["photos"][0]);
    // Left out of a search for the very word.
    let found = server.get(&format!("/v1/library/photos?q={label}")).json();
    assert!(!ids(&found).contains(&"a.jpg"));
    // Of two steps the later is undone first.
    let approved = say(&server, "a.jpg", label, "approved");
    let found = server.get(&format!("/v1/library/photos?q={label}")).json();
    assert_eq!(ids(&found)[0], "a.jpg");
    let back = post(&server, CORRECTIONS, &approved["undo"]).json();
    assert_eq!(state(&back["photos"][0], label).unwrap(), "rejected");
    let back = post(&server, CORRECTIONS, &rejected["undo"]).json();
    assert_eq!(back["photos"][0], first);

    // A label that the program did not keep; many at once; a photograph that was looked at.
    let many = json!({
        "labels": [
            {"photo": "a.jpg", "label": " Sea ", "verdict": "approved"},
            {"photo": "sub/e.JPG", "label": "Sea", "verdict": "approved"},
        ],
        "reviewed": [{"photo": "b.png", "reviewed": true}],
    });
    let said = post(&server, CORRECTIONS, &many).json();
    assert_eq!(said["photos"].as_array().unwrap().len(), 3);
    assert_eq!(state(&photo("a.jpg"), "Sea").unwrap(), "approved");
    assert_eq!(photo("b.png")["reviewed"], true);
    let with = server.get("/v1/library/photos?label=sea").json();
    assert_eq!(ids(&with), ["a.jpg", "sub/e.JPG"]);
    let left = server.get("/v1/library/photos?unreviewed=true").json();
    assert_eq!(left["total"], 5);

    // It is in the journal, with what the program had said; and another server reads it.
    let journal = world.text(&format!("{library}/corrections.jsonl"));
    let proposed = journal
        .lines()
        .find(|line| line.contains("rejected"))
        .unwrap();
    let proposed: Value = serde_json::from_str(proposed).unwrap();
    assert!(proposed["by"]["probability"].is_number(), "{proposed}");
    let second = Server::of_library(&world, library);
    let there = |server: &Server| server.get("/v1/library/photo?id=a.jpg").json();
    assert_eq!(there(&second), photo("a.jpg"));
    // Two tabs: what one says, the other sees and adds to.
    say(&second, "a.jpg", "Beach", "approved");
    assert_eq!(state(&photo("a.jpg"), "Beach").unwrap(), "approved");
    let undone = post(&server, CORRECTIONS, &said["undo"]).json();
    assert_eq!(undone["photos"].as_array().unwrap().len(), 3);
    assert_eq!(state(&there(&second), "Sea"), None);
    assert_eq!(state(&there(&second), "Beach").unwrap(), "approved");
    assert_eq!(there(&second)["reviewed"], false);

    // Tagging goes on beside the servers.
    fs::copy(world.path("test-0030.jpg"), world.path("photos/new.jpg")).unwrap();
    world
        .run(&format!("tag --model {MODEL} photos --top 3"))
        .partly(&["broken.png"]);
    assert_eq!(server.get("/v1/library").json()["photographs"], 7);
    let found = server.get("/v1/library/photos?q=red").json();
    assert!(ids(&found).contains(&"new.jpg"));
}

/// All of a request is noted, or nothing.
#[test]
fn what_cannot_be_said_leaves_the_corrections_as_they_were() {
    let world = world();
    let library = "photos/.epsilon";
    let server = Server::of_library(&world, "photos");
    say(&server, "a.jpg", "Beach", "approved");
    let before = world.text(&format!("{library}/corrections.jsonl"));
    for (photo, label, status, code) in [
        ("nobody.jpg", "Sea", 404, "photo"),
        ("../a.jpg", "Sea", 404, "photo"),
        ("a.jpg", " ", 422, "labels"),
        ("a.jpg", "a\nb", 422, "labels"),
    ] {
        let said = json!({"labels": [
            {"photo": "b.png", "label": "Sea", "verdict": "approved"},
            {"photo": photo, "label": label, "verdict": "approved"},
        ]});
        refused(&post(&server, CORRECTIONS, &said), status, code, "");
    }
    let by = json!({"model": "m", "probability": 2});
    let wrong = json!({"labels": [
        {"photo": "a.jpg", "label": "Sea", "verdict": "approved", "parents": [], "by": by},
    ]});
    refused(
        &post(&server, CORRECTIONS, &wrong),
        422,
        "probability",
        "0 to 1",
    );
    let wrong = json!({"labels": [{"photo": "a.jpg", "label": "Sea", "verdict": "perhaps"}]});
    refused(&post(&server, CORRECTIONS, &wrong), 400, "body", "perhaps");
    assert_eq!(world.text(&format!("{library}/corrections.jsonl")), before);
}

/// A label comes back with its parents and what the program had said of it then, as `epsilon review` noted it.
#[test]
fn what_is_undone_is_as_it_was() {
    let world = world();
    let corrections = "photos/.epsilon/corrections.jsonl";
    let noted = r#"{"photo":"a.jpg","label":"Tree","parents":["plant","wood"],"verdict":"approved","at":1,"by":{"model":"old","probability":0.25}}"#;
    world.write(corrections, format!("{noted}\n"));
    let server = Server::of_library(&world, "photos");
    let rejected = say(&server, "a.jpg", "tree", "rejected");
    post(&server, CORRECTIONS, &rejected["undo"]);
    let last = world.text(corrections);
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    let expected: Value = serde_json::from_str(noted).unwrap();
    for field in ["photo", "label", "parents", "verdict", "by"] {
        assert_eq!(last[field], expected[field], "{last}");
    }
}

/// A label of another photograph is taken as it stands there, however it is typed.
#[test]
fn a_label_is_written_as_it_stands_elsewhere_in_the_library() {
    let world = world();
    let corrections = "photos/.epsilon/corrections.jsonl";
    let noted =
        r#"{"photo":"b.png","label":"école","parents":["building"],"verdict":"approved","at":1}"#;
    world.write(corrections, format!("{noted}\n"));
    let server = Server::of_library(&world, "photos");
    for (photo, typed) in [("a.jpg", "ÉCOLE"), ("sub/e.JPG", "E\u{301}cole")] {
        say(&server, photo, typed, "approved");
        let last = world.text(corrections);
        let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
        let written = (&last["photo"], &last["label"], &last["parents"]);
        assert_eq!(
            written,
            (&json!(photo), &json!("école"), &json!(["building"]))
        );
    }
}

#[test]
fn pictures_are_shown_and_no_other_file() {
    let world = world();
    world.write("secret.png", fs::read(world.path("test-0024.jpg")).unwrap());
    let server = Server::of_library(&world, "photos");
    let listed = server.get("/v1/library/photos").json();
    let version = |id: &str| {
        let place = ids(&listed).iter().position(|known| *known == id).unwrap();
        listed["photos"][place]["version"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let get = |kind: &str, id: &str, version: &str| {
        server.get(&format!("/v1/library/{kind}?id={id}&version={version}"))
    };
    let now = version("a.jpg");
    for kind in ["thumb", "picture"] {
        let reply = get(kind, "a.jpg", &now);
        let picture = image::load_from_memory(&reply.bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (48, 48));
        assert!(reply.cache.contains("immutable"), "{}", reply.cache);
        assert_eq!(get(kind, "a.jpg", "other").cache, "no-store");
        for id in [
            "../secret.png",
            "%2e%2e/secret.png",
            "/etc/passwd",
            "a.jpg/../b.png",
            "",
            "sub",
        ] {
            refused(&get(kind, id, ""), 404, "photo", "no such photograph");
        }
        refused(&get(kind, "broken.png", ""), 422, "photo", "broken.png");
    }
    // All of them are made once the page has asked, and none is a photograph to whoever tags.
    let thumbs = || {
        let files = world.files("photos/.epsilon/thumbs");
        files
            .into_keys()
            .map(|path| world.path("photos/.epsilon/thumbs").join(path))
            .collect::<Vec<_>>()
    };
    until("five thumbnails", || (thumbs().len() == 5).then_some(()));

    // A damaged one is made anew, and that of a photograph that has changed.
    for path in thumbs() {
        fs::write(path, b"epsilon thumbnail").unwrap();
    }
    let first = get("thumb", "a.jpg", &now);
    assert_eq!(image::load_from_memory(&first.bytes).unwrap().width(), 48);
    let wide = image::RgbImage::from_pixel(800, 400, image::Rgb([9, 200, 9]));
    wide.save(world.path("photos/a.jpg")).unwrap();
    let changed = get("thumb", "a.jpg", &now);
    let thumb = image::load_from_memory(&changed.bytes).unwrap();
    assert_eq!((thumb.width(), thumb.height()), (256, 128));
    assert_eq!(changed.cache, "no-store");

    // One that is gone is gone, and is said to be.
    fs::remove_file(world.path("photos/b.png")).unwrap();
    refused(
        &get("picture", "b.png", ""),
        404,
        "gone",
        "not there any more",
    );
    refused(&get("thumb", "b.png", ""), 404, "gone", "");
    say(&server, "b.png", "Sea", "approved");

    refused(
        &post(
            &server,
            "/v1/library/explain",
            &json!({"photo": "../secret.png", "label": "red"}),
        ),
        404,
        "photo",
        "",
    );
}

/// A library that somebody handed over, with lines that lead out of the folder of photographs.
#[test]
fn a_library_leads_to_no_file_outside() {
    let world = world();
    let secret = "<?xpacket?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>";
    world.write("secret.xmp", secret);
    let sha256 = epsilon_data::files::sha256(secret.as_bytes());
    let long = format!("{}x.jpg", "a/".repeat(100_000));
    let tag = |photo: &str| json!({"photo": photo, "bytes": 1, "modified": 1, "settings": "", "labels": []});
    let said = json!({"photo": "../secret.png", "label": "red", "verdict": "approved", "at": 1});
    let moved = json!({"photo": "a.jpg", "to": "/secret.png", "at": 1});
    let owned = json!({"sidecar": "../secret.xmp", "made": [sha256], "told": true});
    for (file, line) in [
        ("tags.jsonl", tag("../secret.png")),
        ("tags.jsonl", tag(&long)),
        ("corrections.jsonl", said),
        ("corrections.jsonl", moved),
        ("sidecars.jsonl", owned),
    ] {
        let path = format!("photos/.epsilon/{file}");
        let before = fs::read_to_string(world.path(&path)).unwrap_or_default();
        world.write(&path, format!("{before}{line}\n"));
        let parts = [file, "is no file below the folder of photographs"];
        let tagged = world.run(&format!("tag --model {MODEL} photos --xmp --prune"));
        tagged.refused(&parts);
        match file {
            "tags.jsonl" => world.run("search photos --label red").refused(&parts),
            "corrections.jsonl" => world.run("review photos --list").refused(&parts),
            _ => {}
        }
        assert_eq!(world.text("secret.xmp"), secret);
        assert!(!world.path("secret.png.xmp").exists());
        world.write(&path, before);
    }
}

#[test]
fn a_library_that_another_model_tagged_meanwhile_is_searched_and_explained_by_that() {
    let world = world();
    let server = Server::of_library(&world, "photos");
    let found = |server: &Server| server.get("/v1/library/photos?q=purple").json();
    let explained = |server: &Server| {
        let asked = json!({"photo": "sub/e.JPG", "label": "purple"});
        post(server, "/v1/library/explain", &asked).json()
    };
    let before = (found(&server), explained(&server));
    assert_eq!(before.0["total"], 5);
    world.edit("recipe.toml", "seeds = [1]", "seeds = [2]");
    world.run("train recipe.toml --out other").done();
    world
        .run("tag photos --model other/seed-2/model.safetensors --top 2")
        .partly(&["broken.png"]);
    let now = (found(&server), explained(&server));
    // The number of a selection is the server's own.
    assert_eq!(now.0["total"], 5);
    assert_ne!(now, before);
    let fresh = Server::of_library(&world, "photos");
    assert_eq!(ids(&now.0), ids(&found(&fresh)));
    assert_eq!(now.0["photos"], found(&fresh)["photos"]);
    assert_eq!(now.1, explained(&fresh));
    // The engine of the first model has ended, and the server has not.
    assert_eq!(server.get("/healthz").status, 200);

    // A model's file that has become another's, which tagged nothing yet: whoever has loaded it goes on with it.
    fs::copy(
        world.path(MODEL),
        world.path("other/seed-2/model.safetensors"),
    )
    .unwrap();
    assert_eq!(now.0["photos"], found(&server)["photos"]);
    let late = Server::of_library(&world, "photos");
    let reply = late.get("/v1/library/photos?q=purple");
    refused(&reply, 503, "search", "tag it again");
    assert_eq!(late.get("/v1/library/photos").json()["total"], 6);

    // What is said of a label is said of the new model's word.
    let library: Value = serde_json::from_str(&world.text("photos/.epsilon/library.json")).unwrap();
    let photo = server.get("/v1/library/photo?id=sub/e.JPG").json();
    let label = photo["labels"][0]["name"].as_str().unwrap();
    say(&server, "sub/e.JPG", label, "approved");
    let noted = world.text("photos/.epsilon/corrections.jsonl");
    let noted: Value = serde_json::from_str(noted.lines().last().unwrap()).unwrap();
    assert_eq!(noted["by"]["model"], library["identity"], "{noted}");
}

#[test]
fn a_label_of_a_photograph_is_explained() {
    let world = world();
    let server = Server::of_library(&world, "photos");
    let asked = json!({"photo": "sub/e.JPG", "label": "purple"});
    let maps = post(&server, "/v1/library/explain", &asked).json();
    let picture = maps["maps"][0]["picture"].as_str().unwrap();
    assert!(picture.starts_with("data:image/png;base64,"));
    for (asked, status, code) in [
        (
            json!({"photo": "sub/e.JPG", "label": "gren"}),
            422,
            "labels",
        ),
        (json!({"photo": "broken.png", "label": "red"}), 422, "photo"),
        (json!({"photo": "sub/e.JPG"}), 400, "body"),
    ] {
        refused(
            &post(&server, "/v1/library/explain", &asked),
            status,
            code,
            "",
        );
    }
}

#[test]
fn strangers_and_forms_of_other_sites_are_refused() {
    let world = world();
    world.write("token.txt", "secret");
    let server = Server::of_library(&world, "photos --token-file token.txt");
    for path in [
        "/v1/library",
        "/v1/library/photos",
        "/v1/library/labels",
        "/v1/library/thumb?id=a.jpg",
    ] {
        refused(&server.get(path), 401, "token", "");
        assert_eq!(server.with_token(path, "secret").status, 200, "{path}");
    }
    let said = json!({"labels": [{"photo": "a.jpg", "label": "Sea", "verdict": "approved"}]});
    refused(&post(&server, CORRECTIONS, &said), 401, "token", "");
    assert!(server.get("/").text.contains("library.js"));
    drop(server);

    let server = Server::of_library(&world, "photos");
    let body = said.to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        refused(
            &server.post_as(kind, CORRECTIONS, body.as_bytes()),
            415,
            "type",
            "JSON",
        );
    }
    let ask = |head: &str| {
        let length = body.len();
        server.raw(&format!("POST {CORRECTIONS} HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    };
    assert!(ask("Host: evil.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(ask("Host: localhost\r\nOrigin: http://evil.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(!world.path("photos/.epsilon/corrections.jsonl").exists());
    let answer = ask("Host: localhost\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("cross-origin-resource-policy: same-origin"));
}

/// Without an index, without its model: the photographs are listed and corrected, and what is missing is said.
#[test]
fn a_library_that_lacks_something_still_opens() {
    let world = world();
    fs::rename(world.path(MODEL), world.path("elsewhere")).unwrap();
    let server = Server::of_library(&world, "photos");
    assert_eq!(server.get("/v1/library/photos").json()["total"], 6);
    refused(
        &server.get("/v1/library/photos?q=red"),
        503,
        "search",
        "cannot be loaded",
    );
    let like = server.get("/v1/library/photos?like=a.jpg").json();
    assert_eq!(like["total"], 4, "needs no model");
    let asked = json!({"photo": "a.jpg", "label": "red"});
    refused(
        &post(&server, "/v1/library/explain", &asked),
        503,
        "model",
        "cannot be loaded",
    );
    say(&server, "a.jpg", "Sea", "approved");
    // It is there again.
    fs::rename(world.path("elsewhere"), world.path(MODEL)).unwrap();
    assert_eq!(server.get("/v1/library/photos?q=red").json()["total"], 5);
    assert_eq!(post(&server, "/v1/library/explain", &asked).status, 200);
    drop(server);

    fs::remove_dir_all(world.path("photos/.epsilon/index")).unwrap();
    let server = Server::of_library(&world, "photos");
    assert_eq!(server.get("/v1/library").json()["search"], false);
    refused(
        &server.get("/v1/library/photos?q=red"),
        409,
        "index",
        "epsilon tag",
    );
    say(&server, "a.jpg", "Sea", "withdrawn");
    drop(server);

    for (arguments, part) in [
        ("serve --library nowhere", "holds no tagged library"),
        ("serve --library out", "holds no tagged library"),
        (
            &format!("serve --library photos --model {MODEL}"),
            "--model",
        ),
    ] {
        world.run(arguments).refused(&[part]);
    }
}
