//! How fast the page of a large library is: 50,000 drawn photographs, timed by the browser itself. `bench/library_page.sh` runs it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use epsilon::image::Limits;
use epsilon::library::thumbnails::{Thumbnails, Version};
use epsilon::semantic_index::{Index, IndexWriter};
use epsilon_data::files::sha256;
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::chromium::Browser;
use crate::server::Server;
use crate::world::{Random, World};

const MODEL: &str = "out/seed-1/model.safetensors";
const PHOTOS: usize = 50_000;
/// Photographs that differ; the others are links to them.
const FILES: usize = 500;
/// Width of the words' vectors, as GloVe's.
const WIDTH: usize = 300;
const WORDS: [&str; 8] = [
    "red", "green", "blue", "yellow", "purple", "grey", "brown", "cyan",
];
/// Where the Markdown goes.
const RESULT: &str = "EPSILON_BENCH_RESULT";

/// Records, from the page's own frames on, how long each tile on the screen has no picture.
const WATCH: &str = "(() => {
  window.blank = [];
  const since = new Map();
  const look = () => {
    const now = performance.now();
    const seen = new Set();
    for (const tile of document.querySelectorAll('.tile')) {
      const box = tile.getBoundingClientRect();
      if (box.bottom < 0 || box.top > innerHeight || tile.querySelector('img.there')) continue;
      const place = tile.dataset.place;
      seen.add(place);
      if (!since.has(place)) since.set(place, now);
    }
    const rows = document.querySelector('#grid').getBoundingClientRect();
    const empty = document.elementsFromPoint(innerWidth / 2, innerHeight / 2);
    if (rows.top < 0 && !empty.some(e => e.closest?.('.tile, #grid'))) seen.add('none');
    for (const [place, start] of since) if (!seen.has(place)) {
      window.blank.push(now - start);
      since.delete(place);
    }
    requestAnimationFrame(look);
  };
  look();
  new PerformanceObserver(list => { window.tasks = (window.tasks || []).concat(list.getEntries().map(e => e.duration)); }).observe({type: 'longtask', buffered: true});
})(); 0";

/// A photograph of 1,200 x 800 pixels with a grain, so that it is as large as a camera's of that size.
fn photo(random: &mut Random) -> RgbImage {
    let [from, to] = [0, 1].map(|_| [0, 1, 2].map(|_| random.below(256) as f32));
    RgbImage::from_fn(1200, 800, |x, y| {
        let share = (x + y) as f32 / 2000.0;
        let grain = random.below(24) as f32;
        Rgb([0, 1, 2].map(|c| (from[c] + share * (to[c] - from[c]) + grain).min(255.0) as u8))
    })
}

