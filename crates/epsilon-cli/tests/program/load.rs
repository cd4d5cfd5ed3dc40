//! `epsilon serve` under load: many clients at once, five in a hundred requests broken or hostile, and every good answer compared with
//! what `epsilon predict` says of the same picture. `bench/load.py` does the same for longer, and looks at memory.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::server::{Server, form};
use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";
const CLIENTS: usize = 8;
/// Of each client.
const REQUESTS: usize = 60;
/// Rounding differs with the pictures that are worked on together.
const CLOSE: f64 = 1e-4;

/// Scores by label.
fn scores(labels: &Value) -> BTreeMap<String, f64> {
    let labels = labels.as_array().unwrap().iter();
    let score = |label: &Value| label["score"].as_f64().unwrap();
    labels
        .map(|label| (label["name"].as_str().unwrap().to_string(), score(label)))
        .collect()
}

fn assert_close(found: &Value, expected: &BTreeMap<String, f64>) {
    let found = scores(&found["labels"]);
    assert!(found.keys().eq(expected.keys()), "{found:?}, {expected:?}");
    for (name, score) in &found {
        let right = expected[name];
        let gap = (score - right).abs() / right.abs().max(1.0);
        assert!(gap <= CLOSE, "{name}: {score}, not {right}");
    }
}

fn head(path: &str, length: usize, more: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

/// A request that no honest client sends, and the statuses that are right; none where no answer is waited for.
fn hostile(kind: usize, picture: &[u8]) -> (Vec<u8>, &'static [&'static str]) {
    let half = &picture[..picture.len() / 2];
    let whole = |body: &[u8]| [head("/v1/predict", body.len(), ""), body.to_vec()].concat();
    match kind % 9 {
        0 => (whole(half), &["422"]),
        1 => (whole(b"no picture"), &["422"]),
        2 => (whole(b""), &["422"]),
        3 => (head("/v1/predict", 1 << 40, ""), &["413"]),
        4 => ([head("/v1/predict", picture.len(), ""), half.to_vec()].concat(), &[]),
        5 => (
            head("/v1/predict", 0, &format!("X-Long: {}\r\n", "a".repeat(100_000))),
            &["431", ""],
        ),
        6 => (b"\x16\x03\x01\x02\0no HTTP\r\n\r\n".to_vec(), &["400"]),
        7 => (
            b"DELETE /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
            &["405"],
        ),
        _ => (
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{\"photo\":".to_vec(),
            &["415"],
        ),
    }
}

fn misbehave(server: &Server, kind: usize, picture: &[u8]) {
    let (request, right) = hostile(kind, picture);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // The server may close the connection before it has all of it.
    let _ = stream.write_all(&request);
    if right.is_empty() {
        stream.shutdown(Shutdown::Both).unwrap();
        return;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).unwrap_or_default();
    assert!(right.contains(&status), "{kind}: {answer:.200}");
}

fn client(number: usize, server: &Server, pool: &[(Vec<u8>, BTreeMap<String, f64>)]) {
    for turn in 0..REQUESTS {
        let at = |place: usize| &pool[(31 * number + 7 * turn + place) % pool.len()];
        if turn % 20 == 19 {
            misbehave(server, number + turn / 20 * CLIENTS, &at(0).0);
            continue;
        }
        let asked: Vec<_> = (0..1 + turn % 3).map(at).collect();
        let parts = asked.iter().map(|(bytes, _)| ("photo", "a", &bytes[..]));
        let parts: Vec<_> = parts.chain([("top", "", &b"100"[..])]).collect();
        let reply = server.post("/v1/predict", &form(&parts));
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        let photos = answer["photos"].as_array().unwrap();
        assert_eq!(photos.len(), asked.len());
        for (photo, (_, expected)) in photos.iter().zip(asked) {
            assert_close(photo, expected);
        }
    }
}

#[test]
fn every_answer_is_that_of_predict_whatever_else_is_sent() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let names: Vec<String> = (24..36)
        .map(|index| {
            format!(
                "test-{index:04}.{}",
                if index % 3 == 0 { "jpg" } else { "png" }
            )
        })
        .collect();
    let said = world
        .run(&format!(
            "predict --model {MODEL} --top 100 --json {}",
            names.join(" ")
        ))
        .json();
    let pool: Vec<_> = names
        .iter()
        .zip(said.as_array().unwrap())
        .map(|(name, photo)| {
            (
                std::fs::read(world.path(name)).unwrap(),
                scores(&photo["labels"]),
            )
        })
        .collect();
    let server = Server::start(&world, MODEL);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, pool) = (&server, &pool);
            scope.spawn(move || client(number, server, pool));
        }
    });
    assert_eq!(server.get("/readyz").status, 200);
    let metrics = server.get("/metrics").text;
    assert!(!metrics.contains("status=\"500\""), "{metrics}");
}
