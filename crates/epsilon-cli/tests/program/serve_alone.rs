//! `epsilon serve` without a proxy before it: silent, slow and hostile clients, names and pages, and what its answers give away.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Reply, Server, form, until};
use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";
const POST: &str = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\nhalf";

fn world() -> World {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world
}

fn photo(world: &World) -> Vec<u8> {
    fs::read(world.path("test-0025.png")).unwrap()
}

/// Connections on which this has been sent.
fn opened(server: &Server, count: usize, sent: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    (0..count).map(open).collect()
}

/// Waits for the server to close a connection.
fn closed(mut stream: TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open"),
    }
}

fn healthy(server: &Server) {
    let start = Instant::now();
    let answer = server.raw("GET /healthz HTTP/1.0\r\n\r\n");
    assert!(status(&answer) == "200", "{answer}");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

/// The status of an answer as it was received.
fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

fn error(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap().into()
}

#[test]
fn a03_silent_clients_keep_nobody_out() {
    let world = world();
    let server = Server::start(&world, &format!("{MODEL} --max-connections 20 --timeout 4"));
    let start = Instant::now();
    let mut silent = opened(&server, 60, "");
    healthy(&server);
    silent.extend(opened(&server, 60, "GET /healthz HTTP/1.1\r\nHost: loc"));
    healthy(&server);
    let form = form(&[("photo", "a.png", &photo(&world))]);
    assert_eq!(server.post("/v1/predict", &form).status, 200);
    // A byte now and then doesn't help them.
    while start.elapsed() < Duration::from_millis(1000) {
        for stream in &mut silent[100..] {
            let _ = stream.write_all(b"a");
        }
        healthy(&server);
        std::thread::sleep(Duration::from_millis(100));
    }
    silent.into_iter().for_each(closed);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );

    drop(server);

    // Where every connection has a request that is worked on, the reserve answers for the server's health alone.
    let server = Server::start(&world, &format!("{MODEL} --max-connections 20"));
    let mut busy = opened(&server, 20, POST);
    let labels = "GET /v1/labels HTTP/1.0\r\n\r\n";
    let crowded = until("all are busy", || {
        let answer = server.raw(labels);
        // One whose head was not yet read has made room.
        busy.extend(opened(&server, 1, POST));
        Some(answer).filter(|answer| status(answer) == "503")
    });
    let text = crowded.to_lowercase();
    assert!(
        text.contains("\"connections\"") && text.contains("retry-after: 1"),
        "{crowded}"
    );
    assert!(text.contains("connection: close"), "{crowded}");
    healthy(&server);
    drop(busy);
    until("there is room again", || {
        Some(server.raw(labels)).filter(|answer| status(answer) == "200")
    });
    assert_eq!(server.get("/readyz").json()["status"], "ok");
}

#[test]
fn a04_who_does_not_read_is_cut_off() {
    let world = world();
    // More than the system takes for a client that reads nothing.
    let words: Vec<String> = (0..1000).map(|number| format!("{number:0190}")).collect();
    let vectors = words.iter().fold(String::new(), |mut text, word| {
        writeln!(text, "{word} 0.1 0.2 0.3 0.4").unwrap();
        text
    });
    world.write("many.txt", vectors);
    let arguments = format!("{MODEL} --vectors many.txt --timeout 6");
    let server = Server::start(&world, &arguments);
    let (words, bytes) = (words.join(","), photo(&world));
    let mut parts: Vec<(&str, &str, &[u8])> =
        (0..32).map(|_| ("photo", "a.png", &bytes[..])).collect();
    parts.extend([("labels", "", words.as_bytes()), ("top", "", b"1000")]);
    let (kind, body) = form(&parts);
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let connections = || {
        let text = server.get("/metrics").text;
        text.contains("epsilon_connections 1\n").then_some(())
    };
    until("who does not read is cut off", connections);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let head = String::from_utf8_lossy(&rest[..500]).to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    assert!(rest.len() < length, "all of {length} bytes");
}

