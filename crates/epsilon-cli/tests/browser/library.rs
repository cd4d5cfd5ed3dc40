//! The page of a library, used whole: searched, filtered, looked at, corrected by click and by key, one photograph and several, and
//! undone.

use std::fs;

use serde_json::{Value, json};

use crate::WIDTHS;
use crate::axe::violations;
use crate::chromium::{Browser, CTRL, SHIFT};
use crate::server::{Server, until};
use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";
const TILES: &str = "document.querySelectorAll('.tile')";
const LOADED: &str = "document.querySelectorAll('.tile img.there')";

/// A calibrated model and a tagged folder of `count` photographs, each third of them in a folder of its own.
fn world(count: usize) -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    world.run(&format!("calibrate {MODEL}")).done();
    fs::create_dir_all(world.path("photos/trip")).unwrap();
    for index in 24..24 + count {
        let ending = if index % 3 == 0 { "jpg" } else { "png" };
        let to = if index % 3 == 0 { "trip/" } else { "" };
        fs::copy(
            world.path(format!("test-{index:04}.{ending}")),
            world.path(format!("photos/{to}{index:04}.{ending}")),
        )
        .unwrap();
    }
    world
        .run(&format!("tag --model {MODEL} photos --top 3"))
        .done();
    world
}

fn status(browser: &mut Browser, text: &str) {
    browser.until(&format!(
        "[...document.querySelectorAll('[role=status]')].some(e => e.textContent.includes({text:?}))"
    ));
}

/// The name of the photograph that has the focus among the tiles.
fn focused(browser: &mut Browser) -> String {
    let label = browser.evaluate("document.activeElement.getAttribute('aria-label')");
    let label = label.as_str().unwrap_or_default();
    label.split(';').next().unwrap().to_string()
}

/// The corrections that hold, as `photo label state`.
fn said(server: &Server) -> Vec<String> {
    let listed = server.get("/v1/library/photos").json();
    let mut said = Vec::new();
    for photo in listed["photos"].as_array().unwrap() {
        for label in photo["labels"].as_array().unwrap() {
            if label["state"] != "automatic" {
                let text = |value: &Value| value.as_str().unwrap().to_string();
                let line = [&photo["id"], &label["name"], &label["state"]].map(text);
                said.push(line.join(" "));
            }
        }
    }
    said
}

#[test]
fn a_library_is_searched_looked_at_and_corrected() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = world(30);
    let server = Server::of_library(&world, "photos");
    for (width, dark) in [(WIDTHS[0], false), (WIDTHS[1], true)] {
        browser.width(width);
        browser.dark(dark);
        browser.open(&server.url("/"));
        browser.until(&format!("{LOADED}.length === 30"));
        status(&mut browser, "30 photographs");
        assert_eq!(violations(&mut browser), [""; 0], "{width}");
        assert!(browser.fits(), "{width}");
        let paper = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        assert_eq!(paper == "rgb(255, 255, 255)", !dark, "{paper}");

        // As one types; an earlier question is not answered after a later one.
        browser.write("#q", "purple");
        status(&mut browser, "the best first");
        browser.until(&format!("{LOADED}.length > 0 && {TILES}.length === 30"));
        let expected = server.get("/v1/library/photos?q=purple&limit=1").json();
        let best = expected["photos"][0]["id"].as_str().unwrap();
        let best = best.rsplit('/').next().unwrap();
        browser.until(&format!(
            "{TILES}[0].getAttribute('aria-label').startsWith({best:?})"
        ));
        browser.evaluate("document.querySelector('#q').value = ''");
        browser.write("#q", "gren");
        status(&mut browser, "green");
        browser.evaluate("document.querySelector('#q').value = ''; document.querySelector('#q').dispatchEvent(new Event('input', {bubbles: true}))");
        status(&mut browser, "30 photographs");

        // Filters, kept in the address.
        browser.evaluate("document.querySelector('#filters').open = true");
        browser.evaluate("document.querySelector('#folder').value = 'trip'; document.querySelector('#folder').dispatchEvent(new Event('input', {bubbles: true}))");
        status(&mut browser, "10 photographs");
        assert_eq!(violations(&mut browser), [""; 0], "{width}");
        assert!(browser.fits(), "{width}, filters");
        assert_eq!(
            browser.evaluate("location.hash"),
            "#order=relevance&folder=trip"
        );
        browser.open("about:blank");
        browser.open(&server.url("/#order=date&folder=trip"));
        status(&mut browser, "10 photographs");
        assert_eq!(
            browser.evaluate(
                "document.querySelector('#order').value + document.querySelector('#folder').value"
            ),
            "datetrip"
        );
        browser.evaluate("document.querySelector('#order').value = 'relevance'");
        browser.evaluate("document.querySelector('#clear').click()");
        status(&mut browser, "30 photographs");

        corrected_in_view(&mut browser, &server, width);
        several_corrected(&mut browser, &server, width);
        browser.click("#keys", 0);
        assert_eq!(violations(&mut browser), [""; 0], "{width}, keys");
        assert!(browser.fits(), "{width}, keys");
        browser.click("#help-close", 0);
        let complaints = browser.complaints();
        // Chromium notes every refused request: that for a word without a vector.
        assert!(
            complaints.iter().all(|text| text.contains("status of 422")),
            "{complaints:?}"
        );
    }
}

