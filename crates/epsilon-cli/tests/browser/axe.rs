//! axe-core (<https://github.com/dequelabs/axe-core>), which finds what people with a screen reader, a keyboard or weak eyes stumble
//! over. It is fetched from the npm registry once, into the target folder, and is no part of what is built.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::chromium::Browser;

const PACKAGE: &str = "axe-core@4.14.1";
const INSIDE: &str = "package/axe.min.js";

/// Its source; nothing, said in a line, where it cannot be had.
fn source() -> Option<&'static str> {
    static SOURCE: OnceLock<Option<String>> = OnceLock::new();
    let source = SOURCE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
        fs::create_dir_all(&folder).unwrap();
        let script = folder.join(INSIDE);
        if !script.exists() {
            let made = |program: &str, arguments: &[&str]| {
                let mut command = Command::new(program);
                let ended = command.args(arguments).current_dir(&folder).output();
                ended.is_ok_and(|ended| ended.status.success())
            };
            let archive = format!("{}.tgz", PACKAGE.replace('@', "-"));
            let _ = made("npm", &["pack", "--silent", PACKAGE])
                && made("tar", &["-xzf", &archive, INSIDE]);
        }
        let source = fs::read_to_string(script).ok();
        if source.is_none() {
            println!("skipped: {PACKAGE} cannot be had from the npm registry");
        }
        source
    });
    source.as_deref()
}

/// What axe-core finds wrong on the page as it is now: a line each.
pub(crate) fn violations(browser: &mut Browser) -> Vec<String> {
    let Some(source) = source() else {
        return Vec::new();
    };
    browser.evaluate(&format!("window.axe || (() => {{ {source} }})(); 0"));
    let found = browser.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(one => \
         `${one.id}: ${one.help}: ${one.nodes.map(node => `${node.html} ${node.failureSummary}`).join('; ')}`))",
    );
    let lines = found.as_array().unwrap().iter();
    lines.map(Value::to_string).collect()
}