/// A model with 300-dimensional words and 8 groups, and a library of it: 50,000 photographs in folders of 1,000, tagged, indexed,
/// and with their thumbnails. Gives the seconds that it took to make one of these.
fn draw(world: &World) -> f64 {
    let mut vectors = String::new();
    for line in world.text("vectors.txt").lines() {
        vectors += line;
        let mut random = Random(sha256(line.as_bytes()).bytes().map(u64::from).sum());
        for _ in 4..WIDTH {
            write!(vectors, " {:.3}", random.unit() - 0.5).unwrap();
        }
        vectors += "\n";
    }
    world.write("vectors.txt", vectors);
    world.edit("recipe.toml", "groups = 2", "groups = 8");
    world.run("train recipe.toml --out out").done();
    world.run(&format!("calibrate {MODEL}")).done();
    let mut random = Random(3);
    fs::create_dir_all(world.path("photos")).unwrap();
    fs::create_dir_all(world.path("files")).unwrap();
    for file in 0..FILES {
        let path = world.path(format!("files/{file}.jpg"));
        photo(&mut random).save(&path).unwrap();
    }
    fs::hard_link(world.path("files/0.jpg"), world.path("photos/first.jpg")).unwrap();
    world
        .run(&format!("tag --model {MODEL} photos --top 5"))
        .done();
    fs::remove_file(world.path("photos/first.jpg")).unwrap();

    let library = world.path("photos/.epsilon");
    let first: Value = serde_json::from_str(&world.text("photos/.epsilon/tags.jsonl")).unwrap();
    let info = Index::open(&library.join("index")).unwrap().info().clone();
    assert_eq!((info.groups, info.width), (8, WIDTH));
    fs::remove_dir_all(library.join("index")).unwrap();
    let mut index = IndexWriter::open(&library.join("index"), &info).unwrap();
    let thumbnails = Thumbnails::of(&library);
    let (mut lines, mut making) = (String::new(), Duration::ZERO);
    for place in 0..PHOTOS {
        let (id, file) = (format!("{:02}/{place:05}.jpg", place / 1000), place % FILES);
        let path = world.path(format!("photos/{id}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::hard_link(world.path(format!("files/{file}.jpg")), &path).unwrap();
        lines += &format!("{}\n", line(&first, &id, &path, &mut random));
        let rows = (0..info.groups * info.width).map(|_| random.unit() as f32 - 0.5);
        index.push(&id, &rows.collect::<Vec<_>>()).unwrap();
        let start = Instant::now();
        thumbnail(&thumbnails, &library, &id, &path, place);
        if place < FILES {
            making += start.elapsed();
        }
    }
    index.commit().unwrap();
    world.write("photos/.epsilon/tags.jsonl", lines);
    making.as_secs_f64() / FILES as f64
}

/// A line of the journal with other labels than the first one's.
fn line(first: &Value, id: &str, path: &Path, random: &mut Random) -> Value {
    let mut line = first.clone();
    let Version { bytes, modified } = version(path);
    line["photo"] = json!(id);
    line["bytes"] = json!(bytes);
    line["modified"] = json!(modified);
    line["taken"] = json!(1_000_000_000 + random.below(700_000_000));
    for label in line["labels"].as_array_mut().unwrap() {
        label["name"] = json!(WORDS[random.below(WORDS.len() as u64) as usize]);
        label["probability"] = json!(random.unit());
    }
    line
}

fn version(path: &Path) -> Version {
    let about = path.metadata().unwrap();
    let since = about
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH);
    Version {
        bytes: about.len(),
        modified: since.unwrap().as_nanos() as u64,
    }
}

/// The thumbnails of the first files are made; those of the links are links to them.
fn thumbnail(thumbnails: &Thumbnails, library: &Path, id: &str, path: &Path, place: usize) {
    let at = |id: &str| {
        let hash = sha256(id.as_bytes());
        library.join("thumbs").join(&hash[..2]).join(&hash[2..40])
    };
    if place < FILES {
        let made = thumbnails.make(id, path, version(path), &Limits::default());
        assert!(made.unwrap().unkept.is_none());
        return;
    }
    let first = format!("00/{:05}.jpg", place % FILES);
    fs::create_dir_all(at(id).parent().unwrap()).unwrap();
    fs::hard_link(at(&first), at(id)).unwrap();
    if place == PHOTOS - 1 {
        assert!(thumbnails.read(id, version(path)).is_some());
    }
}

/// Median and largest.
fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

/// First contentful paint and the time until every tile on the screen has its picture, of a page that is opened anew.
fn opened(browser: &mut Browser, url: &str) -> [f64; 3] {
    browser.open("about:blank");
    browser.open(url);
    let all = "[...document.querySelectorAll('.tile')].filter(t => t.getBoundingClientRect().top < innerHeight)";
    browser.until(&format!(
        "{all}.length > 10 && {all}.every(t => t.querySelector('img.there'))"
    ));
    let painted =
        browser.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime");
    let listed = browser.evaluate("performance.getEntriesByType('resource').find(e => e.name.includes('/photos?')).responseEnd");
    let shown = browser.evaluate(
        "Math.max(...performance.getEntriesByType('resource').filter(e => e.name.includes('/thumb?')).slice(0, 30).map(e => e.responseEnd))",
    );
    [painted, listed, shown].map(|time| time.as_f64().unwrap())
}

/// From a word's input event to its result in the page, and the request alone.
fn searched(browser: &mut Browser, word: &str) -> [f64; 2] {
    browser.evaluate("performance.clearResourceTimings(); document.querySelector('#q').value = ''; document.querySelector('#q').focus(); 0");
    let took = format!(
        "new Promise(done => {{
           const grid = document.querySelector('#grid');
           let start = 0;
           document.querySelector('#q').addEventListener('input', () => {{ start = performance.now(); }}, {{once: true, capture: true}});
           new MutationObserver((_, it) => {{ it.disconnect(); requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start))); }}).observe(grid, {{childList: true}});
           document.execCommand('insertText', false, {word:?});
         }})"
    );
    let took = browser.evaluate(&took).as_f64().unwrap();
    let request = browser.evaluate("(() => { const e = performance.getEntriesByType('resource').find(e => e.name.includes('q=')); return e.responseEnd - e.startTime; })()");
    [took, request.as_f64().unwrap()]
}