/// A photograph's view: approve, reject, add, undo; where the model looked.
fn corrected_in_view(browser: &mut Browser, server: &Server, width: u32) {
    browser.click(".tile", 0);
    browser.until("document.querySelector('#picture').naturalWidth === 48");
    browser.until("document.activeElement.dataset.kind === 'approved'");
    assert_eq!(violations(browser), [""; 0], "{width}, view");
    assert!(browser.fits(), "{width}, view");
    browser.click("#labels li:nth-child(1) [data-kind=approved]", 0);
    browser.until("document.querySelector('#labels li:nth-child(1)').className === 'approved'");
    assert_eq!(
        browser.evaluate("document.activeElement.dataset.kind"),
        "approved"
    );
    browser.click("#labels li:nth-child(2) [data-kind=rejected]", 0);
    browser.until("document.querySelector('#labels li:nth-child(2)').className === 'rejected'");
    browser.click("#labels li:nth-child(3) [data-kind=where]", 0);
    status(browser, "where the model looked");
    browser.until("document.querySelector('#picture').src.startsWith('data:image/png')");
    browser.write("#new", "Harbour");
    browser.press("Enter");
    browser.until("document.querySelector('#labels li:nth-child(4)')?.className === 'approved'");
    assert_eq!(said(server).len(), 3);
    assert_eq!(violations(browser), [""; 0], "{width}, corrected");
    browser.click("#close", 0);
    assert_eq!(browser.evaluate("document.activeElement.className"), "tile");
    for left in [2, 1, 0] {
        browser.click("#undo", 0);
        status(browser, "Undone");
        until("undone", || (said(server).len() == left).then_some(()));
    }
    browser.until("document.querySelector('#undo').disabled");
}

/// Several at once, by clicks.
fn several_corrected(browser: &mut Browser, server: &Server, width: u32) {
    browser.click(".tile:nth-child(2) .pick", 0);
    browser.click(".tile:nth-child(4)", SHIFT);
    status(browser, "3 selected");
    browser.click(".tile:nth-child(1)", CTRL);
    status(browser, "4 selected");
    assert_eq!(violations(browser), [""; 0], "{width}, selected");
    browser.write("#bar-label", "Harbour");
    browser.click("#bar-approve", 0);
    status(browser, "Harbour approved on 4 photographs");
    assert_eq!(said(server).len(), 4);
    browser.click("#undo", 0);
    status(browser, "Undone: Harbour approved");
    assert_eq!(said(server).len(), 0);
    browser.evaluate("document.querySelector('#bar-label').value = ''");
}

