//! `epsilon serve`: its answers, its refusals, and how it stops.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::server::{Reply, Server, form, until};
use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";

fn world() -> World {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world
}

fn photo(world: &World, name: &str) -> Vec<u8> {
    fs::read(world.path(name)).unwrap()
}

fn names(labels: &Value) -> Vec<&str> {
    let labels = labels.as_array().unwrap().iter();
    labels
        .map(|label| label["name"].as_str().unwrap())
        .collect()
}

fn refused(reply: &Reply, status: u16, code: &str, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{reply:?}");
    assert!(
        error["message"].as_str().unwrap().contains(part),
        "{reply:?}"
    );
}

#[test]
fn photographs_are_ranked_as_predict_ranks_them() {
    let world = world();
    let server = Server::start(&world, MODEL);
    let bytes = photo(&world, "test-0025.png");
    let expected = world
        .run(&format!("predict --model {MODEL} test-0025.png --json"))
        .json();
    let reply = server
        .post("/v1/predict", &form(&[("photo", "a.png", &bytes)]))
        .json();
    assert_eq!(reply["photos"][0]["name"], "a.png");
    assert_eq!(reply["photos"][0]["labels"], expected[0]["labels"]);

    // The picture as the body, and words that nobody trained on.
    let raw = server.post_as("image/png", "/v1/predict?labels=purple,red&top=1", &bytes);
    let labels = &raw.json()["photos"][0]["labels"];
    assert_eq!(labels.as_array().unwrap().len(), 1);
    world.write("words.txt", "purple\nred\n");
    let predict = format!("predict --model {MODEL} test-0025.png --labels words.txt --json");
    let expected = world.run(&predict).json();
    let words = [
        ("photo", "a.png", &bytes[..]),
        ("labels", "", b"purple\n red ,"),
    ];
    let reply = server.post("/v1/predict", &form(&words)).json();
    assert_eq!(reply["photos"][0]["labels"], expected[0]["labels"]);

    // Of several photographs a broken one has an error of its own; alone it is refused.
    let both = [
        ("photo", "a.png", &bytes[..]),
        ("photo", "b.png", b"no picture"),
        ("top", "", b"3"),
    ];
    let reply = server.post("/v1/predict", &form(&both));
    assert_eq!(reply.status, 200);
    let photos = &reply.json()["photos"];
    assert_eq!(names(&photos[0]["labels"]).len(), 3);
    let message = photos[1]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("b.png: not a picture of a kind that is read"),
        "{message}"
    );
    refused(
        &server.post("/v1/predict", &form(&both[1..])),
        422,
        "photo",
        "b.png",
    );

    // Many at once are answered in their order, each as alone.
    let alone = |name: &str| {
        let reply = server.post(
            "/v1/predict",
            &form(&[("photo", name, &photo(&world, name))]),
        );
        reply.json()["photos"][0].clone()
    };
    let many: Vec<String> = (24..36)
        .map(|index| {
            format!(
                "test-{index:04}.{}",
                if index % 3 == 0 { "jpg" } else { "png" }
            )
        })
        .collect();
    let pictures: Vec<Vec<u8>> = many.iter().map(|name| photo(&world, name)).collect();
    let parts: Vec<(&str, &str, &[u8])> = many
        .iter()
        .zip(&pictures)
        .map(|(name, bytes)| ("photo", name.as_str(), &bytes[..]))
        .collect();
    let together = server.post("/v1/predict", &form(&parts)).json();
    for (index, name) in many.iter().enumerate() {
        let (ours, alone) = (&together["photos"][index], alone(name));
        assert_eq!(ours["name"], alone["name"]);
        assert_eq!(names(&ours["labels"]), names(&alone["labels"]));
    }
}