/// How long tiles were without a picture, scrolled by hand, as it were, at some 4,000 pixels a second, and after jumps.
fn scrolled(browser: &mut Browser, url: &str) -> [Vec<f64>; 2] {
    browser.open("about:blank");
    browser.open(url);
    browser.until("document.querySelectorAll('.tile img.there').length > 20");
    browser.evaluate(WATCH);
    for _ in 0..6 {
        browser.scroll(640, 400, -8000, 4000);
    }
    let smooth = numbers(&browser.evaluate("window.blank.splice(0)"));
    let mut random = Random(11);
    for _ in 0..20 {
        let share = random.unit();
        browser.evaluate(&format!(
            "scrollTo(0, {share} * document.documentElement.scrollHeight); 0"
        ));
        std::thread::sleep(Duration::from_millis(700));
    }
    let jumps = numbers(&browser.evaluate("window.blank.splice(0)"));
    [smooth, jumps]
}

#[test]
#[ignore = "a measurement that draws 50,000 photographs: bench/library_page.sh"]
fn a_library_of_50_000_photographs() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::of(24, 60);
    let making = draw(&world);
    let server = Server::of_library(&world, "photos");
    browser.width(1280);
    let url = server.url("/");
    let openings: Vec<[f64; 3]> = (0..5).map(|_| opened(&mut browser, &url)).collect();
    let column = |rows: &[[f64; 3]], at: usize| spread(rows.iter().map(|row| row[at]).collect());

    let searches: Vec<[f64; 2]> = [
        "purple", "red", "grey", "brown", "green", "blue", "yellow", "cyan",
    ]
    .iter()
    .map(|word| searched(&mut browser, word))
    .collect();
    let part = |at: usize| spread(searches.iter().map(|row| row[at]).collect());

    let [smooth, jumps] = scrolled(&mut browser, &url);
    let tasks = numbers(&browser.evaluate("window.tasks || []"));
    let over = |blank: &[f64]| blank.iter().filter(|time| **time > 300.0).count();
    assert!(
        smooth.len() + jumps.len() > 100,
        "{} {}",
        smooth.len(),
        jumps.len()
    );

    let mut text = String::new();
    let cores = std::thread::available_parallelism().unwrap();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    writeln!(text, "# The page of a library of 50,000 photographs\n\n`bench/library_page.sh`, on {cores} cores ({}), headless Chromium at 1,280 x 900 pixels on the same machine.", cpu.trim_start_matches([':', ' ', '\t'])).unwrap();
    writeln!(text, "Drawn JPEG files of 1,200 x 800 pixels, {FILES} different ones; M = 8, 300-d; all thumbnails made before. Times in ms, by the\nbrowser's own clock and its performance entries.\n").unwrap();
    writeln!(text, "| | goal | median | largest |\n|---|---:|---:|---:|").unwrap();
    let mut line = |what: &str, goal: &str, (median, largest): (f64, f64)| {
        writeln!(text, "| {what} | {goal} | {median:.0} | {largest:.0} |").unwrap();
    };
    line(
        "first contentful paint, 5 times",
        "1000",
        column(&openings, 0),
    );
    line("the list is there", "", column(&openings, 1));
    line(
        "all pictures on the screen are there",
        "",
        column(&openings, 2),
    );
    line(
        "search, from the last key to the painted result, 8 words",
        "",
        part(0),
    );
    line("search, the request alone", "200", part(1));
    line(
        &format!(
            "a tile without its picture, scrolled at 4,000 pixels a second ({} times)",
            smooth.len()
        ),
        "300",
        if smooth.is_empty() {
            (0.0, 0.0)
        } else {
            spread(smooth.clone())
        },
    );
    line(
        &format!("the same after 20 jumps ({} times)", jumps.len()),
        "300",
        spread(jumps.clone()),
    );
    writeln!(text, "\nTiles without a picture for longer than 300 ms: {} of {} while scrolled, {} of {} after jumps. Tasks of the page above 50 ms: {}.\nA thumbnail of such a file took {:.0} ms to make, in one thread, with the writing.", over(&smooth), smooth.len(), over(&jumps), jumps.len(), tasks.len(), 1000.0 * making).unwrap();
    println!("{text}");
    if let Ok(path) = std::env::var(RESULT) {
        fs::write(path, text).unwrap();
    }
}