#[test]
fn a_library_is_reviewed_by_the_keyboard_alone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = world(12);
    let server = Server::of_library(&world, "photos");
    browser.width(1280);
    browser.open(&server.url("/"));
    browser.until(&format!("{LOADED}.length === 12"));
    // From the search to the photographs by Tab.
    browser.evaluate("document.querySelector('#q').focus()");
    for _ in 0..12 {
        if browser.evaluate("document.activeElement.className") == "tile" {
            break;
        }
        browser.press("Tab");
    }
    assert_eq!(focused(&mut browser), "0025.png");
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid");
    browser.press("ArrowRight");
    assert_eq!(focused(&mut browser), "0026.png");
    browser.press("End");
    assert_eq!(focused(&mut browser), "0033.jpg");
    browser.press("Home");
    browser.press("/");
    assert_eq!(browser.evaluate("document.activeElement.id"), "q");
    browser.evaluate("document.querySelector('.tile[tabindex=\"0\"]').focus()");

    // In the view: the label under the focus is approved, the next one rejected, one is added, and on.
    browser.press("Enter");
    browser.until("document.activeElement.dataset.kind === 'approved'");
    browser.press("a");
    browser.until("document.querySelector('#labels li:nth-child(1)').className === 'approved'");
    let first = browser.evaluate("document.querySelector('#labels li:nth-child(1)').dataset.name");
    let first = first.as_str().unwrap();
    browser.press("ArrowDown");
    browser.press("x");
    browser.until("document.querySelector('#labels li:nth-child(2)').className === 'rejected'");
    let name = browser.evaluate("document.activeElement.closest('li').dataset.name");
    assert_eq!(
        name,
        browser.evaluate("document.querySelector('#labels li:nth-child(2)').dataset.name")
    );
    browser.press("h");
    browser.until("document.querySelector('#picture').src.startsWith('data:image/png')");
    browser.press("n");
    browser.write("#new", "Harbour");
    browser.press("Enter");
    status(&mut browser, "Harbour added");
    browser.press("Escape");
    browser.press("r");
    browser.until("document.querySelector('#name').textContent === '0026.png'");
    // All that is not approved of a reviewed photograph is not there.
    assert_eq!(said(&server).len(), 4);
    browser.press("ArrowLeft");
    browser.until("document.querySelector('#name').textContent === '0025.png'");
    for _ in 0..4 {
        browser.press("u");
        status(&mut browser, "Undone");
        let left = browser.evaluate("document.querySelector('#view-undo').disabled");
        if left == true {
            break;
        }
    }
    browser.until("document.querySelector('#view-undo').disabled");
    // The page does not wait for the server's answers: what the last one says would stand over what comes next.
    status(&mut browser, &format!("Undone: {first}: approved"));
    assert!(said(&server).is_empty());
    browser.press("Escape");
    browser.until("!document.querySelector('#view').open");
    assert_eq!(focused(&mut browser), "0025.png");

    several_by_keys(&mut browser, &server);
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Several at once, by keys.
fn several_by_keys(browser: &mut Browser, server: &Server) {
    browser.press(" ");
    browser.press_with(SHIFT, "ArrowRight");
    browser.press_with(SHIFT, "ArrowRight");
    status(browser, "3 selected");
    browser.press("a");
    browser.until("document.activeElement.id === 'bar-label'");
    browser.write("#bar-label", "Night");
    browser.press("Enter");
    status(browser, "Night approved on 3 photographs");
    assert_eq!(said(server).len(), 3);
    browser.evaluate("document.querySelector('.tile[tabindex=\"0\"]').focus()");
    browser.press("x");
    status(browser, "Night rejected on 3 photographs");
    browser.press_with(CTRL, "z");
    status(browser, "Undone: Night rejected");
    assert!(
        said(server)
            .iter()
            .all(|line| line.ends_with("Night approved"))
    );
    browser.press("Escape");
    status(browser, "none selected");
    browser.press_with(CTRL, "a");
    status(browser, "12 selected");
    browser.press("Escape");
    browser.press("m");
    status(browser, "11 photographs");
    browser.until("!document.querySelector('#like').hidden");
    assert_eq!(browser.evaluate("document.activeElement.className"), "tile");
}

/// Of many photographs only those near the screen are in the page, and the one with the focus stays when it is scrolled away.
#[test]
fn of_a_large_library_little_is_in_the_page() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = world(3);
    let journal = world.text("photos/.epsilon/tags.jsonl");
    let line: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    let photo = fs::read(world.path("photos/0025.png")).unwrap();
    let mut lines = String::new();
    for index in 0..3000 {
        let mut line = line.clone();
        line["photo"] = json!(format!("{index:05}.png"));
        lines += &format!("{line}\n");
        world.write(&format!("photos/{index:05}.png"), &photo);
    }
    world.write("photos/.epsilon/tags.jsonl", lines);
    let server = Server::of_library(&world, "photos");
    browser.width(1280);
    browser.open(&server.url("/"));
    status(&mut browser, "3,000 photographs");
    browser.until(&format!("{LOADED}.length > 20"));
    assert!(
        browser
            .evaluate(&format!("{TILES}.length"))
            .as_u64()
            .unwrap()
            < 150
    );
    browser.evaluate("document.querySelector('.tile').focus()");
    browser.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)");
    browser.until(&format!(
        "[...{TILES}].some(e => e.dataset.place === '1500' && e.querySelector('img.there'))"
    ));
    assert_eq!(focused(&mut browser), "00000.png");
    assert!(
        browser
            .evaluate(&format!("{TILES}.length"))
            .as_u64()
            .unwrap()
            < 250
    );
    // Places stay in their order for those who hear the page.
    let order = browser.evaluate(&format!("[...{TILES}].every((e, n, all) => !n || Number(all[n - 1].dataset.place) < Number(e.dataset.place))"));
    assert_eq!(order, true);
    browser.press("End");
    browser.until("document.activeElement.getAttribute('aria-label').startsWith('02999.png')");
    browser.press("PageUp");
    let place = browser.evaluate("Number(document.activeElement.dataset.place)");
    assert!(place.as_u64().unwrap() > 2900, "{place}");
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(violations(&mut browser), [""; 0]);
}

#[test]
fn a_library_behind_a_token_asks_for_it() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = world(6);
    world.write("token.txt", "secret");
    let server = Server::of_library(&world, "photos --token-file token.txt");
    browser.width(390);
    browser.open(&server.url("/"));
    browser.until("!document.querySelector('#token-row').hidden");
    browser.write("#token", "secret");
    browser.press("Enter");
    browser.until(&format!("{LOADED}.length === 6"));
    browser.click(".tile", 0);
    browser.until("document.querySelector('#picture').naturalWidth === 48");
    browser.click("#labels li:nth-child(1) [data-kind=approved]", 0);
    browser.until("document.querySelector('#labels li:nth-child(1)').className === 'approved'");
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|text| text.contains("status of 401")),
        "{complaints:?}"
    );
}