#[test]
fn maps_are_explained_and_the_server_tells_of_itself() {
    let world = world();
    let server = Server::start(&world, MODEL);
    let bytes = photo(&world, "test-0025.png");
    let asked = [("photo", "a.png", &bytes[..]), ("label", "", b"purple")];
    let reply = server.post("/v1/explain", &form(&asked)).json();
    assert_eq!(reply["label"]["name"], "purple");
    assert_eq!(reply["label"]["seen"], false);
    let maps = reply["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 2);
    for map in maps {
        let values = map["values"].as_array().unwrap().iter();
        let sum: f64 = values.map(|value| value.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4);
        let picture = map["picture"].as_str().unwrap();
        assert!(
            picture.starts_with("data:image/png;base64,iVBOR"),
            "{picture:.60}"
        );
    }
    refused(
        &server.post("/v1/explain", &form(&asked[..1])),
        422,
        "label",
        "`label`",
    );
    let unknown = [("photo", "a.png", &bytes[..]), ("label", "", b"gren")];
    refused(
        &server.post("/v1/explain", &form(&unknown)),
        422,
        "labels",
        "green",
    );

    let about = server.get("/v1/labels").json();
    assert_eq!(about["method"], "epsilon");
    assert_eq!(names(&about["labels"]).len(), 9);
    assert_eq!(server.get("/healthz").json()["status"], "ok");
    let page = server.get("/");
    assert!(page.text.contains("Drop photographs") && page.policy.contains("default-src 'none'"));
    let metrics = server.get("/metrics").text;
    for line in [
        "epsilon_requests_total{route=\"/v1/explain\",status=\"200\"} 1",
        "epsilon_refusals_total{code=\"label\"} 1",
        "epsilon_photos_total 1",
        "epsilon_requests_in_work 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // Every route that is described is there, and answers as described.
    let document = server.get("/openapi.json").json();
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
    refused(&server.get("/nowhere"), 404, "route", "openapi");
    drop(server);

    // A method that looks at an image as a whole has no maps.
    world.edit(
        "recipe.toml",
        "kind = \"epsilon\"\ngroups = 2",
        "kind = \"ridge\"",
    );
    world.run("train recipe.toml --out ridge").done();
    let server = Server::start(&world, "ridge/seed-1/model.safetensors");
    refused(
        &server.post("/v1/explain", &form(&asked)),
        422,
        "map",
        "`ridge`",
    );
}

#[test]
fn what_is_too_much_or_makes_no_sense_is_refused() {
    let world = world();
    let server = Server::start(
        &world,
        &format!("{MODEL} --max-body 1 --max-megapixels 1 --max-labels 2"),
    );
    let bytes = photo(&world, "test-0025.png");
    let with =
        |name: &str, value: &[u8]| form(&[("photo", "a.png", &bytes[..]), (name, "", value)]);
    let predict = |body: &(String, Vec<u8>)| server.post("/v1/predict", body);
    refused(
        &predict(&form(&[("photo", "a.png", &vec![0; 2 << 20])])),
        413,
        "body",
        "1 MB",
    );
    let large = server.post_as("image/png", "/v1/predict", &vec![0; 2 << 20]);
    refused(&large, 413, "body", "1 MB");
    // One that only says so is not waited for.
    let promised = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99999999999\r\n\r\n";
    assert!(server.raw(promised).starts_with("HTTP/1.1 413"));
    // A header that promises ten thousand million pixels.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend([0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0, 8, 2, 0, 0, 0]);
    bomb.extend(0x1234_5678_u32.to_be_bytes());
    refused(
        &predict(&form(&[("photo", "a.png", &bomb)])),
        422,
        "photo",
        "a.png",
    );
    let wide = image::RgbImage::new(1500, 1000);
    wide.save(world.path("wide.png")).unwrap();
    let wide = form(&[("photo", "a.png", &photo(&world, "wide.png"))]);
    refused(&predict(&wide), 422, "photo", "above the limit of 1000000");
    refused(
        &predict(&with("labels", b"red,blue,green")),
        422,
        "labels",
        "takes, 2",
    );
    refused(&predict(&with("labels", b"red,red")), 422, "labels", "red");
    refused(&predict(&with("labels", b"gren")), 422, "labels", "green");
    refused(&predict(&with("top", b"0")), 422, "top", "at least 1");
    refused(&predict(&with("top", b"many")), 422, "top", "many");
    refused(&predict(&with("tops", b"1")), 422, "form", "tops");
    refused(&predict(&form(&[])), 422, "photo", "no photograph");
    let crowd: Vec<_> = (0..33).map(|_| ("photo", "a.png", &b"x"[..])).collect();
    refused(&predict(&form(&crowd)), 422, "photos", "takes 32");
    refused(
        &predict(&(
            "multipart/form-data; boundary=x".into(),
            b"--x\r\n".to_vec(),
        )),
        400,
        "body",
        "",
    );
    refused(
        &server.post_as("text/plain", "/v1/predict", b"hello"),
        415,
        "type",
        "photo",
    );
    refused(
        &server.post_as("image/png", "/v1/predict?top=x", &bytes),
        400,
        "query",
        "top",
    );
    let half = &bytes[..bytes.len() / 2];
    refused(
        &server.post_as("image/png", "/v1/predict", half),
        422,
        "photo",
        "",
    );
    assert_eq!(server.get("/v1/predict").status, 405);
    assert_eq!(
        predict(&with("top", b"1")).status,
        200,
        "and it still answers"
    );
}

/// Names that are none of this machine's, and pages of other sites.
#[test]
fn strangers_are_refused() {
    let world = world();
    let server = Server::start(&world, MODEL);
    let strange =
        server.raw("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(strange.starts_with("HTTP/1.1 403"), "{strange}");
    let page = server.raw("GET /v1/labels HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 403"), "{page}");
    assert_eq!(server.get("/v1/labels").status, 200, "and it still answers");
}

#[test]
fn a_server_that_cannot_be_is_not_started() {
    let world = world();
    for (arguments, part) in [
        ("--queue 0", "--queue <N>"),
        ("--token-file nowhere", "nowhere"),
        ("--listen 8.8.8.8:1", "8.8.8.8"),
    ] {
        world
            .run(&format!("serve --model {MODEL} {arguments}"))
            .refused(&[part]);
    }
}

#[test]
fn only_bearers_of_the_token_are_answered() {
    let world = world();
    world.write("token.txt", "secret\n");
    let server = Server::start(&world, &format!("{MODEL} --token-file token.txt"));
    refused(&server.get("/v1/labels"), 401, "token", "Authorization");
    refused(&server.with_token("/v1/labels", "wrong"), 401, "token", "");
    refused(&server.get("/metrics"), 401, "token", "");
    assert_eq!(server.with_token("/v1/labels", "secret").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/").status, 200);
}

/// A request that has begun holds its place; the next one is refused and told to come again. Neither a slow sender nor one
/// that goes away keeps the place for long.
#[test]
fn a_full_queue_refuses_and_slow_senders_end() {
    let world = world();
    let server = Server::start(&world, &format!("{MODEL} --queue 1 --timeout 2"));
    let bytes = photo(&world, "test-0025.png");
    let ask = || server.post("/v1/predict", &form(&[("photo", "a.png", &bytes)]));
    let head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\nhalf";
    let mut slow = TcpStream::connect(&server.address).unwrap();
    slow.write_all(head.as_bytes()).unwrap();
    let waits = || {
        server
            .get("/metrics")
            .text
            .contains("epsilon_requests_in_work 1")
    };
    until("it holds its place", || waits().then_some(()));
    let reply = ask();
    refused(&reply, 503, "queue", "try again");
    assert_eq!(reply.retry_after, "1");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    until("the place is free again", || {
        (ask().status == 200).then_some(())
    });
    let mut gone = TcpStream::connect(&server.address).unwrap();
    gone.write_all(head.as_bytes()).unwrap();
    until("it holds its place", || waits().then_some(()));
    drop(gone);
    until("who has gone holds no place", || {
        (ask().status == 200).then_some(())
    });
    // Nor do those who send all, and go before they are answered.
    let (kind, body) = form(
        &(0..32)
            .map(|_| ("photo", "a.png", &bytes[..]))
            .collect::<Vec<_>>(),
    );
    let length = body.len();
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    for _ in 0..50 {
        let mut gone = TcpStream::connect(&server.address).unwrap();
        gone.write_all(head.as_bytes()).unwrap();
        gone.write_all(&body).unwrap();
    }
    until("it is free for others", || {
        (ask().status == 200).then_some(())
    });
    let counted = |line: &&str| line.starts_with("epsilon_photos_total");
    let text = server.get("/metrics").text;
    let count = text.lines().find(counted).unwrap().split(' ').nth(1);
    let count: usize = count.unwrap().parse().unwrap();
    assert!(
        count < 50 * 32,
        "{count}: what nobody waits for is not computed"
    );
}

#[cfg(unix)]
#[test]
fn what_has_begun_is_finished_before_it_stops() {
    let world = world();
    let mut server = Server::start(&world, MODEL);
    let bytes = photo(&world, "test-0025.png");
    let parts: Vec<_> = (0..32).map(|_| ("photo", "a.png", &bytes[..])).collect();
    let body = form(&parts);
    let reply = std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.post("/v1/predict", &body));
        until("it is being worked on", || {
            let text = server.get("/metrics").text;
            let begun = text.contains("epsilon_requests_in_work 1");
            (begun || asking.is_finished()).then_some(())
        });
        let pid = server.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        asking.join().unwrap()
    });
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["photos"].as_array().unwrap().len(), 32);
    assert_eq!(server.wait(), Some(0));
    assert!(
        TcpStream::connect(&server.address).is_err(),
        "nobody listens any more"
    );
}