#[test]
fn a10_known_words_do_not_wait_for_unknown_ones() {
    let world = world();
    let mut vectors = fs::read_to_string(world.path("vectors.txt")).unwrap();
    for number in 0..200_000 {
        writeln!(vectors, "word{number} 0.1 0.2 0.3 0.4").unwrap();
    }
    world.write("vectors.txt", vectors);
    let server = Server::start(&world, MODEL);
    let bytes = photo(&world);
    let ask = |words: &str| {
        let parts = [
            ("photo", "a.png", &bytes[..]),
            ("labels", "", words.as_bytes()),
        ];
        server.post("/v1/predict", &form(&parts))
    };
    assert_eq!(ask("purple,word77").status, 200);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..70 {
            let (ask, stop) = (&ask, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let reply = ask(&format!("wrod{client}, purlpe {client}"));
                    assert!([422, 503].contains(&reply.status), "{reply:?}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            for words in ["red,cyan", "purple,word77"] {
                let asked = Instant::now();
                // The queue of all requests may be full for a moment; those with known words are not left out of it.
                let known = || (ask(words).status == 200).then_some(());
                until("known words", known);
                assert!(asked.elapsed() < Duration::from_secs(5));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let metrics = server.get("/metrics").text;
    assert!(
        metrics.contains("code=\"words\""),
        "the queue was full\n{metrics}"
    );
}

#[test]
fn a17_standard_headers() {
    let world = world();
    world.write("token.txt", "secret\n");
    let server = Server::start(&world, &format!("{MODEL} --token-file token.txt"));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = format!(
            "GET /v1/labels HTTP/1.1\r\nHost: localhost\r\nAuthorization: {scheme} secret\r\nConnection: close\r\n\r\n"
        );
        let answer = server.raw(&request).to_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{scheme}: {answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
    drop(server);

    // Off loopback and without a token, names are checked.
    let server = Server::start_on(
        &world,
        "0.0.0.0:0",
        &format!("{MODEL} --allow-host Photos.example"),
    );
    let asked = |host: &str| {
        let answer = server.raw(&format!(
            "GET /v1/labels HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ));
        status(&answer).to_string()
    };
    assert_eq!(asked(&server.address), "200");
    assert_eq!(asked("photos.example:8090"), "200");
    assert_eq!(asked("rebound.example:8090"), "403");
    world
        .run(&format!(
            "serve --model {MODEL} --allow-host https://photos.example"
        ))
        .refused(&["--allow-host", "host name alone"]);
}

#[test]
fn s01_a_proxy_may_stand_before_it() {
    let world = world();
    let server = Server::start(&world, &format!("{MODEL} --allow-host photos.example"));
    let bytes = photo(&world);
    let ask = |host: &str, origin: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = format!(
            "POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Type: image/png\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            bytes.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = String::new();
        // A refused request's body is not read; its end may be lost.
        let _ = stream.read_to_string(&mut answer);
        status(&answer).to_string()
    };
    // The proxy passes the name on, or asks under its own.
    assert_eq!(ask("photos.example", "https://photos.example"), "200");
    assert_eq!(ask(&server.address, "https://photos.example"), "200");
    assert_ne!(ask(&server.address, "https://evil.example"), "200");
    assert_ne!(ask("evil.example", "https://evil.example"), "200");
}

#[test]
fn s02_health_is_asked_in_many_ways() {
    let world = world();
    let server = Server::start(&world, MODEL);
    for request in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /readyz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: LOCALHOST\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost.:80\r\nConnection: close\r\n\r\n",
        "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let answer = server.raw(request);
        assert!(status(&answer) == "200", "{request}{answer}");
    }
    let answer = server.raw("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(status(&answer) == "400", "{answer}");
}

#[test]
fn s03_no_answer_names_a_path() {
    let world = world();
    let server = Server::start(&world, MODEL);
    let bytes = photo(&world);
    let ask = |words: &str| {
        let parts = [
            ("photo", "a.png", &bytes[..]),
            ("labels", "", words.as_bytes()),
        ];
        let reply = server.post("/v1/predict", &form(&parts));
        let folder = world.path("").display().to_string();
        assert!(!reply.text.contains(&folder), "{reply:?}");
        assert!(!reply.text.contains("vectors.txt"), "{reply:?}");
        (reply.status, error(&reply))
    };
    let many: Vec<String> = (0..50).map(|number| format!("grene{number}")).collect();
    let (status, message) = ask(&many.join(","));
    assert!(
        status == 422 && message.contains("`grene19`") && message.contains("and 30 more"),
        "{message}"
    );
    let (status, message) = ask("gren");
    assert!(
        status == 422 && message.contains("`gren`; nearest: `green`"),
        "{message}"
    );
    drop(server);
    // Nor where the file is at fault.
    fs::write(world.path("vectors.txt"), "purple 1 2 nan 3\nlime 1 2 3\n").unwrap();
    let server = Server::start(&world, MODEL);
    let parts = [("photo", "a.png", &bytes[..]), ("labels", "", b"purple")];
    let reply = server.post("/v1/predict", &form(&parts));
    assert_eq!(
        (reply.status, error(&reply).as_str()),
        (500, "the server failed; its log says why")
    );
}

#[test]
fn s04_types_are_read_in_any_case() {
    let world = world();
    let server = Server::start(&world, MODEL);
    let bytes = photo(&world);
    for kind in [
        "IMAGE/PNG",
        "Image/Png; name=a",
        "Application/Octet-Stream; x=y",
    ] {
        assert_eq!(
            server.post_as(kind, "/v1/predict", &bytes).status,
            200,
            "{kind}"
        );
    }
    let (kind, body) = form(&[("photo", "a.png", &bytes)]);
    let kind = kind.replace("multipart/form-data", "Multipart/Form-Data");
    assert_eq!(server.post_as(&kind, "/v1/predict", &body).status, 200);
    assert_eq!(
        server
            .post_as("multipart/form-datas", "/v1/predict", &bytes)
            .status,
        415
    );
}
